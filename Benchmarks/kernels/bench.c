// Timings of the templates; prints GFLOP/s and the share of the measured FMA peak of one core.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <pthread.h>
#include "Kernels/prelude.h"
#include "Kernels/math.h"
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}
static double peak;
static void measure_peak(void) {
  for (int r = 0; r < 3; r++) {
    apus_vf a[12], x = (apus_vf){0} + 0.999f, y = (apus_vf){0} + 1e-3f;
    for (int i = 0; i < 12; i++) a[i] = x;
    double t = now();
    i64 n = 10000000;
    for (i64 k = 0; k < n; k++) {
      APUS_UNROLL for (int i = 0; i < 12; i++) a[i] = a[i] * x + y;
      __asm__ volatile("" ::"x"(a[0]));
    }
    t = now() - t;
    volatile float s = 0;
    for (int i = 0; i < 12; i++) s += a[i][0];
    double g = n * 12. * VL * 2 / t * 1e-9;
    if (g > peak) peak = g;
  }
  printf("FMA peak %.0f GFLOP/s\n", peak);
}
APUS_INLINE void epi(const void* c, const float* tile, i64 ts, i64 batch, i64 row, i64 rows, i64 col, i64 cols) {
  const apus_ctx* x = c;
  const i64 ld = x->params[0];
  const float* bias = (const float*)x->buffers[0] + col;
  float* out = (float*)x->buffers[1] + batch * x->params[1] + row * ld + col;
  for (i64 i = 0; i < rows; i++) {
    APUS_LANES for (i64 j = 0; j < cols; j++) {
      float v = tile[i * ts + j] + bias[j];
      out[i * ld + j] = v > 0 ? v : 0;
    }
  }
}
#define KERNEL kf
#define EPILOGUE epi
#include "Kernels/gemm.h"
#include "Kernels/conv.h"
#include "Kernels/conv_transpose.h"
#include "Kernels/lstm.h"
#include "Kernels/attention.h"
#include "Kernels/depthwise.h"
#define POOL POOL_MAX
#include "Kernels/pool.h"
static i64 prm[2];
static void* bs[2];
static apus_ctx cx = {bs, prm};
static float* A(i64 n) {
  float* p = aligned_alloc(64, n * 4 + 4096);
  for (i64 i = 0; i < n; i++) p[i] = (float)(i % 13 - 6) * .1f;
  return p;
}
#define TIME(fl, stmt)                  \
  ({                                    \
    double f_ = (fl), b_ = 1e9;         \
    int n_ = (int)(5e8 / (f_ + 1)) + 1; \
    for (int r_ = 0; r_ < 5; r_++) {    \
      double t_ = now();                \
      for (int i_ = 0; i_ < n_; i_++) { \
        stmt;                           \
      }                                 \
      t_ = (now() - t_) / n_;           \
      if (t_ < b_) b_ = t_;             \
    }                                   \
    b_;                                 \
  })
static void gemm(i64 M, i64 K, i64 N) {
  float *a = A(M * K), *b = A(K * N), *p = A(kf_packed_size(K, N));
  bs[0] = A(N);
  bs[1] = A(M * N);
  prm[0] = N;
  apus_pack_args pk = {b, p, 1, 1, K, N, N, 1, 0, 0};
  kf_pack_b(&pk, 0, 1);
  apus_matmul_args g = {a, p, &cx, 1, 1, M, N, K, K, 1, 0, 0, 0, 0};
  double f = 2. * M * N * K, t = TIME(f, kf_matmul(&g, 0, 1, 0));
  printf("gemm %ldx%ldx%ld: %.1f GF/s %.0f%%  B %.0f GB/s\n", M, K, N, f / t * 1e-9, f / t * 1e-7 / peak,
         4. * K * N / t * 1e-9);
  free(a);
  free(b);
  free(p);
  free(bs[0]);
  free(bs[1]);
}
static void conv(i64 H, i64 C, i64 O, i64 k, i64 s, i64 G) {
  i64 pad = k / 2, OH = (H + 2 * pad - k) / s + 1;
  float *x = A(H * H * C), *w = A(O * C / G * k * k);
  static float zero[4096];
  bs[0] = A(O);
  bs[1] = A(OH * OH * O);
  prm[0] = O;
  apus_conv_args g = {x, 0, &cx, zero, 1, H, H, C, OH, OH, O, k, k, s, s, 1, 1, pad, pad, G};
  float* p = A(kf_conv_packed_size(&g));
  kf_conv_pack(&g, w, p);
  g.w = p;
  void* sc = A(kf_conv_scratch(&g) / 4 + 16);
  double f = 2. * OH * OH * O * C / G * k * k, t = TIME(f, kf_conv(&g, 0, 1, sc));
  printf("conv %ldx%ld C%ld O%ld k%ld s%ld g%ld: %.1f GF/s %.0f%%\n", H, H, C, O, k, s, G, f / t * 1e-9,
         f / t * 1e-7 / peak);
  free(x);
  free(w);
  free(p);
  free(sc);
  free(bs[0]);
  free(bs[1]);
}
static void dw(i64 H, i64 C, i64 k, i64 s) {
  i64 pad = k / 2, OH = (H + 2 * pad - k) / s + 1;
  float *x = A(H * H * C), *w = A(C * k * k);
  bs[0] = A(C);
  bs[1] = A(OH * OH * C);
  prm[0] = C;
  apus_depthwise_args g = {x, w, &cx, 1, H, H, C, OH, OH, 1, k, k, s, s, 1, 1, pad, pad};
  double f = 2. * OH * OH * C * k * k, t = TIME(f, kf_depthwise(&g, 0, 1));
  printf("depthwise %ldx%ld C%ld k%ld s%ld: %.1f GF/s %.0f%% %.0f GB/s in+out\n", H, H, C, k, s, f / t * 1e-9,
         f / t * 1e-7 / peak, 4. * (H * H * C + OH * OH * C) / t * 1e-9);
  free(x);
  free(w);
  free(bs[0]);
  free(bs[1]);
}

