// What the texts for products of few rows share. Needs gemm.cuh. Macros: GEMM_A, GEMM_B, GEMM_VEC_A,
// GEMV_WARPS, GEMV_ROWS, GEMV_NR, GEMV_SPLIT.
#define GEMV_THREADS (GEMV_WARPS * 32)
#define GEMV_VE_(kind) ((kind) == 0 ? 4 : 8)
#define GEMV_VE GEMV_VE_(GEMM_B)

template <int KIND> struct apus_gemv_element { typedef u16 type; };
template <> struct apus_gemv_element<0> { typedef float type; };
typedef apus_gemv_element<GEMM_A>::type apus_gemv_a;
typedef apus_gemv_element<GEMM_B>::type apus_gemv_b;
template <int KIND> APUS_INLINE float apus_gemv_value(typename apus_gemv_element<KIND>::type x) {
  if constexpr (KIND == 1) return apus_f16_f32(x);
  else if constexpr (KIND == 2) return apus_bf16_f32(x);
  else return x;
}

// Elements of A as many as 16 bytes of B hold; past `left` they are zero.
APUS_INLINE void apus_gemv_row(apus_vec<apus_gemv_a, GEMV_VE> &x, const apus_gemv_a *p, i64 left) {
  APUS_UNROLL for (int e = 0; e < GEMV_VE; e++) x.e[e] = 0;
  if constexpr (GEMM_VEC_A > 1) {
    if (left > 0)
      APUS_UNROLL for (int e = 0; e < GEMV_VE; e += APUS_MIN(GEMM_VEC_A, GEMV_VE)) {
        auto v = *(const apus_vec<apus_gemv_a, APUS_MIN(GEMM_VEC_A, GEMV_VE)> *)(p + e);
        APUS_UNROLL for (int i = 0; i < APUS_MIN(GEMM_VEC_A, GEMV_VE); i++) x.e[e + i] = v.e[i];
      }
  } else
    APUS_UNROLL for (int e = 0; e < GEMV_VE; e++)
      if (e < left) x.e[e] = p[e];
}

// Adds V values over the lanes from OFF down: at each step a lane keeps half of its values. Afterwards lane l holds
// V / 32 values from l * V / 32 on, or value l / (32 / V) if there are fewer than lanes.
template <int V, int OFF> APUS_INLINE void apus_gemv_sum(float *v) {
  if constexpr (OFF > 0) {
    if constexpr (V > 1) {
      bool high = apus_lane() & OFF;
      APUS_UNROLL for (int i = 0; i < V / 2; i++) {
        float keep = high ? v[i + V / 2] : v[i], send = high ? v[i] : v[i + V / 2];
        v[i] = keep + apus_shuffle_xor(send, OFF);
      }
      apus_gemv_sum<V / 2, OFF / 2>(v);
    } else {
      v[0] += apus_shuffle_xor(v[0], OFF);
      apus_gemv_sum<1, OFF / 2>(v);
    }
  }
}

// Columns of a block, and sums of a warp: GEMV_NR for each row.
#define GEMV_COLS (GEMV_NR * (GEMV_WARPS / GEMV_SPLIT))
#define GEMV_VALUES (GEMV_NR * (GEMV_ROWS <= 1 ? 1 : GEMV_ROWS <= 2 ? 2 : GEMV_ROWS <= 4 ? 4 : 8))
static_assert(GEMV_WARPS % GEMV_SPLIT == 0 && GEMV_NR % EPILOGUE_W == 0, "columns of a warp");

// Adds up what the lanes of a warp have and leaves it at `own`.
APUS_INLINE void apus_gemv_keep(float (&acc)[GEMV_VALUES], float *own) {
  apus_gemv_sum<GEMV_VALUES, 16>(acc);
  const int LEFT = APUS_MAX(GEMV_VALUES / 32, 1), SHARE = APUS_MAX(32 / GEMV_VALUES, 1);
  const u32 lane = apus_lane();
  if (lane % SHARE == 0)
    APUS_UNROLL for (int i = 0; i < LEFT; i++) own[lane / SHARE * LEFT + i] = acc[i];
}
// Adds up what the warps that share a sum left at `sums`, in the order of K, for the columns from `col0` on. Without a split each
// warp does its own.
APUS_INLINE void apus_gemv_emit(const apus_gemm_args &g, const apus_ctx &c, const float *sums, i64 batch, i64 col0) {
  const u32 lane = apus_lane(), own = (threadIdx.x >> 5) / GEMV_SPLIT;
  const int W = EPILOGUE_W, PER = GEMV_NR / W, GROUPS = GEMV_WARPS / GEMV_SPLIT;
  if (GEMV_SPLIT > 1) __syncthreads();
  else __syncwarp();
  const int MINE = GEMV_SPLIT > 1 ? GEMV_THREADS : 32, UNITS = GEMV_ROWS * PER * (GEMV_SPLIT > 1 ? GROUPS : 1);
  for (u32 i = GEMV_SPLIT > 1 ? threadIdx.x : lane; i < UNITS; i += MINE) {
    u32 q = i % PER * W, group = GEMV_SPLIT > 1 ? i / PER % GROUPS : own, m = i / PER / (GEMV_SPLIT > 1 ? GROUPS : 1);
    float v[W];
    APUS_UNROLL for (int e = 0; e < W; e++) v[e] = 0;
    APUS_UNROLL for (int p = 0; p < GEMV_SPLIT; p++)
      APUS_UNROLL for (int e = 0; e < W; e++)
        v[e] += sums[(group * GEMV_SPLIT + p) * GEMV_VALUES + m * GEMV_NR + q + e];
    i64 col = col0 + group * GEMV_NR + q;
    if (m < g.m && col < g.n) apus_gemm_out<W>(g, c, batch, 0, m, col, v);
  }
}
