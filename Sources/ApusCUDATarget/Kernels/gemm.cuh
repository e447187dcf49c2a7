// What the matrix-product texts share. Needs prelude.cuh; the EPILOGUE comes before.
// Macros: EPILOGUE, EPILOGUE_W; GEMM_ACC (float, or double for products of f64); GEMM_PARTIAL (1: sums go to `partial`,
// and apus_gemm_reduce adds them up and calls the epilogue); GEMM_GROUP (rows of tiles that share B in L2).
#ifndef APUS_GEMM
#define APUS_GEMM

#ifndef GEMM_ACC
#define GEMM_ACC float
#endif
#ifndef GEMM_PARTIAL
#define GEMM_PARTIAL 0
#endif
#ifndef GEMM_GROUP
#define GEMM_GROUP 8
#endif

// out[batch][m][n] = sum over k of A[batch][m][k] * B[batch][k][n]. Strides count elements; a batch stride may be zero.
// `split` parts of K are summed apart where GEMM_PARTIAL is 1: partial[split][batch][m][n].
struct apus_gemm_args {
  const void *a, *b;
  GEMM_ACC *partial;
  i64 batch, m, n, k, a_row, a_batch, b_row, b_batch, split;
};

struct apus_gemm_tile { u32 batch, split, m, n; };

// Tile `index` of tiles_m x tiles_n x split x batch, in an order where neighbours share rows of A and columns of B.
// Their number fits 32 bits, since a result of so many tiles fits no device.
APUS_INLINE apus_gemm_tile apus_gemm_place(u32 index, u32 tiles_m, u32 tiles_n, u32 split) {
  apus_gemm_tile t;
  u32 plane = tiles_m * tiles_n, outer = index / plane, inner = index - outer * plane;
  t.batch = outer / split;
  t.split = outer - t.batch * split;
  u32 band = GEMM_GROUP * tiles_n, first = inner / band * GEMM_GROUP, rest = inner % band;
  u32 height = APUS_MIN(tiles_m - first, (u32)GEMM_GROUP);
  t.n = rest / height;
  t.m = first + (rest - t.n * height);
  return t;
}

#if GEMM_PARTIAL
struct EPILOGUE_HELD {};
APUS_INLINE void EPILOGUE_FETCH_COLUMNS(const apus_ctx &, i64, EPILOGUE_HELD &) {}
APUS_INLINE void EPILOGUE_FETCH_ROWS(const apus_ctx &, i64, i64, i64, EPILOGUE_HELD &) {}
#endif
APUS_INLINE void apus_gemm_fetch(const apus_ctx &c, i64 batch, i64 row, i64 col, EPILOGUE_HELD &held) {
  EPILOGUE_FETCH_COLUMNS(c, col, held);
  EPILOGUE_FETCH_ROWS(c, batch, row, col, held);
}
// With what apus_gemm_fetch read for the same place.
template <int W>
APUS_INLINE void apus_gemm_out(const apus_gemm_args &g, const apus_ctx &c, i64 batch, i64 split, i64 row, i64 col,
                               const GEMM_ACC (&acc)[W], const EPILOGUE_HELD &held) {
#if GEMM_PARTIAL
  apus_store_words(g.partial + ((split * g.batch + batch) * g.m + row) * g.n + col,
                   (const u32(&)[W * sizeof(GEMM_ACC) / 4])acc);
#else
  EPILOGUE_FINISH<W>(c, batch, row, col, acc, held);
#endif
}
template <int W>
APUS_INLINE void apus_gemm_out(const apus_gemm_args &g, const apus_ctx &c, i64 batch, i64 split, i64 row, i64 col,
                               const GEMM_ACC (&acc)[W]) {
  EPILOGUE_HELD held;
  apus_gemm_fetch(c, batch, row, col, held);
  apus_gemm_out<W>(g, c, batch, split, row, col, acc, held);
}

