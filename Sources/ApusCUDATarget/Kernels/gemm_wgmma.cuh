// Matrix product by warpgroup tensor instructions, sm_90a: one warp copies tiles with the copy engine, WG_CONSUMERS
// warpgroups multiply; a block works through many tiles. Needs prelude.cuh, gemm.cuh, wgmma.cuh. Any M, N, K, batch.
// Macros:
//   WG_KIND       storage of A and B: 0 f32 (multiplied as tf32, truncated), 1 f16, 2 bf16
//   WG_M, WG_N    accumulators of a warpgroup: 64 or 128 rows, a multiple of 8 columns up to 256; WG_M * WG_N <= 16384
//   WG_CONSUMERS  1 to 3 warpgroups; the tile of a block is WG_BM x WG_N
//   WG_PINGPONG   1: each warpgroup has a tile of its own, so that one's epilogue overlaps the other's product
//   WG_STAGES     tiles of 128 bytes of K in flight
//   WG_CLUSTER    1, 2 or 4 blocks that share copies: of B, neighbours in M, or with WG_SHARE_A 1 of A, neighbours in N
//   WG_SPLIT      1, 2, 4 or 8 blocks of a cluster that split K and add up in shared memory; at most 8 with WG_CLUSTER
//   GEMM_B_NK     1: B is [N,K]. 0: B is [K,N], 16-bit only, WG_N a multiple of 64
//   GEMM_B_EARLY  1: no earlier kernel writes B, which is fetched before the wait for earlier kernels
// Bases of A and B are multiples of 16 bytes, row and batch strides too. a_batch and b_batch: 0 where the map has one
// batch, else 1. Maps, 128-byte swizzle, zeros out of bounds, element strides 1:
//   A: {K, M, batches}, box {128 bytes, WG_BOX_A, 1}
//   B of [N,K]: {K, N, batches}, box {128 bytes, WG_BOX_B, 1};  B of [K,N]: {N, K, batches}, box {64, 64, 1}
// Threads: WG_THREADS. Shared memory: WG_SHARED bytes, aligned to 1024. Blocks: a multiple of the cluster
// WG_CLUSTER_SIZE, at most what the device holds at once, at least one cluster.
#define WG_BM (WG_M * (WG_PINGPONG ? 1 : WG_CONSUMERS))
// Several consumers need registers that another warpgroup, mostly idle, gives up.
#define WG_THREADS (WG_CONSUMERS * 128 + (WG_CONSUMERS > 1 ? 128 : 32))
#define WG_CLUSTER_SIZE (WG_CLUSTER * WG_SPLIT)
#define WG_CLUSTER_M (WG_SHARE_A ? 1 : WG_CLUSTER)
#define WG_CLUSTER_N (WG_SHARE_A ? WG_CLUSTER : 1)
#define WG_BOX_A (WG_BM / WG_CLUSTER_N)
#define WG_BOX_B (WG_N / WG_CLUSTER_M)
#define WG_STAGE_BYTES ((WG_BM + WG_N) * 128)
#define WG_PITCH (WG_N + 8)
#define WG_OUT_BYTES (WG_SPLIT > 1 ? WG_BM * WG_PITCH * 4 : WG_CONSUMERS * 4 * APUS_GEMM_SLAB)
#define WG_SHARED (WG_STAGES * WG_STAGE_BYTES + WG_OUT_BYTES + 256)
static_assert(WG_M % 64 == 0 && WG_N % 8 == 0 && WG_N <= 256 && WG_M * WG_N <= 16384, "accumulators of a warpgroup");
static_assert(WG_CLUSTER_SIZE <= 8 && WG_BOX_A % 8 == 0 && WG_BOX_B % 8 == 0, "a cluster");
static_assert(WG_SPLIT == 1 || WG_SPLIT == 2 || WG_SPLIT == 4 || WG_SPLIT == 8, "rows are shared out evenly");
static_assert(!WG_PINGPONG || WG_SPLIT == 1, "blocks that add up finish one tile together");
static_assert(GEMM_B_NK || (WG_KIND != 0 && WG_BOX_B % 64 == 0), "B of [K,N]");
static_assert(WG_STAGES * 16 + 16 <= 256 && WG_SHARED <= 232448, "shared memory");

