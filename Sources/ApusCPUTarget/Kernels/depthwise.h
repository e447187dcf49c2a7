// NHWC depthwise convolution, vectorised over channels. Needs prelude.h; macros KERNEL, EPILOGUE, T, ACC.
#ifndef KERNEL
#define KERNEL kernel
#endif
#ifndef T
#define T float
#endif
#ifndef ACC
#if APUS_TYPE_OF(T) == 2
#define ACC double
#else
#define ACC float
#endif
#endif
#undef FN
#define FN(n) APUS_CAT3(KERNEL, _, n)

#ifndef APUS_DEPTHWISE_TYPES
#define APUS_DEPTHWISE_TYPES
// w is [KH][KW][C * multiplier]; output channel o reads input channel o / multiplier.
typedef struct {
  const void *x, *w, *ctx;
  i64 N, H, W, C, OH, OW, multiplier, KH, KW, SH, SW, DH, DW, PT, PL;
} apus_depthwise_args;
// Outputs along the width per register block, and channels per work unit.
#define APUS_DW_OB 8
#define APUS_DW_CB 128
#endif

typedef ACC FN(dw_v) __attribute__((vector_size(APUS_VB)));
typedef T FN(dw_t) __attribute__((vector_size(APUS_VB / sizeof(ACC) * sizeof(T)), aligned(sizeof(T))));

#undef DW_V
#undef DW_T
#undef DW_LOAD
#define DW_V FN(dw_v)
#define DW_T FN(dw_t)
#define DW_LOAD(p) __builtin_convertvector(*(const DW_T *)(p), DW_V)

typedef struct {
  const T *x, *w;
  i64 khn, kwn, xRow, xTap, xOut, wRow, wTap, cols;
  ACC *tile;
} FN(dw_call);

