// Matrix product on B packed in panels of NR columns. Needs prelude.h.
// Macros: KERNEL (name prefix), EPILOGUE, APUS_LIGHT_EPILOGUE, T, TA, TB, ACC, NV, APUS_MR, and APUS_TAIL: the columns of the last panel,
// where they are known and fewer than the others'.
#ifndef KERNEL
#define KERNEL kernel
#endif
#ifndef T
#define T float
#endif
#ifndef TA
#define TA T
#endif
#ifndef TB
#define TB T
#endif
#ifndef ACC
#if APUS_TYPE_OF(T) == 2
#define ACC double
#else
#define ACC float
#endif
#endif
#ifndef NV
#if defined(__aarch64__)
#define NV 4
#else
#define NV 2
#endif
#endif
#undef FN
#define FN(n) APUS_CAT3(KERNEL, _, n)

#ifndef APUS_MR
#if APUS_VREGS == 32 && APUS_VB == 64
#define APUS_MR 12
#else
#define APUS_MR 6
#endif
#endif
#define MR APUS_MR
#define NR (NV * APUS_VB / (i64)sizeof(ACC))

#undef CORE_FN
#undef CORE_V
#undef APUS_AHEAD_BYTES
// How far before their use one to three rows bring a panel nearer.
#define APUS_AHEAD_BYTES 1024
#undef CORE_VB
#undef CORE_CODE
#define CORE_FN(n) APUS_CAT(APUS_CAT(APUS_CAT3(apus_core_, TA, _), APUS_CAT3(TB, _, NV)), n)
#define CORE_V CORE_FN(_v)
#define CORE_VB CORE_FN(_vb)
#define CORE_CODE (APUS_TYPE_OF(TA) * 100 + APUS_TYPE_OF(TB) * 10 + NV)

// The core is instantiated once per (TA, TB, NV) in a translation unit.
#if (CORE_CODE == 111 && !defined(APUS_CORE_111)) || (CORE_CODE == 112 && !defined(APUS_CORE_112)) || \
    (CORE_CODE == 114 && !defined(APUS_CORE_114)) || (CORE_CODE == 221 && !defined(APUS_CORE_221)) || \
    (CORE_CODE == 222 && !defined(APUS_CORE_222)) || (CORE_CODE == 224 && !defined(APUS_CORE_224)) || \
    (CORE_CODE == 132 && !defined(APUS_CORE_132)) || (CORE_CODE == 134 && !defined(APUS_CORE_134)) || \
    (CORE_CODE == 142 && !defined(APUS_CORE_142)) || (CORE_CODE == 144 && !defined(APUS_CORE_144)) || \
    (CORE_CODE == 332 && !defined(APUS_CORE_332)) || (CORE_CODE == 334 && !defined(APUS_CORE_334)) || \
    (CORE_CODE == 442 && !defined(APUS_CORE_442)) || (CORE_CODE == 444 && !defined(APUS_CORE_444))
typedef ACC CORE_V __attribute__((vector_size(APUS_VB)));
typedef TB CORE_FN(_quad) __attribute__((vector_size(4 * sizeof(TB)), aligned(sizeof(TB))));
typedef TB CORE_VB __attribute__((vector_size(APUS_VB / sizeof(ACC) * sizeof(TB)), aligned(sizeof(TB))));

