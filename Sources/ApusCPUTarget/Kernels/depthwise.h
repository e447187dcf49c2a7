// NHWC depthwise convolution, vectorised over channels. Needs prelude.h; macros KERNEL, EPILOGUE, T, ACC, and DW_KW, DW_SW: the
// only width and stride along it that windows have (0: any, without code of their own).
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
#ifndef APUS_DW_CB
#define APUS_DW_CB 128
#endif
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
  i64 low, high;  // columns of the windows that are inside the image
  ACC *tile;
} FN(dw_call);

// ob outputs of one row, all vectors of the channel group. A nonzero kw, sw fixes the kernel width and stride
// at compile time and takes the dilation as 1; then windows may reach over an edge.
APUS_INLINE void FN(dw_body)(const int ob, const int kwc, const int swc, const int edge, const FN(dw_call) *a) {
  enum { L = APUS_VB / sizeof(ACC) };
  const i64 xRow = a->xRow, xTap = a->xTap, xOut = a->xOut, wRow = a->wRow, wTap = a->wTap, khn = a->khn, kwn = a->kwn;
  const i64 low = a->low, high = a->high;
  for (i64 c = 0; c < a->cols; c += L) {
    // The last vector may overlap the one before it.
    i64 cc = c + L <= a->cols ? c : a->cols - L;
    const T *x = a->x + cc, *w = a->w + cc;
    DW_V acc[APUS_DW_OB];
    APUS_UNROLL for (int i = 0; i < ob; i++) acc[i] = (DW_V){0};
    APUS_NOUNROLL for (i64 kh = 0; kh < khn; kh++, x += xRow, w += wRow) {
      if (kwc) {
        DW_V in[(APUS_DW_OB - 1) * 2 + 5];
        APUS_UNROLL for (int i = 0; i < (ob - 1) * swc + kwc; i++) {
          if (edge && (i < low || i >= high)) in[i] = (DW_V){0};
          else in[i] = DW_LOAD(x + i * xTap);
        }
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
typedef void (*FN(dw_function))(const FN(dw_call) *);
#define DW_DEF(ob, kw, sw, edge) \
  APUS_NOINLINE void FN(dw_##ob##_##kw##_##sw##_##edge)(const FN(dw_call) *a) { FN(dw_body)(ob, kw, sw, edge, a); }
// For windows of a width and stride: 8 outputs inside the image, and 8 and 4 anywhere.
#define DW_WINDOW(kw, sw) DW_DEF(8, kw, sw, 0) DW_DEF(8, kw, sw, 1) DW_DEF(4, kw, sw, 1)
DW_DEF(8, 0, 0, 0) DW_DEF(4, 0, 0, 0) DW_DEF(1, 0, 0, 0)
#if !defined(DW_KW) || (DW_KW == 3 && DW_SW == 1)
DW_WINDOW(3, 1)
#endif
#if !defined(DW_KW) || (DW_KW == 3 && DW_SW == 2)
DW_WINDOW(3, 2)
#endif
#if !defined(DW_KW) || (DW_KW == 5 && DW_SW == 1)
DW_WINDOW(5, 1)
#endif
#if !defined(DW_KW) || (DW_KW == 5 && DW_SW == 2)
DW_WINDOW(5, 2)
#endif
#undef DW_WINDOW
#undef DW_DEF

// Channels c0 .. c0 + cols of ob outputs; fewer channels than a vector, or a multiplier, go one at a time. x is at column 0 of the
// first window, which may lie outside the image.
APUS_NOINLINE void FN(dw_tile)(const apus_depthwise_args *g, FN(dw_function) body, i64 ob, const T *x, i64 low, i64 high,
                               const T *w, i64 khn, i64 kwn, i64 cols, i64 c0, i64 row) {
  enum { L = APUS_VB / sizeof(ACC) };
  const i64 mult = g->multiplier, CO = g->C * mult;
  APUS_ALIGNED ACC tile[APUS_DW_OB * APUS_DW_CB];
  FN(dw_call) a = {x + c0, w + c0, khn, kwn, g->DH * g->W * g->C, g->DW * g->C, g->SW * g->C, g->KW * CO, CO, cols,
                    low, high, tile};
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
  FN(dw_function) inside = 0, wide = 0, half = 0;
#define DW_PICK(kw, sw) \
  if (g->KW == kw && g->SW == sw) { \
    inside = FN(dw_8_##kw##_##sw##_0), wide = FN(dw_8_##kw##_##sw##_1), half = FN(dw_4_##kw##_##sw##_1); \
  }
#if !defined(DW_KW) || (DW_KW == 3 && DW_SW == 1)
  DW_PICK(3, 1)
#endif
#if !defined(DW_KW) || (DW_KW == 3 && DW_SW == 2)
  DW_PICK(3, 2)
#endif
#if !defined(DW_KW) || (DW_KW == 5 && DW_SW == 1)
  DW_PICK(5, 1)
#endif
#if !defined(DW_KW) || (DW_KW == 5 && DW_SW == 2)
  DW_PICK(5, 2)
#endif
#undef DW_PICK
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
  if (inside && g->DW == 1 && g->multiplier == 1 && cols >= APUS_VB / (i64)sizeof(ACC)) {
    for (i64 ow = 0; ow < g->OW; ow += APUS_DW_OB) {
      const i64 x0 = ow * g->SW - g->PL, count = APUS_MIN(APUS_DW_OB, g->OW - ow);
      FN(dw_function) body = count <= 4 ? half : ow >= in0 && ow + APUS_DW_OB <= in1 ? inside : wide;
      FN(dw_tile)(g, body, count, line + x0 * g->C, -x0, g->W - x0, w, khn, g->KW, cols, c0, row + ow);
    }
    return;
  }
  for (i64 ow = 0; ow < g->OW;) {
    i64 x0 = ow * g->SW - g->PL;
    if (ow >= in0 && ow + APUS_DW_OB <= in1) {
      FN(dw_tile)(g, FN(dw_8_0_0_0), APUS_DW_OB, line + x0 * g->C, 0, 0, w, khn, g->KW, cols, c0, row + ow);
      ow += APUS_DW_OB;
    } else if (ow >= in0 && ow + 4 <= in1) {
      FN(dw_tile)(g, FN(dw_4_0_0_0), 4, line + x0 * g->C, 0, 0, w, khn, g->KW, cols, c0, row + ow);
      ow += 4;
    } else {
      i64 a = x0 < 0 ? APUS_CEIL(-x0, g->DW) : 0;
      i64 b = APUS_MIN(g->KW, g->W > x0 ? APUS_CEIL(g->W - x0, g->DW) : 0);
      if (b <= a) a = b = 0, x0 = 0;
      FN(dw_tile)(g, FN(dw_1_0_0_0), 1, line + (x0 + a * g->DW) * g->C, 0, 0, w + a * CO, khn, b - a, cols, c0, row + ow);
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
// Rows first ..< end of one image's result.
APUS_STATIC void FN(depthwise_rows)(const apus_depthwise_args *g, i64 n, i64 first, i64 end) {
  enum { L = APUS_VB / sizeof(ACC) };
  const i64 CO = g->C * g->multiplier, tc = APUS_CEIL(CO, APUS_DW_CB), tv = APUS_CEIL(CO, L);
  for (i64 ci = 0; ci < tc; ci++) {
    i64 c0 = ci * tv / tc * L, cols = APUS_MIN(CO, (ci + 1) * tv / tc * L) - c0;
    for (i64 oh = first; oh < end; oh++) FN(dw_line)(g, n, oh, c0, cols);
  }
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
