// Matrix product without tensor cores: exact products, accumulated in GEMM_ACC. Needs prelude.cuh and gemm.cuh.
// Any M, N, K, batch and strides. Macros:
//   SIMT_BM, SIMT_BN, SIMT_BK  tile of a block;  SIMT_TM, SIMT_TN  tile of a thread, multiples of 4
//   GEMM_A, GEMM_B     storage: 0 f32, 1 f16, 2 bf16, 3 f64
//   GEMM_B_NK          1: B is [N,K] (row n holds b_row elements), 0: B is [K,N]
//   GEMM_VEC_A, _B     elements per load, 1 for anything. Otherwise the base, the strides and the contiguous extent (K;
//                      N for B of [K,N]) are multiples of that many elements, at most 16 bytes
//   EPILOGUE_W         1, 2 or 4
// Threads: SIMT_THREADS. Shared memory: SIMT_SHARED bytes. Blocks: any; best one per tile and part of K.
#define SIMT_THREADS ((SIMT_BM / SIMT_TM) * (SIMT_BN / SIMT_TN))
#define SIMT_PITCH_A (SIMT_BM + 4)
#define SIMT_PITCH_B (SIMT_BN + 4)
#define SIMT_SHARED (2 * SIMT_BK * (SIMT_PITCH_A + SIMT_PITCH_B) * (int)sizeof(GEMM_ACC))
static_assert(EPILOGUE_W <= 4, "a thread holds four consecutive columns");
static_assert(SIMT_BK % GEMM_VEC_A == 0 && SIMT_BK % GEMM_VEC_B == 0, "vectors fill the tile");

template <int KIND> struct apus_simt_element { typedef u16 type; };
template <> struct apus_simt_element<0> { typedef float type; };
template <> struct apus_simt_element<3> { typedef double type; };
template <int KIND> APUS_INLINE GEMM_ACC apus_simt_value(typename apus_simt_element<KIND>::type x) {
  if constexpr (KIND == 1) return apus_f16_f32(x);
  else if constexpr (KIND == 2) return apus_bf16_f32(x);
  else return (GEMM_ACC)x;
}

// A tile of ROWS x COLS, contiguous along columns, on its way from memory to shared memory in registers.
template <int KIND, int VEC, int ROWS, int COLS> struct apus_simt_tile {
  typedef typename apus_simt_element<KIND>::type element;
  static constexpr int PER = COLS / VEC, HIGH = SIMT_THREADS / PER, COUNT = APUS_CEIL(ROWS, HIGH);
  static_assert(SIMT_THREADS % PER == 0, "every row is read by the same lanes");
  apus_vec<element, VEC> v[COUNT];
  const element *at;
  i64 jump;
  int r, q;

  APUS_INLINE void start(const element *p, i64 stride) {
    r = (int)threadIdx.x / PER, q = (int)threadIdx.x % PER * VEC;
    at = p + r * stride + q, jump = HIGH * stride;
  }
  // The tile `ahead` elements after the first, of which rows x cols exist.
  APUS_INLINE void fetch(i64 ahead, int rows, int cols) {
    APUS_UNROLL for (int i = 0; i < COUNT; i++) {
      if (r + i * HIGH < rows && q < cols) v[i] = *(const apus_vec<element, VEC> *)(at + ahead + i * jump);
      else APUS_UNROLL for (int e = 0; e < VEC; e++) v[i].e[e] = 0;
    }
  }
  // Rows of shared memory are steps of K.
  template <bool TRANSPOSE, int PITCH> APUS_INLINE void put(GEMM_ACC *s) const {
    APUS_UNROLL for (int i = 0; i < COUNT; i++) {
      int row = r + i * HIGH;
      if (ROWS % HIGH && row >= ROWS) break;
      APUS_UNROLL for (int e = 0; e < VEC; e++)
        s[TRANSPOSE ? (q + e) * PITCH + row : row * PITCH + q + e] = apus_simt_value<KIND>(v[i].e[e]);
    }
  }
};

#if GEMM_B_NK
typedef apus_simt_tile<GEMM_B, GEMM_VEC_B, SIMT_BN, SIMT_BK> apus_simt_b;
#else
typedef apus_simt_tile<GEMM_B, GEMM_VEC_B, SIMT_BK, SIMT_BN> apus_simt_b;
#endif
typedef apus_simt_tile<GEMM_A, GEMM_VEC_A, SIMT_BM, SIMT_BK> apus_simt_a;