// ob outputs of one row, all vectors of the channel group. A nonzero kw, sw fixes the kernel width and stride
// at compile time and takes the dilation as 1.
APUS_INLINE void FN(dw_body)(const int ob, const int kwc, const int swc, const FN(dw_call) *a) {
  enum { L = APUS_VB / sizeof(ACC) };
  const i64 xRow = a->xRow, xTap = a->xTap, xOut = a->xOut, wRow = a->wRow, wTap = a->wTap, khn = a->khn, kwn = a->kwn;
  for (i64 c = 0; c < a->cols; c += L) {
    // The last vector may overlap the one before it.
    i64 cc = c + L <= a->cols ? c : a->cols - L;
    const T *x = a->x + cc, *w = a->w + cc;
    DW_V acc[APUS_DW_OB];
    APUS_UNROLL for (int i = 0; i < ob; i++) acc[i] = (DW_V){0};
    APUS_NOUNROLL for (i64 kh = 0; kh < khn; kh++, x += xRow, w += wRow) {
      if (kwc) {
        DW_V in[(APUS_DW_OB - 1) * 2 + 5];
        APUS_UNROLL for (int i = 0; i < (ob - 1) * swc + kwc; i++) in[i] = DW_LOAD(x + i * xTap);
        APUS_UNROLL for (int k = 0; k < kwc; k++) {
          DW_V f = DW_LOAD(w + k * wTap);
          APUS_UNROLL for (int i = 0; i < ob; i++) acc[i] += in[i * swc + k] * f;
        }
      } else {
        const T *xt = x, *wt = w;
        APUS_NOUNROLL for (i64 k = 0; k < kwn; k++, xt += xTap, wt += wTap) {
          DW_V f = DW_LOAD(wt);
          APUS_UNROLL for (int i = 0; i < ob; i++) acc[i] += DW_LOAD(xt + i * xOut) * f;
        }
      }
    }
    APUS_UNROLL for (int i = 0; i < ob; i++) __builtin_memcpy(a->tile + i * APUS_DW_CB + cc, &acc[i], sizeof(DW_V));
  }
}
#define DW_DEF(ob, kw, sw) \
  APUS_NOINLINE void FN(dw_##ob##_##kw##_##sw)(const FN(dw_call) *a) { FN(dw_body)(ob, kw, sw, a); }
DW_DEF(8, 3, 1) DW_DEF(4, 3, 1) DW_DEF(8, 3, 2) DW_DEF(4, 3, 2) DW_DEF(8, 5, 1) DW_DEF(4, 5, 1)
DW_DEF(8, 0, 0) DW_DEF(4, 0, 0) DW_DEF(1, 0, 0)
#undef DW_DEF

// Channels c0 .. c0 + cols of ob outputs; fewer channels than a vector, or a multiplier, go one at a time.
APUS_NOINLINE void FN(dw_tile)(const apus_depthwise_args *g, void (*body)(const FN(dw_call) *), i64 ob, const T *x,
                               const T *w, i64 khn, i64 kwn, i64 cols, i64 c0, i64 row) {
  enum { L = APUS_VB / sizeof(ACC) };
  const i64 mult = g->multiplier, CO = g->C * mult;
  APUS_ALIGNED ACC tile[APUS_DW_OB * APUS_DW_CB];
  FN(dw_call) a = {x + c0, w + c0, khn, kwn, g->DH * g->W * g->C, g->DW * g->C, g->SW * g->C, g->KW * CO, CO, cols, tile};
  if (mult == 1 && cols >= L) body(&a);
  else
    for (i64 c = 0; c < cols; c++)
      for (i64 i = 0; i < ob; i++) {
        ACC s = 0;
        const T *xi = x + (c0 + c) / mult + i * a.xOut, *wi = a.w + c;
        for (i64 kh = 0; kh < khn; kh++)
          for (i64 kw = 0; kw < kwn; kw++) s += (ACC)xi[kh * a.xRow + kw * a.xTap] * (ACC)wi[kh * a.wRow + kw * CO];
        tile[i * APUS_DW_CB + c] = s;
      }
#ifdef EPILOGUE
  if (cols == APUS_DW_CB) EPILOGUE(g->ctx, tile, APUS_DW_CB, 0, row, ob, c0, APUS_DW_CB);
  else EPILOGUE(g->ctx, tile, APUS_DW_CB, 0, row, ob, c0, cols);
#endif
}
APUS_INLINE void FN(dw_line)(const apus_depthwise_args *g, i64 n, i64 oh, i64 c0, i64 cols) {
  const T *w = (const T *)g->w;
  const i64 CO = g->C * g->multiplier;
  void (*wide)(const FN(dw_call) *) = FN(dw_8_0_0), (*half)(const FN(dw_call) *) = FN(dw_4_0_0);
  if (g->KW == 3 && g->DW == 1 && g->SW == 1) wide = FN(dw_8_3_1), half = FN(dw_4_3_1);
  if (g->KW == 3 && g->DW == 1 && g->SW == 2) wide = FN(dw_8_3_2), half = FN(dw_4_3_2);
  if (g->KW == 5 && g->DW == 1 && g->SW == 1) wide = FN(dw_8_5_1), half = FN(dw_4_5_1);
  i64 y0 = oh * g->SH - g->PT;
  i64 k0 = y0 < 0 ? APUS_CEIL(-y0, g->DH) : 0;
  i64 k1 = APUS_MIN(g->KH, g->H > y0 ? APUS_CEIL(g->H - y0, g->DH) : 0);
  i64 khn = APUS_MAX(0, k1 - k0);
  if (khn == 0) k0 = 0;
  const T *line = (const T *)g->x + (n * g->H + (khn ? y0 + k0 * g->DH : 0)) * g->W * g->C;
  w += k0 * g->KW * CO;
  // Outputs in [in0, in1) have every tap of the row inside the image.
  i64 in0 = APUS_CEIL(g->PL, g->SW), span = (g->KW - 1) * g->DW + 1;
  i64 in1 = g->W + g->PL >= span ? (g->W + g->PL - span) / g->SW + 1 : 0;
  in1 = APUS_MIN(in1, g->OW);
  in0 = APUS_MIN(in0, in1);
  i64 row = (n * g->OH + oh) * g->OW;
  for (i64 ow = 0; ow < g->OW;) {
    i64 x0 = ow * g->SW - g->PL;
    if (ow >= in0 && ow + APUS_DW_OB <= in1) {
      FN(dw_tile)(g, wide, APUS_DW_OB, line + x0 * g->C, w, khn, g->KW, cols, c0, row + ow);
      ow += APUS_DW_OB;
    } else if (ow >= in0 && ow + 4 <= in1) {
      FN(dw_tile)(g, half, 4, line + x0 * g->C, w, khn, g->KW, cols, c0, row + ow);
      ow += 4;
    } else {
      i64 a = x0 < 0 ? APUS_CEIL(-x0, g->DW) : 0;
      i64 b = APUS_MIN(g->KW, g->W > x0 ? APUS_CEIL(g->W - x0, g->DW) : 0);
      if (b <= a) a = b = 0, x0 = 0;
      FN(dw_tile)(g, FN(dw_1_0_0), 1, line + (x0 + a * g->DW) * g->C, w + a * CO, khn, b - a, cols, c0, row + ow);
      ow++;
    }
  }
}
APUS_INLINE i64 FN(depthwise_units)(const apus_depthwise_args *g) {
  return g->N * g->OH * APUS_CEIL(g->C * g->multiplier, APUS_DW_CB);
}
APUS_INLINE i64 FN(depthwise_blocks)(const apus_depthwise_args *g, i64 threads) {
  double work = 2.0 * g->N * g->OH * g->OW * g->C * g->multiplier * (g->KH * g->KW + 4);
  i64 n = (i64)APUS_MIN(work / 200e3, 4.0 * threads);
  return APUS_MAX(1, APUS_MIN(n, FN(depthwise_units)(g)));
}
APUS_STATIC void FN(depthwise)(const apus_depthwise_args *g, i64 block, i64 blockCount) {
  enum { L = APUS_VB / sizeof(ACC) };
  const i64 CO = g->C * g->multiplier, tc = APUS_CEIL(CO, APUS_DW_CB), tv = APUS_CEIL(CO, L);
  apus_range r = apus_share(g->N * g->OH * tc, block, blockCount);
  // Rows of one image and channel group follow each other, so that input rows are met again in cache.
  for (i64 u = r.begin; u < r.end; u++) {
    i64 oh = u % g->OH, ci = u / g->OH % tc, n = u / g->OH / tc;
    i64 c0 = ci * tv / tc * L, cols = APUS_MIN(CO, (ci + 1) * tv / tc * L) - c0;
    FN(dw_line)(g, n, oh, c0, cols);
  }
}