// Tensor cores leave a warp's accumulators as [column block of 8][half of 16 rows][2] in each lane. They pass through a
// slab of shared memory per warp, 16 rows x GEMM_SLAB columns, so that a lane gets EPILOGUE_W consecutive columns.
#ifndef GEMM_SLAB
#define GEMM_SLAB 64
#endif
#define APUS_GEMM_SLAB (GEMM_SLAB * 64)
static_assert(GEMM_SLAB == 64 || GEMM_SLAB == 32, "columns of a slab");
// Neither four rows of a column of pairs nor the lanes that read 16 bytes each meet in a bank.
APUS_INLINE u32 apus_gemm_slab_at(u32 row, u32 col) {
  u32 chunk = col >> 2, odd = GEMM_SLAB == 64 ? chunk >> 3 : row;
  return row * (GEMM_SLAB * 4) + ((chunk ^ ((row & 3) << 1) ^ (odd & 1)) << 4) + ((col & 3) << 2);
}

// A lane has GEMM_STRIPS strips of EPILOGUE_W columns of a slab. GEMM_LANES strips are a row; where they are no more
// than a warp, a lane's are in the same columns, GEMM_STEP rows apart.
#define GEMM_STRIPS (GEMM_SLAB / EPILOGUE_W / 2)
#define GEMM_LANES (GEMM_SLAB / EPILOGUE_W)
#define GEMM_STEP (GEMM_LANES <= 32 ? 32 / GEMM_LANES : 1)
// The slab of a warp as a lane sees it.
struct apus_gemm_slab {
  u8 *base;
  u32 row0, col0, to[GEMM_SLAB / 8], from[APUS_CEIL(EPILOGUE_W, 4)];
  APUS_INLINE apus_gemm_slab(u8 *base) : base(base) {
    u32 lane = apus_lane();
    row0 = lane / GEMM_LANES, col0 = lane % GEMM_LANES * EPILOGUE_W;
    APUS_UNROLL for (u32 j = 0; j < GEMM_SLAB / 8; j++) to[j] = apus_gemm_slab_at(lane >> 2, 8 * j + 2 * (lane & 3));
    APUS_UNROLL for (u32 e = 0; e < EPILOGUE_W; e += 4) from[e / 4] = apus_gemm_slab_at(row0, col0 + e);
  }
  APUS_INLINE u32 row(u32 strip) const {
    return GEMM_LANES <= 32 ? row0 + strip * GEMM_STEP : strip / APUS_CEIL(GEMM_LANES, 32);
  }
  APUS_INLINE u32 col(u32 strip) const {
    return GEMM_LANES <= 32 ? col0 : col0 + strip % APUS_CEIL(GEMM_LANES, 32) * 32 * EPILOGUE_W;
  }
  // Columns of 8, of rows g and g + 8.
  APUS_INLINE void write(const float *acc, int blocks) const {
    APUS_UNROLL for (int j = 0; j < GEMM_SLAB / 8; j++)
      APUS_UNROLL for (int h = 0; h < 2; h++) {
        if (j >= blocks) break;
        apus_vec<float, 2> v = {{acc[4 * j + 2 * h], acc[4 * j + 2 * h + 1]}};
        *(apus_vec<float, 2> *)(base + to[j] + h * (8 * GEMM_SLAB * 4)) = v;
      }
  }
  APUS_INLINE void read(u32 strip, GEMM_ACC (&v)[EPILOGUE_W]) const {
    const int PART = APUS_MIN(EPILOGUE_W, 4);
    APUS_UNROLL for (int e = 0; e < EPILOGUE_W; e += PART) {
      // The pattern of banks repeats after four rows.
      u32 at = GEMM_STEP % 4 == 0 ? from[e / 4] + strip * (GEMM_STEP * GEMM_SLAB * 4)
                                  : apus_gemm_slab_at(row(strip), col(strip) + e);
      auto part = *(const apus_vec<float, PART> *)(base + at);
      APUS_UNROLL for (int j = 0; j < PART; j++) v[e + j] = part.e[j];
    }
  }
};

// A slab's place in the result, cut at its edges.
struct apus_gemm_part {
  i64 batch, split, row0, col0;
  u32 rows, cols;
  APUS_INLINE apus_gemm_part(const apus_gemm_args &g, i64 batch, i64 split, i64 row0, i64 col0, u32 cols)
      : batch(batch), split(split), row0(row0), col0(col0) {
    i64 left = g.n - col0, down = g.m - row0;
    this->cols = left < cols ? (u32)APUS_MAX(left, 0) : cols;
    rows = down < 16 ? (u32)APUS_MAX(down, 0) : 16u;
  }
};

