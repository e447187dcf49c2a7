// Matrix product of few rows, bound by the stream of B, of [N,K]. M <= GEMV_ROWS; any N, K, batch and strides. A warp makes
// GEMV_NR columns, or a share of their K; it asks for the next weights before it multiplies the last ones, and for its first
// before the wait for earlier kernels if none of them writes B. Needs gemm.cuh and gemv_common.cuh. Macros:
//   GEMM_A, GEMM_B     storage of A and of B: 0 f32, 1 f16, 2 bf16
//   GEMM_B_EARLY       1: no earlier kernel writes B
//   GEMV_ROWS          1 to 8
//   GEMV_WARPS         warps of a block
//   GEMV_UNROLL        16-byte loads of each column in flight
//   GEMM_VEC_A, _B     elements per load: 16 bytes' worth or 1. Otherwise the base, the strides and K are multiples of
//                      that many elements
//   GEMV_NR            columns of a warp: a power of two and a multiple of EPILOGUE_W; 8 or 16 with GEMV_MMA
//   GEMV_SPLIT         warps that split K, a divisor of GEMV_WARPS
//   GEMV_MMA           1: tensor cores multiply; A and B are both f16 or both bf16
// Threads: GEMV_THREADS. Shared memory: GEMV_SHARED bytes. Blocks: any; best the fewer of GEMV_UNITS(N) x batch and what
// the device holds at once.
#define GEMV_SHARED (2 * GEMV_WARPS * GEMV_VALUES * 4)
#define GEMV_UNITS(n) APUS_CEIL(n, GEMV_COLS)
static_assert(!GEMV_MMA || GEMV_NR == 16 || GEMV_NR == 8, "tensor cores take 8 or 16 columns");
static_assert(!GEMV_MMA || (GEMM_A == GEMM_B && GEMM_B != 0), "and 16-bit floats of one kind");

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
#if GEMM_B == 1
#define GEMV_TYPES "f32.f16.f16.f32"
#else
#define GEMV_TYPES "f32.bf16.bf16.f32"
#endif
APUS_INLINE void apus_gemv_mma(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col." GEMV_TYPES " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

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
  // The next kernel may well have weights to stream.
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
      apus_gemv_keep(acc, own);
      APUS_UNROLL for (int i = 0; i < GEMV_VALUES; i++) acc[i] = 0;
#endif
      apus_gemv_emit(g, c, sums, batch, col0);
      unit += blockCount, step = 0, turn++;
    } else step++;
    now = next;
  }
}