// Where a block stands in its cluster: among those that share copies, and those that split K.
struct apus_wg_place { u32 share, part; };
// What a block does of a unit of work: a place in the result, and a range of tiles of K.
struct apus_wg_work { apus_gemm_tile t; u32 first, count; };
APUS_INLINE apus_wg_work apus_wg_find(const apus_gemm_args &g, i64 unit, apus_wg_place at) {
  apus_wg_work w;
  w.t = apus_gemm_place((u32)unit, (u32)APUS_CEIL(g.m, WG_BM * WG_CLUSTER_M), (u32)APUS_CEIL(g.n, WG_N * WG_CLUSTER_N),
                        (u32)g.split);
  u32 parts = (u32)g.split * WG_SPLIT, part = w.t.split * WG_SPLIT + at.part;
  u32 tiles = (u32)APUS_CEIL(g.k, WG_BK), each = tiles / parts, rest = tiles % parts;
  w.first = part * each + APUS_MIN(part, rest);
  w.count = each + (part < rest);
  w.t.m = w.t.m * WG_CLUSTER_M + (WG_SHARE_A ? 0 : at.share);
  w.t.n = w.t.n * WG_CLUSTER_N + (WG_SHARE_A ? at.share : 0);
  return w;
}

struct apus_wg_ring {
  u32 base, bars, slot, phase;
  APUS_INLINE u32 full(u32 s) const { return bars + 8 * s; }
  APUS_INLINE u32 free(u32 s) const { return bars + 8 * (WG_STAGES + s); }
  APUS_INLINE u32 tile_a(u32 s) const { return base + s * WG_STAGE_BYTES; }
  APUS_INLINE u32 tile_b(u32 s) const { return tile_a(s) + WG_BM * 128; }
  APUS_INLINE void next() {
    if (++slot == WG_STAGES) slot = 0, phase ^= 1;
  }
  APUS_INLINE void skip(u32 count) {
    u32 at = slot + count;
    phase ^= at / WG_STAGES & 1;
    slot = at % WG_STAGES;
  }
};

APUS_INLINE void apus_wg_produce(const apus_gemm_args &g, const apus_map &map_a, const apus_map &map_b,
                                 apus_wg_ring ring, i64 unit, i64 units, i64 step, apus_wg_place at) {
  const u16 mask = (u16)(((1 << WG_CLUSTER) - 1) << at.part * WG_CLUSTER);
  bool waited = !GEMM_B_EARLY;
  if (waited) apus_wait_prior();
  for (; unit < units; unit += step) {
    apus_wg_work w = apus_wg_find(g, unit, at);
    i32 m0 = (i32)w.t.m * WG_BM, n0 = (i32)w.t.n * WG_N;
    i32 za = g.a_batch ? (i32)w.t.batch : 0, zb = g.b_batch ? (i32)w.t.batch : 0;
    auto load_a = [&](u32 slot, u32 i) {
      u32 row = at.share * (WG_CLUSTER_N > 1 ? WG_BOX_A : 0);
      apus_copy_tile<(WG_CLUSTER_N > 1)>(ring.tile_a(slot) + row * 128, map_a, ring.full(slot),
                                         (i32)(w.first + i) * WG_BK, m0 + (i32)row, za, mask);
    };
    auto load_b = [&](u32 slot, u32 i) {
      i32 k = (i32)(w.first + i) * WG_BK;
      apus_bar_expect(ring.full(slot), WG_STAGE_BYTES);
#if GEMM_B_NK
      u32 row = at.share * (WG_CLUSTER_M > 1 ? WG_BOX_B : 0);
      apus_copy_tile<(WG_CLUSTER_M > 1)>(ring.tile_b(slot) + row * 128, map_b, ring.full(slot), k, n0 + (i32)row, zb,
                                         mask);
#else
      APUS_UNROLL for (u32 j = 0; j < WG_BOX_B / 64; j++) {
        u32 q = WG_CLUSTER_M > 1 ? j * WG_CLUSTER_M + at.share : j;
        apus_copy_tile<(WG_CLUSTER_M > 1)>(ring.tile_b(slot) + q * (WG_BK * 128), map_b, ring.full(slot),
                                           n0 + (i32)q * 64, k, zb, mask);
      }
#endif
    };
    u32 i = 0;
    if (!waited) {
      u32 early = APUS_MIN(w.count, (u32)WG_STAGES);
      for (; i < early; i++) load_b(i, i);
      apus_wait_prior();
      waited = true;
      for (i = 0; i < early; i++) load_a(i, i);
      ring.skip(early);
    }
    APUS_NOUNROLL for (; i < w.count; i++) {
      apus_bar_wait(ring.free(ring.slot), ring.phase ^ 1);
      load_b(ring.slot, i);
      load_a(ring.slot, i);
      ring.next();
    }
  }
}

