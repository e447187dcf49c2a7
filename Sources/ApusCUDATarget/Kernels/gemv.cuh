// Matrix product of few rows, bound by the stream of B. Needs prelude.cuh and gemm.cuh. M <= GEMV_ROWS; any N, K, batch
// and strides. A warp makes GEMV_NR columns, or a share of their K; it asks for the next weights before it multiplies
// the last ones, and for its first before the wait for earlier kernels if none of them writes B. Macros:
//   GEMM_A, GEMM_B     storage of A and of B: 0 f32, 1 f16, 2 bf16
//   GEMM_B_NK          1: B is [N,K], 0: B is [K,N]
//   GEMM_B_EARLY       1: no earlier kernel writes B
//   GEMV_ROWS          1 to 8
//   GEMV_WARPS         warps of a block
//   GEMV_UNROLL        16-byte loads of each column in flight ([K,N]: loads in flight)
//   GEMM_VEC_A, _B     elements per load: 16 bytes' worth or 1. Otherwise the base, the strides and the contiguous
//                      extent (K; N for B of [K,N]) are multiples of that many elements
// B of [N,K] only:
//   GEMV_NR            columns of a warp: a power of two and a multiple of EPILOGUE_W; 8 or 16 with GEMV_MMA
//   GEMV_SPLIT         warps that split K, a divisor of GEMV_WARPS
//   GEMV_MMA           1: tensor cores multiply; A and B are both f16 or both bf16
// B of [K,N] only:
//   GEMV_LANES         lanes beside one another along N: 4, 8, 16 or 32; the others and the warps split K
//   GEMM_PARTIAL       1: blocks split K too, in `split` parts
// Threads: GEMV_THREADS. Shared memory: GEMV_SHARED bytes. Blocks: any; best the fewer of GEMV_UNITS(N) x batch
// (x split) and what the device holds at once.
#define GEMV_THREADS (GEMV_WARPS * 32)
#define GEMV_VE_(kind) ((kind) == 0 ? 4 : 8)
#define GEMV_VE GEMV_VE_(GEMM_B)
#if GEMM_B_NK
#define GEMV_COLS (GEMV_NR * (GEMV_WARPS / GEMV_SPLIT))
#define GEMV_VALUES (GEMV_NR * (GEMV_ROWS <= 1 ? 1 : GEMV_ROWS <= 2 ? 2 : GEMV_ROWS <= 4 ? 4 : 8))
#define GEMV_SHARED (2 * GEMV_WARPS * GEMV_VALUES * 4)
static_assert(GEMV_WARPS % GEMV_SPLIT == 0 && GEMV_NR % EPILOGUE_W == 0, "columns of a warp");
static_assert(!GEMV_MMA || GEMV_NR == 16 || GEMV_NR == 8, "tensor cores take 8 or 16 columns");
static_assert(!GEMV_MMA || (GEMM_A == GEMM_B && GEMM_B != 0), "and 16-bit floats of one kind");
#else
#define GEMV_COLS (GEMV_LANES * GEMV_VE)
#define GEMV_SHARED (GEMV_WARPS * GEMV_ROWS * GEMV_COLS * 4)
#endif
#define GEMV_UNITS(n) APUS_CEIL(n, GEMV_COLS)

template <int KIND> struct apus_gemv_element { typedef u16 type; };
template <> struct apus_gemv_element<0> { typedef float type; };
typedef apus_gemv_element<GEMM_A>::type apus_gemv_a;
typedef apus_gemv_element<GEMM_B>::type apus_gemv_b;
template <int KIND> APUS_INLINE float apus_gemv_value(typename apus_gemv_element<KIND>::type x) {
  if constexpr (KIND == 1) return apus_f16_f32(x);
  else if constexpr (KIND == 2) return apus_bf16_f32(x);
  else return x;
}