// acc[i][j] = sum over taps t and k of rows[t*rowStride + i][k] * b[t][k][j], of the first nv vectors; ku splits the sum over k.
// Brings what lies at ahead nearer, step bytes for each k: rows enough to compute hide a later panel's way from memory.
// One to three rows are bound by memory and bring their own panel instead.
APUS_INLINE void CORE_FN(_sums)(const int mr, const int nv, const int ku, const TA *const *rows, i64 rowStride, i64 taps,
                                i64 K, const TB *b, CORE_V acc[][NV], const char *ahead, i64 step) {
  enum { L = APUS_VB / sizeof(ACC), NR_ = NV * L };
  CORE_V alt[3][4][NV];
  APUS_UNROLL for (int i = 0; i < mr; i++)
    APUS_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = (CORE_V){0};
  if (ku > 1) {
    APUS_UNROLL for (int u = 0; u < ku - 1; u++)
      APUS_UNROLL for (int i = 0; i < mr; i++)
        APUS_UNROLL for (int j = 0; j < nv; j++) alt[u][i][j] = (CORE_V){0};
  }
  for (i64 t = 0; t < taps; t++) {
    const TA *a[APUS_MR];
    APUS_UNROLL for (int i = 0; i < mr; i++) a[i] = rows[i];
    rows += rowStride;
    i64 k = 0;
    if (ku > 1) {
      APUS_NOUNROLL for (; k + ku <= K; k += ku) {
        APUS_UNROLL for (int u = 0; u < ku; u++) {
          CORE_V bv[NV];
          APUS_UNROLL for (int j = 0; j < nv; j++)
            bv[j] = __builtin_convertvector(*(const CORE_VB *)(b + u * NR_ + j * L), CORE_V);
          APUS_UNROLL for (int o = 0; o < NR_ * (int)sizeof(TB); o += 64)
            __builtin_prefetch((const char *)(b + u * NR_) + APUS_AHEAD_BYTES + o);
          APUS_UNROLL for (int i = 0; i < mr; i++) {
            ACC s = (ACC)a[i][k + u];
            APUS_UNROLL for (int j = 0; j < nv; j++) {
              if (u == 0) acc[i][j] += bv[j] * s;
              else alt[u - 1][i][j] += bv[j] * s;
            }
          }
        }
        b += ku * NR_;
      }
    }
    APUS_NOUNROLL for (; k < K; k++) {
      CORE_V bv[NV];
      APUS_UNROLL for (int j = 0; j < nv; j++) bv[j] = __builtin_convertvector(*(const CORE_VB *)(b + j * L), CORE_V);
      b += NR_;
      if (ku == 1) {
        __builtin_prefetch(ahead);
        ahead += step;
      }
      APUS_UNROLL for (int i = 0; i < mr; i++) {
        ACC s = (ACC)a[i][k];
        APUS_UNROLL for (int j = 0; j < nv; j++) acc[i][j] += bv[j] * s;
      }
    }
  }
  if (ku > 1) {
    APUS_UNROLL for (int u = 0; u < ku - 1; u++)
      APUS_UNROLL for (int i = 0; i < mr; i++)
        APUS_UNROLL for (int j = 0; j < nv; j++) acc[i][j] += alt[u][i][j];
  }
}
// The same as tile[i][j], of all vectors.
APUS_INLINE void CORE_FN(_body)(const int mr, const int ku, const TA *const *rows, i64 rowStride,
                                i64 taps, i64 K, const TB *b, ACC *tile, const char *ahead, i64 step) {
  enum { L = APUS_VB / sizeof(ACC), NR_ = NV * L };
  CORE_V acc[APUS_MR][NV];
  CORE_FN(_sums)(mr, NV, ku, rows, rowStride, taps, K, b, acc, ahead, step);
  APUS_UNROLL for (int i = 0; i < mr; i++)
    APUS_UNROLL for (int j = 0; j < NV; j++) *(CORE_V *)(tile + i * NR_ + j * L) = acc[i][j];
}
#define APUS_CORE_DEF(m, u) \
  APUS_NOINLINE void CORE_FN(m)(const TA *const *rows, i64 rowStride, i64 taps, i64 K, const TB *b, ACC *tile, \
                                const char *ahead, i64 step) { \
    CORE_FN(_body)(m, u, rows, rowStride, taps, K, b, tile, ahead, step); \
  }
APUS_CORE_DEF(1, 4) APUS_CORE_DEF(2, 2) APUS_CORE_DEF(3, 2)
APUS_CORE_DEF(4, 1) APUS_CORE_DEF(5, 1) APUS_CORE_DEF(6, 1)
#if APUS_MR == 12
APUS_CORE_DEF(7, 1) APUS_CORE_DEF(8, 1) APUS_CORE_DEF(9, 1)
APUS_CORE_DEF(10, 1) APUS_CORE_DEF(11, 1) APUS_CORE_DEF(12, 1)
#endif
#undef APUS_CORE_DEF

