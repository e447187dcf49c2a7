// Convolution by warpgroup tensor instructions, sm_90a: one warp copies windows and weights with the copy engine,
// WG_CONSUMERS warpgroups multiply; a block works through many tiles. Needs prelude.cuh, gemm.cuh, conv.cuh, wgmma.cuh
// with GEMM_B_NK 1. Channels of x are contiguous (NHWC). Macros:
//   WG_KIND       storage of x and weights: 0 f32 (multiplied as tf32, truncated), 1 f16, 2 bf16
//   WG_M, WG_N    accumulators of a warpgroup: 64 or 128 rows, a multiple of 8 columns up to 256; WG_M * WG_N <= 16384
//   WG_CONSUMERS  1 or 2 warpgroups; the tile of a block is WG_BM x WG_N
//   WG_PINGPONG   1: each of 2 warpgroups has a tile of its own, so that one's epilogue overlaps the other's product
//   WG_STAGES     tiles of 128 bytes of channels in flight
//   WG_SPLIT      1, 2, 4 or 8 blocks of a cluster that split the depth and add up in shared memory; 1 with WG_PINGPONG
//   GEMM_B_EARLY  1: no earlier kernel writes the weights, which are fetched before the wait for earlier kernels
//   CONV_TILED    1: one tap, stride 1, no pads: x is a matrix [places, Cin]; 0: windows by an im2col map
//   CONV_RANK     2 or 3
// Bases and strides (but of channels) of x, and Cin/groups, are multiples of 16 bytes. With several groups Cin/groups
// is a multiple of 128 bytes. Pads at the ends are whatever the size of the result implies. Limits of im2col maps:
// strides up to 8; rank 2: the lower corner from -128 to 127, the upper too, (kernel - 1) * dilation up to 255;
// rank 3: from -16 to 15, up to 31.
// Maps, 128-byte swizzle, zeros out of bounds:
//   x tiled: {Cin, places, 1}, box {128 bytes, WG_BM, 1}
//   x im2col: {Cin, W, H, [D,] images}, lower corner -pad, upper corner (out - 1) * stride - pad - (in - 1) of axes w,
//             h, [d,] channels 128 bytes, pixels WG_BM, element strides {1, stride w, h, [d,] 1}
//   weights: {Cin/groups, taps, Cout}, box {128 bytes, 1, WG_N}
// Threads: WG_THREADS. Shared memory: WG_SHARED bytes, aligned to 1024. Blocks: a multiple of the cluster WG_SPLIT, at
// most what the device holds at once, at least one cluster.
#define WG_BM (WG_M * (WG_PINGPONG ? 1 : WG_CONSUMERS))
#define WG_THREADS (WG_CONSUMERS * 128 + (WG_CONSUMERS > 1 ? 128 : 32))
#define WG_STAGE_BYTES ((WG_BM + WG_N) * 128)
#define WG_PITCH (WG_N + 8)
#define WG_OUT_BYTES (WG_SPLIT > 1 ? WG_BM * WG_PITCH * 4 : WG_CONSUMERS * 4 * APUS_GEMM_SLAB)
#define WG_SHARED (WG_STAGES * WG_STAGE_BYTES + WG_OUT_BYTES + 256)
static_assert(GEMM_B_NK && WG_M % 64 == 0 && WG_N % 8 == 0 && WG_N <= 256 && WG_M * WG_N <= 16384, "accumulators");
static_assert(WG_SPLIT == 1 || ((WG_SPLIT == 2 || WG_SPLIT == 4 || WG_SPLIT == 8) && !WG_PINGPONG), "a cluster");
static_assert(WG_STAGES * 16 + 16 <= 256 && WG_SHARED <= 232448, "shared memory");

