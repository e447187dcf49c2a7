// What the attention kernels share: out = softmax(cap(scale * Q K^T) + mask) V, per head, with an online softmax.
// Needs prelude.cuh. Every name below depends on the macros; two configurations in one program need a namespace each.
//   ATTN_TYPE    storage of q, k, v: 0 f32, 1 f16, 2 bf16
//   ATTN_D       size of a query and a key; ATTN_DV size of a value
//   ATTN_SCALE   float literal; ATTN_SOFTCAP float literal, 0.0f for none
//   ATTN_MASK    0 none, 1 bool (nonzero is seen), 2 f32, 3 f16, 4 bf16, 5 f64
//   ATTN_MASK_ROWS 0 if the mask is the same for all rows of a (batch, key head); else 1
//   ATTN_MASK_PAIR 1 if maskK is 1, the mask is aligned to two elements and its other strides are even
//   ATTN_CAUSAL  1: query i sees keys j <= i + offset; ATTN_WINDOW 1: of those only j > i + offset - window
//   ATTN_LENGTH  0, or 4 or 8: `length` holds i32 or i64; then keys = min(keys, length) and offset = keys - queries
//   ATTN_SPLIT   1: keys are spread over `splits` blocks, whose partial results the last of them merges (0: one block)
//   ATTN_CLUSTER with ATTN_SPLIT, sm_90 and later: 2 to 16: the blocks of a row tile are a cluster of so many, which is
//                `splits`; they merge through each other's shared memory and need neither work nor counters
//   ATTN_L2      string put into 16-byte copies: "" or, for long streams, ".L2::128B"
// Rows of one (batch, key head) are its query heads' rows interleaved: row r is query r / group of head r % group.
// A row that sees nothing gives NaN, as 0 / 0.
#ifndef ATTN_SOFTCAP
#define ATTN_SOFTCAP 0.0f
#endif
#ifndef ATTN_MASK
#define ATTN_MASK 0
#endif
#ifndef ATTN_MASK_ROWS
#define ATTN_MASK_ROWS 1
#endif
#ifndef ATTN_MASK_PAIR
#define ATTN_MASK_PAIR 0
#endif
#ifndef ATTN_CAUSAL
#define ATTN_CAUSAL 0
#endif
#ifndef ATTN_WINDOW
#define ATTN_WINDOW 0
#endif
#ifndef ATTN_LENGTH
#define ATTN_LENGTH 0
#endif
#ifndef ATTN_SPLIT
#define ATTN_SPLIT 0
#endif
#ifndef ATTN_L2
#define ATTN_L2 ""
#endif
#ifndef ATTN_CLUSTER
#define ATTN_CLUSTER 1
#endif

struct apus_attention_args {
  const void *q, *k, *v, *mask, *length;
  void *work;      // f32, ATTN_SPLIT: items * splits * rows of a tile * (2 + value columns of a tile)
  u32 *counters;   // ATTN_SPLIT: one for each item, zero before the first launch; left zero
  i64 batch, heads, kvHeads, queries, keys;
  // Element strides; the last dimension of q, k and v is contiguous.
  i64 qB, qH, qS, kB, kH, kS, vB, vH, vS, maskB, maskH, maskQ, maskK;
  i64 offset, window, splits;
  i64 lengthB;     // stride of `length` over batches: 0 or 1
};

#define APUS_ATTN_INF apus_f32_bits(0x7f800000u)
#define APUS_ATTN_LOG2E 1.4426950408889634f
// Where neither cap nor mask lie between, scores stay unscaled and the scale goes into the exponent. Otherwise they are
// exponents of 2.
constexpr bool apus_attn_raw = ATTN_MASK == 0 && ATTN_SOFTCAP == 0.0f && ATTN_SCALE > 0.0f;
constexpr float apus_attn_factor = apus_attn_raw ? APUS_ATTN_LOG2E * ATTN_SCALE : 1.0f;

