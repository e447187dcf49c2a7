// Convolution without tensor cores: exact products, accumulated in GEMM_ACC. Needs gemm_simt.cuh and conv.cuh before.
// Any sizes, strides, dilations, pads, groups and strides of x. Macros beyond those of gemm_simt.cuh:
//   GEMM_A, GEMM_B, GEMM_VEC_B, GEMM_B_NK 1, EPILOGUE_W    as there; EPILOGUE_W divides Cout/groups
//   GEMM_VEC_A    1 for anything. Otherwise channels are contiguous (x_channel 1), and Cin/groups, the other strides of
//                 x and its base are multiples of that many elements
//   CONV_PIXELS   1: neighbouring lanes read neighbouring places (NCHW), GEMM_VEC_A 1; 0: neighbouring channels (NHWC)
// Threads: SIMT_THREADS. Shared memory: CONV_SIMT_SHARED. Blocks: any; best one per tile, group and part of K.
#define CONV_SIMT_TABLES (SIMT_SHARED)
#define CONV_SIMT_SHARED (SIMT_SHARED + (SIMT_BM + 2 * SIMT_BK) * 20)
static_assert(GEMM_B_NK && (!CONV_PIXELS || GEMM_VEC_A == 1), "macros");

// A tile of windows on its way to shared memory in registers.
struct apus_conv_simt_tile {
  typedef typename apus_simt_element<GEMM_A>::type element;
  static constexpr int VEC = GEMM_VEC_A, PER = SIMT_BK / VEC, UNITS = SIMT_BM * PER;
  static constexpr int COUNT = APUS_CEIL(UNITS, SIMT_THREADS);
  apus_vec<element, VEC> v[COUNT];

  static APUS_INLINE void unit(int i, int &r, int &q) {
    int u = i * SIMT_THREADS + (int)threadIdx.x;
    r = CONV_PIXELS ? u % SIMT_BM : u / PER;
    q = CONV_PIXELS ? u / SIMT_BM : u % PER * VEC;
  }
  // Row tables hold windows, step tables taps; the sum of two places is an element.
  APUS_INLINE void fetch(const apus_conv_args &a, const element *x, const apus_conv_row *rows, const i32 *row_z,
                         const apus_conv_row *steps, const i32 *step_z) {
    APUS_UNROLL for (int i = 0; i < COUNT; i++) {
      int r, q;
      unit(i, r, q);
      bool inside = UNITS % SIMT_THREADS == 0 || i * SIMT_THREADS + (int)threadIdx.x < UNITS;
      if (inside) {
        apus_conv_row w = rows[r], s = steps[q];
        i32 z = CONV_RANK == 3 ? row_z[r] + step_z[q] : 0;
        inside = apus_conv_inside(a, z, w.y + s.y, w.x + s.x);
        if (inside) v[i] = *(const apus_vec<element, VEC> *)(x + w.at + s.at);
      }
      if (!inside) APUS_UNROLL for (int e = 0; e < VEC; e++) v[i].e[e] = 0;
    }
  }
  APUS_INLINE void put(GEMM_ACC *s) const {
    APUS_UNROLL for (int i = 0; i < COUNT; i++) {
      int r, q;
      unit(i, r, q);
      if (UNITS % SIMT_THREADS && i * SIMT_THREADS + (int)threadIdx.x >= UNITS) break;
      APUS_UNROLL for (int e = 0; e < VEC; e++) s[(q + e) * SIMT_PITCH_A + r] = apus_simt_value<GEMM_A>(v[i].e[e]);
    }
  }
};

