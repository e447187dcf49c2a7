// Attention without matrix units: any sizes and types, f32 arithmetic. Needs prelude.cuh,
// attention_common.cuh and attention_finish.cuh.
//   ATTN_TM   rows of a thread (1, 2, 4, 8): a block has 8 * TM rows, and 128 threads
//   ATTN_TN   keys of a thread and step (2 or 4): a step is 16 * TN keys
//   ATTN_VEC  elements per load (f32: 4, 2, 1; 16-bit: 8, 4, 2, 1). It divides ATTN_D, ATTN_DV and the strides of q, k
//             and v, and their addresses are aligned to as many elements.
//   ATTN_DC, ATTN_DVC  optional: most columns of q and k, and of v, that are held at once (multiples of 16).
// A warp owns its rows from the scores to the weighted values: 16 lanes share 1 of every 8 rows, 2 of them a warp.
// Blocks: batch * kvHeads * ceil(heads / kvHeads * queries / (8 * TM)) * ceil(ATTN_DV / ATTN_DVC) [* splits].
// Shared memory: apus_attn_shared bytes.
#define ATTN_THREADS 128
#ifndef ATTN_DC
#define ATTN_DC 128
#endif
#ifndef ATTN_DVC
#define ATTN_DVC 128
#endif
constexpr int apus_attn_bm = 8 * ATTN_TM, apus_attn_bn = 16 * ATTN_TN;
// Columns held, a multiple of 4, and the distance of rows: an odd number of 16 bytes keeps banks apart.
constexpr int apus_attn_dc = APUS_MIN(APUS_CEIL(ATTN_D, 4) * 4, ATTN_DC), apus_attn_pd = 4 * (apus_attn_dc / 4 | 1);
constexpr int apus_attn_parts = APUS_CEIL(ATTN_D, apus_attn_dc);
constexpr int apus_attn_dv = APUS_MIN(APUS_CEIL(ATTN_DV, 16) * 16, ATTN_DVC), apus_attn_cv = apus_attn_dv / 16;
constexpr int apus_attn_vw = apus_attn_cv % 4 == 0 ? 4 : apus_attn_cv % 2 == 0 ? 2 : 1;
constexpr int apus_attn_pp = apus_attn_bn + 4, apus_attn_po = apus_attn_dv + 4;
constexpr int apus_attn_chunks = APUS_CEIL(ATTN_DV, apus_attn_dv);
constexpr int apus_attn_in =
    (apus_attn_bm + apus_attn_bn) * apus_attn_pd + apus_attn_bn * apus_attn_dv + apus_attn_bm * apus_attn_pp;
constexpr int apus_attn_out = apus_attn_bm * (apus_attn_po + 3) + 4;
constexpr int apus_attn_shared = 4 * APUS_MAX(apus_attn_in, apus_attn_out);
static_assert(apus_attn_shared <= 232448, "more shared memory than a block can have");

// Elements c to c + VEC of a row as f32 in shared memory, zero where `exists` is false.
APUS_INLINE void apus_attn_put(float *to, const void *base, i64 at, bool exists) {
#if ATTN_TYPE == 0
  apus_attn_copy<4 * ATTN_VEC>(to, (const float *)base + (exists ? at : 0), exists ? 4 * ATTN_VEC : 0);
#else
  apus_vec<u16, ATTN_VEC> x = {};
  if (exists) x = *(const apus_vec<u16, ATTN_VEC> *)((const u16 *)base + at);
  APUS_UNROLL for (int e = 0; e < ATTN_VEC; e++) to[e] = ATTN_TYPE == 1 ? apus_f16_f32(x.e[e]) : apus_bf16_f32(x.e[e]);
#endif
}
// WIDE columns from `first` on of ROWS rows from `row` on; rows from `rows` and columns from `columns` on are zero.
template <int ROWS, int WIDE, int PITCH>
APUS_INLINE void apus_attn_rows(float *to, const void *base, i64 stride, i32 row, i32 rows, i32 first, i32 columns) {
  // A thread's last vector may reach past WIDE, which PITCH or the next buffer allows for only if it does not.
  constexpr int N = WIDE / ATTN_VEC;
  static_assert(WIDE % ATTN_VEC == 0, "loads are too wide");
  _Pragma("unroll 8") for (int i = 0; i < APUS_CEIL(ROWS * N, ATTN_THREADS); i++) {
    const int x = threadIdx.x + i * ATTN_THREADS, r = x / N, c = (x - r * N) * ATTN_VEC;
    if (ROWS * N % ATTN_THREADS != 0 && x >= ROWS * N) break;
    apus_attn_put(to + r * PITCH + c, base, (i64)(row + r) * stride + first + c, row + r < rows && first + c < columns);
  }
}
APUS_INLINE void apus_attn_queries(const apus_attention_args &g, const apus_attn_sizes &s, const apus_attn_tile &t,
                                   float *to, const void *base, i32 first) {
  constexpr int N = apus_attn_dc / ATTN_VEC;
  for (int x = threadIdx.x; x < apus_attn_bm * N; x += ATTN_THREADS) {
    const int r = x / N, c = (x - r * N) * ATTN_VEC;
    const i32 row = t.first + r, q = s.query(row), h = row - q * s.group;
    apus_attn_put(to + r * apus_attn_pd + c, base, h * g.qH + q * g.qS + first + c, r < t.count && first + c < ATTN_D);
  }
}

