// Attention on matrix units (mma.sync, sm_80 and later) for all types. Needs prelude.cuh, attention_common.cuh,
// attention_finish.cuh.
// f32 is split into sums of two tf32, three products each, which keeps f32's accuracy; with ATTN_TF32 1 it is rounded.
// The same body serves prefill (many rows), short sequences (few rows a block, keys spread over its warps) and decode
// (few rows, keys spread over blocks as well: ATTN_SPLIT).
//   ATTN_WM, ATTN_KW  warps along rows, and along the keys of a step; 32 * WM * KW threads
//   ATTN_MT           tiles of 16 rows of a warp (1 or 2): a block has 16 * MT * WM rows
//   ATTN_BN           keys of a step, a multiple of 16 * KW
//   ATTN_STAGES       steps in shared memory, 2 or more
//   ATTN_QREG         optional: 1 keeps the queries in registers
// ATTN_D, ATTN_DV and the strides of q, k, v (but for the last) are multiples of 16 bytes, and so are the addresses.
// Blocks: batch * kvHeads * ceil(heads / kvHeads * queries / (16 * MT * WM)) [* splits].
// Shared memory: apus_attn_shared bytes.
#define ATTN_THREADS (32 * ATTN_WM * ATTN_KW)
constexpr int apus_attn_bm = 16 * ATTN_MT * ATTN_WM, apus_attn_kn = ATTN_BN / ATTN_KW, apus_attn_nt = apus_attn_kn / 8;
static_assert(ATTN_BN % (16 * ATTN_KW) == 0 && ATTN_STAGES >= 2, "a warp takes 16 keys at least");
#if ATTN_TYPE == 0
typedef float apus_attn_t;
#else
typedef u16 apus_attn_t;
#endif
#ifndef ATTN_TF32
#define ATTN_TF32 0
#endif
// Elements of 16 bytes; columns with zeros up to 16; and the distance of rows, which keeps the 8 rows of a matrix, and
// the even or odd ones of 8 f32 values, in separate banks.
constexpr int apus_attn_size = sizeof(apus_attn_t), apus_attn_run = 16 / apus_attn_size;
constexpr int apus_attn_d = APUS_CEIL(ATTN_D, 16) * 16, apus_attn_dv = APUS_CEIL(ATTN_DV, 16) * 16;
constexpr int apus_attn_pd = apus_attn_d + apus_attn_run, apus_attn_pv = apus_attn_dv + apus_attn_run;
constexpr int apus_attn_po = apus_attn_dv + 8, apus_attn_stage = ATTN_BN * (apus_attn_pd + apus_attn_pv);
constexpr int apus_attn_in = apus_attn_size * (apus_attn_bm * apus_attn_pd + ATTN_STAGES * apus_attn_stage);
constexpr int apus_attn_out = 4 * (ATTN_KW * apus_attn_bm * (apus_attn_po + 3) + 4);
constexpr int apus_attn_shared = APUS_MAX(apus_attn_in, apus_attn_out);
static_assert(apus_attn_shared <= 232448, "more shared memory than a block can have");
#ifndef ATTN_QREG
#define ATTN_QREG (ATTN_TYPE != 0 && ATTN_MT * ATTN_D <= 128)
#endif

APUS_INLINE void apus_attn_matrices(u32 (&r)[4], u32 at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}
APUS_INLINE void apus_attn_matrices_t(u32 (&r)[4], u32 at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}
APUS_INLINE void apus_attn_mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if ATTN_TYPE == 0
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
#elif ATTN_TYPE == 1
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
#endif
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
APUS_INLINE u32 apus_attn_pack(float a, float b) {
  return ATTN_TYPE == 1 ? apus_f32x2_f16x2(a, b) : apus_f32x2_bf16x2(a, b);
}

