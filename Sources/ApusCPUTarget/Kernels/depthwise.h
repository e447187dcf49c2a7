// NHWC depthwise convolution, vectorised over channels. Needs prelude.h; macros KERNEL, EPILOGUE, APUS_LIGHT_EPILOGUE, T, ACC,
// DW_KW, DW_SW: the only width and stride along it that windows have (0: any, without code of their own), and DW_C, DW_PIECES and
// what goes with them for rows of a known width.
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
// Outputs along the width per register block at most, and channels per work unit.
#define APUS_DW_OB (APUS_VREGS / 2)
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
  const void *ctx;
  i64 row, count, col;  // of the result that the epilogue sees
} FN(dw_call);

// ob outputs of one row, all vectors of the channel group, of which count are wanted. A nonzero kw, sw fixes the kernel width and
// stride at compile time and takes the dilation as 1; then windows may reach over an edge: only columns low ..< high are read.
APUS_INLINE void FN(dw_body)(const int ob, const int kwc, const int swc, i64 low, i64 high, i64 count, const FN(dw_call) *a) {
  enum { L = APUS_VB / sizeof(ACC) };
#ifdef DW_C
  const i64 xTap = kwc ? DW_C : a->xTap, xOut = a->xOut, wTap = kwc ? DW_C : a->wTap;
#else
  const i64 xTap = a->xTap, xOut = a->xOut, wTap = a->wTap;
#endif
  const i64 xRow = a->xRow, wRow = a->wRow, khn = a->khn, kwn = a->kwn, cols = a->cols;
  for (i64 c = 0; c < cols; c += L) {
    // The last vector may overlap the one before it.
    const i64 cc = c + L <= cols ? c : cols - L;
    const T *x = a->x + cc, *w = a->w + cc;
    DW_V acc[APUS_DW_OB];
    APUS_UNROLL for (int i = 0; i < ob; i++) acc[i] = (DW_V){0};
    APUS_NOUNROLL for (i64 kh = 0; kh < khn; kh++, x += xRow, w += wRow) {
      if (kwc) {
        DW_V f[5];
        APUS_UNROLL for (int k = 0; k < kwc; k++) f[k] = DW_LOAD(w + k * wTap);
        APUS_UNROLL for (int i = 0; i < (ob - 1) * swc + kwc; i++) {
          if (i < low || i >= high) continue;
          const DW_V in = DW_LOAD(x + i * xTap);
          APUS_UNROLL for (int k = 0; k < kwc; k++)
            if (i >= k && (i - k) % swc == 0 && (i - k) / swc < ob) acc[(i - k) / swc] += in * f[k];
        }
      } else {
        const T *xt = x, *wt = w;
        APUS_NOUNROLL for (i64 k = 0; k < kwn; k++, xt += xTap, wt += wTap) {
          DW_V f = DW_LOAD(wt);
          APUS_UNROLL for (int i = 0; i < ob; i++) acc[i] += DW_LOAD(xt + i * xOut) * f;
        }
      }
    }
#ifdef EPILOGUE
#ifdef APUS_LIGHT_EPILOGUE
    if (APUS_LIKELY(cc == c)) {
      APUS_UNROLL for (int i = 0; i < ob; i++)
        if (i < count) EPILOGUE(a->ctx, (const ACC *)&acc[i], L, 0, a->row + i, 1, a->col + c, L);
      continue;
    }
#endif
    APUS_ALIGNED ACC tile[APUS_DW_OB * L];
    APUS_UNROLL for (int i = 0; i < ob; i++) *(DW_V *)(tile + i * L) = acc[i];
    if (APUS_LIKELY(cc == c)) EPILOGUE(a->ctx, tile, L, 0, a->row, count, a->col + c, L);
    else EPILOGUE(a->ctx, tile + (c - cc), L, 0, a->row, count, a->col + c, cols - c);
#endif
  }
}

// Vectors at row oh of image n: where its windows begin and what of them is inside the image.
APUS_INLINE FN(dw_call) FN(dw_begin)(const apus_depthwise_args *g, i64 n, i64 oh, i64 c0, i64 cols) {
  const i64 CO = g->C * g->multiplier, y0 = oh * g->SH - g->PT;
  i64 k0 = y0 < 0 ? APUS_CEIL(-y0, g->DH) : 0;
  const i64 k1 = APUS_MIN(g->KH, g->H > y0 ? APUS_CEIL(g->H - y0, g->DH) : 0), khn = APUS_MAX(0, k1 - k0);
  if (khn == 0) k0 = 0;
  return (FN(dw_call)){
      .x = (const T *)g->x + (n * g->H + (khn ? y0 + k0 * g->DH : 0)) * g->W * g->C, .w = (const T *)g->w + k0 * g->KW * CO,
      .khn = khn, .kwn = g->KW, .xRow = g->DH * g->W * g->C, .xTap = g->DW * g->C, .xOut = g->SW * g->C, .wRow = g->KW * CO,
      .wTap = CO, .cols = cols, .ctx = g->ctx, .row = (n * g->OH + oh) * g->OW, .col = c0};
}