APUS_INLINE float apus_attn_exp2(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
// The weight of a score beside `base`, which is finite or +inf.
APUS_INLINE float apus_attn_exp(float s, float base) {
  if (!apus_attn_raw) return apus_attn_exp2(s - base);
  if (ATTN_TYPE == 0) return apus_attn_exp2((s - base) * apus_attn_factor);
  return apus_attn_exp2(s * apus_attn_factor - base * apus_attn_factor);
}
// What a row's scores are compared with: its maximum, or 0 while it has seen nothing.
APUS_INLINE float apus_attn_base(float top) { return top == -APUS_ATTN_INF ? 0.0f : top; }

// The next value to compare with, where `most` is a row's new maximum. In 16-bit types weights may grow to 2^8 before
// what was summed is scaled again, which is seldom.
APUS_INLINE float apus_attn_raise(float top, float most) {
  if (ATTN_TYPE == 0) return most;
  return most > top + 8.0f / apus_attn_factor ? most : top;
}

APUS_INLINE float apus_attn_tanh(float x) {
  const float e = apus_attn_exp2(x * 2.885390082f) + 1.0f;
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(e));
  const float big = 1.0f - 2.0f * r;
  if (ATTN_TYPE != 0) return big;
  // For f32, close to 0 and as x - x^3 / 3 + ...
  float s = x * x, p = 2.372919814661145e-3f;
  p = p * s - 8.411908522248268e-3f;
  p = p * s + 2.1788856014609337e-2f;
  p = p * s - 5.39616122841835e-2f;
  p = p * s + 0.13333313167095184f;
  p = p * s - 0.3333333432674408f;
  return fabsf(x) < 0.6f ? p * s * x + x : big;
}
// Scale and cap; the mask follows.
APUS_INLINE float apus_attn_score(float s) {
  if (apus_attn_raw) return s;
  if (ATTN_SOFTCAP == 0.0f) return s * (ATTN_SCALE * APUS_ATTN_LOG2E);
  return ATTN_SOFTCAP * APUS_ATTN_LOG2E * apus_attn_tanh(s * (ATTN_SCALE / ATTN_SOFTCAP));
}

// A mask is read before the scores are there, as bits, and taken apart when they are. Elements of a thread: key,
// key + 1, key + 8, key + 9, ..., two of which are one load where ATTN_MASK_PAIR allows it.
#if ATTN_MASK == 1
typedef u8 apus_attn_mask_t;
#elif ATTN_MASK == 2
typedef float apus_attn_mask_t;
#elif ATTN_MASK == 5
typedef double apus_attn_mask_t;
#else
typedef u16 apus_attn_mask_t;
#endif
APUS_INLINE u32 apus_attn_mask_bits(const void *mask, i64 i) {
  const apus_attn_mask_t x = ((const apus_attn_mask_t *)mask)[i];
#if ATTN_MASK == 2
  return apus_bits_f32(x);
#elif ATTN_MASK == 5
  return apus_bits_f32(x < -3e38 && x >= -1.7976931348623157e308 ? -3e38f : (float)x);
#else
  return x;
#endif
}
// What is added to a score. Far below 0 it must not become -inf: a row that sees only such elements sees them alike.
APUS_INLINE float apus_attn_mask_value(u32 bits) {
  if (ATTN_MASK == 1) return bits ? 0.0f : -APUS_ATTN_INF;
  if (ATTN_MASK == 3) return apus_f16_f32((u16)bits) * APUS_ATTN_LOG2E;
  const float m = apus_f32_bits(ATTN_MASK == 4 ? bits << 16 : bits);
  return m < -2e38f && m != -APUS_ATTN_INF ? -3e38f : m * APUS_ATTN_LOG2E;
}
constexpr bool apus_attn_packed = ATTN_MASK_PAIR && (ATTN_MASK == 1 || ATTN_MASK == 3 || ATTN_MASK == 4);
APUS_INLINE float apus_attn_mask_of(const u32 (&bits)[2], int e) {
  if (!apus_attn_packed) return apus_attn_mask_value(bits[e]);
  const u32 low = ATTN_MASK == 1 ? bits[0] & 0xff : bits[0] & 0xffff;
  return apus_attn_mask_value(e == 0 ? low : bits[0] >> (ATTN_MASK == 1 ? 8 : 16));
}
// The elements of a row that begins at `at`.
template <int N>
APUS_INLINE void apus_attn_mask_row(u32 (&m)[N][2], const void *mask, i64 at, i64 step, i32 key, i32 keys) {
  if (ATTN_MASK_PAIR) step = 1;
  const apus_attn_mask_t *row = (const apus_attn_mask_t *)mask + at + key * step;
  if (ATTN_MASK_PAIR && key + N * 8 <= keys) {
    APUS_UNROLL for (int n = 0; n < N; n++) {
      if (ATTN_MASK == 1) m[n][0] = *(const u16 *)(row + n * 8);
      else if (apus_attn_packed) m[n][0] = *(const u32 *)(row + n * 8);
      else APUS_UNROLL for (int e = 0; e < 2; e++) m[n][e] = apus_attn_mask_bits(row, n * 8 + e);
    }
  } else {
    APUS_UNROLL for (int n = 0; n < N; n++) {
      APUS_UNROLL for (int e = 0; e < 2; e++)
        m[n][e] = key + n * 8 + e < keys ? apus_attn_mask_bits(row, (n * 8 + e) * step) : 0;
      if (apus_attn_packed) m[n][0] |= m[n][1] << (ATTN_MASK == 1 ? 8 : 16);
    }
  }
}

