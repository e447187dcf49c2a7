// Updates of elements that many updates may meet, with results that do not depend on which thread comes first. Needs
// order.cuh.
#ifndef APUS_SCATTER
#define APUS_SCATTER

// The number, from 1, of the last update of each target; those of targets beyond `count` are dropped.
APUS_INLINE void apus_scatter_last(i64 updates, i64 count, const u32 *targets, u32 *last, i64 block, i64 blockCount,
                                   i64 threads) {
  for (i64 i = block * threads + threadIdx.x; i < updates; i += blockCount * threads) {
    const u32 target = targets[i];
    if (target < count) atomicMax(&last[target], (u32)i + 1);
  }
}

// Combines updates, sorted by their targets, with what they meet, in their order. A target is `width` elements. OP as in
// scan.cuh.
template <class OP>
APUS_INLINE void apus_scatter_combine(i64 updates, i64 count, i64 width, const u32 *targets, const u32 *places,
                                      const typename OP::raw *x, const typename OP::raw *values, typename OP::raw *y,
                                      i64 block, i64 blockCount, i64 threads) {
  for (i64 i = block * threads + threadIdx.x; i < updates * width; i += blockCount * threads) {
    const i64 first = i / width, column = i - first * width;
    const u32 target = targets[first];
    if (target >= count || (first > 0 && targets[first - 1] == target)) continue;
    typename OP::value sum = OP::load(x[target * width + column]);
    for (i64 at = first; at < updates && targets[at] == target; at++)
      sum = OP::combine(sum, OP::load(values[places[at] * width + column]));
    y[target * width + column] = OP::store(sum);
  }
}
#endif
