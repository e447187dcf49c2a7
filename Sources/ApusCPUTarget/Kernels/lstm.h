// Recurrent cells (LSTM, GRU, plain RNN), f32. Needs prelude.h, math.h and, with the same KERNEL and T = float, gemm.h.
// The input product x W + bias of all time steps is a matmul of its own; this part runs the recurrence.
// Activations may be replaced by macros of one argument: RNN_F (gates), RNN_G (cell input), RNN_H (cell output).
#ifndef RNN_F
#define RNN_F apus_sigmoid_f32
#endif
#ifndef RNN_G
#define RNN_G apus_tanh_f32
#endif
#ifndef RNN_H
#define RNN_H apus_tanh_f32
#endif

#ifndef APUS_RNN_TYPES
#define APUS_RNN_TYPES
typedef struct {
  // Gate inputs [T, B, D, gates, H] by strides xT, xB, xD; biases are already added.
  const float *x;
  // Recurrent weights, packed: per direction and gate one [H, H] matrix (input unit, output unit).
  const float *r;
  const float *rBias;     // GRU, linearBeforeReset only: [D, H], strides rbD; may be null
  const float *peephole;  // LSTM: [D, 3, H] in the order i, o, f; may be null
  const float *h0, *c0;   // [D, B, H] by strides sD, sB; may be null
  const i32 *lengths;     // [B]; may be null
  float *y, *yh, *yc;     // [T, D, B, H] by yT, yD, yB; [D, B, H] by sD, sB; each may be null
  i64 steps, B, D, H;
  i64 xT, xB, xD, rbD, sD, sB, yT, yD, yB;
  i64 reverse;            // bit d set: direction d runs backward
  i64 linearBeforeReset, inputForget;
  float clip;             // 0: none
} apus_rnn_args;
#endif

#undef RNN_PANELS
#define RNN_PANELS(H) APUS_CEIL(H, NR)
// Bytes: two h, one c or z, one r*h, each MR rows of the rounded-up width.
APUS_INLINE i64 FN(rnn_scratch)(const apus_rnn_args *g) { return 4 * MR * RNN_PANELS(g->H) * NR * (i64)sizeof(float); }
APUS_INLINE i64 FN(rnn_blocks)(const apus_rnn_args *g, i64 threads) {
  return APUS_MAX(1, APUS_MIN(threads, APUS_MAX(g->D, g->D * g->B / 4)));
}

typedef struct {
  i64 d, b0, rows, t;
  const float *hPrev;
  float *hNext, *c, *rh;
} FN(rnn_step);

APUS_INLINE float FN(rnn_clip)(float v, float clip) {
  v = v > clip ? clip : v;
  return v < -clip ? -clip : v;
}
// Gate tiles of one panel: gates first .. first + n of h R.
APUS_INLINE void FN(rnn_product)(const apus_rnn_args *g, const FN(rnn_step) *s, i64 gates, i64 first, i64 n, i64 p,
                                 const float *h, float *tiles) {
  const float *rows[MR];
  const i64 width = RNN_PANELS(g->H) * NR;
  APUS_UNROLL for (int i = 0; i < MR; i++) rows[i] = h + i * width;
  for (i64 q = 0; q < n; q++)
    CORE_FN(_tile)(s->rows, rows, 0, 1, g->H, g->r + ((s->d * gates + first + q) * width + p * NR) * g->H,
                   tiles + q * MR * NR);
}
// Time index of row i, or -1 past its end, where the state is kept and the output is zero.
APUS_INLINE i64 FN(rnn_time)(const apus_rnn_args *g, const FN(rnn_step) *s, i64 i) {
  i64 n = g->lengths ? g->lengths[s->b0 + i] : g->steps;
  if (s->t >= n) return -1;
  return (g->reverse >> s->d & 1) ? n - 1 - s->t : s->t;
}
APUS_INLINE float *FN(rnn_out)(const apus_rnn_args *g, const FN(rnn_step) *s, i64 i, i64 time) {
  return g->y + (time < 0 ? s->t : time) * g->yT + s->d * g->yD + (s->b0 + i) * g->yB;
}
APUS_INLINE void FN(rnn_store)(const apus_rnn_args *g, const FN(rnn_step) *s, i64 i, i64 time, i64 u0, i64 n) {
  const i64 at = i * RNN_PANELS(g->H) * NR + u0;
  if (time < 0)
    for (i64 j = 0; j < n; j++) s->hNext[at + j] = s->hPrev[at + j];
  if (!g->y) return;
  float *y = FN(rnn_out)(g, s, i, time) + u0;
  if (time < 0)
    APUS_LANES for (i64 j = 0; j < n; j++) y[j] = 0;
  else
    APUS_LANES for (i64 j = 0; j < n; j++) y[j] = s->hNext[at + j];
}

