// Matrix product by warp-level tensor instructions, sm_80 and later. Needs prelude.cuh and gemm.cuh.
// Any M, N, K, batch and strides. Macros:
//   MMA_KIND           storage of A and B: 0 f32 (multiplied as tf32), 1 f16, 2 bf16
//   MMA_BM, _BN, _BK   tile of a block; BK is 64 or 128 bytes; BN a multiple of 64 (or 32) where B is [K,N]
//   MMA_WARPS_M, _N    warps; a warp has BM/WARPS_M (multiple of 16) x BN/WARPS_N (multiple of 16)
//   MMA_STAGES         tiles in flight, at least 2
//   GEMM_B_NK          1: B is [N,K], 0: B is [K,N]
//   GEMM_VEC_A, _B     elements per copy: 16 bytes' worth, less, or 1 for anything. Otherwise the base, the strides and
//                      the contiguous extent (K; N for B of [K,N]) are multiples of that many elements
// Threads: MMA_THREADS. Shared memory: MMA_SHARED bytes. Blocks: any; best one per tile and part of K.
#define MMA_THREADS (MMA_WARPS_M * MMA_WARPS_N * 32)
#define MMA_ES (MMA_KIND == 0 ? 4 : 2)
#define MMA_VE (16 / MMA_ES)
#define MMA_ROW (MMA_BK * MMA_ES)
#define MMA_BYTES_A (MMA_BM * MMA_ROW)
#define MMA_BYTES_B (MMA_BN * MMA_ROW)
#define MMA_SHARED APUS_MAX(MMA_STAGES * (MMA_BYTES_A + MMA_BYTES_B), MMA_WARPS_M * MMA_WARPS_N * APUS_GEMM_SLAB)
#define MMA_MI (MMA_BM / MMA_WARPS_M / 16)
#define MMA_NI (MMA_BN / MMA_WARPS_N / 8)
static_assert(MMA_ROW == 64 || MMA_ROW == 128, "a row of K is 64 or 128 bytes");
static_assert(MMA_MI * 16 * MMA_WARPS_M == MMA_BM && MMA_NI % 2 == 0 && MMA_NI * 8 * MMA_WARPS_N == MMA_BN, "warps");
static_assert(GEMM_B_NK || MMA_BN * MMA_ES % 128 == 0 || (MMA_KIND && MMA_BN == 32), "rows of N");

#if MMA_KIND == 0
typedef float apus_mma_element;
#else
typedef u16 apus_mma_element;
#endif

// The place of a 16-byte chunk in a tile whose rows have BYTES bytes: eight rows of a column of chunks meet all banks.
template <int BYTES> APUS_INLINE u32 apus_mma_at(u32 row, u32 chunk) {
  return row * BYTES + ((BYTES == 64 ? chunk ^ ((row >> 1) & 3) : chunk ^ (row & 7)) << 4);
}
// The same for f32 of [K,N], whose fragments are read word by word: four rows, eight columns.
APUS_INLINE u32 apus_mma_at_words(u32 row, u32 chunk) { return row * (MMA_BN * 4) + ((chunk ^ ((row & 3) << 1)) << 4); }

APUS_INLINE u32 apus_mma_shared(const void *p) { return (u32)__cvta_generic_to_shared(p); }

// 16 bytes to shared memory, of which the first `valid` elements exist.
template <int VEC> APUS_INLINE void apus_mma_copy(u32 to, const apus_mma_element *from, i32 valid) {
  const int BYTES = VEC * MMA_ES;
  if constexpr (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid > 0 ? 16 : 0)
                 : "memory");
  } else if constexpr (BYTES >= 4) {
    APUS_UNROLL for (int i = 0; i < MMA_VE; i += VEC)
      asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to + i * MMA_ES), "l"(from + i), "n"(BYTES),
                   "r"(i < valid ? BYTES : 0)
                   : "memory");
  } else {
    u32 w[4];
    APUS_UNROLL for (int i = 0; i < 4; i++) {
      u32 low = 2 * i < valid ? (u32)from[2 * i] : 0u, high = 2 * i + 1 < valid ? (u32)from[2 * i + 1] : 0u;
      w[i] = low | high << 16;
    }
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3])
                 : "memory");
  }
}

