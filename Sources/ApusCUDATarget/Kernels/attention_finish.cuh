// How attention kernels end a tile of rows: partial results are merged and stored. Needs attention_common.cuh.
template <int W> APUS_INLINE void apus_attn_load(float (&x)[W], const float *from) {
  apus_vec<float, W> v = *(const apus_vec<float, W> *)from;
  APUS_UNROLL for (int i = 0; i < W; i++) x[i] = v.e[i];
}
// From device memory, past the first-level cache, which may hold what lay there before.
APUS_INLINE void apus_attn_load_far(float (&x)[1], const float *p) {
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(x[0]) : "l"(p) : "memory");
}
APUS_INLINE void apus_attn_load_far(float (&x)[2], const float *p) {
  asm volatile("ld.global.cg.v2.f32 {%0, %1}, [%2];" : "=f"(x[0]), "=f"(x[1]) : "l"(p) : "memory");
}
APUS_INLINE void apus_attn_load_far(float (&x)[4], const float *p) {
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3]) : "l"(p) : "memory");
}

#if ATTN_CLUSTER > 1
APUS_INLINE void apus_attn_cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// Where another block of the cluster has what this one has at `p`.
APUS_INLINE u32 apus_attn_other(const float *p, u32 rank) {
  u32 r;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"((u32)__cvta_generic_to_shared(p)), "r"(rank));
  return r;
}
APUS_INLINE void apus_attn_load_other(float (&x)[1], u32 p) {
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x[0]) : "r"(p) : "memory");
}
APUS_INLINE void apus_attn_load_other(float (&x)[2], u32 p) {
  asm volatile("ld.shared::cluster.v2.f32 {%0, %1}, [%2];" : "=f"(x[0]), "=f"(x[1]) : "r"(p) : "memory");
}
APUS_INLINE void apus_attn_load_other(float (&x)[4], u32 p) {
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3]) : "r"(p) : "memory");
}
#endif

// Stores a row's run of columns; heads are the epilogue's batches.
template <int W>
APUS_INLINE void apus_attn_emit(const apus_attention_args &g, const apus_ctx &c, const apus_attn_sizes &s,
                                const apus_attn_tile &t, i32 row, i32 col, const float (&x)[W]) {
  const i32 r = t.first + row, q = s.query(r);
  EPILOGUE<W>(c, t.batch * g.heads + t.kvHead * s.group + (r - q * s.group), q, col, x);
}

