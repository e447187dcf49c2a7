// NHWC convolution of 3x3 windows one apart by Winograd's minimal filtering, F(WINO x WINO, 3x3): input tiles of WINO + 2 pixels a
// side and weights are transformed, multiplied as (WINO + 2)^2 matrix products, and transformed back to WINO x WINO results. Needs
// prelude.h, gemm.h and conv.h with the same macros, in f32; C is a multiple of VL. WINO is 2 or 4: 2.25 or 4 times fewer
// multiplications than the sum itself, for a rounding error of about 2 or 10 times. After A. Lavin, S. Gray, "Fast Algorithms for
// Convolutional Neural Networks", 2015.
#define WINO_SIDE (WINO + 2)
#define WINO_POINTS (WINO_SIDE * WINO_SIDE)
// Bytes of transformed input that stay in a cache of a core while weights stream past, where these are not too many to be read again.
#define WINO_CHUNK_BYTES 400000
#define WINO_HEAVY_BYTES 8000000

// Tiles that are worked on together.
APUS_INLINE i64 FN(winograd_chunk)(const apus_conv_args *g) {
  i64 tiles = g->N * APUS_CEIL(g->OH, WINO) * APUS_CEIL(g->OW, WINO);
  i64 most = APUS_MAX(WINO_CHUNK_BYTES / (WINO_POINTS * g->C * 4) / MR * MR, MR);
  if (WINO_POINTS * g->C * g->O * 4 > WINO_HEAVY_BYTES) most = 4 * MR;
  return APUS_CEIL(tiles, APUS_MAX(APUS_CEIL(tiles, APUS_MIN(most, 4 * MR)), 1));
}
APUS_INLINE i64 FN(winograd_scratch)(const apus_conv_args *g) {
  return FN(winograd_chunk)(g) * WINO_POINTS * (g->C + NR) * 4;
}

APUS_INLINE void FN(winograd_in)(const apus_vf *d, apus_vf *o) {
#if WINO == 4
  apus_vf a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
  o[0] = 4 * d[0] - 5 * d[2] + d[4];
  o[1] = a + b, o[2] = a - b, o[3] = c + e, o[4] = c - e;
  o[5] = 4 * d[1] - 5 * d[3] + d[5];
#else
  o[0] = d[0] - d[2], o[1] = d[1] + d[2], o[2] = d[2] - d[1], o[3] = d[1] - d[3];
#endif
}
APUS_INLINE void FN(winograd_out)(const apus_vf *m, apus_vf *y) {
#if WINO == 4
  apus_vf a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
  y[0] = m[0] + a + c, y[1] = b + 2 * e, y[2] = a + 4 * c, y[3] = b + 8 * e + m[5];
#else
  y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] - m[3];
#endif
}

// One tile, whose first pixel is at y0, x0, to WINO_POINTS rows of C that are `step` apart.
APUS_INLINE void FN(winograd_take)(const apus_conv_args *g, const float *image, i64 y0, i64 x0, float *to, i64 step) {
  const float *from[WINO_SIDE][WINO_SIDE];
  for (i64 i = 0; i < WINO_SIDE; i++)
    for (i64 j = 0; j < WINO_SIDE; j++) {
      i64 y = y0 + i, x = x0 + j;
      int inside = ((u64)y < (u64)g->H) & ((u64)x < (u64)g->W);
      from[i][j] = inside ? image + (y * g->W + x) * g->C : (const float *)g->zero;
    }
  for (i64 c = 0; c < g->C; c += VL) {
    apus_vf t[WINO_SIDE][WINO_SIDE];
    APUS_UNROLL for (int j = 0; j < WINO_SIDE; j++) {
      apus_vf d[WINO_SIDE], o[WINO_SIDE];
      APUS_UNROLL for (int i = 0; i < WINO_SIDE; i++) d[i] = APUS_LOADV(from[i][j] + c);
      FN(winograd_in)(d, o);
      APUS_UNROLL for (int i = 0; i < WINO_SIDE; i++) t[i][j] = o[i];
    }
    APUS_UNROLL for (int i = 0; i < WINO_SIDE; i++) {
      apus_vf o[WINO_SIDE];
      FN(winograd_in)(t[i], o);
      APUS_UNROLL for (int j = 0; j < WINO_SIDE; j++) APUS_STOREV(to + (i * WINO_SIDE + j) * step + c, o[j]);
    }
  }
}

