// Sorting of long lines by digits of 8 bits, lowest first: each pass counts the digits of every tile, adds the counts up
// along the tiles, and moves items to their places. Passes keep the order of equal digits. Needs order.cuh and
// scan.cuh.
#ifndef APUS_RADIX
#define APUS_RADIX

#define APUS_RADIX_THREADS 512
#define APUS_RADIX_ITEMS 8
#define APUS_RADIX_TILE (APUS_RADIX_THREADS * APUS_RADIX_ITEMS)
#define APUS_RADIX_WARPS (APUS_RADIX_THREADS / 32)

// Items of [count, n] lines: elements, or keys with places that an earlier pass wrote.
template <class O> struct apus_radix_source {
  const typename O::raw *x;
  const typename O::key *keys;
  const u32 *places;
};
template <class O, bool FIRST>
APUS_INLINE apus_item<typename O::key> apus_radix_item(const apus_lines &l, const apus_radix_source<O> &s, i64 line,
                                                       i64 at) {
  if constexpr (FIRST) return {O::of(s.x[apus_line_start(l, line, l.n) + at * l.inner]), (u32)at};
  else return {s.keys[line * l.n + at], s.places[line * l.n + at]};
}

// Into counts [lines, 256, tiles].
template <class O, bool FIRST, int SHIFT>
APUS_INLINE void apus_radix_count(const apus_lines &l, const apus_radix_source<O> &s, u32 *counts, i64 block,
                                  i64 blockCount, u8 *shared) {
  u32 *const bins = (u32 *)shared;
  const i64 tiles = APUS_CEIL(l.n, APUS_RADIX_TILE);
  for (i64 unit = block; unit < l.count * tiles; unit += blockCount) {
    const i64 line = unit / tiles, tile = unit - line * tiles;
    for (i32 i = threadIdx.x; i < 256; i += APUS_RADIX_THREADS) bins[i] = 0;
    __syncthreads();
    APUS_UNROLL for (int i = 0; i < APUS_RADIX_ITEMS; i++) {
      const i64 at = tile * APUS_RADIX_TILE + i * APUS_RADIX_THREADS + threadIdx.x;
      if (at < l.n) atomicAdd(&bins[(u32)(apus_radix_item<O, FIRST>(l, s, line, at).key >> SHIFT) & 255], 1u);
    }
    __syncthreads();
    for (i32 i = threadIdx.x; i < 256; i += APUS_RADIX_THREADS) counts[(line * 256 + i) * tiles + tile] = bins[i];
    __syncthreads();
  }
}

// Replaces the counts of each digit by the sums of those before along the tiles; totals [lines, 256].
APUS_INLINE void apus_radix_add(i64 lines, i64 tiles, u32 *counts, u32 *totals, i64 block, i64 blockCount, u8 *shared) {
  for (i64 unit = block; unit < lines * 256; unit += blockCount) {
    u32 *const own = counts + unit * tiles;
    u32 sum = 0;
    for (i64 first = 0; first < tiles; first += 256) {
      const i64 at = first + threadIdx.x;
      const u32 x = at < tiles ? own[at] : 0;
      u32 all;
      const u32 before = apus_before<apus_adding<u32>, 256>(x, all, (u32 *)shared);
      if (at < tiles) own[at] = sum + before;
      sum += all;
    }
    if (threadIdx.x == 0) totals[unit] = sum;
    __syncthreads();
  }
}

template <class O> struct apus_radix_memory {
  typename O::key keys[APUS_RADIX_TILE];
  u32 places[APUS_RADIX_TILE];
  u32 warps[APUS_RADIX_WARPS * 256];
  // First place of each digit: in the tile, and in the line.
  u32 inTile[256], inLine[256];
  u32 sums[40];
};

// What a pass makes of an item at its place of a line: another item, or at the end the element and where it was.
template <class O> struct apus_radix_target {
  typename O::key *keys;
  u32 *places;
  typename O::raw *values;
  i64 *positions;
};