APUS_INLINE void CORE_FN(_tile_ahead)(i64 mr, const TA *const *rows, i64 rowStride, i64 taps, i64 K, const TB *b,
                                      ACC *tile, const char *ahead, i64 step) {
#define APUS_CORE_CASE(m) case m: CORE_FN(m)(rows, rowStride, taps, K, b, tile, ahead, step); break;
  switch (mr) {
#if APUS_MR == 12
    APUS_CORE_CASE(12) APUS_CORE_CASE(11) APUS_CORE_CASE(10)
    APUS_CORE_CASE(9) APUS_CORE_CASE(8) APUS_CORE_CASE(7)
#endif
    APUS_CORE_CASE(6) APUS_CORE_CASE(5) APUS_CORE_CASE(4)
    APUS_CORE_CASE(3) APUS_CORE_CASE(2) APUS_CORE_CASE(1)
  }
#undef APUS_CORE_CASE
}
APUS_INLINE void CORE_FN(_tile)(i64 mr, const TA *const *rows, i64 rowStride, i64 taps, i64 K, const TB *b, ACC *tile) {
  CORE_FN(_tile_ahead)(mr, rows, rowStride, taps, K, b, tile, (const char *)b, 0);
}
#endif
#if CORE_CODE == 111
#define APUS_CORE_111
#elif CORE_CODE == 112
#define APUS_CORE_112
#elif CORE_CODE == 114
#define APUS_CORE_114
#elif CORE_CODE == 221
#define APUS_CORE_221
#elif CORE_CODE == 222
#define APUS_CORE_222
#elif CORE_CODE == 224
#define APUS_CORE_224
#elif CORE_CODE == 132
#define APUS_CORE_132
#elif CORE_CODE == 134
#define APUS_CORE_134
#elif CORE_CODE == 142
#define APUS_CORE_142
#elif CORE_CODE == 144
#define APUS_CORE_144
#elif CORE_CODE == 332
#define APUS_CORE_332
#elif CORE_CODE == 334
#define APUS_CORE_334
#elif CORE_CODE == 442
#define APUS_CORE_442
#elif CORE_CODE == 444
#define APUS_CORE_444
#else
#error "no core for this combination of TA, TB and NV"
#endif

#ifndef APUS_GEMM_TYPES
#define APUS_GEMM_TYPES
// Batch index b addresses A at (b / inner) * aOuter + (b % inner) * aInner, likewise B; strides are in elements.
typedef struct {
  const void *a, *b, *ctx;
  i64 batch, inner, M, N, K;
  i64 aRow, aK, aOuter, aInner;
  i64 bOuter, bInner;
} apus_matmul_args;
typedef struct {
  const void *src; void *dst;
  i64 batch, inner, K, N;
  i64 sK, sN, sOuter, sInner;
} apus_pack_args;
// Bytes of A rows kept hot while B panels stream past them.
#define APUS_CHUNK_BYTES 262144
// Rows that share a panel at least: B is not read again for fewer, whether it comes from memory or from a cache shared by cores.
#define APUS_CHUNK_ROWS(bytes) ((bytes) > 16 << 20 ? 132 : 48)
#endif

APUS_INLINE void FN(emit)(const void *ctx, const ACC *tile, i64 batch, i64 row, i64 rows, i64 col, i64 cols) {
#ifdef EPILOGUE
  if (APUS_LIKELY(cols >= NR)) EPILOGUE(ctx, tile, NR, batch, row, rows, col, NR);
  else EPILOGUE(ctx, tile, NR, batch, row, rows, col, cols);
#endif
}