// A tile's products, NR of each point `step` apart, to WINO x WINO results of NR.
APUS_INLINE void FN(winograd_give)(const float *from, i64 step, float *y) {
  for (i64 c = 0; c < NR; c += VL) {
    apus_vf t[WINO][WINO_SIDE];
    APUS_UNROLL for (int j = 0; j < WINO_SIDE; j++) {
      apus_vf m[WINO_SIDE], o[WINO];
      APUS_UNROLL for (int i = 0; i < WINO_SIDE; i++) m[i] = APUS_LOADV(from + (i * WINO_SIDE + j) * step + c);
      FN(winograd_out)(m, o);
      APUS_UNROLL for (int i = 0; i < WINO; i++) t[i][j] = o[i];
    }
    APUS_UNROLL for (int i = 0; i < WINO; i++) {
      apus_vf o[WINO];
      FN(winograd_out)(t[i], o);
      APUS_UNROLL for (int j = 0; j < WINO; j++) APUS_STOREV(y + (i * WINO + j) * NR + c, o[j]);
    }
  }
}

APUS_STATIC void FN(winograd)(const apus_conv_args *g, i64 block, i64 blockCount, void *scratch) {
  const i64 C = g->C, th = APUS_CEIL(g->OH, WINO), tw = APUS_CEIL(g->OW, WINO), tiles = g->N * th * tw;
  const i64 tn = APUS_CEIL(g->O, NR);
  if (tiles == 0 || tn == 0) return;
  const i64 most = FN(winograd_chunk)(g), chunks = APUS_CEIL(tiles, most);
  float *const input = (float *)scratch, *const products = input + WINO_POINTS * most * C;
  APUS_ALIGNED float y[WINO * WINO * NR];
  apus_range r = apus_share(chunks * tn, block, blockCount);
  for (i64 at = r.begin; at < r.end;) {
    const i64 chunk = at / tn, first = at - chunk * tn, last = APUS_MIN(first + r.end - at, tn);
    const i64 t0 = chunk * tiles / chunks, count = (chunk + 1) * tiles / chunks - t0;
    at += last - first;
    for (i64 t = 0; t < count; t++) {
      i64 tile = t0 + t, n = tile / (th * tw), ty = tile / tw % th, tx = tile % tw;
      FN(winograd_take)(g, (const float *)g->x + n * g->H * g->W * C, ty * WINO - g->PT, tx * WINO - g->PL,
                        input + t * C, most * C);
    }
    for (i64 p = first; p < last; p++) {
      FN(point_products)(WINO_POINTS, input, (const float *)g->w + p * WINO_POINTS * C * NR, C, count, most, products);
      for (i64 t = 0; t < count; t++) {
        i64 tile = t0 + t, n = tile / (th * tw), ty = tile / tw % th, tx = tile % tw;
        FN(winograd_give)(products + t * NR, most * NR, y);
        const i64 wide = APUS_MIN(WINO, g->OW - tx * WINO), high = APUS_MIN(WINO, g->OH - ty * WINO);
        for (i64 i = 0; i < high; i++)
          FN(emit)(g->ctx, y + i * WINO * NR, 0, ((n * g->OH + ty * WINO + i) * g->OW) + tx * WINO, wide, p * NR,
                   g->O - p * NR);
      }
    }
  }
}

// Reference packer: OIHW weights to [panel][point][C][NR].
APUS_INLINE i64 FN(winograd_packed_size)(const apus_conv_args *g) { return APUS_CEIL(g->O, NR) * NR * WINO_POINTS * g->C; }
APUS_STATIC void FN(winograd_pack)(const apus_conv_args *g, const float *src, float *dst) {
#if WINO == 4
  static const double G[6][3] = {{1. / 4, 0, 0}, {-1. / 6, -1. / 6, -1. / 6}, {-1. / 6, 1. / 6, -1. / 6},
                                 {1. / 24, 1. / 12, 1. / 6}, {1. / 24, -1. / 12, 1. / 6}, {0, 0, 1}};
#else
  static const double G[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
#endif
  for (i64 p = 0; p < APUS_CEIL(g->O, NR); p++)
    for (i64 e = 0; e < WINO_POINTS; e++)
      for (i64 c = 0; c < g->C; c++)
        for (i64 j = 0; j < NR; j++) {
          i64 o = p * NR + j;
          double sum = 0;
          if (o < g->O)
            for (int a = 0; a < 3; a++)
              for (int b = 0; b < 3; b++)
                sum += G[e / WINO_SIDE][a] * G[e % WINO_SIDE][b] * src[((o * g->C + c) * 3 + a) * 3 + b];
          *dst++ = (float)sum;
        }
}