static void ct(i64 H, i64 C, i64 O, i64 k, i64 s) {
  i64 OH = H * s;
  float *x = A(H * H * C), *w = A(O * C * k * k);
  static float zero[4096];
  bs[0] = A(O);
  bs[1] = A(OH * OH * O);
  prm[0] = O;
  apus_conv_transpose_args g = {x, 0, &cx, zero, 1, H, H, C, OH, OH, O, k, k, s, s, 1, 1, (k - s) / 2, (k - s) / 2, 1};
  float* p = A(kf_conv_transpose_packed_size(&g));
  kf_conv_transpose_pack(&g, w, p);
  g.w = p;
  void* sc = A(kf_conv_transpose_scratch(&g) / 4 + 16);
  double f = 2. * H * H * O * C * k * k, t = TIME(f, kf_conv_transpose(&g, 0, 1, sc));
  printf("conv_transpose %ldx%ld C%ld O%ld k%ld s%ld: %.1f GF/s %.0f%%\n", H, H, C, O, k, s, f / t * 1e-9,
         f / t * 1e-7 / peak);
}
static void pool(i64 H, i64 C, i64 k, i64 s) {
  i64 pad = k / 2, OH = (H + 2 * pad - k) / s + 1;
  if (k == H) pad = 0, OH = 1;
  float* x = A(H * H * C);
  bs[0] = A(C);
  bs[1] = A(OH * OH * C);
  prm[0] = C;
  apus_pool_args g = {x, &cx, 1, H, H, C, OH, OH, k, k, s, s, 1, 1, pad, pad, pad, pad, 0, 0};
  double f = (double)OH * OH * C * k * k, t = TIME(f, kf_pool(&g, 0, 1));
  printf("maxpool %ldx%ld C%ld k%ld s%ld: %.1f us, %.0f GB/s in+out\n", H, H, C, k, s, t * 1e6,
         4. * (H * H * C + OH * OH * C) / t * 1e-9);
}
static void rnn(int gru, i64 St, i64 B, i64 H) {
  i64 G = gru ? 3 : 4;
  i64 ps = kf_packed_size(H, H);
  apus_rnn_args g = {0};
  g.x = A(St * B * G * H);
  g.r = A(G * ps);
  g.y = A(St * B * H);
  g.steps = St;
  g.B = B;
  g.D = 1;
  g.H = H;
  g.xT = B * G * H;
  g.xB = G * H;
  g.yT = B * H;
  g.yB = H;
  g.sB = H;
  g.linearBeforeReset = 1;
  void* sc = A(kf_rnn_scratch(&g) / 4);
  for (i64 i = 0; i < G * ps; i++) ((float*)g.r)[i] *= .01f;
  double f = 2. * St * B * G * H * H, t = TIME(f, (gru ? kf_gru : kf_lstm)(&g, 0, 1, sc));
  printf("%s T%ld B%ld H%ld: %.1f GF/s, %.1f us/step, R %.0f GB/s\n", gru ? "gru" : "lstm", St, B, H, f / t * 1e-9,
         t / St * 1e6, 4. * St * G * H * H / t * 1e-9 * ((B + MR - 1) / MR));
}
static void att(i64 H, i64 KH, i64 Sq, i64 Sk, i64 D, i64 causal) {
  apus_attention_args g = {0};
  g.q = A(H * Sq * D);
  g.k = A(KH * Sk * D);
  g.v = A(KH * Sk * D);
  bs[0] = A(D);
  bs[1] = A(H * Sq * D);
  prm[0] = D;
  prm[1] = Sq * D;
  g.ctx = &cx;
  g.B = 1;
  g.heads = H;
  g.kvHeads = KH;
  g.Sq = Sq;
  g.Sk = Sk;
  g.D = g.Dv = D;
  g.qH = Sq * D;
  g.qS = D;
  g.kH = g.vH = Sk * D;
  g.kS = g.vS = D;
  g.causal = causal;
  g.causalOffset = Sk - Sq;
  g.scale = .125f;
  void* sc = A(kf_attention_scratch(&g) / 4);
  double f = 4. * H * Sq * Sk * D * (causal && Sq > 1 ? .5 : 1), t = TIME(f, kf_attention(&g, 0, 1, sc));
  printf("attention H%ld/%ld Sq%ld Sk%ld D%ld%s: %.1f GF/s %.0f%%, KV %.0f GB/s\n", H, KH, Sq, Sk, D,
         causal ? " causal" : "", f / t * 1e-9, f / t * 1e-7 / peak, 8. * KH * Sk * D / t * 1e-9);
}
// Two threads, one block each, no barrier between repetitions: upper bound for two cores.
typedef struct {
  const apus_matmul_args* g;
  i64 block, n;
} job;
static void* work(void* p) {
  job* j = p;
  for (i64 i = 0; i < j->n; i++) kf_matmul(j->g, j->block, 2, 0);
  return 0;
}
static void gemm2(i64 M, i64 K, i64 N) {
  float *a = A(M * K), *p = A(kf_packed_size(K, N));
  bs[0] = A(N);
  bs[1] = A(M * N);
  prm[0] = N;
  apus_matmul_args g = {a, p, &cx, 1, 1, M, N, K, K, 1, 0, 0, 0, 0};
  double f = 2. * M * N * K, best = 1e9;
  i64 n = (i64)(3e9 / f) + 1;
  for (int r = 0; r < 3; r++) {
    job j[2] = {{&g, 0, n}, {&g, 1, n}};
    pthread_t t;
    double s = now();
    pthread_create(&t, 0, work, j + 1);
    work(j);
    pthread_join(t, 0);
    s = (now() - s) / n;
    if (s < best) best = s;
  }
  printf("2 threads gemm %ldx%ldx%ld: %.1f GF/s %.0f%% of 2 cores\n", M, K, N, f / best * 1e-9,
         f / best * 1e-7 / peak / 2);
}
// MORE
int main(void) {
  measure_peak();
  gemm(128, 384, 384);
  gemm(128, 384, 1536);
  gemm(128, 1536, 384);
  gemm(1024, 1024, 1024);
  gemm(196, 256, 1024);
  gemm(1, 768, 3072);
  gemm(1, 384, 384);
  gemm(2, 768, 3072);
  gemm(4, 768, 3072);
  gemm(8, 768, 3072);
  gemm(64, 64, 64);
  conv(224, 3, 64, 7, 2, 1);
  conv(224, 3, 32, 3, 2, 1);
  conv(56, 64, 64, 3, 1, 1);
  conv(56, 64, 64, 1, 1, 1);
  conv(56, 64, 256, 1, 1, 1);
  conv(28, 128, 128, 3, 1, 1);
  conv(56, 128, 128, 3, 2, 1);
  conv(14, 256, 256, 3, 1, 1);
  conv(7, 512, 512, 3, 1, 1);
  conv(14, 1024, 256, 1, 1, 1);
  conv(7, 512, 2048, 1, 1, 1);
  conv(56, 24, 144, 1, 1, 1);
  conv(112, 16, 16, 3, 1, 1);
  conv(28, 128, 128, 3, 1, 32);
  dw(112, 32, 3, 1);
  dw(112, 96, 3, 2);
  dw(56, 144, 3, 1);
  dw(28, 192, 3, 1);
  dw(14, 576, 3, 1);
  dw(7, 960, 3, 1);
  dw(28, 240, 5, 1);
  dw(14, 672, 5, 2);
  ct(28, 128, 64, 4, 2);
  ct(56, 64, 32, 2, 2);
  ct(14, 256, 128, 3, 2);
  pool(112, 64, 3, 2);
  pool(56, 256, 2, 2);
  pool(7, 2048, 7, 1);
  rnn(0, 50, 1, 256);
  rnn(0, 50, 1, 512);
  rnn(0, 50, 16, 512);
  rnn(1, 50, 1, 256);
  rnn(1, 50, 16, 512);
  att(12, 12, 128, 128, 64, 0);
  att(12, 12, 512, 512, 64, 0);
  att(12, 12, 512, 512, 64, 1);
  att(32, 8, 1, 2048, 128, 0);
  att(12, 12, 1, 1024, 64, 0);
  att(8, 8, 1024, 1024, 128, 1);
  gemm2(128, 384, 384);
  gemm2(1024, 1024, 1024);
  gemm2(1, 768, 3072);
  // RUNS
}
