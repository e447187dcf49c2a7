// Convolution of LINE_TAPS pixels one apart along lines of pixels, NWC, by Winograd's minimal filtering, F(4, LINE_TAPS): input tiles
// of LINE_SIDE pixels and weights are transformed, multiplied as LINE_SIDE matrix products, and transformed back to 4 results.
// Needs prelude.h, gemm.h and conv.h with the same macros, in f32; C is a multiple of VL. LINE_TAPS is 3 or 5: 2 or 2.5 times fewer
// multiplications than the sum itself. The line is the width; H and OH are 1.
#define LINE_SIDE (LINE_TAPS + 3)
// Bytes of transformed input that stay in a cache of a core while weights stream past.
#define LINE_CHUNK_BYTES 400000

// Tiles that are worked on together.
APUS_INLINE i64 FN(line_chunk)(const apus_conv_args *g) {
  i64 tiles = g->N * APUS_CEIL(g->OW, 4);
  i64 most = APUS_MAX(LINE_CHUNK_BYTES / (LINE_SIDE * g->C * 4) / MR * MR, MR);
  return APUS_CEIL(tiles, APUS_MAX(APUS_CEIL(tiles, APUS_MIN(most, 8 * MR)), 1));
}
APUS_INLINE i64 FN(winograd_line_scratch)(const apus_conv_args *g) { return FN(line_chunk)(g) * LINE_SIDE * (g->C + NR) * 4; }

APUS_INLINE void FN(line_in)(const apus_vf *d, apus_vf *o) {
#if LINE_TAPS == 5
  apus_vf a = d[2] + d[6] - 4.25f * d[4], b = d[1] + d[5] - 4.25f * d[3];
  o[0] = (d[0] - d[6]) + 5.25f * (d[4] - d[2]), o[1] = a + b, o[2] = a - b;
  a = d[6] + 0.25f * d[2] - 1.25f * d[4], b = 0.5f * d[1] - 2.5f * d[3] + 2 * d[5];
  o[3] = a + b, o[4] = a - b;
  a = d[6] + 4 * d[2] - 5 * d[4], b = 2 * d[1] - 2.5f * d[3] + 0.5f * d[5];
  o[5] = a + b, o[6] = a - b, o[7] = (d[7] - d[1]) + 5.25f * (d[3] - d[5]);
#else
  apus_vf a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
  o[0] = 4 * d[0] - 5 * d[2] + d[4];
  o[1] = a + b, o[2] = a - b, o[3] = c + e, o[4] = c - e;
  o[5] = 4 * d[1] - 5 * d[3] + d[5];
#endif
}
APUS_INLINE void FN(line_out)(const apus_vf *m, apus_vf *y) {
  apus_vf a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
#if LINE_TAPS == 5
  apus_vf s = m[5] + m[6], t = m[5] - m[6];
  y[0] = m[0] + a + c + s, y[1] = b + 2 * e + 0.5f * t;
  y[2] = a + 4 * c + 0.25f * s, y[3] = b + 8 * e + 0.125f * t + m[7];
#else
  y[0] = m[0] + a + c, y[1] = b + 2 * e, y[2] = a + 4 * c, y[3] = b + 8 * e + m[5];
#endif
}

APUS_STATIC void FN(winograd_line)(const apus_conv_args *g, i64 block, i64 blockCount, void *scratch) {
  const i64 C = g->C, across = APUS_CEIL(g->OW, 4), tiles = g->N * across, tn = APUS_CEIL(g->O, NR);
  if (tiles == 0 || tn == 0) return;
  const i64 most = FN(line_chunk)(g), chunks = APUS_CEIL(tiles, most);
  float *const input = (float *)scratch, *const products = input + LINE_SIDE * most * C;
  APUS_ALIGNED float y[4 * NR];
  apus_range r = apus_share(chunks * tn, block, blockCount);
  for (i64 at = r.begin; at < r.end;) {
    const i64 chunk = at / tn, first = at - chunk * tn, last = APUS_MIN(first + r.end - at, tn);
    const i64 t0 = chunk * tiles / chunks, count = (chunk + 1) * tiles / chunks - t0;
    at += last - first;
    for (i64 t = 0; t < count; t++) {
      const i64 n = (t0 + t) / across, x0 = (t0 + t - n * across) * 4 - g->PL;
      const float *from[LINE_SIDE];
      for (i64 i = 0; i < LINE_SIDE; i++)
        from[i] = (u64)(x0 + i) < (u64)g->W ? (const float *)g->x + (n * g->W + x0 + i) * C : (const float *)g->zero;
      for (i64 c = 0; c < C; c += VL) {
        apus_vf d[LINE_SIDE], o[LINE_SIDE];
        APUS_UNROLL for (int i = 0; i < LINE_SIDE; i++) d[i] = APUS_LOADV(from[i] + c);
        FN(line_in)(d, o);
        APUS_UNROLL for (int i = 0; i < LINE_SIDE; i++) APUS_STOREV(input + (i * most + t) * C + c, o[i]);
      }
    }
    for (i64 p = first; p < last; p++) {
      FN(point_products)(LINE_SIDE, input, (const float *)g->w + p * LINE_SIDE * C * NR, C, count, most, products);
      for (i64 t = 0; t < count; t++) {
        const i64 n = (t0 + t) / across, x = (t0 + t - n * across) * 4;
        for (i64 c = 0; c < NR; c += VL) {
          apus_vf m[LINE_SIDE], o[4];
          APUS_UNROLL for (int i = 0; i < LINE_SIDE; i++) m[i] = APUS_LOADV(products + (i * most + t) * NR + c);
          FN(line_out)(m, o);
          APUS_UNROLL for (int i = 0; i < 4; i++) APUS_STOREV(y + i * NR + c, o[i]);
        }
        FN(emit)(g->ctx, y, 0, n * g->OW + x, APUS_MIN(4, g->OW - x), p * NR, g->O - p * NR);
      }
    }
  }
}

// Reference packer: [O, C, LINE_TAPS] weights to [panel][point][C][NR].
APUS_INLINE i64 FN(winograd_line_packed_size)(const apus_conv_args *g) { return APUS_CEIL(g->O, NR) * NR * LINE_SIDE * g->C; }
APUS_STATIC void FN(winograd_line_pack)(const apus_conv_args *g, const float *src, float *dst) {
#if LINE_TAPS == 5
  static const double G[8][2] = {{0, 1}, {1, -2. / 9}, {-1, -2. / 9}, {2, 1. / 90}, {-2, 1. / 90}, {.5, 32. / 45}, {-.5, 32. / 45}};
#else
  static const double G[6][2] = {{0, 1. / 4}, {1, -1. / 6}, {-1, -1. / 6}, {2, 1. / 24}, {-2, 1. / 24}};
#endif
  for (i64 p = 0; p < APUS_CEIL(g->O, NR); p++)
    for (i64 e = 0; e < LINE_SIDE; e++)
      for (i64 c = 0; c < g->C; c++)
        for (i64 j = 0; j < NR; j++) {
          const i64 o = p * NR + j;
          double sum = 0;
          if (o < g->O) {
            const float *w = src + (o * g->C + c) * LINE_TAPS;
            if (e == LINE_SIDE - 1) sum = w[LINE_TAPS - 1];
            else
              for (i64 k = LINE_TAPS - 1; k >= 0; k--) sum = sum * G[e][0] + G[e][1] * w[k];
          }
          *dst++ = (float)sum;
        }
}
