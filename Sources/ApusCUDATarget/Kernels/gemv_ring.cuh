// Matrix product of few rows, bound by the stream of B, of [N,K] with rows of whole 16 bytes. Each warp has a ring of stages in shared
// memory that the copy engine fills, and begins to do so before earlier kernels end. Needs gemm.cuh, gemv_common.cuh and barrier.cuh. M <= GEMV_ROWS. No kernel of the model writes B. Macros:
//   GEMM_A, GEMM_B     storage of A and of B: 0 f32, 1 f16, 2 bf16
//   GEMM_VEC_A         elements of A per load: 16 bytes' worth or 1
//   GEMV_ROWS          1 to 4
//   GEMV_WARPS         warps of a block
//   GEMV_NR            columns of a stage: a power of two and a multiple of EPILOGUE_W
//   GEMV_SPLIT         warps that split K, a divisor of GEMV_WARPS
//   RING_K             K / GEMV_SPLIT, rounded up to 16 bytes' worth
//   RING_STAGES        stages of a warp
// Threads: GEMV_THREADS. Shared memory: RING_SHARED bytes. Blocks: any; best as many as the device holds at once.
#define RING_BYTES (GEMV_NR * RING_K * sizeof(apus_gemv_b))
#define RING_SUMS (GEMV_WARPS * RING_STAGES * RING_BYTES)
#define RING_BARRIERS (RING_SUMS + 2 * GEMV_WARPS * GEMV_VALUES * 4)
#define RING_SHARED (RING_BARRIERS + GEMV_WARPS * RING_STAGES * 8)
#define RING_LOADS APUS_CEIL(RING_K, 32 * GEMV_VE)
static_assert(RING_K % GEMV_VE == 0 && RING_BYTES % 16 == 0 && GEMV_NR <= 32, "stages of whole 16 bytes");

APUS_INLINE void apus_gemv_ring(const apus_gemm_args &g, const apus_ctx &c, i64 block, i64 blockCount, u8 *shared) {
  const u32 lane = apus_lane(), warp = threadIdx.x >> 5, part = warp % GEMV_SPLIT, group = warp / GEMV_SPLIT;
  const i64 tiles = APUS_CEIL(g.n, GEMV_COLS), units = tiles * g.batch, k = part * RING_K;
  const u32 length = (u32)APUS_MAX(APUS_MIN(g.k - k, (i64)RING_K), 0L);
  u8 *const ring = shared + warp * (RING_STAGES * RING_BYTES);
  const u32 at = (u32)__cvta_generic_to_shared(ring);
  const u32 bars = (u32)__cvta_generic_to_shared(shared + RING_BARRIERS) + warp * (RING_STAGES * 8);
  if (lane == 0) APUS_UNROLL for (int s = 0; s < RING_STAGES; s++) apus_bar_init(bars + s * 8, 1);
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  __syncwarp();
  // The columns of this warp in a unit, one for each of the first lanes.
  auto column = [&](i64 unit, const apus_gemv_b *&from) {
    i64 batch = g.batch == 1 ? 0 : unit / tiles, col = (unit - batch * tiles) * GEMV_COLS + group * GEMV_NR;
    from = (const apus_gemv_b *)g.b + batch * g.b_batch + (col + lane) * g.b_row + k;
    return (u32)APUS_MAX(APUS_MIN(g.n - col, (i64)GEMV_NR), 0L);
  };
  auto fill = [&](u32 stage, i64 unit) {
    if (unit >= units) return;
    const apus_gemv_b *from;
    u32 columns = length == 0 ? 0 : column(unit, from), bytes = length * sizeof(apus_gemv_b);
    if (lane == 0) apus_bar_expect(bars + stage * 8, columns * bytes);
    __syncwarp();
    if (lane < columns)
      apus_copy_bytes(at + stage * RING_BYTES + lane * (RING_K * sizeof(apus_gemv_b)), from, bytes, bars + stage * 8);
  };
  for (u32 s = 0; s < RING_STAGES; s++) fill(s, block + s * blockCount);
  apus_wait_prior();
  apus_vec<apus_gemv_a, GEMV_VE> x[GEMV_ROWS][RING_LOADS];
  i64 held = -1;
  u32 stage = 0, phase = 0, turn = 0;
  for (i64 unit = block; unit < units; unit += blockCount) {
    i64 batch = g.batch == 1 ? 0 : unit / tiles;
    if (batch != held) {
      const apus_gemv_a *p = (const apus_gemv_a *)g.a + batch * g.a_batch + k;
      APUS_UNROLL for (int m = 0; m < GEMV_ROWS; m++)
        APUS_UNROLL for (int i = 0; i < RING_LOADS; i++) {
          u32 e = (i * 32 + lane) * GEMV_VE;
          apus_gemv_row(x[m][i], p + m * g.a_row + e, m < g.m ? (i64)length - e : 0);
        }
      held = batch;
    }
    float acc[GEMV_VALUES];
    APUS_UNROLL for (int i = 0; i < GEMV_VALUES; i++) acc[i] = 0;
    apus_bar_wait(bars + stage * 8, phase);
    const u8 *w = ring + stage * RING_BYTES;
    APUS_UNROLL for (int i = 0; i < RING_LOADS; i++) {
      u32 e = (i * 32 + lane) * GEMV_VE;
      if (e >= length) break;
      APUS_UNROLL for (int h = 0; h < GEMV_NR; h++) {
        auto v = *(const apus_vec<apus_gemv_b, GEMV_VE> *)(w + (h * RING_K + e) * sizeof(apus_gemv_b));
        APUS_UNROLL for (int j = 0; j < GEMV_VE; j++)
          APUS_UNROLL for (int m = 0; m < GEMV_ROWS; m++)
            acc[m * GEMV_NR + h] += apus_gemv_value<GEMM_B>(v.e[j]) * apus_gemv_value<GEMM_A>(x[m][i].e[j]);
      }
    }
    __syncwarp();
    fill(stage, unit + RING_STAGES * blockCount);
    float *sums = (float *)(shared + RING_SUMS) + (turn & 1) * (GEMV_WARPS * GEMV_VALUES);
    apus_gemv_keep(acc, sums + warp * GEMV_VALUES);
    apus_gemv_emit(g, c, sums, batch, (unit - batch * tiles) * GEMV_COLS);
    turn++;
    if (++stage == RING_STAGES) stage = 0, phase ^= 1;
  }
}
