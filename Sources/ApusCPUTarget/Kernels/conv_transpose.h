// NHWC transposed convolution: every output phase modulo the strides is a dense product over its own taps.
// Needs prelude.h and, with the same macros, gemm.h.
#ifndef APUS_CONV_TRANSPOSE_TYPES
#define APUS_CONV_TRANSPOSE_TYPES
typedef struct {
  const void *x, *w, *ctx;
  const void *zero;  // at least C / groups zero elements
  i64 N, H, W, C, OH, OW, O, KH, KW, SH, SW, DH, DW, PT, PL, groups;
} apus_conv_transpose_args;
// Number of taps k < K with k * dilation = phase modulo stride.
APUS_INLINE i64 apus_phase_taps(i64 K, i64 dilation, i64 stride, i64 phase) {
  i64 n = 0;
  for (i64 k = 0; k < K; k++) n += k * dilation % stride == phase;
  return n;
}
#endif

APUS_INLINE i64 FN(conv_transpose_chunk)(const apus_conv_transpose_args *g) {
  i64 m = g->N * APUS_CEIL(g->OH, g->SH) * APUS_CEIL(g->OW, g->SW);
  return APUS_MIN(FN(chunk)(g->C / g->groups * APUS_CEIL(g->KH, g->SH)), APUS_MAX(1, APUS_MIN(64, APUS_CEIL(m, MR))));
}
APUS_INLINE i64 FN(conv_transpose_scratch)(const apus_conv_transpose_args *g) {
  return FN(conv_transpose_chunk)(g) * MR * (g->KH * g->KW + 1) * 8;
}
APUS_INLINE i64 FN(conv_transpose_blocks)(const apus_conv_transpose_args *g, i64 threads) {
  return FN(matmul_blocks)(g->groups, g->N * g->OH * g->OW, g->O / g->groups,
                           APUS_CEIL(g->KH * g->KW, g->SH * g->SW) * g->C / g->groups, threads);
}