// n units from u0 of one row; gate order i, o, f, c.
APUS_INLINE void FN(lstm_units)(const apus_rnn_args *g, const float *restrict x, i64 H, const float *restrict a,
                                const float *restrict p, float *restrict c, float *restrict h, i64 n, float clip) {
  const i64 S = MR * NR, couple = g->inputForget;
  APUS_LANES for (i64 j = 0; j < n; j++) {
    float zi = x[j] + a[j], zo = x[H + j] + a[S + j], zf = x[2 * H + j] + a[2 * S + j], zc = x[3 * H + j] + a[3 * S + j];
    float old = c[j];
    zi = p ? zi + p[j] * old : zi;
    zf = p ? zf + p[2 * H + j] * old : zf;
    float i = RNN_F(FN(rnn_clip)(zi, clip)), f = RNN_F(FN(rnn_clip)(zf, clip));
    f = couple ? 1.0f - i : f;
    float now = f * old + i * RNN_G(FN(rnn_clip)(zc, clip));
    zo = p ? zo + p[H + j] * now : zo;
    c[j] = now;
    h[j] = RNN_F(FN(rnn_clip)(zo, clip)) * RNN_H(now);
  }
}
APUS_NOINLINE void FN(lstm_step)(const apus_rnn_args *g, const FN(rnn_step) *s) {
  const i64 H = g->H, width = RNN_PANELS(H) * NR;
  const float clip = g->clip > 0 ? g->clip : __builtin_inff();
  APUS_ALIGNED float tiles[4 * MR * NR];
  for (i64 u0 = 0; u0 < H; u0 += NR) {
    i64 n = APUS_MIN(NR, H - u0);
    FN(rnn_product)(g, s, 4, 0, 4, u0 / NR, s->hPrev, tiles);
    for (i64 i = 0; i < s->rows; i++) {
      i64 time = FN(rnn_time)(g, s, i);
      if (time >= 0) {
        const float *x = g->x + time * g->xT + (s->b0 + i) * g->xB + s->d * g->xD + u0;
        const float *p = g->peephole ? g->peephole + s->d * 3 * H + u0 : 0;
        float *c = s->c + i * width + u0, *h = s->hNext + i * width + u0;
        if (p) FN(lstm_units)(g, x, H, tiles + i * NR, p, c, h, n, clip);
        else FN(lstm_units)(g, x, H, tiles + i * NR, 0, c, h, n, clip);
      }
      FN(rnn_store)(g, s, i, time, u0, n);
    }
  }
}

// Gate order z, r, h.
APUS_NOINLINE void FN(gru_step)(const apus_rnn_args *g, const FN(rnn_step) *s) {
  const i64 H = g->H, width = RNN_PANELS(H) * NR, linear = g->linearBeforeReset;
  const float clip = g->clip > 0 ? g->clip : __builtin_inff();
  APUS_ALIGNED float tiles[3 * MR * NR];
  for (i64 pass = 0; pass < (linear ? 1 : 2); pass++)
    for (i64 u0 = 0; u0 < H; u0 += NR) {
      i64 n = APUS_MIN(NR, H - u0);
      if (pass == 0) FN(rnn_product)(g, s, 3, 0, linear ? 3 : 2, u0 / NR, s->hPrev, tiles);
      else FN(rnn_product)(g, s, 3, 2, 1, u0 / NR, s->rh, tiles + 2 * MR * NR);
      for (i64 i = 0; i < s->rows; i++) {
        i64 time = FN(rnn_time)(g, s, i);
        const float *hp = s->hPrev + i * width + u0, *a = tiles + i * NR;
        float *z = s->c + i * width + u0, *rh = s->rh + i * width + u0, *h = s->hNext + i * width + u0;
        if (time >= 0) {
          const float *x = g->x + time * g->xT + (s->b0 + i) * g->xB + s->d * g->xD + u0;
          if (pass == 0)
            APUS_LANES for (i64 j = 0; j < n; j++) {
              z[j] = RNN_F(FN(rnn_clip)(x[j] + a[j], clip));
              float r = RNN_F(FN(rnn_clip)(x[H + j] + a[MR * NR + j], clip));
              rh[j] = linear ? r : r * hp[j];
            }
          if (linear) {
            const float *b = g->rBias ? g->rBias + s->d * g->rbD + u0 : 0;
            APUS_LANES for (i64 j = 0; j < n; j++) {
              float v = RNN_G(FN(rnn_clip)(x[2 * H + j] + rh[j] * (a[2 * MR * NR + j] + (b ? b[j] : 0.0f)), clip));
              h[j] = (1.0f - z[j]) * v + z[j] * hp[j];
            }
          } else if (pass == 1) {
            APUS_LANES for (i64 j = 0; j < n; j++) {
              float v = RNN_G(FN(rnn_clip)(x[2 * H + j] + a[2 * MR * NR + j], clip));
              h[j] = (1.0f - z[j]) * v + z[j] * hp[j];
            }
          }
        } else if (pass == 0) {
          for (i64 j = 0; j < n; j++) rh[j] = 0;
        }
        if (linear || pass == 1) FN(rnn_store)(g, s, i, time, u0, n);
      }
    }
}