// Sizes of the problem in 32 bits: rows of a key head, keys, offsets and blocks are taken to be below 2^30.
struct apus_attn_sizes {
  i32 group, rows, queries, keys, offset, window;
  APUS_INLINE i32 query(i32 r) const { return group == 1 ? r : r / group; }
  // Keys [low, high) are seen by a row.
  APUS_INLINE i32 high(i32 r) const {
    return ATTN_CAUSAL ? APUS_MAX(0, APUS_MIN(keys, query(r) + offset + 1)) : keys;
  }
  APUS_INLINE i32 low(i32 r) const { return ATTN_WINDOW ? APUS_MAX(0, query(r) + offset - window + 1) : 0; }
};
APUS_INLINE apus_attn_sizes apus_attn_sizes_of(const apus_attention_args &g, i64 b) {
  const i64 most = 0x3fffffff;
  apus_attn_sizes s;
  s.group = (i32)((u32)g.heads / (u32)g.kvHeads), s.queries = (i32)g.queries, s.keys = (i32)g.keys;
  s.rows = s.group * s.queries;
  i64 offset = g.offset;
#if ATTN_LENGTH
  i64 length = ATTN_LENGTH == 8 ? ((const i64 *)g.length)[b * g.lengthB] : ((const i32 *)g.length)[b * g.lengthB];
  s.keys = (i32)APUS_MAX(0, APUS_MIN(length, g.keys));
  offset = s.keys - g.queries;
#endif
  s.offset = (i32)APUS_MAX(-most, APUS_MIN(offset, most));
  s.window = (i32)APUS_MAX(-most, APUS_MIN(g.window, most));
  return s;
}

// One tile of rows [first, first + count) of a (batch, key head), and the keys that a block looks at.
struct apus_attn_tile {
  i64 batch, kvHead;
  i64 item, split;
  i32 first, count;
  i32 begin, end;   // a multiple of `step` keys from begin on, except at the end
  i32 high;         // keys from here on are seen by no row; they are taken as zero, whatever memory holds
  i32 clearLow, clearHigh;   // every row sees the keys between
  i32 column;       // first value column
};
// `chunks` tiles of value columns lie beside each other. Tiles with the most keys come first.
APUS_INLINE apus_attn_tile apus_attn_tile_of(const apus_attention_args &g, i64 unit, i64 tiles, i32 height, i32 step,
                                            u32 chunks, apus_attn_sizes &s) {
  apus_attn_tile t;
  const u32 splits = ATTN_SPLIT ? (u32)g.splits : 1, kvHeads = (u32)g.kvHeads, all = (u32)tiles;
  const u32 item = (u32)unit / splits, x = item / chunks, head = x / all, batch = head / kvHeads;
  u32 tile = x - head * all;
  if (ATTN_CAUSAL) tile = all - 1 - tile;
  t.split = (u32)unit - item * splits, t.item = item, t.column = (i32)(item - x * chunks);
  t.batch = batch, t.kvHead = head - batch * kvHeads;
  s = apus_attn_sizes_of(g, t.batch);
  t.first = (i32)tile * height;
  t.count = APUS_MIN(height, s.rows - t.first);
  const i32 last = t.first + t.count - 1;
  t.high = s.high(last);
  t.begin = s.low(t.first) / step * step;
  t.clearLow = s.low(last), t.clearHigh = s.high(t.first);
  const i32 steps = t.high > t.begin ? APUS_CEIL(t.high - t.begin, step) : 0;
  t.end = t.high;
  if (ATTN_SPLIT) {
    const i32 n = (i32)splits, i = (i32)t.split, each = steps / n, rest = steps % n;
    const i32 from = i * each + APUS_MIN(i, rest), to = from + each + (i < rest);
    t.end = APUS_MIN(t.high, t.begin + to * step);
    t.begin += from * step;
  }
  return t;
}

// 16-byte (or narrower) copy to shared memory that leaves zeros for the bytes past `bytes`.
template <int N> APUS_INLINE void apus_attn_copy(void *to, const void *from, i32 bytes) {
  u32 a = (u32)__cvta_generic_to_shared(to);
  if (N == 16)
    asm volatile("cp.async.cg.shared.global" ATTN_L2 " [%0], [%1], 16, %2;" ::"r"(a), "l"(from), "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(a), "l"(from), "r"(bytes), "n"(N) : "memory");
}
APUS_INLINE void apus_attn_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> APUS_INLINE void apus_attn_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