APUS_INLINE void apus_conv_simt(const apus_conv_args &a, const apus_ctx &c, i64 block, i64 blockCount, u8 *shared) {
  const int ROWS = SIMT_TM / 4, COLS = SIMT_TN / 4, WIDE = SIMT_BN / SIMT_TN;
  const apus_gemm_args &g = a.g;
  GEMM_ACC *const sa = (GEMM_ACC *)shared, *const sb = sa + 2 * SIMT_BK * SIMT_PITCH_A;
  apus_conv_row *const rows = (apus_conv_row *)(shared + CONV_SIMT_TABLES), *const steps = rows + SIMT_BM;
  i32 *const row_z = (i32 *)(steps + 2 * SIMT_BK), *const step_z = row_z + SIMT_BM;
  const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
  const int tx = warp % (WIDE / 8) * 8 + lane % 8, ty = warp / (WIDE / 8) * 4 + lane / 8;
  apus_wait_prior();
  i64 each = APUS_CEIL(APUS_CEIL(g.k, g.split), SIMT_BK) * SIMT_BK, tiles = apus_conv_tiles(a, SIMT_BM, SIMT_BN);
  for (i64 index = block; index < tiles; index += blockCount) {
    apus_conv_tile t = apus_conv_find(a, index, SIMT_BM, SIMT_BN);
    i64 begin = APUS_MIN(t.t.split * each, g.k), end = APUS_MIN(begin + each, g.k);
    apus_conv_simt_tile at;
    apus_simt_b b;
    auto *x = (const apus_conv_simt_tile::element *)g.a + t.group * a.channels * a.x_channel;
    b.start((const apus_simt_b::element *)g.b + t.n0 * g.b_row + begin, g.b_row);
    int cols = (int)APUS_MIN(t.n_end - t.n0, (i64)SIMT_BN);
    GEMM_ACC acc[SIMT_TM][SIMT_TN];
    APUS_UNROLL for (int i = 0; i < SIMT_TM; i++)
      APUS_UNROLL for (int j = 0; j < SIMT_TN; j++) acc[i][j] = 0;
    // Steps from k on, by some of the threads, in time for the fetch after the next barrier.
    auto plan = [&](i64 k, int stage) {
      if (threadIdx.x >= SIMT_BK) return;
      apus_conv_step s;
      s.start(a, (u32)(k + threadIdx.x));
      bool exists = k + threadIdx.x < end;
      int i = stage * SIMT_BK + (int)threadIdx.x;
      steps[i] = {exists ? s.offset(a) : 0, exists ? s.kh * a.dilation[1] : APUS_CONV_OUTSIDE,
                  exists ? s.kw * a.dilation[2] : 0};
      if (CONV_RANK == 3) step_z[i] = s.kd * a.dilation[0];
    };
    auto fetch = [&](i64 k, int stage) {
      at.fetch(a, x, rows, row_z, steps + stage * SIMT_BK, step_z + stage * SIMT_BK);
      b.fetch(k - begin, cols, (int)APUS_MIN(end - k, (i64)SIMT_BK));
    };
    auto put = [&](int stage) {
      at.put(sa + stage * SIMT_BK * SIMT_PITCH_A);
      b.template put<true, SIMT_PITCH_B>(sb + stage * SIMT_BK * SIMT_PITCH_B);
    };
    for (int r = (int)threadIdx.x; r < SIMT_BM; r += SIMT_THREADS) {
      i32 z;
      rows[r] = apus_conv_place(a, t.m0 + r, z);
      if (CONV_RANK == 3) row_z[r] = z;
    }
    plan(begin, 0);
    plan(begin + SIMT_BK, 1);
    __syncthreads();
    fetch(begin, 0);
    put(0);
    __syncthreads();
    int stage = 0;
    APUS_NOUNROLL for (i64 k = begin; k < end; k += SIMT_BK) {
      bool more = k + SIMT_BK < end;
      if (more) fetch(k + SIMT_BK, stage ^ 1);
      // The steps of this stage were read before the last barrier.
      plan(k + 2 * SIMT_BK, stage);
      const GEMM_ACC *ra = sa + stage * SIMT_BK * SIMT_PITCH_A + ty * 4;
      const GEMM_ACC *rb = sb + stage * SIMT_BK * SIMT_PITCH_B + tx * 4;
      APUS_UNROLL for (int kk = 0; kk < SIMT_BK; kk++) {
        apus_vec<GEMM_ACC, 4> p[ROWS], q[COLS];
        APUS_UNROLL for (int i = 0; i < ROWS; i++)
          p[i] = *(const apus_vec<GEMM_ACC, 4> *)(ra + kk * SIMT_PITCH_A + i * (SIMT_BM / ROWS));
        APUS_UNROLL for (int j = 0; j < COLS; j++)
          q[j] = *(const apus_vec<GEMM_ACC, 4> *)(rb + kk * SIMT_PITCH_B + j * (SIMT_BN / COLS));
        APUS_UNROLL for (int i = 0; i < SIMT_TM; i++)
          APUS_UNROLL for (int j = 0; j < SIMT_TN; j++) acc[i][j] += p[i / 4].e[i % 4] * q[j / 4].e[j % 4];
      }
      if (more) put(stage ^= 1);
      __syncthreads();
    }
    APUS_UNROLL for (int i = 0; i < SIMT_TM; i++) {
      i64 row = t.m0 + i / 4 * (SIMT_BM / ROWS) + ty * 4 + i % 4;
      APUS_UNROLL for (int j = 0; j < SIMT_TN; j += EPILOGUE_W) {
        i64 col = t.n0 + j / 4 * (SIMT_BN / COLS) + tx * 4 + j % 4;
        GEMM_ACC v[EPILOGUE_W];
        APUS_UNROLL for (int e = 0; e < EPILOGUE_W; e++) v[e] = acc[i][j + e];
        if (row < g.m && col < t.n_end) apus_gemm_out<EPILOGUE_W>(g, c, 0, t.t.split, row, col, v);
      }
    }
  }
}
