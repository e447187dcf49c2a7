// Recurrent layers (LSTM, GRU, plain RNN): the steps, when the products of the inputs with their weights are there. Blocks
// of a cluster share the units of one direction and a few sequences; each warp makes whole units. Needs prelude.cuh.
#ifndef APUS_RECURRENT
#define APUS_RECURRENT

#if __CUDA_ARCH__ >= 900
APUS_INLINE void apus_cluster_meet() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
#else
APUS_INLINE void apus_cluster_meet() {}
#endif

// What a layer is, by its type: V is computed with, R is in memory. LOAD and STORE go between them, and `activate` has the
// activations of each direction. CELL is 0 for LSTM (gates i, o, f, c), 1 for GRU (z, r, h), 2 for a plain layer.
// ROWS sequences are stepped together, their weights read VEC elements at a time.
template <class LAYER> struct apus_recurrent {
  typedef typename LAYER::value V;
  typedef typename LAYER::raw R;
  static constexpr int gates = LAYER::cell == 0 ? 4 : LAYER::cell == 1 ? 3 : 1;
  static constexpr int rows = LAYER::rows, vec = LAYER::vec, threads = LAYER::threads, cluster = LAYER::cluster;
  static constexpr int warps = threads / 32;

  const V *x;                                 // [T, B, D, gates, H], without biases
  const R *r, *bias, *h0, *c0, *peephole;     // [D, gates, H, H], [D, 2, gates, H], [D, B, H] twice, [D, 3, H]
  const typename LAYER::index *lengths;       // [B], may be null
  R *y, *yh, *yc;                             // [T, D, B, H], [D, B, H] twice
  V *kept;                                    // [D, B, H]: cells of LSTMs, update gates of GRUs
  V *exchange;                                // [3, clusters, rows, H]
  i64 steps, batch, directions, hidden, clusters;

  // Where the sequences of a cluster are in the memory of the block: states twice, then what a reset gate leaves of them.
  V *states;
  i64 direction, first, unit;
  i32 held, rank;

  APUS_INLINE V *state(i32 which, i32 row) const { return states + ((i64)which * rows + row) * hidden; }

  // Sums over h of gates `from` on, N of them, for one unit: in every lane.
  template <int N> APUS_INLINE void multiply(i32 which, i64 from, i64 u, V (&sums)[N][rows]) const {
    constexpr int half = vec < 16 / (int)sizeof(V) ? vec : 16 / (int)sizeof(V);
    APUS_UNROLL for (int g = 0; g < N; g++) APUS_UNROLL for (int i = 0; i < rows; i++) sums[g][i] = 0;
    const R *const weights = r + ((direction * gates + from) * hidden + u) * hidden;
    for (i64 k = (threadIdx.x & 31) * vec; k < hidden; k += 32 * vec) {
      V w[N][vec];
      APUS_UNROLL for (int g = 0; g < N; g++) {
        const apus_vec<R, vec> raw = *(const apus_vec<R, vec> *)(weights + g * hidden * hidden + k);
        APUS_UNROLL for (int e = 0; e < vec; e++) w[g][e] = LAYER::load(raw.e[e]);
      }
      APUS_UNROLL for (int i = 0; i < rows; i++) APUS_UNROLL for (int e = 0; e < vec; e += half) {
        const apus_vec<V, half> h = *(const apus_vec<V, half> *)(state(which, i) + k + e);
        APUS_UNROLL for (int g = 0; g < N; g++)
          APUS_UNROLL for (int f = 0; f < half; f++) sums[g][i] += w[g][e + f] * h.e[f];
      }
    }
    APUS_UNROLL for (int g = 0; g < N; g++) APUS_UNROLL for (int i = 0; i < rows; i++)
      APUS_UNROLL for (int m = 16; m; m >>= 1) sums[g][i] += apus_shuffle_xor(sums[g][i], m);
  }

  // The lane that is responsible for a sequence takes its sums.
  template <int N> static APUS_INLINE void pick(const V (&sums)[N][rows], V (&own)[N]) {
    APUS_UNROLL for (int i = 0; i < rows; i++)
      APUS_UNROLL for (int g = 0; g < N; g++) own[g] = (i32)(threadIdx.x & 31) == i || i == 0 ? sums[g][i] : own[g];
  }

  APUS_INLINE V biases(i64 gate, i64 u, bool both) const {
    const R *const own = bias + direction * 2 * gates * hidden + gate * hidden + u;
    return LAYER::load(own[0]) + (both ? LAYER::load(own[gates * hidden]) : (V)0);
  }
  APUS_INLINE V late_bias(i64 gate, i64 u) const {
    return LAYER::load(bias[direction * 2 * gates * hidden + (gates + gate) * hidden + u]);
  }
  static APUS_INLINE V bounded(V x) {
    const V limit = LAYER::clip();
    return limit > 0 ? (x > limit ? limit : x < -limit ? -limit : x) : x;
  }
  APUS_INLINE V activate(int which, V x) const { return LAYER::activate((int)direction, which, bounded(x)); }

  // The step of sequence `row` at number t, or -1 behind its end.
  APUS_INLINE i64 time(i32 row, i64 t) const {
    const i64 n = lengths ? (i64)lengths[first + row] : steps;
    if (t >= n) return -1;
    return (LAYER::reverse >> direction & 1) ? n - 1 - t : t;
  }

  // Gives a value of the next states, or of what the reset gate leaves, to all blocks of the cluster.
  APUS_INLINE void publish(i32 which, i32 row, i64 u, V x) const {
    if constexpr (cluster > 1) exchange[(((i64)which * clusters + unit) * rows + row) * hidden + u] = x;
    else state(which, row)[u] = x;
  }
  APUS_INLINE void meet(i32 which) const {
    if constexpr (cluster > 1) {
      apus_cluster_meet();
      const V *const all = exchange + ((i64)which * clusters + unit) * rows * hidden;
      for (i64 i = threadIdx.x; i < held * hidden; i += threads) state(which, 0)[i] = __ldcg(all + i);
    }
    __syncthreads();
  }

  // What a unit of a sequence becomes is stored; behind the sequence's end the state stays and the result is 0.
  APUS_INLINE void finish(i32 from, i32 row, i64 u, i64 t, i64 at, V h) const {
    const V next = at < 0 ? state(from, row)[u] : h;
    publish(1 - from, row, u, next);
    const i64 place = (direction * batch + first + row) * hidden + u;
    y[(at < 0 ? t : at) * directions * batch * hidden + place] = LAYER::store(at < 0 ? (V)0 : h);
    if (t == steps - 1) yh[place] = LAYER::store(next);
  }

  APUS_INLINE const V *inputs(i64 at, i32 row, i64 u) const {
    return x + ((at * batch + first + row) * directions + direction) * gates * hidden + u;
  }

  APUS_INLINE void lstm(i32 from, i64 t, i64 u) const {
    V sums[4][rows], z[4];
    multiply<4>(from, 0, u, sums);
    pick<4>(sums, z);
    const i32 row = threadIdx.x & 31;
    if (row >= held) return;
    const i64 at = time(row, t), place = (direction * batch + first + row) * hidden + u;
    V h = 0, c = kept[place];
    if (at >= 0) {
      const V *const in = inputs(at, row, u);
      const R *const p = peephole + direction * 3 * hidden + u;
      APUS_UNROLL for (int g = 0; g < 4; g++) z[g] += in[g * hidden] + biases(g, u, true);
      const V i = activate(0, z[0] + LAYER::load(p[0]) * c);
      const V f = LAYER::coupled ? (V)1 - i : activate(0, z[2] + LAYER::load(p[2 * hidden]) * c);
      c = f * c + i * activate(1, z[3]);
      h = activate(0, z[1] + LAYER::load(p[hidden]) * c) * activate(2, c);
      kept[place] = c;
    }
    finish(from, row, u, t, at, h);
    if (t == steps - 1) yc[place] = LAYER::store(c);
  }

  APUS_INLINE void plain(i32 from, i64 t, i64 u) const {
    V sums[1][rows], z[1];
    multiply<1>(from, 0, u, sums);
    pick<1>(sums, z);
    const i32 row = threadIdx.x & 31;
    if (row >= held) return;
    const i64 at = time(row, t);
    finish(from, row, u, t, at, at < 0 ? (V)0 : activate(0, z[0] + inputs(at, row, u)[0] + biases(0, u, true)));
  }

  APUS_INLINE void gru_linear(i32 from, i64 t, i64 u) const {
    V sums[3][rows], z[3];
    multiply<3>(from, 0, u, sums);
    pick<3>(sums, z);
    const i32 row = threadIdx.x & 31;
    if (row >= held) return;
    const i64 at = time(row, t);
    V h = 0;
    if (at >= 0) {
      const V *const in = inputs(at, row, u);
      const V update = activate(0, z[0] + in[0] + biases(0, u, true));
      const V reset = activate(0, z[1] + in[hidden] + biases(1, u, true));
      const V next = activate(1, in[2 * hidden] + biases(2, u, false) + reset * (z[2] + late_bias(2, u)));
      h = ((V)1 - update) * next + update * state(from, row)[u];
    }
    finish(from, row, u, t, at, h);
  }
  // Update and reset gates, then the new state from what the reset gate leaves of the old one.
  APUS_INLINE void gru_gates(i32 from, i64 t, i64 u) const {
    V sums[2][rows], z[2];
    multiply<2>(from, 0, u, sums);
    pick<2>(sums, z);
    const i32 row = threadIdx.x & 31;
    if (row >= held) return;
    const i64 at = time(row, t);
    V left = 0;
    if (at >= 0) {
      const V *const in = inputs(at, row, u);
      kept[(direction * batch + first + row) * hidden + u] = activate(0, z[0] + in[0] + biases(0, u, true));
      left = activate(0, z[1] + in[hidden] + biases(1, u, true)) * state(from, row)[u];
    }
    publish(2, row, u, left);
  }
  APUS_INLINE void gru_state(i32 from, i64 t, i64 u) const {
    V sums[1][rows], z[1];
    multiply<1>(2, 2, u, sums);
    pick<1>(sums, z);
    const i32 row = threadIdx.x & 31;
    if (row >= held) return;
    const i64 at = time(row, t);
    V h = 0;
    if (at >= 0) {
      const V update = kept[(direction * batch + first + row) * hidden + u];
      const V next = activate(1, z[0] + inputs(at, row, u)[2 * hidden] + biases(2, u, true));
      h = ((V)1 - update) * next + update * state(from, row)[u];
    }
    finish(from, row, u, t, at, h);
  }

  APUS_INLINE void run(i64 block, i64 blockCount, u8 *shared) {
    states = (V *)shared;
    const i64 groups = APUS_CEIL(batch, rows);
    rank = (i32)(block % cluster);
    const i64 start = (i64)rank * warps + threadIdx.x / 32, step = (i64)cluster * warps;
    for (unit = block / cluster; unit < directions * groups; unit += blockCount / cluster) {
      direction = unit / groups;
      first = unit % groups * rows;
      held = (i32)APUS_MIN((i64)rows, batch - first);
      for (i64 i = threadIdx.x; i < 3 * rows * hidden; i += threads) states[i] = 0;
      __syncthreads();
      for (i64 i = threadIdx.x; i < held * hidden; i += threads)
        state(0, 0)[i] = LAYER::load(h0[(direction * batch + first) * hidden + i]);
      // A lane keeps the cells that it makes.
      if (LAYER::cell == 0 && (i32)(threadIdx.x & 31) < held)
        for (i64 u = start; u < hidden; u += step) {
          const i64 place = (direction * batch + first + (threadIdx.x & 31)) * hidden + u;
          kept[place] = LAYER::load(c0[place]);
          if (steps == 0) yc[place] = c0[place];
        }
      if (steps == 0 && (i32)(threadIdx.x & 31) < held)
        for (i64 u = start; u < hidden; u += step) {
          const i64 place = (direction * batch + first + (threadIdx.x & 31)) * hidden + u;
          yh[place] = h0[place];
        }
      __syncthreads();
      for (i64 t = 0; t < steps; t++) {
        const i32 from = (i32)(t & 1);
        if constexpr (LAYER::cell == 1 && !LAYER::coupled) {
          for (i64 u = start; u < hidden; u += step) gru_gates(from, t, u);
          meet(2);
          for (i64 u = start; u < hidden; u += step) gru_state(from, t, u);
        } else {
          for (i64 u = start; u < hidden; u += step) {
            if constexpr (LAYER::cell == 0) lstm(from, t, u);
            else if constexpr (LAYER::cell == 1) gru_linear(from, t, u);
            else plain(from, t, u);
          }
        }
        meet(1 - from);
      }
    }
  }
};
#endif