#if WG_SPLIT > 1
#define WG_SHARE (WG_BM / WG_SPLIT)
// A lane's sums of row `row` of the tile go to the block that adds up that row, into the part of K of this block.
APUS_INLINE void apus_wg_send(u32 sums, u32 bar, apus_wg_place place, u32 row, u32 col, const float *acc) {
  u32 owner = row / WG_SHARE * WG_CLUSTER + place.share;
  u32 at = sums + ((place.part * WG_SHARE + row % WG_SHARE) * WG_PITCH + col) * 4;
  at = apus_bar_peer(at, owner), bar = apus_bar_peer(bar, owner);
  APUS_UNROLL for (int j = 0; j < WG_N / 8; j++)
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];"
                 ::"r"(at + j * 32), "f"(acc[4 * j]), "f"(acc[4 * j + 1]), "r"(bar) : "memory");
}
// Adds up this block's rows over the parts of K, in order, once `wait` has seen them come. What the first strip's
// epilogue reads is fetched before.
template <typename WAIT>
APUS_INLINE void apus_wg_gather(const apus_gemm_args &g, const apus_ctx &c, const apus_gemm_tile &t, const u8 *sums,
                                u32 part, WAIT wait) {
  const int W = EPILOGUE_W, PER = WG_N / W, PART = APUS_MIN(W, 4);
  bool waited = false;
  APUS_NOUNROLL for (u32 u = threadIdx.x; u < WG_SHARE * PER || !waited; u += WG_CONSUMERS * 128) {
    u32 r = u / PER, q = u % PER * W;
    i64 row = (i64)t.m * WG_BM + part * WG_SHARE + r, col = (i64)t.n * WG_N + q;
    bool is_in = u < WG_SHARE * PER && row < g.m && col < g.n;
    EPILOGUE_HELD held;
    if (is_in) apus_gemm_fetch(c, t.batch, row, col, held);
    if (!waited) wait(), waited = true;
    if (!is_in) continue;
    GEMM_ACC v[W];
    APUS_UNROLL for (int e = 0; e < W; e++) v[e] = 0;
    APUS_UNROLL for (int s = 0; s < WG_SPLIT; s++)
      APUS_UNROLL for (int e = 0; e < W; e += PART) {
        auto x = *(const apus_vec<float, PART> *)(sums + ((s * WG_SHARE + r) * WG_PITCH + q + e) * 4);
        APUS_UNROLL for (int i = 0; i < PART; i++) v[e + i] += x.e[i];
      }
    apus_gemm_out<W>(g, c, t.batch, t.split, row, col, v, held);
  }
}
#endif

