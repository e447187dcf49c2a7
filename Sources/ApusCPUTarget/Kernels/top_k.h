// The k least keys of each line in order, equal ones in the order of their places. Needs prelude.h. Macros: KERNEL, T, KEY (u32 or
// u64), TOP_K_KEY(x): the key of an element.
#ifndef APUS_TOP_K
#define APUS_TOP_K
enum { APUS_TOP_K_KEPT = 128, APUS_TOP_K_CHUNK = 64 };
#endif
#undef FN
#define FN(n) APUS_CAT3(KERNEL, _, n)

typedef struct {
  const T *x;
  T *values;
  i64 *places;
  // Neighbours along the axis are inner elements apart, in what is given and in the results.
  i64 lines, n, inner, k;
} FN(top_k_args);

// Keeps the k least of one scan: most chunks have none that is less than the greatest kept.
APUS_INLINE void FN(top_k_scan)(const T *x, i64 n, i64 stride, i64 k, u32 *places) {
  KEY keys[APUS_TOP_K_KEPT];
  i64 count = 0;
  for (i64 first = 0; first < n; first += APUS_TOP_K_CHUNK) {
    const i64 end = APUS_MIN(first + APUS_TOP_K_CHUNK, n);
    if (count == k && stride == 1 && end - first == APUS_TOP_K_CHUNK) {
      const T *const chunk = x + first;
      KEY least = ~(KEY)0;
      APUS_LANES for (i64 j = 0; j < APUS_TOP_K_CHUNK; j++) {
        const KEY key = TOP_K_KEY(chunk[j]);
        least = key < least ? key : least;
      }
      if (APUS_LIKELY(least >= keys[k - 1])) continue;
    }
    for (i64 i = first; i < end; i++) {
      const KEY key = TOP_K_KEY(x[i * stride]);
      if (count == k && key >= keys[k - 1]) continue;
      i64 at = count < k ? count++ : k - 1;
      for (; at > 0 && keys[at - 1] > key; at--) {
        keys[at] = keys[at - 1];
        places[at] = places[at - 1];
      }
      keys[at] = key;
      places[at] = (u32)i;
    }
  }
}

// Sorts all by eight bits at a time, the lowest first, each time keeping the order of equal ones; what lies in scratch last is the
// result.
APUS_INLINE const u32 *FN(top_k_sort)(const T *x, i64 n, i64 stride, void *scratch) {
  enum { DIGITS = sizeof(KEY) };
  KEY *keys = scratch, *otherKeys = keys + n;
  u32 *places = (u32 *)(otherKeys + n), *otherPlaces = places + n;
  i64 counts[DIGITS][256];
  __builtin_memset(counts, 0, sizeof counts);
  for (i64 i = 0; i < n; i++) {
    const KEY key = TOP_K_KEY(x[i * stride]);
    keys[i] = key;
    places[i] = (u32)i;
    APUS_UNROLL for (int d = 0; d < DIGITS; d++) counts[d][key >> (8 * d) & 255]++;
  }
  for (int d = 0; d < DIGITS; d++) {
    i64 *const count = counts[d];
    if (count[keys[0] >> (8 * d) & 255] == n) continue;
    i64 start = 0;
    for (int b = 0; b < 256; b++) {
      const i64 own = count[b];
      count[b] = start;
      start += own;
    }
    for (i64 i = 0; i < n; i++) {
      const i64 to = count[keys[i] >> (8 * d) & 255]++;
      otherKeys[to] = keys[i];
      otherPlaces[to] = places[i];
    }
    KEY *const k = keys;
    keys = otherKeys, otherKeys = k;
    u32 *const p = places;
    places = otherPlaces, otherPlaces = p;
  }
  return places;
}

APUS_INLINE void FN(top_k)(const FN(top_k_args) * g, i64 block, i64 blockCount, void *scratch) {
  const apus_range range = apus_share(g->lines, block, blockCount);
  const i64 n = g->n, k = g->k, inner = g->inner;
  if (k == 0) return;
  for (i64 line = range.begin; line < range.end; line++) {
    const i64 outer = line / inner, within = line % inner;
    const T *const x = g->x + outer * n * inner + within;
    u32 kept[APUS_TOP_K_KEPT];
    const u32 *places = kept;
    if (k <= APUS_TOP_K_KEPT && (k * 4 <= n || n <= APUS_TOP_K_KEPT)) FN(top_k_scan)(x, n, inner, k, kept);
    else places = FN(top_k_sort)(x, n, inner, scratch);
    for (i64 i = 0; i < k; i++) {
      const i64 to = (outer * k + i) * inner + within;
      g->values[to] = x[places[i] * inner];
      g->places[to] = places[i];
    }
  }
}