// Ends a tile: PARTS results of ROWS rows lie in shared memory, sums of weighted values with PITCH floats a row in
// `o`, (maximum, sum) of each row in `ml`. `factors` holds PARTS * ROWS floats, and `shared` splits * ROWS more.
// WIDTH value columns belong to the tile, of which `columns` exist.
template <int THREADS, int PARTS, int ROWS, int PITCH, int WIDTH>
APUS_INLINE void apus_attn_finish(const apus_attention_args &g, const apus_ctx &c, const apus_attn_sizes &s,
                                  const apus_attn_tile &t, float *o, float *ml, float *factors, u8 *shared,
                                  i32 columns) {
  constexpr int W = EPILOGUE_W, V = W < 4 ? W : 4;
  constexpr bool split = ATTN_SPLIT != 0, cluster = split && ATTN_CLUSTER > 1;
  const int tid = threadIdx.x;
  const i32 firstColumn = t.column * WIDTH;
  float *sums = 0, *parts = 0, *part = 0;
  if (split && !cluster) {
    const i64 tiles = APUS_CEIL((i64)s.rows, ROWS), chunks = APUS_CEIL(ATTN_DV, WIDTH);
    const i64 at = t.item * g.splits + t.split;
    parts = (float *)g.work + g.batch * g.kvHeads * tiles * chunks * g.splits * (2 * ROWS);
    sums = (float *)g.work + at * (2 * ROWS), part = parts + at * (i64)(ROWS * WIDTH);
  }
  for (int r = tid; r < ROWS; r += THREADS) {
    float top = -APUS_ATTN_INF, sum = 0, f[PARTS];
    APUS_UNROLL for (int p = 0; p < PARTS; p++) top = fmaxf(top, ml[(p * ROWS + r) * 2]);
    const float base = apus_attn_base(top);
    APUS_UNROLL for (int p = 0; p < PARTS; p++) {
      f[p] = apus_attn_exp(ml[(p * ROWS + r) * 2], base);
      sum += f[p] * ml[(p * ROWS + r) * 2 + 1];
    }
    const float over = split ? 1.0f : 1.0f / sum;
    APUS_UNROLL for (int p = 0; p < PARTS; p++) factors[p * ROWS + r] = f[p] * over;
    if (cluster) ml[r * 2] = top, ml[r * 2 + 1] = sum;
    else if (split && r < t.count) sums[r * 2] = top, sums[r * 2 + 1] = sum;
  }
  __syncthreads();
  const i32 runs = columns / W, total = t.count * runs;
  if (!split || cluster || t.begin < t.end)
    for (i32 i = tid; i < total; i += THREADS) {
      const i32 row = i / runs, col = (i - row * runs) * W;
      float x[W];
      APUS_UNROLL for (int e = 0; e < W; e++) x[e] = 0;
      APUS_UNROLL for (int p = 0; p < PARTS; p++) {
        const float f = factors[p * ROWS + row];
        APUS_UNROLL for (int e = 0; e < W; e += V) {
          float y[V];
          apus_attn_load<V>(y, o + (p * ROWS + row) * PITCH + col + e);
          APUS_UNROLL for (int n = 0; n < V; n++) x[e + n] += f * y[n];
        }
      }
      float *to = cluster ? o + row * PITCH + col : part + row * WIDTH + col;
      if (split) {
        APUS_UNROLL for (int e = 0; e < W; e += V) {
          apus_vec<float, V> y;
          APUS_UNROLL for (int n = 0; n < V; n++) y.e[n] = x[e + n];
          *(apus_vec<float, V> *)(to + e) = y;
        }
      }
      else apus_attn_emit<W>(g, c, s, t, row, firstColumn + col, x);
    }
#if ATTN_SPLIT && ATTN_CLUSTER > 1
  // Each block of the cluster merges some runs, the parts in their order.
  constexpr int AHEAD = W < 8 ? 8 : 4;
  apus_attn_cluster_barrier();
  for (i32 i = (i32)t.split * THREADS + tid; i < total; i += ATTN_CLUSTER * THREADS) {
    const i32 row = i / runs, col = (i - row * runs) * W;
    float a[ATTN_CLUSTER][2], x[W], top = -APUS_ATTN_INF, sum = 0;
    APUS_UNROLL for (int p = 0; p < ATTN_CLUSTER; p++) apus_attn_load_other(a[p], apus_attn_other(ml + row * 2, p));
    APUS_UNROLL for (int p = 0; p < ATTN_CLUSTER; p++) top = fmaxf(top, a[p][0]);
    const float base = apus_attn_base(top);
    APUS_UNROLL for (int e = 0; e < W; e++) x[e] = 0;
    APUS_UNROLL for (int p = 0; p < ATTN_CLUSTER; p += AHEAD) {
      float y[AHEAD][W / V][V];
      APUS_UNROLL for (int n = 0; n < AHEAD && p + n < ATTN_CLUSTER; n++)
        APUS_UNROLL for (int e = 0; e < W / V; e++)
          apus_attn_load_other(y[n][e], apus_attn_other(o + row * PITCH + col + e * V, p + n));
      APUS_UNROLL for (int n = 0; n < AHEAD && p + n < ATTN_CLUSTER; n++) {
        const float f = apus_attn_exp(a[p + n][0], base);
        sum += f * a[p + n][1];
        APUS_UNROLL for (int e = 0; e < W; e++) x[e] += f * y[n][e / V][e % V];
      }
    }
    APUS_UNROLL for (int e = 0; e < W; e++) x[e] *= 1.0f / sum;
    apus_attn_emit<W>(g, c, s, t, row, firstColumn + col, x);
  }
  // Nobody may leave while others read.
  apus_attn_cluster_barrier();
#elif ATTN_SPLIT
  // The block that arrives last reads what the others have written; it takes the parts in their order.
  u32 *flag = (u32 *)factors;
  __syncthreads();
  if (tid == 0) {
    u32 before;
    asm volatile("fence.acq_rel.gpu;\natom.acq_rel.gpu.global.add.u32 %0, [%1], 1;\nfence.acq_rel.gpu;"
                 : "=r"(before) : "l"(g.counters + t.item) : "memory");
    *flag = before == (u32)g.splits - 1;
    if (*flag) g.counters[t.item] = 0;
  }
  __syncthreads();
  const bool last = *flag;
  __syncthreads();
  if (!last) return;
  const i32 n = (i32)g.splits;
  float *scales = (float *)shared;
  sums = (float *)g.work + t.item * g.splits * (2 * ROWS), part = parts + t.item * g.splits * (i64)(ROWS * WIDTH);
  // A warp for each row.
  const int lane = tid & 31;
  for (i32 r = tid >> 5; r < t.count; r += THREADS / 32) {
    constexpr int MOST = 4;
    float top = -APUS_ATTN_INF, sum = 0, x[MOST][2];
    for (i32 q = 0; q < n; q += 32 * MOST) {
      float before = top;
      APUS_UNROLL for (int m = 0; m < MOST; m++) {
        x[m][0] = -APUS_ATTN_INF, x[m][1] = 0;
        const i32 p = q + m * 32 + lane;
        if (p < n) apus_attn_load_far(x[m], sums + (p * ROWS + r) * 2);
      }
      APUS_UNROLL for (int m = 0; m < MOST; m++) top = fmaxf(top, x[m][0]);
      APUS_UNROLL for (int i = 16; i; i /= 2) top = fmaxf(top, apus_shuffle_xor(top, i));
      const float base = apus_attn_base(top);
      sum *= apus_attn_exp(before, base);
      APUS_UNROLL for (int m = 0; m < MOST; m++) sum += apus_attn_exp(x[m][0], base) * x[m][1];
    }
    APUS_UNROLL for (int i = 16; i; i /= 2) sum += apus_shuffle_xor(sum, i);
    const float base = apus_attn_base(top), over = 1.0f / sum;
    for (i32 p = lane; p < n; p += 32) {
      float y[2] = {x[0][0], x[0][1]};
      if (n > 32) apus_attn_load_far(y, sums + (p * ROWS + r) * 2);
      // A part without keys was not written.
      scales[p * ROWS + r] = (y[0] == -APUS_ATTN_INF && y[1] == 0.0f ? 0.0f : apus_attn_exp(y[0], base)) * over;
    }
  }
  __syncthreads();
  for (i32 i = tid; i < total; i += THREADS) {
    const i32 row = i / runs, col = (i - row * runs) * W;
    float x[W];
    APUS_UNROLL for (int e = 0; e < W; e++) x[e] = 0;
    constexpr int AHEAD = 64 / W;
    for (i32 p = 0; p < n; p += AHEAD) {
      float y[AHEAD][W / V][V], f[AHEAD];
      APUS_UNROLL for (int a = 0; a < AHEAD; a++) {
        const i32 at = APUS_MIN(p + a, n - 1);
        f[a] = scales[at * ROWS + row];
        APUS_UNROLL for (int e = 0; e < W / V; e++)
          apus_attn_load_far(y[a][e], part + ((i64)at * ROWS + row) * WIDTH + col + e * V);
      }
      APUS_UNROLL for (int a = 0; a < AHEAD; a++)
        APUS_UNROLL for (int e = 0; e < W; e++)
          if (p + a < n && f[a] != 0.0f) x[e] += f[a] * y[a][e / V][e % V];
    }
    apus_attn_emit<W>(g, c, s, t, row, firstColumn + col, x);
  }
#endif
}