template <class O, bool FIRST, bool LAST, int SHIFT>
APUS_INLINE void apus_radix_move(const apus_lines &l, const apus_radix_source<O> &s, const u32 *counts,
                                 const u32 *totals, const apus_radix_target<O> &to, i64 block, i64 blockCount,
                                 u8 *shared) {
  typedef apus_item<typename O::key> item;
  apus_radix_memory<O> &m = *(apus_radix_memory<O> *)shared;
  const i64 tiles = APUS_CEIL(l.n, APUS_RADIX_TILE);
  const i32 tid = threadIdx.x, lane = tid & 31, warp = tid / 32;
  for (i64 unit = block; unit < l.count * tiles; unit += blockCount) {
    const i64 line = unit / tiles, tile = unit - line * tiles, first = tile * APUS_RADIX_TILE;
    for (i32 i = tid; i < APUS_RADIX_WARPS * 256; i += APUS_RADIX_THREADS) m.warps[i] = 0;
    __syncthreads();
    // A warp ranks neighbours: in rounds of 32, each after those before.
    item own[APUS_RADIX_ITEMS];
    u32 rank[APUS_RADIX_ITEMS];
    APUS_UNROLL for (int i = 0; i < APUS_RADIX_ITEMS; i++) {
      const i64 at = first + warp * (32 * APUS_RADIX_ITEMS) + i * 32 + lane;
      const bool isIn = at < l.n;
      own[i] = isIn ? apus_radix_item<O, FIRST>(l, s, line, at) : apus_last_item<typename O::key>();
      const u32 digit = isIn ? (u32)(own[i].key >> SHIFT) & 255 : 256;
      const u32 same = __match_any_sync(APUS_ALL_LANES, digit);
      const u32 before = __popc(same & ((1u << lane) - 1));
      rank[i] = (isIn ? m.warps[warp * 256 + digit] : 0) + before;
      __syncwarp();
      if (isIn && before == 0) m.warps[warp * 256 + digit] += __popc(same);
      __syncwarp();
    }
    __syncthreads();
    u32 count = 0;
    if (tid < 256)
      for (int w = 0; w < APUS_RADIX_WARPS; w++) {
        const u32 x = m.warps[w * 256 + tid];
        m.warps[w * 256 + tid] = count;
        count += x;
      }
    u32 all;
    const u32 inTile = apus_before<apus_adding<u32>, APUS_RADIX_THREADS>(count, all, m.sums);
    const u32 total = tid < 256 ? totals[line * 256 + tid] : 0;
    const u32 inLine = apus_before<apus_adding<u32>, APUS_RADIX_THREADS>(total, all, m.sums);
    if (tid < 256) m.inTile[tid] = inTile, m.inLine[tid] = inLine + counts[(line * 256 + tid) * tiles + tile];
    __syncthreads();
    APUS_UNROLL for (int i = 0; i < APUS_RADIX_ITEMS; i++) {
      if (first + warp * (32 * APUS_RADIX_ITEMS) + i * 32 + lane >= l.n) continue;
      const u32 digit = (u32)(own[i].key >> SHIFT) & 255;
      const u32 at = m.inTile[digit] + m.warps[warp * 256 + digit] + rank[i];
      m.keys[at] = own[i].key, m.places[at] = own[i].place;
    }
    __syncthreads();
    const i32 held = (i32)APUS_MIN((i64)APUS_RADIX_TILE, l.n - first);
    for (i32 i = tid; i < held; i += APUS_RADIX_THREADS) {
      const u32 digit = (u32)(m.keys[i] >> SHIFT) & 255;
      const i64 at = (i64)m.inLine[digit] + (i - (i32)m.inTile[digit]);
      if constexpr (LAST) {
        if (at >= l.k) continue;
        const i64 at2 = apus_line_start(l, line, l.k) + at * l.inner;
        to.values[at2] = s.x[apus_line_start(l, line, l.n) + m.places[i] * l.inner];
        to.positions[at2] = m.places[i];
      } else {
        to.keys[line * l.n + at] = m.keys[i], to.places[line * l.n + at] = m.places[i];
      }
    }
    __syncthreads();
  }
}
#endif