APUS_INLINE void apus_wg_consume(const apus_gemm_args &g, const apus_ctx &c, apus_wg_ring ring, i64 unit, i64 units,
                                 i64 step, apus_wg_place at, u8 *out) {
  const int MT = WG_M / 64, STEPS = 4;
  const u32 warp = threadIdx.x >> 5, lane = apus_lane();
  const u32 group = __shfl_sync(APUS_ALL_LANES, warp >> 2, 0), own = WG_PINGPONG ? 0 : group;
  auto release = [&](u32 slot) {
    if (WG_CLUSTER == 1) {
      if (lane == 0) apus_bar_arrive(ring.free(slot));
    } else if (lane < WG_CLUSTER) apus_bar_arrive_at(ring.free(slot), at.part * WG_CLUSTER + lane);
  };
  apus_wait_prior();
  for (u32 turn = 0; unit < units; unit += step, turn++) {
    apus_wg_work w = apus_wg_find(g, unit, at);
    if (WG_PINGPONG && turn % WG_CONSUMERS != group) {
      ring.skip(w.count);
      continue;
    }
    // A wait for a tile is sound only once the tile before it in the same slot has come.
    if (WG_PINGPONG && turn > 0) apus_group_sync(1 + group, 256);
    float acc[MT][WG_N / 2];
    if (w.count == 0)
      APUS_UNROLL for (int i = 0; i < MT; i++) APUS_UNROLL for (int j = 0; j < WG_N / 2; j++) acc[i][j] = 0;
    u32 last = 0;
    APUS_NOUNROLL for (u32 i = 0; i < w.count; i++) {
      apus_bar_wait(ring.full(ring.slot), ring.phase);
      u64 a = apus_wgmma_tile(ring.tile_a(ring.slot) + own * (WG_M * 128));
      u64 b = GEMM_B_NK ? apus_wgmma_tile(ring.tile_b(ring.slot)) : apus_wgmma_tile_rows(ring.tile_b(ring.slot));
      apus_wgmma_fence();
      APUS_UNROLL for (int s = 0; s < STEPS; s++)
        APUS_UNROLL for (int x = 0; x < MT; x++)
          apus_wgmma(acc[x], a + x * (64 * 128 >> 4) + s * 2, b + s * (GEMM_B_NK ? 2 : 128), i > 0 || s > 0);
      apus_wgmma_commit();
      apus_wgmma_wait<1>();
      if (i > 0) release(last);
      last = ring.slot;
      ring.next();
    }
    if (WG_PINGPONG) apus_group_arrive(1 + (group + 1) % WG_CONSUMERS, 256);
    auto finish_product = [&] {
      apus_wgmma_wait<0>();
      if (w.count > 0) release(last);
      APUS_UNROLL for (int i = 0; i < MT; i++)
        APUS_UNROLL for (int j = 0; j < WG_N / 2; j++) asm volatile("" : "+f"(acc[i][j])::"memory");
    };
#if WG_SPLIT > 1
    finish_product();
    u32 sums = (u32)__cvta_generic_to_shared(out), come = ring.bars + 16 * WG_STAGES, gone = come + 8;
    if (turn > 0) apus_bar_wait(gone, (turn - 1) & 1);
    if (threadIdx.x == 0) apus_bar_expect(come, WG_BM * WG_N * 4);
    APUS_UNROLL for (int i = 0; i < MT; i++)
      APUS_UNROLL for (int h = 0; h < 2; h++)
        apus_wg_send(sums, come, at, group * WG_M + i * 64 + (warp & 3) * 16 + (lane >> 2) + h * 8, (lane & 3) * 2,
                     &acc[i][2 * h]);
    apus_wg_gather(g, c, w.t, out, at.part, [&] { apus_bar_wait_cluster(come, turn & 1); });
    if (unit + step < units) {
      apus_group_sync(1, WG_CONSUMERS * 128);
      if (threadIdx.x < WG_SPLIT) apus_bar_arrive_at(gone, threadIdx.x * WG_CLUSTER + at.share);
    }
#else
    const int CHUNKS = APUS_CEIL(WG_N, GEMM_SLAB);
    auto place = [&](int part) {
      int x = part / CHUNKS, q = part % CHUNKS;
      return apus_gemm_part(g, w.t.batch, w.t.split, (i64)w.t.m * WG_BM + own * WG_M + x * 64 + (warp & 3) * 16,
                            (i64)w.t.n * WG_N + q * GEMM_SLAB, (u32)APUS_MIN(WG_N - q * GEMM_SLAB, GEMM_SLAB));
    };
    apus_gemm_slab slab(out + warp * APUS_GEMM_SLAB);
    apus_gemm_held held;
    apus_gemm_slab_fetch(c, slab, place(0), 0, held);
    finish_product();
    const bool AHEAD = MT * WG_N / 2 <= 64;
    APUS_NOUNROLL for (int part = 0; part < MT * CHUNKS; part++) {
      if (!AHEAD && part > 0) apus_gemm_slab_fetch(c, slab, place(part), 0, held);
      APUS_UNROLL for (int m = 0; m < MT; m++)
        APUS_UNROLL for (int q = 0; q < CHUNKS; q++)
          if (part == m * CHUNKS + q)
            slab.write(&acc[m][q * (GEMM_SLAB / 2)], (WG_N - q * GEMM_SLAB) / 8);
      __syncwarp();
      // Where there are registers, what the next slab needs is on its way while this one is stored.
      apus_gemm_held next;
      if (AHEAD && part + 1 < MT * CHUNKS) apus_gemm_slab_fetch(c, slab, place(part + 1), 0, next);
      apus_gemm_slab_finish(g, c, slab, place(part), 0, held);
      apus_gemm_slab_emit(g, c, slab, place(part), GEMM_AHEAD);
      if (AHEAD) held = next;
      __syncwarp();
    }
#endif
  }
}

