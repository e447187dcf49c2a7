// NHWC pooling, vectorised over channels. Needs prelude.h (math.h for POOL_LP). Macros: KERNEL, EPILOGUE, T, ACC, POOL.
#ifndef POOL_MAX
#define POOL_MAX 0
#define POOL_AVERAGE 1
#define POOL_LP 2
#endif
#ifndef KERNEL
#define KERNEL kernel
#endif
#ifndef POOL
#define POOL POOL_MAX
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

#ifndef APUS_POOL_TYPES
#define APUS_POOL_TYPES
typedef struct {
  const void *x, *ctx;
  i64 N, H, W, C, OH, OW, KH, KW, SH, SW, DH, DW, PT, PL, PB, PR;
  i64 countIncludePad, p;
} apus_pool_args;
#define APUS_POOL_CB 128
#endif

#undef POOL_V
#undef POOL_T
#undef POOL_M
#define POOL_V FN(pool_v)
#define POOL_T FN(pool_t)
#define POOL_M FN(pool_m)
typedef ACC POOL_V __attribute__((vector_size(APUS_VB)));
typedef __typeof__((POOL_V){0} > (POOL_V){0}) POOL_M;
typedef T POOL_T __attribute__((vector_size(APUS_VB / sizeof(ACC) * sizeof(T)), aligned(sizeof(T))));

