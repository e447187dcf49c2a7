// NHWC convolution as an implicit matrix product. Needs prelude.h and, with the same macros, gemm.h.
#ifndef APUS_CONV_TYPES
#define APUS_CONV_TYPES
typedef struct {
  const void *x, *w, *ctx;
  const void *zero;  // at least C / groups zero elements; read where a tap falls into padding
  i64 N, H, W, C, OH, OW, O, KH, KW, SH, SW, DH, DW, PT, PL, groups;
  // Where there are few outputs, `spread` neighbouring pixels are one with spread times as many outputs, at most a panel: O counts
  // all of them, KW and SW are of the widened window, OW counts such pixels and wide those of the result. 0 where pixels stand alone.
  i64 spread, wide;
} apus_conv_args;
APUS_INLINE void apus_copy_words(void *d, const void *s, i64 bytes) {
  char *o = (char *)d;
  const char *i = (const char *)s;
  for (; bytes >= 32; bytes -= 32, o += 32, i += 32) __builtin_memcpy(o, i, 32);
  if (bytes & 16) { __builtin_memcpy(o, i, 16); o += 16; i += 16; }
  if (bytes & 8) { __builtin_memcpy(o, i, 8); o += 8; i += 8; }
  if (bytes & 4) { __builtin_memcpy(o, i, 4); o += 4; i += 4; }
  if (bytes & 2) __builtin_memcpy(o, i, 2);
}
#endif

// How rows reach the core: 0 points at every tap; 1 copies rows into scratch; 2 points at whole kernel rows, which
// are contiguous in the image, and copies only those that touch padding. 1 and 2 serve few channels per tap.
APUS_INLINE i64 FN(conv_mode)(const apus_conv_args *g) {
  if ((g->C / g->groups >= 16 && !g->spread) || g->KH * g->KW == 1) return 0;
  return g->groups == 1 && g->DW == 1 ? 2 : 1;
}
APUS_INLINE i64 FN(conv_chunk)(const apus_conv_args *g) {
  i64 c = FN(chunk)(g->C / g->groups * g->KH * (FN(conv_mode)(g) ? g->KW : 1));
  return APUS_MIN(c, APUS_MAX(1, APUS_MIN(64, APUS_CEIL(g->N * g->OH * g->OW, MR))));
}
APUS_INLINE i64 FN(conv_scratch)(const apus_conv_args *g) {
  i64 mode = FN(conv_mode)(g), taps = g->KH * g->KW, copied = taps * (g->C / g->groups) * (i64)sizeof(TA);
  i64 perRow = mode == 0 ? taps * 8 : mode == 1 ? copied : copied + g->KH * 8;
  return FN(conv_chunk)(g) * MR * perRow + (mode == 2 ? copied / g->KH : 0);
}
APUS_INLINE i64 FN(conv_blocks)(const apus_conv_args *g, i64 threads) {
  return FN(matmul_blocks)(g->groups, g->N * g->OH * g->OW, g->O / g->groups, g->KH * g->KW * g->C / g->groups, threads);
}

// Gives each row of a tile, spread pixels of as many outputs each, its place in the result.
APUS_INLINE void FN(emit_spread)(const apus_conv_args *g, const ACC *tile, i64 row, i64 rows) {
#ifdef EPILOGUE
  const i64 outputs = g->O / g->spread;
  for (i64 i = 0; i < rows; i++) {
    const i64 line = (row + i) / g->OW, x = (row + i - line * g->OW) * g->spread;
    EPILOGUE(g->ctx, tile + i * NR, outputs, 0, line * g->wide + x, APUS_MIN(g->spread, g->wide - x), 0, outputs);
  }
#endif
}