// A tile of ROWS x COLS elements from p, contiguous along columns, of which `rows` x `cols` exist.
template <int VEC, int ROWS, int COLS, bool WORDS>
APUS_INLINE void apus_mma_fetch(u32 to, const apus_mma_element *p, i64 stride, i64 rows, i64 cols) {
  const int PER = COLS / MMA_VE, UNITS = ROWS * PER;
  const i32 height = (i32)APUS_MIN(rows, (i64)ROWS), width = (i32)APUS_MIN(cols, (i64)COLS);
  APUS_UNROLL for (int i = 0; i < APUS_CEIL(UNITS, MMA_THREADS); i++) {
    int unit = i * MMA_THREADS + (int)threadIdx.x, r = unit / PER, q = unit % PER * MMA_VE;
    if (UNITS % MMA_THREADS && unit >= UNITS) break;
    apus_mma_copy<VEC>(to + (WORDS ? apus_mma_at_words(r, q / MMA_VE) : apus_mma_at<COLS * MMA_ES>(r, q / MMA_VE)),
                       p + (r * stride + q), r < height ? width - q : 0);
  }
}

APUS_INLINE void apus_mma_matrices(u32 (&r)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}
APUS_INLINE void apus_mma_matrices_transposed(u32 (&r)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}
APUS_INLINE u32 apus_mma_word(u32 from) {
  u32 r;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(r) : "r"(from) : "memory");
  return r;
}
APUS_INLINE void apus_mma_round(u32 &x) {
#if MMA_KIND == 0
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(x) : "f"(apus_f32_bits(x)));
#endif
}

#if MMA_KIND == 0
#define MMA_SHAPE "m16n8k8.row.col.f32.tf32.tf32.f32"
#elif MMA_KIND == 1
#define MMA_SHAPE "m16n8k16.row.col.f32.f16.f16.f32"
#else
#define MMA_SHAPE "m16n8k16.row.col.f32.bf16.bf16.f32"
#endif
APUS_INLINE void apus_mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned." MMA_SHAPE " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// What one step of 32 bytes of K needs of a warp's rows and columns.
struct apus_mma_fragments { u32 a[MMA_MI][4], b[MMA_NI / 2][4]; };
APUS_INLINE void apus_mma_read(apus_mma_fragments &f, u32 sa, u32 sb, u32 row0, u32 col0, u32 step) {
  u32 lane = apus_lane();
  APUS_UNROLL for (int i = 0; i < MMA_MI; i++) {
    apus_mma_matrices(f.a[i], sa + apus_mma_at<MMA_ROW>(row0 + i * 16 + (lane & 15), 2 * step + (lane >> 4)));
    APUS_UNROLL for (int e = 0; e < 4; e++) apus_mma_round(f.a[i][e]);
  }
  APUS_UNROLL for (int j = 0; j < MMA_NI / 2; j++) {
#if GEMM_B_NK
    u32 n = col0 + j * 16 + (lane & 7) + (lane >> 4 << 3);
    apus_mma_matrices(f.b[j], sb + apus_mma_at<MMA_ROW>(n, 2 * step + (lane >> 3 & 1)));
#elif MMA_KIND != 0
    u32 k = step * 16 + (lane & 15), chunk = (col0 >> 3) + 2 * j + (lane >> 4);
    apus_mma_matrices_transposed(f.b[j], sb + apus_mma_at<MMA_BN * 2>(k, chunk));
#else
    APUS_UNROLL for (int e = 0; e < 4; e++) {
      u32 k = step * 8 + (lane & 3) + (e & 1) * 4, n = col0 + j * 16 + (e >> 1) * 8 + (lane >> 2);
      f.b[j][e] = apus_mma_word(sb + apus_mma_at_words(k, n >> 2) + ((n & 3) << 2));
    }
#endif
    APUS_UNROLL for (int e = 0; e < 4; e++) apus_mma_round(f.b[j][e]);
  }
}