APUS_NOINLINE void FN(plain_step)(const apus_rnn_args *g, const FN(rnn_step) *s) {
  const i64 H = g->H, width = RNN_PANELS(H) * NR;
  const float clip = g->clip > 0 ? g->clip : __builtin_inff();
  APUS_ALIGNED float tiles[MR * NR];
  for (i64 u0 = 0; u0 < H; u0 += NR) {
    i64 n = APUS_MIN(NR, H - u0);
    FN(rnn_product)(g, s, 1, 0, 1, u0 / NR, s->hPrev, tiles);
    for (i64 i = 0; i < s->rows; i++) {
      i64 time = FN(rnn_time)(g, s, i);
      if (time >= 0) {
        const float *x = g->x + time * g->xT + (s->b0 + i) * g->xB + s->d * g->xD + u0, *a = tiles + i * NR;
        float *h = s->hNext + i * width + u0;
        APUS_LANES for (i64 j = 0; j < n; j++) h[j] = RNN_G(FN(rnn_clip)(x[j] + a[j], clip));
      }
      FN(rnn_store)(g, s, i, time, u0, n);
    }
  }
}

// Blocks share the D * B independent rows.
APUS_INLINE void FN(rnn_run)(const apus_rnn_args *g, void (*step)(const apus_rnn_args *, const FN(rnn_step) *),
                             i64 block, i64 blockCount, void *scratch) {
  const i64 H = g->H, width = RNN_PANELS(H) * NR;
  apus_range r = apus_share(g->D * g->B, block, blockCount);
  for (i64 at = r.begin; at < r.end;) {
    i64 d = at / g->B, b0 = at % g->B, left = APUS_MIN(g->B - b0, r.end - at);
    i64 rows = APUS_CEIL(left, APUS_CEIL(left, MR));
    float *h = (float *)scratch, *h2 = h + MR * width, *c = h2 + MR * width, *rh = c + MR * width;
    for (i64 i = 0; i < rows; i++)
      for (i64 j = 0; j < H; j++) {
        i64 from = d * g->sD + (b0 + i) * g->sB + j;
        h[i * width + j] = g->h0 ? g->h0[from] : 0.0f;
        c[i * width + j] = g->c0 ? g->c0[from] : 0.0f;
      }
    for (i64 t = 0; t < g->steps; t++) {
      FN(rnn_step) s = {d, b0, rows, t, h, h2, c, rh};
      step(g, &s);
      float *swap = h;
      h = h2;
      h2 = swap;
    }
    for (i64 i = 0; i < rows; i++)
      for (i64 j = 0; j < H; j++) {
        i64 to = d * g->sD + (b0 + i) * g->sB + j;
        if (g->yh) g->yh[to] = h[i * width + j];
        if (g->yc) g->yc[to] = c[i * width + j];
      }
    at += rows;
  }
}
APUS_STATIC void FN(lstm)(const apus_rnn_args *g, i64 block, i64 blockCount, void *scratch) {
  FN(rnn_run)(g, FN(lstm_step), block, blockCount, scratch);
}
APUS_STATIC void FN(gru)(const apus_rnn_args *g, i64 block, i64 blockCount, void *scratch) {
  FN(rnn_run)(g, FN(gru_step), block, blockCount, scratch);
}
APUS_STATIC void FN(rnn)(const apus_rnn_args *g, i64 block, i64 blockCount, void *scratch) {
  FN(rnn_run)(g, FN(plain_step), block, blockCount, scratch);
}