// What the epilogue reads is fetched for several strips at once, since no load moves before a store by itself.
#define GEMM_AHEAD APUS_MIN(GEMM_STRIPS, 4)
struct apus_gemm_held { EPILOGUE_HELD strips[GEMM_AHEAD]; };
APUS_INLINE bool apus_gemm_is_in(const apus_gemm_slab &s, const apus_gemm_part &p, u32 strip) {
  return s.row(strip) < p.rows && s.col(strip) < p.cols;
}
// For the strips from `first` on.
APUS_INLINE void apus_gemm_slab_fetch(const apus_ctx &c, const apus_gemm_slab &s, const apus_gemm_part &p, u32 first,
                                      apus_gemm_held &held) {
  EPILOGUE_HELD columns;
  if (s.col(0) < p.cols) EPILOGUE_FETCH_COLUMNS(c, p.col0 + s.col(0), columns);
  APUS_UNROLL for (u32 i = 0; i < GEMM_AHEAD; i++) {
    held.strips[i] = columns;
    i64 col = p.col0 + s.col(first + i);
    if (!apus_gemm_is_in(s, p, first + i)) continue;
    if (GEMM_LANES > 32) EPILOGUE_FETCH_COLUMNS(c, col, held.strips[i]);
    EPILOGUE_FETCH_ROWS(c, p.batch, p.row0 + s.row(first + i), col, held.strips[i]);
  }
}
APUS_INLINE void apus_gemm_slab_finish(const apus_gemm_args &g, const apus_ctx &c, const apus_gemm_slab &s,
                                       const apus_gemm_part &p, u32 first, const apus_gemm_held &held) {
  APUS_UNROLL for (u32 i = 0; i < GEMM_AHEAD; i++) {
    if (!apus_gemm_is_in(s, p, first + i)) continue;
    GEMM_ACC v[EPILOGUE_W];
    s.read(first + i, v);
    apus_gemm_out<EPILOGUE_W>(g, c, p.batch, p.split, p.row0 + s.row(first + i), p.col0 + s.col(first + i), v,
                              held.strips[i]);
  }
}
// The strips from `first` on, to the last.
APUS_INLINE void apus_gemm_slab_emit(const apus_gemm_args &g, const apus_ctx &c, const apus_gemm_slab &s,
                                     const apus_gemm_part &p, u32 first = 0) {
  APUS_NOUNROLL for (; first < GEMM_STRIPS; first += GEMM_AHEAD) {
    apus_gemm_held held;
    apus_gemm_slab_fetch(c, s, p, first, held);
    apus_gemm_slab_finish(g, c, s, p, first, held);
  }
}

#if !GEMM_PARTIAL
// Adds up the parts of a split product, in the order of K. Any number of blocks and threads.
APUS_INLINE void apus_gemm_reduce(const apus_gemm_args &g, const apus_ctx &c, i64 block, i64 blockCount, u8 *) {
  const int W = EPILOGUE_W;
  apus_wait_prior();
  i64 per_row = g.n / W, rows = g.batch * g.m, plane = rows * g.n;
  for (i64 u = block * blockDim.x + threadIdx.x; u < rows * per_row; u += blockCount * blockDim.x) {
    i64 line = u / per_row, col = (u - line * per_row) * W;
    const GEMM_ACC *p = g.partial + line * g.n + col;
    GEMM_ACC sum[W];
    APUS_UNROLL for (int e = 0; e < W; e++) sum[e] = 0;
    _Pragma("unroll 4") for (i64 s = 0; s < g.split; s++) {
      auto v = *(const apus_vec<GEMM_ACC, W> *)(p + s * plane);
      APUS_UNROLL for (int e = 0; e < W; e++) sum[e] += v.e[e];
    }
    i64 batch = line / g.m;
    EPILOGUE<W>(c, batch, line - batch * g.m, col, sum);
  }
}

#endif

#endif