#ifdef DW_PIECES
_Static_assert(DW_OB <= APUS_DW_OB, "a piece fits the registers");
// All rows are of DW_PIECES pieces of DW_OB outputs, of which the last has DW_LAST: the first and the last meet the edges.
enum { FN(DW_TAPS) = (DW_OB - 1) * DW_SW + DW_KW, FN(DW_END) = DW_W + DW_PL - (DW_PIECES - 1) * DW_OB * DW_SW };
APUS_NOINLINE void FN(dw_first)(const FN(dw_call) *a) { FN(dw_body)(DW_OB, DW_KW, DW_SW, DW_PL, DW_W + DW_PL, DW_OB, a); }
#if DW_PIECES > 2
APUS_NOINLINE void FN(dw_middle)(const FN(dw_call) *a) { FN(dw_body)(DW_OB, DW_KW, DW_SW, 0, FN(DW_TAPS), DW_OB, a); }
#endif
#if DW_PIECES > 1
APUS_NOINLINE void FN(dw_last)(const FN(dw_call) *a) { FN(dw_body)(DW_LAST, DW_KW, DW_SW, 0, FN(DW_END), DW_LAST, a); }
#endif
APUS_INLINE void FN(dw_line)(const apus_depthwise_args *g, i64 n, i64 oh, i64 c0, i64 cols) {
  FN(dw_call) a = FN(dw_begin)(g, n, oh, c0, cols);
  a.w += c0;
  a.x += c0 - DW_PL * DW_C;
  FN(dw_first)(&a);
#if DW_PIECES > 2
  for (int p = 2; p < DW_PIECES; p++) {
    a.x += DW_OB * DW_SW * DW_C, a.row += DW_OB;
    FN(dw_middle)(&a);
  }
#endif
#if DW_PIECES > 1
  a.x += DW_OB * DW_SW * DW_C, a.row += DW_OB;
  FN(dw_last)(&a);
#endif
}
#else
typedef void (*FN(dw_function))(const FN(dw_call) *);
#define DW_DEF(ob, kw, sw, low, high, count, name) \
  APUS_NOINLINE void FN(dw_##ob##_##kw##_##sw##_##name)(const FN(dw_call) *a) { \
    FN(dw_body)(ob, kw, sw, low, high, count, a); \
  }
// For windows of a width and stride: 8 outputs inside the image, and 8 and 4 anywhere.
#define DW_WINDOW(kw, sw) \
  DW_DEF(8, kw, sw, 0, 1 << 20, 8, inside) DW_DEF(8, kw, sw, a->low, a->high, a->count, wide) \
  DW_DEF(4, kw, sw, a->low, a->high, a->count, wide)
DW_DEF(8, 0, 0, 0, 0, 8, inside) DW_DEF(4, 0, 0, 0, 0, 4, inside) DW_DEF(1, 0, 0, 0, 0, 1, inside)
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

// Fewer channels than a vector, or a multiplier, go one at a time.
APUS_NOINLINE void FN(dw_single)(const apus_depthwise_args *g, const FN(dw_call) *a, const T *x) {
  for (i64 c = 0; c < a->cols; c++)
    for (i64 i = 0; i < a->count; i++) {
      ACC s = 0;
      const T *xi = x + (a->col + c) / g->multiplier + i * a->xOut, *wi = a->w + c;
      for (i64 kh = 0; kh < a->khn; kh++)
        for (i64 kw = 0; kw < a->kwn; kw++) s += (ACC)xi[kh * a->xRow + kw * a->xTap] * (ACC)wi[kh * a->wRow + kw * a->wTap];
#ifdef EPILOGUE
      EPILOGUE(a->ctx, &s, 1, 0, a->row + i, 1, a->col + c, 1);
#endif
    }
}
APUS_INLINE void FN(dw_line)(const apus_depthwise_args *g, i64 n, i64 oh, i64 c0, i64 cols) {
  const i64 CO = g->C * g->multiplier;
  const int isPlain = g->multiplier == 1 && cols >= APUS_VB / (i64)sizeof(ACC);
  FN(dw_function) inside = 0, wide = 0, half = 0;
#define DW_PICK(kw, sw) \
  if (g->KW == kw && g->SW == sw) { \
    inside = FN(dw_8_##kw##_##sw##_inside), wide = FN(dw_8_##kw##_##sw##_wide), half = FN(dw_4_##kw##_##sw##_wide); \
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
  FN(dw_call) a = FN(dw_begin)(g, n, oh, c0, cols);
  const T *const line = a.x, *const w = a.w + c0;
  const i64 row = a.row;
  // Outputs in [in0, in1) have every tap of the row inside the image.
  i64 in0 = APUS_CEIL(g->PL, g->SW), span = (g->KW - 1) * g->DW + 1;
  i64 in1 = g->W + g->PL >= span ? (g->W + g->PL - span) / g->SW + 1 : 0;
  in1 = APUS_MIN(in1, g->OW);
  in0 = APUS_MIN(in0, in1);
  for (i64 ow = 0; ow < g->OW; ow += a.count) {
    // x is at column 0 of the first window, which may lie outside the image.
    i64 x0 = ow * g->SW - g->PL, skipped = 0;
    FN(dw_function) body;
    a.row = row + ow, a.kwn = g->KW;
    if (inside && g->DW == 1 && isPlain) {
      a.count = APUS_MIN(8, g->OW - ow), a.low = -x0, a.high = g->W - x0;
      body = a.count <= 4 ? half : ow >= in0 && ow + 8 <= in1 ? inside : wide;
    } else if (ow >= in0 && ow + 4 <= in1) {
      a.count = ow + 8 <= in1 ? 8 : 4;
      body = a.count == 8 ? FN(dw_8_0_0_inside) : FN(dw_4_0_0_inside);
    } else {
      skipped = x0 < 0 ? APUS_CEIL(-x0, g->DW) : 0;
      i64 end = APUS_MIN(g->KW, g->W > x0 ? APUS_CEIL(g->W - x0, g->DW) : 0);
      if (end <= skipped) skipped = end = 0, x0 = 0;
      a.count = 1, a.kwn = end - skipped;
      body = FN(dw_1_0_0_inside);
    }
    a.w = w + skipped * CO;
    const T *const x = line + (x0 + skipped * g->DW) * g->C;
    a.x = x + c0;
    if (isPlain) body(&a);
    else FN(dw_single)(g, &a, x);
  }
}
#endif
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