// An f32 as two tf32; the matrix unit drops what is past the second.
struct apus_attn_pair { u32 high, low; };
APUS_INLINE apus_attn_pair apus_attn_halves(u32 x) {
  const u32 high = (x + 0x1000u) & 0xffffe000u;
  return {high, apus_bits_f32(apus_f32_bits(x) - apus_f32_bits(high))};
}
template <int N> APUS_INLINE void apus_attn_halves(u32 (&high)[N], u32 (&low)[N], const u32 (&x)[N]) {
  APUS_UNROLL for (int i = 0; i < N; i++) {
    const apus_attn_pair p = apus_attn_halves(x[i]);
    high[i] = p.high, low[i] = p.low;
  }
}
// The unit's sums are cut off, not rounded: small terms have their own, and sums are short.
APUS_INLINE void apus_attn_mma3(float (&d)[4], float (&small)[4], const u32 (&ah)[4], const u32 (&al)[4],
                                apus_attn_pair b0, apus_attn_pair b1) {
  if (!ATTN_TF32) {
    apus_attn_mma(small, al, b0.high, b1.high);
    apus_attn_mma(small, ah, b0.low, b1.low);
  }
  apus_attn_mma(d, ah, b0.high, b1.high);
}

// Rows [row, row + ROWS) of k or v; zero from `rows` on and in the columns that fill up 16.
template <int ROWS, int COLUMNS, int WIDE, int PITCH>
APUS_INLINE void apus_attn_rows(apus_attn_t *to, const apus_attn_t *base, i64 stride, i32 row, i32 rows) {
  constexpr u32 R = apus_attn_run, N = WIDE / R, T = ATTN_THREADS;
  if (T % N == 0 && ROWS % (T / N) == 0) {
    const u32 r = threadIdx.x / N, c = threadIdx.x % N * R;
    const apus_attn_t *from = base + (i64)(row + (i32)r) * stride + c;
    to += r * PITCH + c;
    const i64 step = T / N * stride;
    const i32 left = c < COLUMNS ? rows - row - (i32)r : 0;
    APUS_UNROLL for (u32 i = 0; i < ROWS; i += T / N) {
      apus_attn_copy<16>(to + i * PITCH, from, (i32)i < left ? 16 : 0);
      from += step;
    }
  } else {
    APUS_UNROLL for (u32 i = 0; i < APUS_CEIL(ROWS * N, T); i++) {
      const u32 x = threadIdx.x + i * T, r = x / N, c = (x - r * N) * R;
      if (ROWS * N % T != 0 && x >= ROWS * N) break;
      const bool exists = row + (i32)r < rows && c < COLUMNS;
      apus_attn_copy<16>(to + r * PITCH + c, base + (i64)(row + (i32)r) * stride + c, exists ? 16 : 0);
    }
  }
}