// What a block does of a unit of work: a tile of the result, and a range of tiles of the depth.
struct apus_wg_work { apus_conv_tile t; u32 first, count; };
APUS_INLINE u32 apus_wg_blocks(const apus_conv_args &a) { return (u32)APUS_CEIL(a.channels, WG_BK); }
APUS_INLINE apus_wg_work apus_wg_find(const apus_conv_args &a, i64 unit, u32 rank) {
  apus_wg_work w;
  w.t = apus_conv_find(a, unit, WG_BM, WG_N);
  u32 parts = (u32)a.g.split * WG_SPLIT, part = w.t.t.split * WG_SPLIT + rank;
  u32 taps = (u32)(a.kernel[0] * a.kernel[1] * a.kernel[2]), tiles = taps * apus_wg_blocks(a);
  u32 each = tiles / parts, rest = tiles % parts;
  w.first = part * each + APUS_MIN(part, rest);
  w.count = each + (part < rest);
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

// A tap of WG_BM windows, the first of which begins at x, y, z of an image.
APUS_INLINE void apus_copy_windows(u32 to, const apus_map &map, u32 bar, i32 c, i32 x, i32 y, i32 z, i32 image, u16 kx,
                                   u16 ky, u16 kz) {
#if CONV_RANK == 3
  asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes"
               " [%0], [%1, {%3, %4, %5, %6, %7}], [%2], {%8, %9, %10};"
               ::"r"(to), "l"(&map), "r"(bar), "r"(c), "r"(x), "r"(y), "r"(z), "r"(image), "h"(kx), "h"(ky), "h"(kz)
               : "memory");
#else
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes"
               " [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};"
               ::"r"(to), "l"(&map), "r"(bar), "r"(c), "r"(x), "r"(y), "r"(image), "h"(kx), "h"(ky) : "memory");
#endif
}

// A tap and a block of channels.
struct apus_wg_step {
  u32 block, tap;
  u16 kx, ky, kz;
  APUS_INLINE void start(const apus_conv_args &a, u32 tile, u32 blocks) {
    tap = tile / blocks, block = tile - tap * blocks;
    u32 line = tap / (u32)a.kernel[2], plane = line / (u32)a.kernel[1];
    kx = (u16)((tap - line * a.kernel[2]) * a.dilation[2]), ky = (u16)((line - plane * a.kernel[1]) * a.dilation[1]);
    kz = (u16)(plane * a.dilation[0]);
  }
  APUS_INLINE void next(const apus_conv_args &a, u32 blocks) {
    if (++block == blocks) start(a, (tap + 1) * blocks, blocks);
  }
};

APUS_INLINE void apus_wg_produce(const apus_conv_args &a, const apus_map &map_x, const apus_map &map_w,
                                 apus_wg_ring ring, i64 unit, i64 units, i64 step, u32 rank) {
  const u32 blocks = apus_wg_blocks(a);
  bool waited = !GEMM_B_EARLY;
  if (waited) apus_wait_prior();
  for (; unit < units; unit += step) {
    apus_wg_work w = apus_wg_find(a, unit, rank);
#if !CONV_TILED
    i32 x, y, z = 0, image;
    {
      u32 left = (u32)w.t.m0, ow = left % a.out[2];
      left /= a.out[2];
      u32 oh = left % a.out[1];
      left /= a.out[1];
      x = (i32)ow * a.stride[2] - a.pad[2], y = (i32)oh * a.stride[1] - a.pad[1];
      if (CONV_RANK == 3) {
        u32 od = left % a.out[0];
        left /= a.out[0];
        z = (i32)od * a.stride[0] - a.pad[0];
      }
      image = (i32)left;
    }
#endif
    const i32 c0 = w.t.group * (i32)a.channels;
    apus_wg_step at, early_at;
    at.start(a, w.first, blocks);
    early_at = at;
    auto load_x = [&](u32 slot, const apus_wg_step &s) {
#if CONV_TILED
      apus_copy_tile<false>(ring.tile_a(slot), map_x, ring.full(slot), c0 + (i32)s.block * WG_BK, (i32)w.t.m0, 0, 0);
#else
      apus_copy_windows(ring.tile_a(slot), map_x, ring.full(slot), c0 + (i32)s.block * WG_BK, x, y, z, image, s.kx,
                        s.ky, s.kz);
#endif
    };
    auto load_w = [&](u32 slot, const apus_wg_step &s) {
      apus_bar_expect(ring.full(slot), WG_STAGE_BYTES);
      apus_copy_tile<false>(ring.tile_b(slot), map_w, ring.full(slot), (i32)s.block * WG_BK, (i32)s.tap, (i32)w.t.n0,
                            0);
    };
    u32 i = 0;
    if (!waited) {
      u32 early = APUS_MIN(w.count, (u32)WG_STAGES);
      for (; i < early; i++, early_at.next(a, blocks)) load_w(i, early_at);
      apus_wait_prior();
      waited = true;
      for (i = 0; i < early; i++, at.next(a, blocks)) load_x(i, at);
      ring.skip(early);
    }
    APUS_NOUNROLL for (; i < w.count; i++) {
      apus_bar_wait(ring.free(ring.slot), ring.phase ^ 1);
      load_w(ring.slot, at);
      load_x(ring.slot, at);
      at.next(a, blocks);
      ring.next();
    }
  }
}