// 16 bytes of B, read once; past `left` elements they are zero.
typedef apus_vec<apus_gemv_b, GEMV_VE> apus_gemv_chunk;
APUS_INLINE apus_gemv_chunk apus_gemv_load(const apus_gemv_b *p, i64 left) {
  apus_gemv_chunk v;
  u32 *w = (u32 *)&v;
  w[0] = w[1] = w[2] = w[3] = 0;
  if constexpr (GEMM_VEC_B == GEMV_VE) {
    if (left > 0)
#if GEMM_B_EARLY
      asm volatile("ld.global.nc.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
#else
      asm volatile("ld.global.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
#endif
                   : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "l"(p) : "memory");
  } else
    APUS_UNROLL for (int e = 0; e < GEMV_VE; e++)
      if (e < left) v.e[e] = p[e];
  return v;
}
// As many elements of A.
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

#if GEMM_B == 1
#define GEMV_TYPES "f32.f16.f16.f32"
#else
#define GEMV_TYPES "f32.bf16.bf16.f32"
#endif
APUS_INLINE void apus_gemv_mma(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col." GEMV_TYPES " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

#if GEMM_B_NK
// A step of a warp: GEMV_UNROLL chunks of each column. Lanes take chunks in turn; with tensor cores 8 columns x 4.
#if GEMV_MMA
#define GEMV_HALVES (GEMV_NR / 8)
#define GEMV_STEP (32 * GEMV_UNROLL)
#else
#define GEMV_HALVES GEMV_NR
#define GEMV_STEP (32 * GEMV_VE * GEMV_UNROLL)
#endif
struct apus_gemv_step { apus_gemv_chunk w[GEMV_UNROLL][GEMV_HALVES]; };

APUS_INLINE void apus_gemv(const apus_gemm_args &g, const apus_ctx &c, i64 block, i64 blockCount, u8 *shared) {
  const u32 lane = apus_lane(), warp = threadIdx.x >> 5, part = warp % GEMV_SPLIT, group = warp / GEMV_SPLIT;
  const u32 inner = GEMV_MMA ? (lane & 3) * 8 : lane * GEMV_VE, stride = GEMV_MMA ? 32 : 32 * GEMV_VE;
  const i64 tiles = GEMV_UNITS(g.n), units = tiles * g.batch;
  // The share of K of this warp, in steps.
  const u32 all = (u32)APUS_CEIL(g.k, GEMV_STEP), each = all / GEMV_SPLIT, rest = all % GEMV_SPLIT;
  const u32 first = part * each + APUS_MIN(part, rest), count = each + (part < rest);
  i64 unit = block;
  u32 step = 0, turn = 0;
  apus_start_next();
  auto load = [&](apus_gemv_step &s, i64 unit, u32 step) {
    if (unit >= units || count == 0) return;
    i64 batch = g.batch == 1 ? 0 : unit / tiles, col = (unit - batch * tiles) * GEMV_COLS + group * GEMV_NR;
    i64 k = (i64)(first + step) * GEMV_STEP + inner;
    if (GEMV_MMA) col += lane >> 2;
    const apus_gemv_b *p = (const apus_gemv_b *)g.b + batch * g.b_batch + col * g.b_row + k;
    APUS_UNROLL for (int u = 0; u < GEMV_UNROLL; u++)
      APUS_UNROLL for (int h = 0; h < GEMV_HALVES; h++) {
        i64 left = col + h * (GEMV_MMA ? 8 : 1) < g.n ? g.k - k - u * stride : 0;
        s.w[u][h] = apus_gemv_load(p + h * (GEMV_MMA ? 8 : 1) * g.b_row + u * stride, left);
      }
  };
  apus_gemv_step now, next;
  if (!GEMM_B_EARLY) apus_wait_prior();
  load(now, unit, 0);
  if (GEMM_B_EARLY) apus_wait_prior();
#if GEMV_MMA
  float acc[4] = {0, 0, 0, 0};
#else
  float acc[GEMV_VALUES];
  APUS_UNROLL for (int i = 0; i < GEMV_VALUES; i++) acc[i] = 0;
#endif
  for (; unit < units;) {
    bool last = step + 1 >= count;
    load(next, last ? unit + blockCount : unit, last ? 0 : step + 1);
    i64 batch = g.batch == 1 ? 0 : unit / tiles, col0 = (unit - batch * tiles) * GEMV_COLS;
    const apus_gemv_a *px = (const apus_gemv_a *)g.a + batch * g.a_batch;
    i64 k = (i64)(first + step) * GEMV_STEP + inner;
    if (count > 0)
      APUS_UNROLL for (int u = 0; u < GEMV_UNROLL; u++) {
        i64 left = g.k - k - u * stride;
        apus_vec<apus_gemv_a, GEMV_VE> x;
#if GEMV_MMA
        u32 row = lane >> 2;
        apus_gemv_row(x, px + row * g.a_row + k + u * stride, row < g.m ? left : 0);
        // Both operands hold steps of K in the same order, which need not be that of the instruction. 16 columns take
        // the place of its rows; 8 columns that of its columns.
        const u32 *a = (const u32 *)&now.w[u][0], *b = (const u32 *)&now.w[u][GEMV_HALVES - 1], *y = (const u32 *)&x;
        APUS_UNROLL for (int i = 0; i < 4; i += 2)
          if (GEMV_NR == 16) apus_gemv_mma(acc, a[i], b[i], a[i + 1], b[i + 1], y[i], y[i + 1]);
          else apus_gemv_mma(acc, y[i], 0, y[i + 1], 0, a[i], a[i + 1]);
#else
        APUS_UNROLL for (int m = 0; m < GEMV_ROWS; m++) {
          apus_gemv_row(x, px + m * g.a_row + k + u * stride, m < g.m ? left : 0);
          APUS_UNROLL for (int e = 0; e < GEMV_VE; e++) {
            float y = apus_gemv_value<GEMM_A>(x.e[e]);
            APUS_UNROLL for (int h = 0; h < GEMV_NR; h++)
              acc[m * GEMV_NR + h] += apus_gemv_value<GEMM_B>(now.w[u][h].e[e]) * y;
          }
        }
#endif
      }
    if (last) {
      float *sums = (float *)shared + (turn & 1) * (GEMV_WARPS * GEMV_VALUES), *own = sums + warp * GEMV_VALUES;
#if GEMV_MMA
      APUS_UNROLL for (int i = 0; i < 4; i++) {
        u32 fast = (lane & 3) * 2 + (i & 1), slow = (lane >> 2) + (i >> 1) * 8;
        u32 m = GEMV_NR == 16 ? fast : slow, col = GEMV_NR == 16 ? slow : fast;
        if (m < GEMV_ROWS) own[m * GEMV_NR + col] = acc[i];
        acc[i] = 0;
      }
#else
      apus_gemv_sum<GEMV_VALUES, 16>(acc);
      const int LEFT = APUS_MAX(GEMV_VALUES / 32, 1), SHARE = APUS_MAX(32 / GEMV_VALUES, 1);
      if (lane % SHARE == 0)
        APUS_UNROLL for (int i = 0; i < LEFT; i++) own[lane / SHARE * LEFT + i] = acc[i];
      APUS_UNROLL for (int i = 0; i < GEMV_VALUES; i++) acc[i] = 0;
#endif
      if (GEMV_SPLIT > 1) __syncthreads();
      else __syncwarp();
      // Sums over the parts of K, in order. Without a split each warp does its own.
      const int W = EPILOGUE_W, PER = GEMV_NR / W, MINE = GEMV_SPLIT > 1 ? GEMV_THREADS : 32;
      const int UNITS = GEMV_ROWS * PER * (GEMV_SPLIT > 1 ? GEMV_WARPS / GEMV_SPLIT : 1);
      for (u32 i = GEMV_SPLIT > 1 ? threadIdx.x : lane; i < UNITS; i += MINE) {
        u32 q = i % PER * W, gr = GEMV_SPLIT > 1 ? i / PER % (GEMV_WARPS / GEMV_SPLIT) : group;
        u32 m = GEMV_SPLIT > 1 ? i / PER / (GEMV_WARPS / GEMV_SPLIT) : i / PER;
        float v[W];
        APUS_UNROLL for (int e = 0; e < W; e++) v[e] = 0;
        APUS_UNROLL for (int p = 0; p < GEMV_SPLIT; p++)
          APUS_UNROLL for (int e = 0; e < W; e++)
            v[e] += sums[(gr * GEMV_SPLIT + p) * GEMV_VALUES + m * GEMV_NR + q + e];
        i64 col = col0 + gr * GEMV_NR + q;
        if (m < g.m && col < g.n) apus_gemm_out<W>(g, c, batch, 0, m, col, v);
      }
      unit += blockCount, step = 0, turn++;
    } else step++;
    now = next;
  }
}
#else
APUS_INLINE void apus_gemv(const apus_gemm_args &g, const apus_ctx &c, i64 block, i64 blockCount, u8 *shared) {
  const int DEEP = 32 / GEMV_LANES * GEMV_WARPS;
  const u32 lane = apus_lane(), warp = threadIdx.x >> 5, across = lane % GEMV_LANES;
  const u32 deep = warp * (32 / GEMV_LANES) + lane / GEMV_LANES;
  const i64 tiles = GEMV_UNITS(g.n), units = tiles * g.split * g.batch;
  apus_start_next();
  if (!GEMM_B_EARLY) apus_wait_prior();
  bool waited = !GEMM_B_EARLY;
  for (i64 unit = block; unit < units; unit += blockCount) {
    i64 outer = unit / tiles, batch = outer / g.split, part = outer - batch * g.split;
    i64 col0 = (unit - outer * tiles) * GEMV_COLS, col = col0 + across * GEMV_VE;
    apus_range range = apus_share(g.k, part, g.split);
    const apus_gemv_b *p = (const apus_gemv_b *)g.b + batch * g.b_batch + col;
    const apus_gemv_a *px = (const apus_gemv_a *)g.a + batch * g.a_batch;
    float acc[GEMV_ROWS][GEMV_VE];
    APUS_UNROLL for (int m = 0; m < GEMV_ROWS; m++) APUS_UNROLL for (int e = 0; e < GEMV_VE; e++) acc[m][e] = 0;
    apus_gemv_chunk now[GEMV_UNROLL], next[GEMV_UNROLL];
    auto load = [&](apus_gemv_chunk (&w)[GEMV_UNROLL], i64 k) {
      APUS_UNROLL for (int u = 0; u < GEMV_UNROLL; u++)
        w[u] = apus_gemv_load(p + (k + u * DEEP) * g.b_row, k + u * DEEP < range.end ? g.n - col : 0);
    };
    load(now, range.begin + deep);
    if (!waited) apus_wait_prior();
    waited = true;
    for (i64 k = range.begin + deep; k < range.end; k += DEEP * GEMV_UNROLL) {
      load(next, k + DEEP * GEMV_UNROLL);
      APUS_UNROLL for (int u = 0; u < GEMV_UNROLL; u++)
        APUS_UNROLL for (int m = 0; m < GEMV_ROWS; m++) {
          i64 at = k + u * DEEP;
          float x = at < range.end && m < g.m ? apus_gemv_value<GEMM_A>(px[m * g.a_row + at]) : 0.0f;
          APUS_UNROLL for (int e = 0; e < GEMV_VE; e++) acc[m][e] += x * apus_gemv_value<GEMM_B>(now[u].e[e]);
        }
      APUS_UNROLL for (int u = 0; u < GEMV_UNROLL; u++) now[u] = next[u];
    }
    float *sums = (float *)shared;
    __syncthreads();
    APUS_UNROLL for (int m = 0; m < GEMV_ROWS; m++)
      APUS_UNROLL for (int e = 0; e < GEMV_VE; e++) {
        float v = acc[m][e];
        APUS_UNROLL for (int off = 16; off >= GEMV_LANES; off /= 2) v += apus_shuffle_xor(v, off);
        if (lane < GEMV_LANES) sums[(warp * GEMV_ROWS + m) * GEMV_COLS + across * GEMV_VE + e] = v;
      }
    __syncthreads();
    const int W = EPILOGUE_W, PER = GEMV_COLS / W;
    for (u32 i = threadIdx.x; i < GEMV_ROWS * PER; i += GEMV_THREADS) {
      u32 m = i / PER, q = i % PER * W;
      float v[W];
      APUS_UNROLL for (int e = 0; e < W; e++) v[e] = 0;
      for (int w = 0; w < GEMV_WARPS; w++)
        APUS_UNROLL for (int e = 0; e < W; e++) v[e] += sums[(w * GEMV_ROWS + m) * GEMV_COLS + q + e];
      if (m < g.m && col0 + q < g.n) apus_gemm_out<W>(g, c, batch, part, m, col0 + q, v);
    }
  }
}
#endif