APUS_STATIC void FN(conv_transpose)(const apus_conv_transpose_args *g, i64 block, i64 blockCount, void *scratch) {
  const i64 G = g->groups, Cg = g->C / G, Og = g->O / G, tn = APUS_CEIL(Og, NR), allTaps = g->KH * g->KW;
  const i64 mc = FN(conv_transpose_chunk)(g), dense = g->SH == 1 && g->SW == 1;
  if (tn == 0) return;
  i64 units = 0;
  for (i64 a = 0; a < g->SH; a++)
    for (i64 b = 0; b < g->SW; b++) {
      i64 oy = (a - g->PT % g->SH + g->SH) % g->SH, ox = (b - g->PL % g->SW + g->SW) % g->SW;
      i64 ny = g->OH > oy ? APUS_CEIL(g->OH - oy, g->SH) : 0, nx = g->OW > ox ? APUS_CEIL(g->OW - ox, g->SW) : 0;
      units += APUS_CEIL(g->N * ny * nx, MR) * tn;
    }
  apus_range r = apus_share(units * G, block, blockCount);
  // Scratch holds the output row of every tile row, then the row pointers.
  i64 *outRows = (i64 *)scratch;
  const TA **ptrs = (const TA **)scratch + mc * MR;
  const TA *zero = (const TA *)g->zero;
  APUS_ALIGNED ACC tile[MR * NR];
  i64 base = 0;
  for (i64 gi = 0; gi < G; gi++) {
    i64 tapBase = 0;
    for (i64 a = 0; a < g->SH; a++)
      for (i64 b = 0; b < g->SW; b++) {
        const i64 oy = (a - g->PT % g->SH + g->SH) % g->SH, ox = (b - g->PL % g->SW + g->SW) % g->SW;
        const i64 ny = g->OH > oy ? APUS_CEIL(g->OH - oy, g->SH) : 0, nx = g->OW > ox ? APUS_CEIL(g->OW - ox, g->SW) : 0;
        const i64 M = g->N * ny * nx, tm = APUS_CEIL(M, MR);
        const i64 taps = apus_phase_taps(g->KH, g->DH, g->SH, a) * apus_phase_taps(g->KW, g->DW, g->SW, b);
        i64 at = APUS_MAX(r.begin - base, 0), stop = APUS_MIN(r.end - base, tm * tn);
        while (at < stop) {
          i64 t0 = at / (mc * tn) * mc, tc = APUS_MIN(mc, tm - t0);
          i64 first = at - t0 * tn, last = APUS_MIN(first + stop - at, tc * tn);
          at += last - first;
          i64 ta = t0, te = t0 + tc;
          if (first / tc == (last - 1) / tc) ta = t0 + first % tc, te = t0 + (last - 1) % tc + 1;
          for (i64 t = ta; t < te; t++)
            for (i64 m = t * M / tm, i = 0; m < (t + 1) * M / tm; m++, i++) {
              i64 x = ox + m % nx * g->SW, y = oy + m / nx % ny * g->SH, n = m / nx / ny;
              const TA *image = (const TA *)g->x + n * g->H * g->W * g->C + gi * Cg;
              const TA **d = ptrs + (t - t0) * allTaps * MR + i;
              outRows[(t - t0) * MR + i] = (n * g->OH + y) * g->OW + x;
              for (i64 kh = 0; kh < g->KH; kh++) {
                if (kh * g->DH % g->SH != a) continue;
                i64 sy = y + g->PT - kh * g->DH, iy = sy / g->SH, yok = sy >= 0 && iy < g->H;
                for (i64 kw = 0; kw < g->KW; kw++) {
                  if (kw * g->DW % g->SW != b) continue;
                  i64 sx = x + g->PL - kw * g->DW, ix = sx / g->SW;
                  *d = yok && sx >= 0 && ix < g->W ? image + (iy * g->W + ix) * g->C : zero;
                  d += MR;
                }
              }
            }
          i64 p = first / tc, ti = first % tc;
          for (i64 i = first; i < last; i++) {
            i64 m0 = (t0 + ti) * M / tm, mr = (t0 + ti + 1) * M / tm - m0;
            const TB *w = (const TB *)g->w + (((gi * tn + p) * allTaps + tapBase) * Cg) * NR;
            CORE_FN(_tile)(mr, ptrs + ti * allTaps * MR, MR, taps, Cg, w, tile);
            for (i64 q = 0, step = dense ? mr : 1; q < mr; q += step)
              FN(emit)(g->ctx, tile + q * NR, 0, outRows[ti * MR + q], step, gi * Og + p * NR, Og - p * NR);
            if (++ti == tc) ti = 0, p++;
          }
        }
        base += tm * tn;
        tapBase += taps;
      }
  }
}

APUS_INLINE i64 FN(conv_transpose_packed_size)(const apus_conv_transpose_args *g) {
  i64 Og = g->O / g->groups;
  return g->groups * APUS_CEIL(Og, NR) * NR * g->KH * g->KW * (g->C / g->groups);
}
// Reference packer: weights [C, O/groups, KH, KW] to [group][panel][tap by phase][C/groups][NR]; taps are ordered by
// (kh * DH mod SH, kw * DW mod SW, kh, kw).
APUS_STATIC void FN(conv_transpose_pack)(const apus_conv_transpose_args *g, const TB *src, TB *dst) {
  i64 Cg = g->C / g->groups, Og = g->O / g->groups;
  for (i64 gi = 0; gi < g->groups; gi++)
    for (i64 p = 0; p < APUS_CEIL(Og, NR); p++)
      for (i64 a = 0; a < g->SH; a++)
        for (i64 b = 0; b < g->SW; b++)
          for (i64 kh = 0; kh < g->KH; kh++)
            for (i64 kw = 0; kw < g->KW; kw++) {
              if (kh * g->DH % g->SH != a || kw * g->DW % g->SW != b) continue;
              for (i64 c = 0; c < Cg; c++)
                for (i64 j = 0; j < NR; j++) {
                  i64 o = p * NR + j;
                  *dst++ = o < Og ? src[(((gi * Cg + c) * Og + o) * g->KH + kh) * g->KW + kw] : (TB)0;
                }
            }
}