#if WG_SPLIT > 1
#define WG_SHARE (WG_BM / WG_SPLIT)
// A lane's sums of row `row` of the tile go to the block that adds up that row, into the part of this block.
APUS_INLINE void apus_wg_send(u32 sums, u32 bar, u32 part, u32 row, u32 col, const float *acc) {
  u32 owner = row / WG_SHARE, at = sums + ((part * WG_SHARE + row % WG_SHARE) * WG_PITCH + col) * 4;
  at = apus_bar_peer(at, owner), bar = apus_bar_peer(bar, owner);
  APUS_UNROLL for (int j = 0; j < WG_N / 8; j++)
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];"
                 ::"r"(at + j * 32), "f"(acc[4 * j]), "f"(acc[4 * j + 1]), "r"(bar) : "memory");
}
// Adds up this block's rows over the parts, in order, once `wait` has seen them come. What the first strip's epilogue
// reads is fetched before.
template <typename WAIT>
APUS_INLINE void apus_wg_gather(const apus_gemm_args &g, const apus_ctx &c, const apus_conv_tile &t, const u8 *sums,
                                u32 part, WAIT wait) {
  const int W = EPILOGUE_W, PER = WG_N / W, PART = APUS_MIN(W, 4);
  bool waited = false;
  APUS_NOUNROLL for (u32 u = threadIdx.x; u < WG_SHARE * PER || !waited; u += WG_CONSUMERS * 128) {
    u32 r = u / PER, q = u % PER * W;
    i64 row = t.m0 + part * WG_SHARE + r, col = t.n0 + q;
    bool is_in = u < WG_SHARE * PER && row < g.m && col < t.n_end;
    EPILOGUE_HELD held;
    if (is_in) apus_gemm_fetch(c, 0, row, col, held);
    if (!waited) wait(), waited = true;
    if (!is_in) continue;
    GEMM_ACC v[W];
    APUS_UNROLL for (int e = 0; e < W; e++) v[e] = 0;
    APUS_UNROLL for (int s = 0; s < WG_SPLIT; s++)
      APUS_UNROLL for (int e = 0; e < W; e += PART) {
        auto x = *(const apus_vec<float, PART> *)(sums + ((s * WG_SHARE + r) * WG_PITCH + q + e) * 4);
        APUS_UNROLL for (int i = 0; i < PART; i++) v[e + i] += x.e[i];
      }
    apus_gemm_out<W>(g, c, 0, t.t.split, row, col, v, held);
  }
}
#endif