APUS_INLINE void apus_gemm_mma(const apus_gemm_args &g, const apus_ctx &c, i64 block, i64 blockCount, u8 *shared) {
  const int STEPS = MMA_ROW / 32, BLOCKS = GEMM_SLAB / 8, CHUNKS = APUS_CEIL(MMA_NI, BLOCKS);
  const u32 base = apus_mma_shared(shared), warp = threadIdx.x >> 5;
  const u32 row0 = warp / MMA_WARPS_N * (MMA_MI * 16), col0 = warp % MMA_WARPS_N * (MMA_NI * 8);
  // The next kernel may well have weights to stream.
  apus_start_next();
  apus_wait_prior();
  u32 tiles_m = (u32)APUS_CEIL(g.m, MMA_BM), tiles_n = (u32)APUS_CEIL(g.n, MMA_BN);
  i64 each = APUS_CEIL(APUS_CEIL(g.k, g.split), MMA_BK) * MMA_BK;
  for (i64 index = block; index < g.batch * g.split * tiles_m * tiles_n; index += blockCount) {
    apus_gemm_tile t = apus_gemm_place((u32)index, tiles_m, tiles_n, (u32)g.split);
    i64 m0 = (i64)t.m * MMA_BM, n0 = (i64)t.n * MMA_BN;
    i64 begin = APUS_MIN(t.split * each, g.k), end = APUS_MIN(begin + each, g.k);
    auto *pa = (const apus_mma_element *)g.a + t.batch * g.a_batch + m0 * g.a_row;
    auto *pb = (const apus_mma_element *)g.b + t.batch * g.b_batch + n0 * (GEMM_B_NK ? g.b_row : 1);
    i32 tiles = (i32)APUS_CEIL(end - begin, MMA_BK);
    float acc[MMA_MI][MMA_NI][4];
    APUS_UNROLL for (int i = 0; i < MMA_MI; i++)
      APUS_UNROLL for (int j = 0; j < MMA_NI; j++)
        APUS_UNROLL for (int e = 0; e < 4; e++) acc[i][j][e] = 0;
    auto fetch = [&](i32 tile, u32 stage) {
      u32 sa = base + stage * (MMA_BYTES_A + MMA_BYTES_B), sb = sa + MMA_BYTES_A;
      if (tile < tiles) {
        i64 k = begin + (i64)tile * MMA_BK;
        apus_mma_fetch<GEMM_VEC_A, MMA_BM, MMA_BK, false>(sa, pa + k, g.a_row, g.m - m0, end - k);
#if GEMM_B_NK
        apus_mma_fetch<GEMM_VEC_B, MMA_BN, MMA_BK, false>(sb, pb + k, g.b_row, g.n - n0, end - k);
#else
        apus_mma_fetch<GEMM_VEC_B, MMA_BK, MMA_BN, MMA_KIND == 0>(sb, pb + k * g.b_row, g.b_row, end - k, g.n - n0);
#endif
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
    APUS_NOUNROLL for (int part = 0; part < MMA_MI * CHUNKS; part++) {
      APUS_UNROLL for (int i = 0; i < MMA_MI; i++)
        APUS_UNROLL for (int q = 0; q < CHUNKS; q++)
          if (part == i * CHUNKS + q) slab.write(&acc[i][q * BLOCKS][0], MMA_NI - q * BLOCKS);
      __syncwarp();
      int i = part / CHUNKS, q = part % CHUNKS;
      apus_gemm_slab_emit(g, c, slab, apus_gemm_part(g, t.batch, t.split, m0 + row0 + i * 16, n0 + col0 + q * GEMM_SLAB,
                                                     (u32)APUS_MIN(MMA_NI * 8 - q * GEMM_SLAB, GEMM_SLAB)));
      __syncwarp();
    }
    __syncthreads();
  }
}
