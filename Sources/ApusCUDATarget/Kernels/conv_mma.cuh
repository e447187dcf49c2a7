// Convolution by warp-level tensor instructions, sm_80 and later, as an implicit matrix product. Needs gemm_mma.cuh and
// conv.cuh before it. Any sizes, strides, dilations, pads and groups; channels of x are contiguous (NHWC). Macros:
//   MMA_KIND, MMA_BM, MMA_BN, MMA_BK, MMA_WARPS_M, MMA_WARPS_N, MMA_STAGES, GEMM_B_NK 1  as in gemm_mma.cuh
//   GEMM_VEC_A    elements per copy of x: 16 bytes' worth, less, or 1 for anything. Cin/groups, the base and the
//                 strides of x are multiples of it
//   GEMM_VEC_B    the same for the weights: taps * Cin/groups and their base are multiples of it
//   EPILOGUE_W    divides Cout/groups
// Threads: MMA_THREADS. Shared memory: CONV_MMA_SHARED. Blocks: any; best one per tile, group and part of K.
#define CONV_MMA_SHARED (MMA_SHARED + MMA_BM * 20)
#define CONV_PER (MMA_BK / MMA_VE)
#define CONV_HIGH (MMA_THREADS / CONV_PER)
static_assert(GEMM_B_NK && MMA_THREADS % CONV_PER == 0, "every step of K is read by the same threads");

// VEC elements to shared memory, or zeros.
template <int VEC> APUS_INLINE void apus_conv_copy(u32 to, const apus_mma_element *from, bool inside) {
  const int BYTES = VEC * MMA_ES;
  if constexpr (BYTES == 16)
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
  else if constexpr (BYTES >= 4)
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(BYTES),
                 "r"(inside ? BYTES : 0) : "memory");
  else {
    u16 v = 0;
    if (inside) v = (u16)*from;
    asm volatile("st.shared.b16 [%0], %1;" ::"r"(to), "h"(v) : "memory");
  }
}

// A tile of windows: this thread's steps of K in rows of which the table tells the place. Moves on to the next tile.
APUS_INLINE void apus_conv_fetch(const apus_conv_args &a, u32 to, const apus_mma_element *x, const apus_conv_row *rows,
                                 const i32 *row_z, apus_conv_step &step) {
  const u32 r0 = threadIdx.x / CONV_PER, q = threadIdx.x % CONV_PER;
  apus_conv_step at = step;
  APUS_UNROLL for (int s = 0; s < MMA_VE; s += GEMM_VEC_A) {
    bool exists = at.exists(a);
    i64 offset = at.offset(a);
    i32 ky = exists ? at.kh * a.dilation[1] : APUS_CONV_OUTSIDE, kx = at.kw * a.dilation[2];
    i32 kz = CONV_RANK == 3 ? at.kd * a.dilation[0] : 0;
    APUS_UNROLL for (int i = 0; i < APUS_CEIL(MMA_BM, CONV_HIGH); i++) {
      u32 r = r0 + i * CONV_HIGH;
      if (MMA_BM % CONV_HIGH && r >= MMA_BM) break;
      apus_conv_row w = rows[r];
      bool inside = apus_conv_inside(a, CONV_RANK == 3 ? row_z[r] + kz : 0, w.y + ky, w.x + kx);
      apus_conv_copy<GEMM_VEC_A>(to + apus_mma_at<MMA_ROW>(r, q) + s * MMA_ES, x + (inside ? w.at + offset : 0),
                                 inside);
    }
    if (s + GEMM_VEC_A < MMA_VE) at.advance(a, GEMM_VEC_A);
  }
  step.advance(a, MMA_BK);
}