#ifdef APUS_LIGHT_EPILOGUE
// The first cols columns of a block of mr rows, whose epilogue takes the sums from registers.
APUS_INLINE void FN(direct_body)(const int mr, const int cols, const TA *const *rows, i64 rowStride, i64 taps, i64 K, const TB *b,
                                 const char *ahead, i64 step, const void *ctx, i64 batch, i64 row, i64 col) {
  enum { L = APUS_VB / sizeof(ACC) };
  CORE_V acc[APUS_MR][NV];
  CORE_FN(_sums)(mr, APUS_CEIL(cols, L), 1, rows, rowStride, taps, K, b, acc, ahead, step);
  APUS_UNROLL for (int i = 0; i < mr; i++)
    APUS_UNROLL for (int j = 0; j < APUS_CEIL(cols, L); j++)
      EPILOGUE(ctx, (const ACC *)&acc[i][j], L, batch, row + i, 1, col + j * L, APUS_MIN(cols - j * L, L));
}
#define APUS_DIRECT_DEF(mr, cols, name) \
  APUS_NOINLINE void FN(direct_##mr##_##name)(const TA *const *rows, i64 rowStride, i64 taps, i64 K, const TB *b, const char *ahead, \
                                              i64 step, const void *ctx, i64 batch, i64 row, i64 col) { \
    FN(direct_body)(mr, cols, rows, rowStride, taps, K, b, ahead, step, ctx, batch, row, col); \
  }
#if APUS_MR == 12
#define APUS_DIRECT_ALL(of, cols, name) of(12, cols, name) of(11, cols, name) of(10, cols, name) of(9, cols, name)
#else
#define APUS_DIRECT_ALL(of, cols, name) of(6, cols, name) of(5, cols, name) of(4, cols, name)
#endif
APUS_DIRECT_ALL(APUS_DIRECT_DEF, NR, whole)
#if APUS_TAIL
APUS_DIRECT_ALL(APUS_DIRECT_DEF, APUS_TAIL, tail)
#endif
#undef APUS_DIRECT_DEF
#endif