APUS_STATIC void FN(conv)(const apus_conv_args *g, i64 block, i64 blockCount, void *scratch) {
  const i64 M = g->N * g->OH * g->OW, G = g->groups, Cg = g->C / G, Og = g->O / G, taps = g->KH * g->KW;
  const i64 tm = APUS_CEIL(M, MR), tn = APUS_CEIL(Og, NR), K = taps * Cg;
  if (tm == 0 || tn == 0) return;
  const i64 mode = FN(conv_mode)(g), mc = FN(conv_chunk)(g);
  const i64 sums = mode == 1 ? 1 : mode == 2 ? g->KH : taps, length = K / sums;
  const TA *zero = (const TA *)g->zero;
  const TA **ptrs = (const TA **)scratch;
  TA *copy = (TA *)(mode == 2 ? ptrs + mc * MR * g->KH : ptrs);
  TA *zeroRow = copy + mc * MR * K;
  if (mode == 2)
    for (i64 k = 0; k < g->KW * Cg; k++) zeroRow[k] = (TA)0;
  APUS_ALIGNED ACC tile[MR * NR];
  apus_range r = apus_share(G * tm * tn, block, blockCount);
  // Order of micro-tiles: group, chunk of rows, panel, tile in chunk.
  i64 at = r.begin;
  while (at < r.end) {
    i64 gi = at / (tm * tn), inGroup = at % (tm * tn);
    i64 t0 = inGroup / (mc * tn) * mc, tc = APUS_MIN(mc, tm - t0);
    i64 first = inGroup - t0 * tn, last = APUS_MIN(first + r.end - at, tc * tn);
    at += last - first;
    const TA *x = (const TA *)g->x + gi * Cg;
    const TB *w = (const TB *)g->w + gi * tn * NR * K;
    i64 ta = t0, te = t0 + tc;
    if (first / tc == (last - 1) / tc) ta = t0 + first % tc, te = t0 + (last - 1) % tc + 1;
    i64 m = ta * M / tm, ow = m % g->OW, oh = m / g->OW % g->OH, n = m / g->OW / g->OH;
    for (i64 t = ta; t < te; t++) {
      i64 m1 = (t + 1) * M / tm;
      for (i64 i = 0; m < m1; m++, i++) {
        i64 y0 = oh * g->SH - g->PT, x0 = ow * g->SW - g->PL;
        const TA *image = x + n * g->H * g->W * g->C;
        i64 inside = g->DW == 1 && g->C == Cg && x0 >= 0 && x0 + g->KW <= g->W;
        if (mode) {
          TA *d = copy + ((t - t0) * MR + i) * K;
          const TA **to = ptrs + (t - t0) * g->KH * MR + i;
          for (i64 kh = 0; kh < g->KH; kh++, d += g->KW * Cg, to += MR) {
            i64 y = y0 + kh * g->DH, yok = (u64)y < (u64)g->H;
            const TA *line = image + y * g->W * g->C;
            if (mode == 2) {
              *to = yok ? inside ? line + x0 * Cg : d : zeroRow;
              if (!yok || inside) continue;
            }
            if (!yok) {
              for (i64 k = 0; k < g->KW * Cg; k++) d[k] = (TA)0;
            } else {
              for (i64 kw = 0; kw < g->KW; kw++) {
                i64 xx = x0 + kw * g->DW;
                const TA *s = xx >= 0 && xx < g->W ? line + xx * g->C : zero;
                apus_copy_words(d + kw * Cg, s, Cg * (i64)sizeof(TA));
              }
            }
          }
        } else {
          const TA **d = ptrs + (t - t0) * taps * MR + i;
          for (i64 kh = 0; kh < g->KH; kh++) {
            i64 y = y0 + kh * g->DH, yok = (u64)y < (u64)g->H;
            const TA *line = image + y * g->W * g->C;
            APUS_NOUNROLL for (i64 kw = 0; kw < g->KW; kw++, d += MR) {
              i64 xx = x0 + kw * g->DW;
              *d = (yok & ((u64)xx < (u64)g->W)) ? line + xx * g->C : zero;
            }
          }
        }
        if (++ow == g->OW) { ow = 0; if (++oh == g->OH) oh = 0, n++; }
      }
    }
    i64 p = first / tc, ti = first % tc;
    for (i64 i = first; i < last; i++) {
      i64 m0 = (t0 + ti) * M / tm, mr = (t0 + ti + 1) * M / tm - m0;
      const TA *copies[MR];
      if (mode == 1) APUS_UNROLL for (int q = 0; q < MR; q++) copies[q] = copy + (ti * MR + q) * K;
      const TA *const *const rows = mode == 1 ? copies : mode == 2 ? ptrs + ti * g->KH * MR : ptrs + ti * taps * MR;
      const TB *const panel = w + p * K * NR;
      if (g->spread) {
        CORE_FN(_tile)(mr, rows, MR, sums, length, panel, tile);
        FN(emit_spread)(g, tile, m0, mr);
      } else {
        FN(block)(mr, rows, MR, sums, length, panel, (const char *)panel, 0, tile, g->ctx, 0, m0, gi * Og + p * NR, Og - p * NR);
      }
      if (++ti == tc) ti = 0, p++;
    }
  }
}

// Elements of the packed weights.
APUS_INLINE i64 FN(conv_packed_size)(const apus_conv_args *g) {
  i64 Og = g->O / g->groups;
  return g->groups * APUS_CEIL(Og, NR) * NR * g->KH * g->KW * (g->C / g->groups);
}
// Reference packer: OIHW weights [O, C/groups, KH, KW] to [group][panel][kh][kw][C/groups][NR].
APUS_STATIC void FN(conv_pack)(const apus_conv_args *g, const TB *src, TB *dst) {
  i64 Cg = g->C / g->groups, Og = g->O / g->groups;
  for (i64 gi = 0; gi < g->groups; gi++)
    for (i64 p = 0; p < APUS_CEIL(Og, NR); p++)
      for (i64 kh = 0; kh < g->KH; kh++)
        for (i64 kw = 0; kw < g->KW; kw++)
          for (i64 c = 0; c < Cg; c++)
            for (i64 j = 0; j < NR; j++) {
              i64 o = p * NR + j;
              *dst++ = o < Og ? src[(((gi * Og + o) * Cg + c) * g->KH + kh) * g->KW + kw] : (TB)0;
            }
}