APUS_INLINE void apus_conv_mma(const apus_conv_args &a, const apus_ctx &c, i64 block, i64 blockCount, u8 *shared) {
  const int STEPS = MMA_ROW / 32, BLOCKS = GEMM_SLAB / 8, CHUNKS = APUS_CEIL(MMA_NI, BLOCKS);
  const apus_gemm_args &g = a.g;
  const u32 base = apus_mma_shared(shared), warp = threadIdx.x >> 5;
  const u32 row0 = warp / MMA_WARPS_N * (MMA_MI * 16), col0 = warp % MMA_WARPS_N * (MMA_NI * 8);
  apus_conv_row *const rows = (apus_conv_row *)(shared + MMA_SHARED);
  i32 *const row_z = (i32 *)(rows + MMA_BM);
  apus_wait_prior();
  i64 each = APUS_CEIL(APUS_CEIL(g.k, g.split), MMA_BK) * MMA_BK, count = apus_conv_tiles(a, MMA_BM, MMA_BN);
  for (i64 index = block; index < count; index += blockCount) {
    apus_conv_tile t = apus_conv_find(a, index, MMA_BM, MMA_BN);
    i64 begin = APUS_MIN(t.t.split * each, g.k), end = APUS_MIN(begin + each, g.k);
    auto *x = (const apus_mma_element *)g.a + t.group * a.channels;
    auto *pb = (const apus_mma_element *)g.b + t.n0 * g.b_row;
    i32 tiles = (i32)APUS_CEIL(end - begin, MMA_BK);
    float acc[MMA_MI][MMA_NI][4];
    APUS_UNROLL for (int i = 0; i < MMA_MI; i++)
      APUS_UNROLL for (int j = 0; j < MMA_NI; j++)
        APUS_UNROLL for (int e = 0; e < 4; e++) acc[i][j][e] = 0;
    for (u32 r = threadIdx.x; r < MMA_BM; r += MMA_THREADS) {
      i32 z;
      rows[r] = apus_conv_place(a, t.m0 + r, z);
      if (CONV_RANK == 3) row_z[r] = z;
    }
    apus_conv_step step;
    step.start(a, (u32)begin + threadIdx.x % CONV_PER * MMA_VE);
    __syncthreads();
    auto fetch = [&](i32 tile, u32 stage) {
      u32 sa = base + stage * (MMA_BYTES_A + MMA_BYTES_B), sb = sa + MMA_BYTES_A;
      if (tile < tiles) {
        i64 k = begin + (i64)tile * MMA_BK;
        apus_conv_fetch(a, sa, x, rows, row_z, step);
        apus_mma_fetch<GEMM_VEC_B, MMA_BN, MMA_BK, false>(sb, pb + k, g.b_row, t.n_end - t.n0, end - k);
      }
      asm volatile("cp.async.commit_group;" ::: "memory");
    };
    APUS_UNROLL for (int s = 0; s < MMA_STAGES - 1; s++) fetch(s, s);
    u32 stage = 0, ahead = MMA_STAGES - 1;
    APUS_NOUNROLL for (i32 tile = 0; tile < tiles; tile++) {
      asm volatile("cp.async.wait_group %0;" ::"n"(MMA_STAGES - 2) : "memory");
      __syncthreads();
      fetch(tile + MMA_STAGES - 1, ahead);
      u32 sa = base + stage * (MMA_BYTES_A + MMA_BYTES_B), sb = sa + MMA_BYTES_A;
      apus_mma_fragments f[2];
      apus_mma_read(f[0], sa, sb, row0, col0, 0);
      APUS_UNROLL for (int s = 0; s < STEPS; s++) {
        if (s + 1 < STEPS) apus_mma_read(f[(s + 1) & 1], sa, sb, row0, col0, s + 1);
        APUS_UNROLL for (int i = 0; i < MMA_MI; i++)
          APUS_UNROLL for (int j = 0; j < MMA_NI; j++)
            apus_mma(acc[i][j], f[s & 1].a[i], f[s & 1].b[j / 2][j % 2 * 2], f[s & 1].b[j / 2][j % 2 * 2 + 1]);
      }
      stage = stage + 1 == MMA_STAGES ? 0 : stage + 1;
      ahead = ahead + 1 == MMA_STAGES ? 0 : ahead + 1;
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    apus_gemm_slab slab(shared + warp * APUS_GEMM_SLAB);
    i64 left = t.n_end - t.n0 - col0;
    APUS_NOUNROLL for (int part = 0; part < MMA_MI * CHUNKS; part++) {
      APUS_UNROLL for (int i = 0; i < MMA_MI; i++)
        APUS_UNROLL for (int q = 0; q < CHUNKS; q++)
          if (part == i * CHUNKS + q) slab.write(&acc[i][q * BLOCKS][0], MMA_NI - q * BLOCKS);
      __syncwarp();
      int i = part / CHUNKS, q = part % CHUNKS;
      i64 cols = APUS_MIN(left - q * GEMM_SLAB, (i64)APUS_MIN(MMA_NI * 8 - q * GEMM_SLAB, GEMM_SLAB));
      apus_gemm_slab_emit(g, c, slab, apus_gemm_part(g, 0, t.t.split, t.m0 + row0 + i * 16,
                                                     t.n0 + col0 + q * GEMM_SLAB, (u32)APUS_MAX(cols, 0)));
      __syncwarp();
    }
    __syncthreads();
  }
}
