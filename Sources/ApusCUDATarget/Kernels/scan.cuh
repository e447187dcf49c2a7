// Running sums and products along lines. Needs prelude.cuh.
#ifndef APUS_SCAN
#define APUS_SCAN

// How values are combined. `value` is what is computed with, `raw` what is in memory.
template <class T> struct apus_adding {
  typedef T value;
  typedef T raw;
  static APUS_INLINE T identity() { return 0; }
  static APUS_INLINE T combine(T a, T b) { return a + b; }
  static APUS_INLINE T load(T x) { return x; }
  static APUS_INLINE T store(T x) { return x; }
};

// What the threads of a block before this one have, combined in their order; `total` becomes that of all. `shared` holds
// a value for each warp.
template <class OP, int THREADS>
APUS_INLINE typename OP::value apus_before(typename OP::value x, typename OP::value &total, typename OP::value *shared) {
  typedef typename OP::value T;
  const i32 lane = threadIdx.x & 31, warp = threadIdx.x / 32;
  T sum = x;
  for (int step = 1; step < 32; step *= 2) {
    const T other = apus_shuffle_up(sum, step);
    if (lane >= step) sum = OP::combine(other, sum);
  }
  const T own = apus_shuffle_up(sum, 1);
  __syncthreads();
  if (lane == 31) shared[warp] = sum;
  __syncthreads();
  T before = OP::identity(), all = OP::identity();
  for (int i = 0; i < THREADS / 32; i++) {
    if (i == warp) before = all;
    all = OP::combine(all, shared[i]);
  }
  total = all;
  return lane == 0 ? before : OP::combine(before, own);
}

// Lines of n elements, `inner` elements between neighbours, in parts of APUS_SCAN_PART.
struct apus_scan_lines { i64 count, n, inner; };
#define APUS_SCAN_THREADS 256
#define APUS_SCAN_ITEMS 8
#define APUS_SCAN_PART (APUS_SCAN_THREADS * APUS_SCAN_ITEMS)

template <class OP, bool REVERSE> struct apus_scan_part {
  typedef typename OP::value value;
  i64 start, first, step;
  i32 held;
  APUS_INLINE apus_scan_part(const apus_scan_lines &l, i64 line, i64 part) {
    const i64 begin = part * APUS_SCAN_PART + (i64)threadIdx.x * APUS_SCAN_ITEMS, left = l.n - begin;
    start = line / l.inner * l.n * l.inner + line % l.inner;
    first = start + (REVERSE ? l.n - 1 - begin : begin) * l.inner;
    step = REVERSE ? -l.inner : l.inner;
    held = (i32)APUS_MAX(APUS_MIN(left, (i64)APUS_SCAN_ITEMS), 0L);
  }
  // The thread's own elements; missing ones change nothing.
  APUS_INLINE value load(const typename OP::raw *x, value (&own)[APUS_SCAN_ITEMS]) const {
    value all = OP::identity();
    APUS_UNROLL for (int i = 0; i < APUS_SCAN_ITEMS; i++) {
      own[i] = i < held ? OP::load(x[first + i * step]) : OP::identity();
      all = OP::combine(all, own[i]);
    }
    return all;
  }
};

// The combination of every part, into [lines, parts].
template <class OP, bool REVERSE>
APUS_INLINE void apus_scan_parts(const apus_scan_lines &l, const typename OP::raw *x, typename OP::value *sums, i64 block,
                                 i64 blockCount, u8 *shared) {
  typedef typename OP::value value;
  const i64 parts = APUS_CEIL(l.n, APUS_SCAN_PART);
  for (i64 unit = block; unit < l.count * parts; unit += blockCount) {
    value own[APUS_SCAN_ITEMS], all;
    const apus_scan_part<OP, REVERSE> part(l, unit / parts, unit % parts);
    (void)apus_before<OP, APUS_SCAN_THREADS>(part.load(x, own), all, (value *)shared);
    if (threadIdx.x == 0) sums[unit] = all;
  }
}

// Replaces the combinations of a line's parts by those of the parts before.
template <class OP>
APUS_INLINE void apus_scan_sums(const apus_scan_lines &l, typename OP::value *sums, i64 block, i64 blockCount,
                                u8 *shared) {
  typedef typename OP::value value;
  const i64 parts = APUS_CEIL(l.n, APUS_SCAN_PART);
  for (i64 line = block; line < l.count; line += blockCount) {
    value carry = OP::identity();
    for (i64 first = 0; first < parts; first += APUS_SCAN_THREADS) {
      const i64 at = first + threadIdx.x;
      value all;
      const value own = at < parts ? sums[line * parts + at] : OP::identity();
      const value before = apus_before<OP, APUS_SCAN_THREADS>(own, all, (value *)shared);
      if (at < parts) sums[line * parts + at] = OP::combine(carry, before);
      carry = OP::combine(carry, all);
    }
  }
}

template <class OP, bool REVERSE, bool EXCLUSIVE>
APUS_INLINE void apus_scan(const apus_scan_lines &l, const typename OP::raw *x, const typename OP::value *sums,
                           typename OP::raw *y, i64 block, i64 blockCount, u8 *shared) {
  typedef typename OP::value value;
  const i64 parts = APUS_CEIL(l.n, APUS_SCAN_PART);
  for (i64 unit = block; unit < l.count * parts; unit += blockCount) {
    value own[APUS_SCAN_ITEMS], all;
    const apus_scan_part<OP, REVERSE> part(l, unit / parts, unit % parts);
    const value before = apus_before<OP, APUS_SCAN_THREADS>(part.load(x, own), all, (value *)shared);
    value sum = OP::combine(sums[unit], before);
    APUS_UNROLL for (int i = 0; i < APUS_SCAN_ITEMS; i++) {
      const value next = OP::combine(sum, own[i]);
      if (i < part.held) y[part.first + i * part.step] = OP::store(EXCLUSIVE ? sum : next);
      sum = next;
    }
  }
}

// Where the elements are that a mask keeps, in order, by the numbers of kept ones before each; and how many they are.
APUS_INLINE void apus_scan_places(i64 n, const u32 *mask, const u32 *before, u32 *places, i64 *total, i64 block,
                                  i64 blockCount, i64 threads) {
  for (i64 i = block * threads + threadIdx.x; i < n; i += blockCount * threads) {
    if (mask[i]) places[before[i]] = (u32)i;
    if (i == n - 1) *total = (i64)before[i] + mask[i];
  }
  if (n == 0 && block == 0 && threadIdx.x == 0) *total = 0;
}
#endif