APUS_INLINE void apus_gemm_simt(const apus_gemm_args &g, const apus_ctx &c, i64 block, i64 blockCount, u8 *shared) {
  const int ROWS = SIMT_TM / 4, COLS = SIMT_TN / 4, WIDE = SIMT_BN / SIMT_TN;
  GEMM_ACC *const sa = (GEMM_ACC *)shared, *const sb = sa + 2 * SIMT_BK * SIMT_PITCH_A;
  // A warp covers 8 x 4 threads, so that it reads few words of shared memory.
  const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
  const int tx = warp % (WIDE / 8) * 8 + lane % 8, ty = warp / (WIDE / 8) * 4 + lane / 8;
  apus_wait_prior();
  u32 tiles_m = (u32)APUS_CEIL(g.m, SIMT_BM), tiles_n = (u32)APUS_CEIL(g.n, SIMT_BN);
  i64 each = APUS_CEIL(APUS_CEIL(g.k, g.split), SIMT_BK) * SIMT_BK;
  for (i64 index = block; index < g.batch * g.split * tiles_m * tiles_n; index += blockCount) {
    apus_gemm_tile t = apus_gemm_place((u32)index, tiles_m, tiles_n, (u32)g.split);
    i64 m0 = (i64)t.m * SIMT_BM, n0 = (i64)t.n * SIMT_BN;
    i64 begin = APUS_MIN(t.split * each, g.k), end = APUS_MIN(begin + each, g.k);
    apus_simt_a a;
    apus_simt_b b;
    a.start((const apus_simt_a::element *)g.a + t.batch * g.a_batch + m0 * g.a_row + begin, g.a_row);
    b.start((const apus_simt_b::element *)g.b + t.batch * g.b_batch +
                (GEMM_B_NK ? n0 * g.b_row + begin : begin * g.b_row + n0), g.b_row);
    int rows = (int)APUS_MIN(g.m - m0, (i64)SIMT_BM), cols = (int)APUS_MIN(g.n - n0, (i64)SIMT_BN);
    GEMM_ACC acc[SIMT_TM][SIMT_TN];
    APUS_UNROLL for (int i = 0; i < SIMT_TM; i++)
      APUS_UNROLL for (int j = 0; j < SIMT_TN; j++) acc[i][j] = 0;
    auto fetch = [&](i64 k) {
      int depth = (int)APUS_MIN(end - k, (i64)SIMT_BK);
      a.fetch(k - begin, rows, depth);
      if constexpr (GEMM_B_NK) b.fetch(k - begin, cols, depth);
      else b.fetch((k - begin) * g.b_row, depth, cols);
    };
    auto put = [&](int stage) {
      a.template put<true, SIMT_PITCH_A>(sa + stage * SIMT_BK * SIMT_PITCH_A);
      b.template put<GEMM_B_NK, SIMT_PITCH_B>(sb + stage * SIMT_BK * SIMT_PITCH_B);
    };
    fetch(begin);
    put(0);
    __syncthreads();
    int stage = 0;
    APUS_NOUNROLL for (i64 k = begin; k < end; k += SIMT_BK) {
      bool more = k + SIMT_BK < end;
      if (more) fetch(k + SIMT_BK);
      const GEMM_ACC *ra = sa + stage * SIMT_BK * SIMT_PITCH_A + ty * 4;
      const GEMM_ACC *rb = sb + stage * SIMT_BK * SIMT_PITCH_B + tx * 4;
      APUS_UNROLL for (int kk = 0; kk < SIMT_BK; kk++) {
        apus_vec<GEMM_ACC, 4> x[ROWS], y[COLS];
        APUS_UNROLL for (int i = 0; i < ROWS; i++)
          x[i] = *(const apus_vec<GEMM_ACC, 4> *)(ra + kk * SIMT_PITCH_A + i * (SIMT_BM / ROWS));
        APUS_UNROLL for (int j = 0; j < COLS; j++)
          y[j] = *(const apus_vec<GEMM_ACC, 4> *)(rb + kk * SIMT_PITCH_B + j * (SIMT_BN / COLS));
        APUS_UNROLL for (int i = 0; i < SIMT_TM; i++)
          APUS_UNROLL for (int j = 0; j < SIMT_TN; j++) acc[i][j] += x[i / 4].e[i % 4] * y[j / 4].e[j % 4];
      }
      if (more) put(stage ^= 1);
      __syncthreads();
    }
    APUS_UNROLL for (int i = 0; i < SIMT_TM; i++) {
      i64 row = m0 + i / 4 * (SIMT_BM / ROWS) + ty * 4 + i % 4;
      APUS_UNROLL for (int j = 0; j < SIMT_TN; j += EPILOGUE_W) {
        i64 col = n0 + j / 4 * (SIMT_BN / COLS) + tx * 4 + j % 4;
        GEMM_ACC v[EPILOGUE_W];
        APUS_UNROLL for (int e = 0; e < EPILOGUE_W; e++) v[e] = acc[i][j + e];
        if (row < g.m && col < g.n) apus_gemm_out<EPILOGUE_W>(g, c, t.batch, t.split, row, col, v);
      }
    }
  }
}