// A block of mr rows with its epilogue.
APUS_INLINE void FN(block)(i64 mr, const TA *const *rows, i64 rowStride, i64 taps, i64 K, const TB *b, const char *ahead, i64 step,
                           ACC *tile, const void *ctx, i64 batch, i64 row, i64 col, i64 cols) {
#ifdef APUS_LIGHT_EPILOGUE
#define APUS_DIRECT_CASE(mr, cols, name) \
  case mr: FN(direct_##mr##_##name)(rows, rowStride, taps, K, b, ahead, step, ctx, batch, row, col); return;
  if (APUS_LIKELY(cols >= NR)) {
    switch (mr) { APUS_DIRECT_ALL(APUS_DIRECT_CASE, NR, whole) }
  }
#if APUS_TAIL
  else
    switch (mr) { APUS_DIRECT_ALL(APUS_DIRECT_CASE, APUS_TAIL, tail) }
#endif
#undef APUS_DIRECT_CASE
#undef APUS_DIRECT_ALL
#endif
  CORE_FN(_tile_ahead)(mr, rows, rowStride, taps, K, b, tile, ahead, step);
  FN(emit)(ctx, tile, batch, row, mr, col, cols);
}

// Micro-tiles per chunk of rows for a sum of length K.
APUS_INLINE i64 FN(chunk)(i64 K) {
  i64 c = APUS_CHUNK_BYTES / (APUS_MAX(K, 1) * MR * (i64)sizeof(TA));
  return APUS_MAX(c, 1);
}
// Elements of one packed [K,N] matrix.
APUS_INLINE i64 FN(packed_size)(i64 K, i64 N) { return APUS_CEIL(N, NR) * NR * K; }
APUS_INLINE i64 FN(matmul_blocks)(i64 batch, i64 M, i64 N, i64 K, i64 threads) {
  i64 tm = APUS_CEIL(M, MR), tn = APUS_CEIL(N, NR), tiles = batch * tm * tn;
  double flops = 2.0 * batch * APUS_MAX(M, 4 * tm) * tn * NR * K;
  i64 n = (i64)APUS_MIN(flops / 400e3, 4.0 * threads);
  return APUS_MAX(1, APUS_MIN(n, tiles));
}
APUS_INLINE i64 FN(matmul_scratch)(i64 M, i64 K, i64 aK) {
  return aK == 1 ? 0 : APUS_MIN(FN(chunk)(K), APUS_CEIL(M, MR)) * MR * K * (i64)sizeof(TA);
}

APUS_STATIC void FN(matmul)(const apus_matmul_args *g, i64 block, i64 blockCount, void *scratch) {
  const i64 M = g->M, N = g->N, K = g->K, inner = APUS_MAX(g->inner, 1);
  const i64 tm = APUS_CEIL(M, MR), tn = APUS_CEIL(N, NR);
  if (tm == 0 || tn == 0) return;
  // Copied rows take scratch memory, which is for chunk(K).
  const i64 least = APUS_CHUNK_ROWS(K * N * (i64)sizeof(TB)) / MR;
  const i64 mc = APUS_MIN(g->aK == 1 ? APUS_MAX(FN(chunk)(K), least) : FN(chunk)(K), tm);
  APUS_ALIGNED ACC tile[MR * NR];
  const TA *rows[MR];
  apus_range r = apus_share(g->batch * tm * tn, block, blockCount);
  // Order of micro-tiles: batch, chunk of rows, panel, tile in chunk.
  i64 at = r.begin;
  while (at < r.end) {
    i64 b = at / (tm * tn), inBatch = at % (tm * tn);
    i64 t0 = inBatch / (mc * tn) * mc, tc = APUS_MIN(mc, tm - t0);
    i64 first = inBatch - t0 * tn, last = APUS_MIN(first + r.end - at, tc * tn);
    at += last - first;
    const TA *A = (const TA *)g->a + (b / inner) * g->aOuter + (b % inner) * g->aInner;
    const TB *B = (const TB *)g->b + (b / inner) * g->bOuter + (b % inner) * g->bInner;
    TA *copy = (TA *)scratch;
    i64 c0 = t0 * M / tm;
    if (g->aK != 1) {
      i64 ta = t0, te = t0 + tc;
      if (first / tc == (last - 1) / tc) ta = t0 + first % tc, te = t0 + (last - 1) % tc + 1;
      i64 m0 = ta * M / tm, m1 = te * M / tm;
      for (i64 k0 = 0; k0 < K; k0 += 16)
        for (i64 m = m0; m < m1; m++) {
          const TA *s = A + m * g->aRow;
          TA *d = copy + (m - c0) * K;
          for (i64 k = k0; k < APUS_MIN(k0 + 16, K); k++) d[k] = s[k * g->aK];
        }
    }
    i64 p = first / tc, ti = first % tc;
    for (i64 i = first; i < last; i++) {
      i64 m0 = (t0 + ti) * M / tm, m1 = (t0 + ti + 1) * M / tm;
      const TA *base = g->aK == 1 ? A + m0 * g->aRow : copy + (m0 - c0) * K;
      i64 step = g->aK == 1 ? g->aRow : K;
      APUS_UNROLL for (int q = 0; q < MR; q++) rows[q] = base + q * step;
      // The tiles of a panel bring the next one nearer, each a part, where they are enough to take long.
      const i64 stride = tc > 2 && p + 1 < tn ? APUS_CEIL(NR * (i64)sizeof(TB), tc) : 0;
      const char *ahead = (const char *)(B + (p + 1) * K * NR) + ti * K * stride;
      FN(block)(m1 - m0, rows, 0, 1, K, B + p * K * NR, stride ? ahead : (const char *)B, stride, tile, g->ctx, b, m0, p * NR,
                N - p * NR);
      if (++ti == tc) ti = 0, p++;
    }
  }
}

// The products at each point of a transform: rows [points][most][C], of which count are there, times one panel [points][C][NR].
APUS_INLINE void FN(point_products)(i64 points, const TA *input, const TB *w, i64 C, i64 count, i64 most, ACC *products) {
  const i64 parts = APUS_CEIL(count, MR), stride = APUS_CEIL(NR * (i64)sizeof(TB), parts);
  for (i64 e = 0; e < points; e++, w += C * NR)
    for (i64 part = 0; part < parts; part++) {
      const i64 m0 = part * count / parts, m1 = (part + 1) * count / parts;
      const TA *rows[MR];
      APUS_UNROLL for (int q = 0; q < MR; q++) rows[q] = input + (e * most + m0 + q) * C;
      CORE_FN(_tile_ahead)(m1 - m0, rows, 0, 1, C, w, products + (e * most + m0) * NR,
                           (const char *)(w + C * NR) + part * C * stride, stride);
    }
}

// One row times [K, N] in the same panels, each of which streams past once.
APUS_STATIC void FN(gemv)(const apus_matmul_args *g, i64 block, i64 blockCount) {
  const i64 N = g->N, K = g->K;
  const TA *rows[1] = {(const TA *)g->a};
  APUS_ALIGNED ACC tile[NR];
  apus_range r = apus_share(APUS_CEIL(N, NR), block, blockCount);
  for (i64 p = r.begin; p < r.end; p++) {
    CORE_FN(1)(rows, 0, 1, K, (const TB *)g->b + p * K * NR, tile, 0, 0);
    FN(emit)(g->ctx, tile, 0, 0, 1, p * NR, N - p * NR);
  }
}

// Packs [K,N] (element strides sK, sN) into panels; work units are 256 rows of one panel.
APUS_INLINE i64 FN(pack_b_units)(i64 batch, i64 K, i64 N) { return batch * APUS_CEIL(N, NR) * APUS_CEIL(K, 256); }
APUS_STATIC void FN(pack_b)(const apus_pack_args *g, i64 block, i64 blockCount) {
  const i64 K = g->K, N = g->N, tn = APUS_CEIL(N, NR), tk = APUS_CEIL(K, 256), inner = APUS_MAX(g->inner, 1);
  apus_range r = apus_share(g->batch * tn * tk, block, blockCount);
  for (i64 u = r.begin; u < r.end; u++) {
    i64 b = u / (tn * tk), p = u / tk % tn, k0 = u % tk * 256, k1 = APUS_MIN(k0 + 256, K);
    i64 cols = APUS_MIN(NR, N - p * NR);
    const TB *s = (const TB *)g->src + (b / inner) * g->sOuter + (b % inner) * g->sInner + p * NR * g->sN;
    TB *d = (TB *)g->dst + (b * tn + p) * K * NR;
    if (g->sN == 1 && cols == NR) {
      for (i64 k = k0; k < k1; k++) __builtin_memcpy(d + k * NR, s + k * g->sK, NR * sizeof(TB));
    } else if (g->sN == 1) {
      for (i64 k = k0; k < k1; k++) {
        for (i64 j = 0; j < cols; j++) d[k * NR + j] = s[k * g->sK + j];
        for (i64 j = cols; j < NR; j++) d[k * NR + j] = (TB)0;
      }
    } else {
      i64 kk = k0;
      if (g->sK == 1 && cols == NR && NR % 4 == 0) {
        // 4 x 4 transpositions, sixteen rows of the panel at a time.
        for (; kk + 16 <= k1; kk += 16)
          for (i64 j = 0; j < NR; j += 4) {
            const TB *c = s + j * g->sN + kk;
            APUS_UNROLL for (int q = 0; q < 16; q += 4) {
              typedef CORE_FN(_quad) quad;
              quad r0 = *(const quad *)(c + q), r1 = *(const quad *)(c + g->sN + q);
              quad r2 = *(const quad *)(c + 2 * g->sN + q), r3 = *(const quad *)(c + 3 * g->sN + q);
              quad a = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), b2 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
              quad e = __builtin_shufflevector(r0, r1, 2, 6, 3, 7), f = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
              TB *o = d + (kk + q) * NR + j;
              *(quad *)o = __builtin_shufflevector(a, b2, 0, 1, 4, 5);
              *(quad *)(o + NR) = __builtin_shufflevector(a, b2, 2, 3, 6, 7);
              *(quad *)(o + 2 * NR) = __builtin_shufflevector(e, f, 0, 1, 4, 5);
              *(quad *)(o + 3 * NR) = __builtin_shufflevector(e, f, 2, 3, 6, 7);
            }
          }
      }
      for (; kk < k1; kk += 16) {
        i64 ke = APUS_MIN(kk + 16, k1);
        for (i64 j = 0; j < cols; j++) {
          const TB *c = s + j * g->sN;
          for (i64 k = kk; k < ke; k++) d[k * NR + j] = c[k * g->sK];
        }
        for (i64 k = kk; k < ke; k++)
          for (i64 j = cols; j < NR; j++) d[k * NR + j] = (TB)0;
      }
    }
  }
}