APUS_INLINE void apus_gemm_wgmma(const apus_gemm_args &g, const apus_ctx &c, i64 block, i64 blockCount, u8 *shared,
                                 const apus_map &map_a, const apus_map &map_b) {
  const u32 base = (u32)__cvta_generic_to_shared(shared), bars = base + WG_STAGES * WG_STAGE_BYTES + WG_OUT_BYTES;
  apus_wg_ring ring = {base, bars, 0, 0};
  if (threadIdx.x == WG_CONSUMERS * 128) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map_a) : "memory");
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map_b) : "memory");
  }
  if (threadIdx.x == 0) {
    for (u32 s = 0; s < WG_STAGES; s++) {
      apus_bar_init(ring.full(s), 1);
      apus_bar_init(ring.free(s), (WG_PINGPONG ? 1 : WG_CONSUMERS) * 4 * WG_CLUSTER);
    }
    apus_bar_init(bars + 16 * WG_STAGES, 1);
    apus_bar_init(bars + 16 * WG_STAGES + 8, WG_SPLIT);
    if (WG_CLUSTER_SIZE > 1) asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  if (WG_CLUSTER_SIZE > 1) asm volatile("barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait;" ::: "memory");
  else __syncthreads();
  u32 rank = WG_CLUSTER_SIZE > 1 ? (u32)(block % WG_CLUSTER_SIZE) : 0;
  apus_wg_place at = {rank % WG_CLUSTER, rank / WG_CLUSTER};
  i64 units = g.batch * g.split * APUS_CEIL(g.m, WG_BM * WG_CLUSTER_M) * APUS_CEIL(g.n, WG_N * WG_CLUSTER_N);
  i64 unit = block / WG_CLUSTER_SIZE, step = blockCount / WG_CLUSTER_SIZE;
  if (threadIdx.x >= WG_CONSUMERS * 128) {
    apus_give_registers();
    if (threadIdx.x == WG_CONSUMERS * 128) apus_wg_produce(g, map_a, map_b, ring, unit, units, step, at);
    __syncwarp();
  } else {
    apus_take_registers();
    apus_wg_consume(g, c, ring, unit, units, step, at, shared + WG_STAGES * WG_STAGE_BYTES);
  }
  // A block may leave once nothing more comes from its neighbour. Blocks that split K have waited for all they get.
  if (WG_CLUSTER > 1) asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait;" ::: "memory");
}