// Adds the product of a thread's rows and keys over the columns in shared memory.
APUS_INLINE void apus_attn_dot(float (&s)[ATTN_TM][ATTN_TN], const float *q, const float *k) {
  constexpr int U = ATTN_TM * ATTN_TN >= 32 ? 1 : 2;
  _Pragma("unroll U") for (int d = 0; d < apus_attn_dc; d += 4) {
    float a[ATTN_TM][4], b[ATTN_TN][4];
    APUS_UNROLL for (int i = 0; i < ATTN_TM; i++) apus_attn_load<4>(a[i], q + i * 8 * apus_attn_pd + d);
    APUS_UNROLL for (int j = 0; j < ATTN_TN; j++) apus_attn_load<4>(b[j], k + j * 16 * apus_attn_pd + d);
    APUS_UNROLL for (int e = 0; e < 4; e++)
      APUS_UNROLL for (int i = 0; i < ATTN_TM; i++)
        APUS_UNROLL for (int j = 0; j < ATTN_TN; j++) s[i][j] += a[i][e] * b[j][e];
  }
}

APUS_INLINE void apus_attn_simt_tile(const apus_attention_args &g, const apus_ctx &c, const apus_attn_sizes &sz,
                                     const apus_attn_tile &t, float *shared) {
  constexpr int TM = ATTN_TM, TN = ATTN_TN, BM = apus_attn_bm, BN = apus_attn_bn, CV = apus_attn_cv, VW = apus_attn_vw;
  const int tid = threadIdx.x, tx = tid & 15, ty = tid >> 4;
  const int size = ATTN_TYPE == 0 ? 4 : 2;
  const u8 *Q = (const u8 *)g.q + t.batch * g.qB * size + t.kvHead * sz.group * g.qH * size;
  const u8 *K = (const u8 *)g.k + (t.batch * g.kB + t.kvHead * g.kH) * size;
  const u8 *V = (const u8 *)g.v + (t.batch * g.vB + t.kvHead * g.vH) * size;
  float *qs = shared, *ks = qs + BM * apus_attn_pd, *vs = ks + BN * apus_attn_pd, *ps = vs + BN * apus_attn_dv;
  const i32 column = t.column * apus_attn_dv;
  float acc[TM][CV], top[TM], sum[TM];
  APUS_UNROLL for (int i = 0; i < TM; i++) {
    top[i] = -APUS_ATTN_INF, sum[i] = 0;
    APUS_UNROLL for (int x = 0; x < CV; x++) acc[i][x] = 0;
  }
#if ATTN_MASK
  i64 maskAt[ATTN_MASK_ROWS ? TM : 1];
  APUS_UNROLL for (int i = 0; i < (ATTN_MASK_ROWS ? TM : 1); i++) {
    const i32 r = t.first + APUS_MIN(ty + 8 * i, t.count - 1), q = sz.query(r), h = r - q * sz.group;
    maskAt[i] = t.batch * g.maskB + (t.kvHead * sz.group + h) * g.maskH + q * g.maskQ;
  }
#endif
  if (apus_attn_parts == 1) {
    apus_attn_queries(g, sz, t, qs, Q, 0);
    apus_attn_rows<BN, apus_attn_dc, apus_attn_pd>(ks, K, g.kS, t.begin, t.high, 0, ATTN_D);
    apus_attn_commit();
  }
  APUS_NOUNROLL for (i32 k0 = t.begin; k0 < t.end; k0 += BN) {
    float s[TM][TN];
    APUS_UNROLL for (int i = 0; i < TM; i++)
      APUS_UNROLL for (int j = 0; j < TN; j++) s[i][j] = 0;
    if (apus_attn_parts == 1) {
      apus_attn_wait<0>();
      __syncthreads();
      apus_attn_rows<BN, apus_attn_dv, apus_attn_dv>(vs, V, g.vS, k0, t.high, column, ATTN_DV);
      apus_attn_commit();
      apus_attn_dot(s, qs + ty * apus_attn_pd, ks + tx * apus_attn_pd);
    } else {
      APUS_NOUNROLL for (int part = 0; part < apus_attn_parts; part++) {
        __syncthreads();
        apus_attn_queries(g, sz, t, qs, Q, part * apus_attn_dc);
        apus_attn_rows<BN, apus_attn_dc, apus_attn_pd>(ks, K, g.kS, k0, t.high, part * apus_attn_dc, ATTN_D);
        if (part == 0) apus_attn_rows<BN, apus_attn_dv, apus_attn_dv>(vs, V, g.vS, k0, t.high, column, ATTN_DV);
        apus_attn_commit();
        apus_attn_wait<0>();
        __syncthreads();
        apus_attn_dot(s, qs + ty * apus_attn_pd, ks + tx * apus_attn_pd);
      }
    }
    const bool whole = t.clearLow <= k0 && k0 + BN <= t.clearHigh;
#if ATTN_MASK && !ATTN_MASK_ROWS
    float mask[TN];
    APUS_UNROLL for (int j = 0; j < TN; j++) {
      const i32 key = k0 + tx + 16 * j;
      mask[j] = key < t.high ? apus_attn_mask_value(apus_attn_mask_bits(g.mask, maskAt[0] + key * g.maskK)) : 0.0f;
    }
#endif
    APUS_UNROLL for (int i = 0; i < TM; i++) {
      const i32 r = t.first + ty + 8 * i;
      const i32 low = whole ? 0 : sz.low(r), high = whole ? 0x7fffffff : sz.high(r);
      float most = top[i];
      APUS_UNROLL for (int j = 0; j < TN; j++) {
        const i32 key = k0 + tx + 16 * j;
        float x = apus_attn_score(s[i][j]);
#if ATTN_MASK && ATTN_MASK_ROWS
        if (key < t.high) x += apus_attn_mask_value(apus_attn_mask_bits(g.mask, maskAt[i] + key * g.maskK));
#elif ATTN_MASK
        x += mask[j];
#endif
        s[i][j] = key >= low && key < high ? x : -APUS_ATTN_INF;
        most = fmaxf(most, s[i][j]);
      }
      APUS_UNROLL for (int w = 8; w; w /= 2) most = fmaxf(most, apus_shuffle_xor(most, w));
      const float base = apus_attn_base(most), keep = apus_attn_exp(top[i], base);
      top[i] = most, sum[i] *= keep;
      APUS_UNROLL for (int x = 0; x < CV; x++) acc[i][x] *= keep;
      APUS_UNROLL for (int j = 0; j < TN; j++) {
        const float p = apus_attn_exp(s[i][j], base);
        sum[i] += p;
        ps[(ty + 8 * i) * apus_attn_pp + tx + 16 * j] = p;
      }
    }
    apus_attn_wait<0>();
    __syncthreads();
    if (apus_attn_parts == 1 && k0 + BN < t.end) {
      apus_attn_rows<BN, apus_attn_dc, apus_attn_pd>(ks, K, g.kS, k0 + BN, t.high, 0, ATTN_D);
      apus_attn_commit();
    }
    _Pragma("unroll 1") for (int n = 0; n < BN; n += 4) {
      float p[TM][4];
      APUS_UNROLL for (int i = 0; i < TM; i++) apus_attn_load<4>(p[i], ps + (ty + 8 * i) * apus_attn_pp + n);
      APUS_UNROLL for (int e = 0; e < 4; e++) {
        float v[CV];
        APUS_UNROLL for (int x = 0; x < CV; x += VW) {
          float y[VW];
          apus_attn_load<VW>(y, vs + (n + e) * apus_attn_dv + x * 16 + tx * VW);
          APUS_UNROLL for (int m = 0; m < VW; m++) v[x + m] = y[m];
        }
        APUS_UNROLL for (int i = 0; i < TM; i++)
          APUS_UNROLL for (int x = 0; x < CV; x++) acc[i][x] += p[i][e] * v[x];
      }
    }
    __syncthreads();
  }
  apus_attn_wait<0>();
  __syncthreads();
  float *o = shared, *ml = o + BM * apus_attn_po;
  APUS_UNROLL for (int i = 0; i < TM; i++) {
    const int row = ty + 8 * i;
    APUS_UNROLL for (int w = 8; w; w /= 2) sum[i] += apus_shuffle_xor(sum[i], w);
    if (tx == 0) ml[row * 2] = top[i], ml[row * 2 + 1] = sum[i];
    APUS_UNROLL for (int x = 0; x < CV; x += VW)
      APUS_UNROLL for (int m = 0; m < VW; m++) o[row * apus_attn_po + x * 16 + tx * VW + m] = acc[i][x + m];
  }
  __syncthreads();
  apus_attn_finish<ATTN_THREADS, 1, BM, apus_attn_po, apus_attn_dv>(
      g, c, sz, t, o, ml, ml + 2 * BM, (u8 *)shared, APUS_MIN(apus_attn_dv, ATTN_DV - column));
}

APUS_INLINE void apus_attention_simt(const apus_attention_args &g, const apus_ctx &c, i64 block, i64 blockCount,
                                     u8 *shared) {
  apus_wait_prior();
  const i64 rows = (i64)((u32)g.heads / (u32)g.kvHeads) * g.queries, tiles = APUS_CEIL(rows, apus_attn_bm);
  const i64 units = g.batch * g.kvHeads * tiles * apus_attn_chunks * (ATTN_SPLIT ? g.splits : 1);
  for (i64 unit = block; unit < units; unit += blockCount) {
    apus_attn_sizes s;
    const apus_attn_tile t =
        apus_attn_tile_of(g, unit, tiles, apus_attn_bm, apus_attn_bn, apus_attn_chunks, s);
    apus_attn_simt_tile(g, c, s, t, (float *)shared);
    __syncthreads();
  }
}