APUS_INLINE void apus_wg_consume(const apus_conv_args &a, const apus_ctx &c, apus_wg_ring ring, i64 unit, i64 units,
                                 i64 step, u32 rank, u8 *out) {
  const int MT = WG_M / 64, STEPS = 4;
  const u32 warp = threadIdx.x >> 5, lane = apus_lane();
  const u32 group = __shfl_sync(APUS_ALL_LANES, warp >> 2, 0), own = WG_PINGPONG ? 0 : group;
  auto release = [&](u32 slot) {
    if (lane == 0) apus_bar_arrive(ring.free(slot));
  };
  apus_wait_prior();
  for (u32 turn = 0; unit < units; unit += step, turn++) {
    apus_wg_work w = apus_wg_find(a, unit, rank);
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
      u64 x = apus_wgmma_tile(ring.tile_a(ring.slot) + own * (WG_M * 128)), b = apus_wgmma_tile(ring.tile_b(ring.slot));
      apus_wgmma_fence();
      APUS_UNROLL for (int s = 0; s < STEPS; s++)
        APUS_UNROLL for (int m = 0; m < MT; m++)
          apus_wgmma(acc[m], x + m * (64 * 128 >> 4) + s * 2, b + s * 2, i > 0 || s > 0);
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
        apus_wg_send(sums, come, rank, group * WG_M + i * 64 + (warp & 3) * 16 + (lane >> 2) + h * 8, (lane & 3) * 2,
                     &acc[i][2 * h]);
    apus_wg_gather(a.g, c, w.t, out, rank, [&] { apus_bar_wait_cluster(come, turn & 1); });
    if (unit + step < units) {
      apus_group_sync(1, WG_CONSUMERS * 128);
      if (threadIdx.x < WG_SPLIT) apus_bar_arrive_at(gone, threadIdx.x);
    }
#else
    const int CHUNKS = APUS_CEIL(WG_N, GEMM_SLAB);
    auto place = [&](int part) {
      int m = part / CHUNKS, q = part % CHUNKS;
      i64 col0 = w.t.n0 + q * GEMM_SLAB;
      i64 cols = APUS_MIN(w.t.n_end - col0, (i64)APUS_MIN(WG_N - q * GEMM_SLAB, GEMM_SLAB));
      return apus_gemm_part(a.g, 0, w.t.t.split, w.t.m0 + own * WG_M + m * 64 + (warp & 3) * 16, col0,
                            (u32)APUS_MAX(cols, 0));
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
      apus_gemm_slab_finish(a.g, c, slab, place(part), 0, held);
      apus_gemm_slab_emit(a.g, c, slab, place(part), GEMM_AHEAD);
      if (AHEAD) held = next;
      __syncwarp();
    }
#endif
  }
}

APUS_INLINE void apus_conv_wgmma(const apus_conv_args &a, const apus_ctx &c, i64 block, i64 blockCount, u8 *shared,
                                 const apus_map &map_x, const apus_map &map_w) {
  const u32 base = (u32)__cvta_generic_to_shared(shared), bars = base + WG_STAGES * WG_STAGE_BYTES + WG_OUT_BYTES;
  apus_wg_ring ring = {base, bars, 0, 0};
  if (threadIdx.x == WG_CONSUMERS * 128) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map_x) : "memory");
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map_w) : "memory");
  }
  if (threadIdx.x == 0) {
    for (u32 s = 0; s < WG_STAGES; s++) {
      apus_bar_init(ring.full(s), 1);
      apus_bar_init(ring.free(s), (WG_PINGPONG ? 1 : WG_CONSUMERS) * 4);
    }
    apus_bar_init(bars + 16 * WG_STAGES, 1);
    apus_bar_init(bars + 16 * WG_STAGES + 8, WG_SPLIT);
    if (WG_SPLIT > 1) asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  if (WG_SPLIT > 1) asm volatile("barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait;" ::: "memory");
  else __syncthreads();
  u32 rank = WG_SPLIT > 1 ? (u32)(block % WG_SPLIT) : 0;
  i64 units = apus_conv_tiles(a, WG_BM, WG_N), unit = block / WG_SPLIT, step = blockCount / WG_SPLIT;
  if (threadIdx.x >= WG_CONSUMERS * 128) {
    apus_give_registers();
    if (threadIdx.x == WG_CONSUMERS * 128) apus_wg_produce(a, map_x, map_w, ring, unit, units, step, rank);
    __syncwarp();
  } else {
    apus_take_registers();
    apus_wg_consume(a, c, ring, unit, units, step, rank, shared + WG_STAGES * WG_STAGE_BYTES);
  }
}
