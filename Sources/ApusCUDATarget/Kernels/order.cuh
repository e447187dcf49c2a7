// Elements in order: keys that sort as unsigned numbers, sorting of short lines by a block, and choosing of the first k
// of long ones. Needs prelude.cuh.
#ifndef APUS_ORDER
#define APUS_ORDER

template <int BYTES> struct apus_key_of { typedef u32 type; };
template <> struct apus_key_of<8> { typedef u64 type; };

// How elements of U, raw bits, are ordered: INF is the bits of infinity of a float type, 0 for integers. NaN counts as
// infinity and both zeros are equal. FALLING turns the order round.
template <class U, u64 INF, bool SIGNED, bool FALLING> struct apus_ordering {
  typedef U raw;
  typedef typename apus_key_of<sizeof(U)>::type key;
  static constexpr int bits = 8 * (int)sizeof(U);
  static APUS_INLINE key of(U x) {
    const U top = (U)((U)1 << (bits - 1));
    U u = x;
    if (INF != 0) {
      const U size = (U)(u & (U)~top);
      u = size > (U)INF ? (U)INF : size == 0 ? (U)0 : u;
      u = (u & top) != 0 ? (U)~u : (U)(u | top);
    } else if (SIGNED) {
      u = (U)(u ^ top);
    }
    return (key)(FALLING ? (U)~u : u);
  }
};

// A key with the place it comes from; of equal keys the earlier place comes first.
template <class K> struct apus_item { K key; u32 place; };
template <class K> APUS_INLINE bool apus_before(const apus_item<K> &a, const apus_item<K> &b) {
  return a.key < b.key || (a.key == b.key && a.place < b.place);
}
// Behind every element.
template <class K> APUS_INLINE apus_item<K> apus_last_item() { return {(K)~(K)0, 0xffffffffu}; }

APUS_INLINE i32 apus_power_above(i64 n) {
  i32 p = 1;
  while (p < n) p *= 2;
  return p;
}

// Sorts `count` items, a multiple of the power of two `size`, in shared memory: each `size` of them by themselves.
template <class K> APUS_INLINE void apus_sort_shared(apus_item<K> *items, i32 count, i32 size, i32 threads) {
  __syncthreads();
  for (i32 run = 2; run <= size; run *= 2)
    for (i32 stride = run / 2; stride > 0; stride /= 2) {
      for (i32 i = threadIdx.x; i < count / 2; i += threads) {
        const i32 low = ((i & ~(stride - 1)) << 1) | (i & (stride - 1)), high = low + stride;
        const apus_item<K> a = items[low], b = items[high];
        const bool falls = (low & (size - 1) & run) != 0;
        if (apus_before(b, a) != falls) items[low] = b, items[high] = a;
      }
      // Pairs of a warp lie in 64 neighbours where strides are that short.
      if (stride > 32 || (stride == 1 && run >= 64)) __syncthreads();
      else __syncwarp();
    }
  __syncthreads();
}

// Where lines along an axis lie: `inner` elements between neighbours.
struct apus_lines { i64 count, n, k, inner; };
APUS_INLINE i64 apus_line_start(const apus_lines &l, i64 line, i64 length) {
  return line / l.inner * length * l.inner + line % l.inner;
}

// Sorts whole lines in shared memory, of which CAPACITY items fit, and stores the first k of each.
template <class O, int CAPACITY, int THREADS>
APUS_INLINE void apus_sort_lines(const apus_lines &l, const typename O::raw *x, typename O::raw *values, i64 *places,
                                 i64 block, i64 blockCount, u8 *shared) {
  typedef apus_item<typename O::key> item;
  item *const items = (item *)shared;
  const i32 size = apus_power_above(l.n), each = CAPACITY / size;
  for (i64 first = block * each; first < l.count; first += blockCount * each) {
    const i32 held = (i32)APUS_MIN((i64)each, l.count - first);
    for (i32 i = threadIdx.x; i < held * size; i += THREADS) {
      const i32 at = i & (size - 1);
      const i64 start = apus_line_start(l, first + i / size, l.n);
      items[i] = at < l.n ? item{O::of(x[start + at * l.inner]), (u32)at} : apus_last_item<typename O::key>();
    }
    apus_sort_shared(items, held * size, size, THREADS);
    for (i32 i = threadIdx.x; i < held * l.k; i += THREADS) {
      const i64 line = first + i / (i32)l.k, at = i % (i32)l.k;
      const u32 place = items[(line - first) * size + at].place;
      const i64 to = apus_line_start(l, line, l.k) + at * l.inner;
      values[to] = x[apus_line_start(l, line, l.n) + place * l.inner];
      places[to] = place;
    }
    __syncthreads();
  }
}

// Sources of items: elements of a line from `begin` on, or items kept in memory.
template <class O> struct apus_elements {
  const typename O::raw *x;
  i64 inner;
  u32 begin;
  APUS_INLINE apus_item<typename O::key> operator[](u32 i) const { return {O::of(x[i * inner]), begin + i}; }
};
template <class O> struct apus_kept {
  const typename O::key *keys;
  const u32 *places;
  APUS_INLINE apus_item<typename O::key> operator[](u32 i) const { return {keys[i], places[i]}; }
};

struct apus_choice { u32 below, own, digit; };
// The digit whose bin holds number `need` (from 1), by the first warp: `below` items are in bins before it.
APUS_INLINE void apus_find_digit(const u32 *bins, u32 need, apus_choice *found) {
  if (threadIdx.x >= 32) return;
  const u32 lane = threadIdx.x;
  u32 own[8], sum = 0;
  APUS_UNROLL for (int i = 0; i < 8; i++) own[i] = bins[lane * 8 + i], sum += own[i];
  u32 below = sum;
  for (int step = 1; step < 32; step *= 2) {
    const u32 other = apus_shuffle_up(below, step);
    if (lane >= (u32)step) below += other;
  }
  below -= sum;
  APUS_UNROLL for (int i = 0; i < 8; i++) {
    if (below < need && need <= below + own[i]) *found = {below, own[i], lane * 8 + i};
    below += own[i];
  }
}