APUS_INLINE void apus_attn_mma_tile(const apus_attention_args &g, const apus_ctx &c, const apus_attn_sizes &sz,
                                    const apus_attn_tile &t, u8 *shared) {
  constexpr int MT = ATTN_MT, NT = apus_attn_nt, KN = apus_attn_kn, BM = apus_attn_bm, BN = ATTN_BN;
  constexpr int ES = apus_attn_size, DK = apus_attn_d * ES / 32, DN = apus_attn_dv / 8;
  constexpr int PD = apus_attn_pd, PV = apus_attn_pv;
  const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, wm = warp % ATTN_WM, wk = warp / ATTN_WM;
  const apus_attn_t *Q = (const apus_attn_t *)g.q + t.batch * g.qB + t.kvHead * sz.group * g.qH;
  const apus_attn_t *K = (const apus_attn_t *)g.k + t.batch * g.kB + t.kvHead * g.kH;
  const apus_attn_t *V = (const apus_attn_t *)g.v + t.batch * g.vB + t.kvHead * g.vH;
  apus_attn_t *qs = (apus_attn_t *)shared, *stages = qs + BM * PD;

  constexpr u32 QN = apus_attn_d / apus_attn_run;
  for (u32 x = tid; x < BM * QN; x += ATTN_THREADS) {
    const int r = x / QN, col = (x - r * QN) * apus_attn_run;
    const i32 row = t.first + r, q = sz.query(row), h = row - q * sz.group;
    const bool exists = r < t.count && col < ATTN_D;
    apus_attn_copy<16>(qs + r * PD + col, exists ? Q + h * g.qH + q * g.qS + col : Q, exists ? 16 : 0);
  }
  APUS_UNROLL for (int i = 0; i < ATTN_STAGES - 1; i++) {
    apus_attn_t *ks = stages + i * apus_attn_stage;
    if (t.begin + i * BN < t.end) {
      apus_attn_rows<BN, ATTN_D, apus_attn_d, PD>(ks, K, g.kS, t.begin + i * BN, t.high);
      apus_attn_rows<BN, ATTN_DV, apus_attn_dv, PV>(ks + BN * PD, V, g.vS, t.begin + i * BN, t.high);
    }
    apus_attn_commit();
  }

  float acc[MT][DN][4], top[MT][2], sum[MT][2];
  APUS_UNROLL for (int m = 0; m < MT; m++) {
    APUS_UNROLL for (int h = 0; h < 2; h++) top[m][h] = -APUS_ATTN_INF, sum[m][h] = 0;
    APUS_UNROLL for (int n = 0; n < DN; n++)
      APUS_UNROLL for (int e = 0; e < 4; e++) acc[m][n][e] = 0;
  }
  // Rows of this thread: first + 16 * tile + lane / 4, and 8 further.
  const i32 row0 = t.first + wm * MT * 16 + (lane >> 2);
#if ATTN_MASK
  constexpr int MR = ATTN_MASK_ROWS ? 2 * MT : 1;
  i64 maskAt[MR];
  APUS_UNROLL for (int i = 0; i < MR; i++) {
    const i32 r = APUS_MIN(row0 + 8 * i, t.first + t.count - 1), q = sz.query(r), h = r - q * sz.group;
    maskAt[i] = t.batch * g.maskB + (t.kvHead * sz.group + h) * g.maskH + q * g.maskQ;
  }
#endif
  const u32 qAt = (u32)__cvta_generic_to_shared(qs) + (wm * MT * 16 + (lane & 15)) * PD * ES + (lane >> 4) * 16;
  const u32 kAt = (u32)__cvta_generic_to_shared(stages) +
                  (wk * KN + (lane & 7) + ((lane >> 4) << 3)) * PD * ES + ((lane >> 3) & 1) * 16;
#if ATTN_TYPE == 0
  const float *vAt = stages + BN * PD + (wk * KN + 2 * (lane & 3)) * PV + (lane >> 2);
#else
  const u32 vAt =
      (u32)__cvta_generic_to_shared(stages) + (BN * PD + (wk * KN + (lane & 15)) * PV) * 2 + (lane >> 4) * 16;
#endif
#if ATTN_QREG
  u32 qr[MT][DK][4];
  bool first = true;
#endif

  int stage = 0;
  APUS_NOUNROLL for (i32 k0 = t.begin; k0 < t.end; k0 += BN) {
    apus_attn_wait<ATTN_STAGES - 2>();
    __syncthreads();
    {
      // The stage that was read in the step before.
      const int free = stage == 0 ? ATTN_STAGES - 1 : stage - 1;
      const i32 ahead = k0 + (ATTN_STAGES - 1) * BN;
      apus_attn_t *ks = stages + free * apus_attn_stage;
      if (ahead < t.end) {
        apus_attn_rows<BN, ATTN_D, apus_attn_d, PD>(ks, K, g.kS, ahead, t.high);
        apus_attn_rows<BN, ATTN_DV, apus_attn_dv, PV>(ks + BN * PD, V, g.vS, ahead, t.high);
      }
      apus_attn_commit();
    }
    const i32 keys0 = k0 + wk * KN;
#if ATTN_MASK
    u32 mask[MR][NT][2];
    APUS_UNROLL for (int i = 0; i < MR; i++)
      apus_attn_mask_row<NT>(mask[i], g.mask, maskAt[i], g.maskK, keys0 + 2 * (lane & 3), t.high);
#endif
#if ATTN_QREG
    if (first) {
      APUS_UNROLL for (int m = 0; m < MT; m++)
        APUS_UNROLL for (int d = 0; d < DK; d++) apus_attn_matrices(qr[m][d], qAt + m * 16 * PD * ES + d * 32);
      first = false;
    }
#endif
    // Few tiles make one product wait for another: then the sum is taken in two parts. f32 has one for small terms.
    constexpr int CH = ATTN_TYPE == 0 || MT * NT <= 4 ? 2 : 1;
    float s2[CH][MT][NT][4];
    APUS_UNROLL for (int h = 0; h < CH; h++)
      APUS_UNROLL for (int m = 0; m < MT; m++)
        APUS_UNROLL for (int n = 0; n < NT; n++)
          APUS_UNROLL for (int e = 0; e < 4; e++) s2[h][m][n][e] = 0;
    const u32 at = stage * (apus_attn_stage * ES);
    APUS_UNROLL for (int d = 0; d < DK; d++) {
#if !ATTN_QREG
      u32 qr[MT][1][4];
      APUS_UNROLL for (int m = 0; m < MT; m++) apus_attn_matrices(qr[m][0], qAt + m * 16 * PD * ES + d * 32);
#endif
#if ATTN_TYPE == 0
      u32 qh[MT][4], ql[MT][4];
      APUS_UNROLL for (int m = 0; m < MT; m++) apus_attn_halves(qh[m], ql[m], qr[m][0]);
#endif
      APUS_UNROLL for (int n = 0; n < NT; n += 2) {
        u32 b[4];
        apus_attn_matrices(b, kAt + at + n * 8 * PD * ES + d * 32);
#if ATTN_TYPE == 0
        apus_attn_pair f[4];
        APUS_UNROLL for (int i = 0; i < 4; i++) f[i] = apus_attn_halves(b[i]);
        APUS_UNROLL for (int m = 0; m < MT; m++) {
          apus_attn_mma3(s2[0][m][n], s2[1][m][n], qh[m], ql[m], f[0], f[1]);
          apus_attn_mma3(s2[0][m][n + 1], s2[1][m][n + 1], qh[m], ql[m], f[2], f[3]);
        }
#else
        APUS_UNROLL for (int m = 0; m < MT; m++) {
          apus_attn_mma(s2[d % CH][m][n], qr[m][ATTN_QREG ? d : 0], b[0], b[1]);
          apus_attn_mma(s2[d % CH][m][n + 1], qr[m][ATTN_QREG ? d : 0], b[2], b[3]);
        }
#endif
      }
    }
    float (&s)[MT][NT][4] = s2[0];
    if (CH == 2)
      APUS_UNROLL for (int m = 0; m < MT; m++)
        APUS_UNROLL for (int n = 0; n < NT; n++)
          APUS_UNROLL for (int e = 0; e < 4; e++) s[m][n][e] += s2[CH - 1][m][n][e];
    const bool whole = t.clearLow <= k0 && k0 + BN <= t.clearHigh;
    float keep[MT][2];
    bool moved = false;
    APUS_UNROLL for (int m = 0; m < MT; m++)
      APUS_UNROLL for (int h = 0; h < 2; h++) {
        float most = top[m][h];
        APUS_UNROLL for (int n = 0; n < NT; n++)
          APUS_UNROLL for (int e = 0; e < 2; e++) {
            float &x = s[m][n][2 * h + e];
            x = apus_attn_score(x);
#if ATTN_MASK
            x += apus_attn_mask_of(mask[ATTN_MASK_ROWS ? 2 * m + h : 0][n], e);
#endif
          }
        if (!whole) {
          const i32 r = row0 + m * 16 + h * 8, low = sz.low(r), high = sz.high(r);
          APUS_UNROLL for (int n = 0; n < NT; n++)
            APUS_UNROLL for (int e = 0; e < 2; e++) {
              const i32 key = keys0 + n * 8 + 2 * (lane & 3) + e;
              if (key < low || key >= high) s[m][n][2 * h + e] = -APUS_ATTN_INF;
            }
        }
        APUS_UNROLL for (int n = 0; n < NT; n++)
          most = fmaxf(most, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
        most = fmaxf(most, apus_shuffle_xor(most, 1));
        most = fmaxf(most, apus_shuffle_xor(most, 2));
        most = apus_attn_raise(top[m][h], most);
        const float base = apus_attn_base(most);
        keep[m][h] = apus_attn_exp(top[m][h], base);
        top[m][h] = most, moved |= keep[m][h] != 1.0f;
        float part = 0;
        APUS_UNROLL for (int n = 0; n < NT; n++)
          APUS_UNROLL for (int e = 0; e < 2; e++) {
            float &x = s[m][n][2 * h + e];
            x = apus_attn_exp(x, base);
            part += x;
          }
        sum[m][h] = sum[m][h] * keep[m][h] + part;
      }
    if (__any_sync(APUS_ALL_LANES, moved))
      APUS_UNROLL for (int m = 0; m < MT; m++)
        APUS_UNROLL for (int n = 0; n < DN; n++)
          APUS_UNROLL for (int e = 0; e < 4; e++) acc[m][n][e] *= keep[m][e / 2];
#if ATTN_TYPE == 0
    // Term t of 8 is key 2 t, term t + 4 is key 2 t + 1: so the scores are in place.
    const float *vs = vAt + stage * apus_attn_stage;
    u32 ph[MT][NT][4], pl[MT][NT][4];
    APUS_UNROLL for (int m = 0; m < MT; m++)
      APUS_UNROLL for (int j = 0; j < NT; j++) {
        const u32 p[4] = {apus_bits_f32(s[m][j][0]), apus_bits_f32(s[m][j][2]), apus_bits_f32(s[m][j][1]),
                          apus_bits_f32(s[m][j][3])};
        apus_attn_halves(ph[m][j], pl[m][j], p);
      }
    APUS_UNROLL for (int n = 0; n < DN; n++) {
      float large[MT][4] = {}, small[MT][4] = {};
      APUS_UNROLL for (int j = 0; j < NT; j++) {
        const apus_attn_pair b0 = apus_attn_halves(apus_bits_f32(vs[j * 8 * PV + n * 8]));
        const apus_attn_pair b1 = apus_attn_halves(apus_bits_f32(vs[(j * 8 + 1) * PV + n * 8]));
        APUS_UNROLL for (int m = 0; m < MT; m++) apus_attn_mma3(large[m], small[m], ph[m][j], pl[m][j], b0, b1);
      }
      APUS_UNROLL for (int m = 0; m < MT; m++)
        APUS_UNROLL for (int e = 0; e < 4; e++) acc[m][n][e] += large[m][e] + small[m][e];
    }
#else
    APUS_UNROLL for (int j = 0; j < NT / 2; j++) {
      u32 p[MT][4];
      APUS_UNROLL for (int m = 0; m < MT; m++)
        APUS_UNROLL for (int i = 0; i < 4; i++)
          p[m][i] = apus_attn_pack(s[m][2 * j + i / 2][i % 2 * 2], s[m][2 * j + i / 2][i % 2 * 2 + 1]);
      APUS_UNROLL for (int n = 0; n < DN; n += 2) {
        u32 b[4];
        apus_attn_matrices_t(b, vAt + at + (j * 16 * PV + n * 8) * 2);
        APUS_UNROLL for (int m = 0; m < MT; m++) {
          apus_attn_mma(acc[m][n], p[m], b[0], b[1]);
          apus_attn_mma(acc[m][n + 1], p[m], b[2], b[3]);
        }
      }
    }
#endif
    stage = stage + 1 == ATTN_STAGES ? 0 : stage + 1;
  }
  apus_attn_wait<0>();
  __syncthreads();

  float *o = (float *)shared, *ml = o + ATTN_KW * BM * apus_attn_po;
  APUS_UNROLL for (int m = 0; m < MT; m++)
    APUS_UNROLL for (int h = 0; h < 2; h++) {
      const int row = wk * BM + (wm * MT + m) * 16 + h * 8 + (lane >> 2);
      float all = sum[m][h];
      all += apus_shuffle_xor(all, 1);
      all += apus_shuffle_xor(all, 2);
      if ((lane & 3) == 0) ml[row * 2] = top[m][h], ml[row * 2 + 1] = all;
      if (row - wk * BM < t.count)
        APUS_UNROLL for (int n = 0; n < DN; n++) {
          apus_vec<float, 2> x = {{acc[m][n][2 * h], acc[m][n][2 * h + 1]}};
          *(apus_vec<float, 2> *)(o + row * apus_attn_po + n * 8 + 2 * (lane & 3)) = x;
        }
    }
  __syncthreads();
  apus_attn_finish<ATTN_THREADS, ATTN_KW, BM, apus_attn_po, ATTN_DV>(g, c, sz, t, o, ml, ml + 2 * ATTN_KW * BM, shared,
                                                                     ATTN_DV);
}

APUS_INLINE void apus_attention_mma(const apus_attention_args &g, const apus_ctx &c, i64 block, i64 blockCount,
                                    u8 *shared) {
  apus_wait_prior();
  const i64 rows = (i64)((u32)g.heads / (u32)g.kvHeads) * g.queries, tiles = APUS_CEIL(rows, apus_attn_bm);
  const i64 units = g.batch * g.kvHeads * tiles * (ATTN_SPLIT ? g.splits : 1);
  for (i64 unit = block; unit < units; unit += blockCount) {
    apus_attn_sizes s;
    const apus_attn_tile t = apus_attn_tile_of(g, unit, tiles, apus_attn_bm, ATTN_BN, 1, s);
    apus_attn_mma_tile(g, c, s, t, shared);
    __syncthreads();
  }
}