APUS_INLINE ACC FN(pool_pow)(ACC a, ACC p) {
#if POOL != POOL_LP
  return a;
#elif APUS_TYPE_OF(ACC) == 2
  return apus_pow_f64(a, p);
#else
  return apus_pow_f32(a, p);
#endif
}
// nv vectors of channels of one window of khn x kwn taps, x at its first tap.
APUS_INLINE void FN(pool_body)(const int nv, const T *x, i64 khn, i64 kwn, i64 xRow, i64 xTap, i64 p, ACC *out) {
  enum { L = APUS_VB / sizeof(ACC) };
  POOL_V acc[4];
  APUS_UNROLL for (int j = 0; j < nv; j++) acc[j] = (POOL_V){0} + (POOL == POOL_MAX ? -(ACC)__builtin_inf() : (ACC)0);
  for (i64 kh = 0; kh < khn; kh++, x += xRow) {
    const T *t = x;
    APUS_NOUNROLL for (i64 kw = 0; kw < kwn; kw++, t += xTap) {
      APUS_UNROLL for (int j = 0; j < nv; j++) {
        POOL_V v = __builtin_convertvector(*(const POOL_T *)(t + j * L), POOL_V);
#if POOL == POOL_MAX
        // NaN wins.
        POOL_M m = (v > acc[j]) | (v != v);
        acc[j] = (POOL_V)(((POOL_M)v & m) | ((POOL_M)acc[j] & ~m));
#elif POOL == POOL_AVERAGE
        acc[j] += v;
#else
        v = __builtin_elementwise_abs(v);
        if (p == 1) acc[j] += v;
        else if (p == 2) acc[j] += v * v;
        else for (int l = 0; l < L; l++) acc[j][l] += FN(pool_pow)(v[l], (ACC)p);
#endif
      }
    }
  }
  APUS_UNROLL for (int j = 0; j < nv; j++) __builtin_memcpy(out + j * L, &acc[j], sizeof(POOL_V));
}
APUS_NOINLINE void FN(pool_window)(const T *x, i64 khn, i64 kwn, i64 xRow, i64 xTap, i64 p, i64 cols, ACC *out) {
  enum { L = APUS_VB / sizeof(ACC) };
  i64 c = 0;
  for (; c + 4 * L <= cols; c += 4 * L) FN(pool_body)(4, x + c, khn, kwn, xRow, xTap, p, out + c);
  for (; c + L <= cols; c += L) FN(pool_body)(1, x + c, khn, kwn, xRow, xTap, p, out + c);
  if (c && c < cols) FN(pool_body)(1, x + cols - L, khn, kwn, xRow, xTap, p, out + cols - L), c = cols;
  for (; c < cols; c++) {
    ACC s = POOL == POOL_MAX ? -(ACC)__builtin_inf() : (ACC)0;
    for (i64 kh = 0; kh < khn; kh++)
      for (i64 kw = 0; kw < kwn; kw++) {
        ACC v = (ACC)x[kh * xRow + kw * xTap + c];
#if POOL == POOL_MAX
        s = v > s || v != v ? v : s;
#elif POOL == POOL_AVERAGE
        s += v;
#else
        v = v < 0 ? -v : v;
        s += p == 1 ? v : p == 2 ? v * v : FN(pool_pow)(v, (ACC)p);
#endif
      }
    out[c] = s;
  }
}
// Taps k of [0, K) with 0 <= start + k * step < size, as [begin, end).
#ifndef APUS_POOL_TAPS
#define APUS_POOL_TAPS
APUS_INLINE apus_range apus_taps(i64 start, i64 step, i64 K, i64 size) {
  i64 a = start < 0 ? APUS_CEIL(-start, step) : 0, b = size > start ? APUS_CEIL(size - start, step) : 0;
  b = APUS_MIN(b, K);
  return (apus_range){APUS_MIN(a, b), b};
}
#endif
APUS_INLINE i64 FN(pool_blocks)(const apus_pool_args *g, i64 threads) {
  double work = (double)g->N * g->OH * g->OW * g->C * (g->KH * g->KW + 4);
  i64 n = (i64)APUS_MIN(work / 200e3, 4.0 * threads);
  return APUS_MAX(1, APUS_MIN(n, g->N * g->OH * APUS_CEIL(g->C, APUS_POOL_CB)));
}
APUS_STATIC void FN(pool)(const apus_pool_args *g, i64 block, i64 blockCount) {
  enum { L = APUS_VB / sizeof(ACC) };
  const i64 C = g->C, tc = APUS_CEIL(C, APUS_POOL_CB), tv = APUS_CEIL(C, L);
  APUS_ALIGNED ACC tile[APUS_POOL_CB];
  apus_range r = apus_share(g->N * g->OH * tc, block, blockCount);
  for (i64 u = r.begin; u < r.end; u++) {
    i64 oh = u % g->OH, ci = u / g->OH % tc, n = u / g->OH / tc;
    i64 c0 = ci * tv / tc * L, cols = APUS_MIN(C, (ci + 1) * tv / tc * L) - c0;
    i64 y0 = oh * g->SH - g->PT;
    apus_range ky = apus_taps(y0, g->DH, g->KH, g->H);
    for (i64 ow = 0; ow < g->OW; ow++) {
      i64 x0 = ow * g->SW - g->PL;
      apus_range kx = apus_taps(x0, g->DW, g->KW, g->W);
      i64 khn = ky.end - ky.begin, kwn = kx.end - kx.begin, any = khn > 0 && kwn > 0;
      const T *x = (const T *)g->x + n * g->H * g->W * C + c0;
      if (any) x += ((y0 + ky.begin * g->DH) * g->W + x0 + kx.begin * g->DW) * C;
      FN(pool_window)(x, any ? khn : 0, any ? kwn : 0, g->DH * g->W * C, g->DW * C, g->p, cols, tile);
#if POOL == POOL_AVERAGE
      i64 count = khn * kwn;
      if (g->countIncludePad) {
        // Taps past the far padding, which rounding up the output size adds, do not count.
        apus_range py = apus_taps(y0 + g->PT, g->DH, g->KH, g->H + g->PT + g->PB);
        apus_range px = apus_taps(x0 + g->PL, g->DW, g->KW, g->W + g->PL + g->PR);
        count = (py.end - py.begin) * (px.end - px.begin);
      }
      for (i64 c = 0; c < cols; c++) tile[c] = tile[c] / (ACC)count;
#elif POOL == POOL_LP
      if (g->p == 2)
        for (i64 c = 0; c < cols; c++) tile[c] = sizeof(ACC) == 8 ? (ACC)__builtin_sqrt(tile[c]) : (ACC)__builtin_sqrtf(tile[c]);
      else if (g->p != 1)
        for (i64 c = 0; c < cols; c++) tile[c] = FN(pool_pow)(tile[c], (ACC)1 / (ACC)g->p);
#endif
#ifdef EPILOGUE
      EPILOGUE(g->ctx, tile, APUS_POOL_CB, 0, (n * g->OH + oh) * g->OW + ow, 1, c0, cols);
#endif
    }
  }
}