// The first k of `count` items, in no order, by digits of 8 bits from the top: into `kept`, k <= count. `bins` holds 256
// numbers, `found` one choice and a number.
template <class O, int THREADS, class SOURCE>
APUS_INLINE void apus_choose(const SOURCE &source, u32 count, u32 k, apus_item<typename O::key> *kept, u32 *bins,
                             apus_choice *found) {
  typedef typename O::key key;
  u32 *const taken = (u32 *)(found + 1);
  key prefix = 0, mask = 0;
  u32 place = 0, placeMask = 0, need = k;
  bool isExact = k == count || k == 0;
  for (int shift = O::bits + 24; shift >= 0 && !isExact; shift -= 8) {
    const bool isPlace = shift < 32;
    for (u32 i = threadIdx.x; i < 256; i += THREADS) bins[i] = 0;
    __syncthreads();
    for (u32 i = threadIdx.x; i < count; i += THREADS) {
      const apus_item<key> item = source[i];
      if ((item.key & mask) != prefix || (item.place & placeMask) != place) continue;
      atomicAdd(&bins[(isPlace ? item.place >> shift : (u32)(item.key >> (shift - 32))) & 255], 1u);
    }
    __syncthreads();
    apus_find_digit(bins, need, found);
    __syncthreads();
    const apus_choice choice = *found;
    need -= choice.below;
    if (isPlace) place |= choice.digit << shift, placeMask |= 255u << shift;
    else prefix |= (key)choice.digit << (shift - 32), mask |= (key)255 << (shift - 32);
    isExact = choice.own == need;
    __syncthreads();
  }
  if (threadIdx.x == 0) *taken = 0;
  __syncthreads();
  for (u32 i = threadIdx.x; i < count; i += THREADS) {
    const apus_item<key> item = source[i];
    const key own = item.key & mask;
    if (own < prefix || (own == prefix && (item.place & placeMask) <= place)) {
      const u32 at = atomicAdd(taken, 1u);
      if (at < k) kept[at] = item;
    }
  }
  __syncthreads();
}

// Bytes of shared memory: bins, choice, and CAPACITY items.
template <class O, int CAPACITY> struct apus_choose_memory {
  apus_item<typename O::key> kept[CAPACITY];
  u32 bins[256];
  apus_choice found[2];
};

// The first k of each part of `each` elements of every line, into [lines, parts, k]; missing ones stand behind all.
template <class O, int CAPACITY, int THREADS>
APUS_INLINE void apus_choose_parts(const apus_lines &l, i64 parts, i64 each, const typename O::raw *x,
                                   typename O::key *keys, u32 *places, i64 block, i64 blockCount, u8 *shared) {
  apus_choose_memory<O, CAPACITY> &m = *(apus_choose_memory<O, CAPACITY> *)shared;
  for (i64 unit = block; unit < l.count * parts; unit += blockCount) {
    const i64 line = unit / parts, begin = unit % parts * each;
    const u32 count = (u32)APUS_MAX(APUS_MIN(each, l.n - begin), 0L), k = (u32)APUS_MIN(l.k, (i64)count);
    const apus_elements<O> source = {x + apus_line_start(l, line, l.n) + begin * l.inner, l.inner, (u32)begin};
    apus_choose<O, THREADS>(source, count, k, m.kept, m.bins, m.found);
    for (u32 i = threadIdx.x; i < l.k; i += THREADS) {
      const apus_item<typename O::key> item = i < k ? m.kept[i] : apus_last_item<typename O::key>();
      keys[unit * l.k + i] = item.key, places[unit * l.k + i] = item.place;
    }
    __syncthreads();
  }
}

// The first k of each line in order, from the `held` items of it that apus_choose_parts kept, or from its elements.
template <class O, bool KEPT, int CAPACITY, int THREADS>
APUS_INLINE void apus_choose_lines(const apus_lines &l, i64 held, const typename O::raw *x, const typename O::key *keys,
                                   const u32 *places, typename O::raw *values, i64 *positions, i64 block, i64 blockCount,
                                   u8 *shared) {
  apus_choose_memory<O, CAPACITY> &m = *(apus_choose_memory<O, CAPACITY> *)shared;
  for (i64 line = block; line < l.count; line += blockCount) {
    const i64 start = apus_line_start(l, line, l.n);
    if constexpr (KEPT) {
      const apus_kept<O> source = {keys + line * held, places + line * held};
      apus_choose<O, THREADS>(source, (u32)held, (u32)l.k, m.kept, m.bins, m.found);
    } else {
      const apus_elements<O> source = {x + start, l.inner, 0};
      apus_choose<O, THREADS>(source, (u32)l.n, (u32)l.k, m.kept, m.bins, m.found);
    }
    const i32 size = apus_power_above(l.k);
    for (i32 i = (i32)l.k + threadIdx.x; i < size; i += THREADS) m.kept[i] = apus_last_item<typename O::key>();
    apus_sort_shared(m.kept, size, size, THREADS);
    const i64 to = apus_line_start(l, line, l.k);
    for (i32 i = threadIdx.x; i < l.k; i += THREADS) {
      const u32 place = m.kept[i].place;
      values[to + i * l.inner] = x[start + place * l.inner];
      positions[to + i * l.inner] = place;
    }
    __syncthreads();
  }
}
#endif
