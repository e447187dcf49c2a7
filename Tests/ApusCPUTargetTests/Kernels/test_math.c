#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>
#include "Kernels/prelude.h"
#include "Kernels/math.h"
static double now() {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}
static int bad;
#define N 4096
static float in[N], in2[N], out[N];
static void check(const char* n, double x, double y, double got, double want, double* worst, double* at) {
  if (isnan(want)) {
    if (!isnan(got)) {
      if (bad < 40) printf("BAD %s(%a,%a)=%g want nan\n", n, x, y, got);
      bad++;
    }
    return;
  }
  float w = (float)want;
  if (isinf(w)) {
    if (got != w && !(fabs(got) >= 3.4028e38f && (got > 0) == (w > 0))) {
      if (bad < 40) printf("BAD %s(%a,%a)=%g want %g\n", n, x, y, got, want);
      bad++;
    }
    return;
  }
  if (want == 0 && (got != 0 || signbit(got) != signbit(want))) {
    if (bad < 40) printf("BAD %s(%a,%a)=%g want %g\n", n, x, y, got, want);
    bad++;
    return;
  }
  double e = fabs(got - want), tiny = 1.5e-45;
  if (e <= tiny) return;
  e /= fmax(fabs(want), 0x1p-126);
  if (!(e <= *worst)) {
    *worst = e;
    *at = x;
  }
}
#define SWEEP(f, ref, step, lim)                                                                                      \
  {                                                                                                                   \
    double worst = 0, at = 0;                                                                                         \
    double sec = 0;                                                                                                   \
    long cnt = 0;                                                                                                     \
    for (u64 u = 0; u < 0x100000000ul;) {                                                                             \
      int n = 0;                                                                                                      \
      for (; n < N && u < 0x100000000ul; n++, u += step) in[n] = apus_f32_bits((u32)u);                               \
      for (int i = n; i < N; i++) in[i] = 0;                                                                          \
      double t = now();                                                                                               \
      for (int i = 0; i < N; i++) out[i] = f(in[i]);                                                                  \
      sec += now() - t;                                                                                               \
      cnt += N;                                                                                                       \
      asm volatile("" ::"r"(out) : "memory");                                                                         \
      for (int i = 0; i < n; i++) check(#f, in[i], 0, out[i], ref((double)in[i]), &worst, &at);                       \
    }                                                                                                                 \
    float sp[] = {0.f,       -0.f,       INFINITY,      -INFINITY,      NAN,  1, -1,        0x1p-149f, -0x1p-149f,    \
                  0x1p-126f, -0x1p-126f, 3.4028234e38f, -3.4028234e38f, 0.5f, 2, 88.72283f, 88.72284f, -103.97f,      \
                  -104.1f};                                                                                           \
    for (int i = 0; i < (int)(sizeof sp / 4); i++) check(#f, sp[i], 0, f(sp[i]), ref((double)sp[i]), &worst, &at);    \
    printf("%-20s max rel %.3g at %a  %.2f ns/elem %s\n", #f, worst, at, sec / cnt * 1e9, worst > lim ? "FAIL" : ""); \
    if (worst > lim) bad++;                                                                                           \
  }
static double sigm(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }
static double softp(double x) { return isnan(x) ? x : log1p(exp(-fabs(x))) + fmax(x, 0); }
static double rsq(double x) { return 1 / sqrt(x); }
int main(int c, char** v) {
  u64 step = c > 1 ? atol(v[1]) : 997;
  SWEEP(apus_exp_f32, exp, step, 2e-7)
  SWEEP(apus_expm1_f32, expm1, step, 3e-7) SWEEP(apus_log_f32, log, step, 2e-7) SWEEP(apus_log1p_f32, log1p, step, 3e-7)
      SWEEP(apus_log2_f32, log2, step, 3e-7) SWEEP(apus_tanh_f32, tanh, step, 4e-7)
          SWEEP(apus_sigmoid_f32, sigm, step, 3e-7) SWEEP(apus_softplus_f32, softp, step, 4e-7)
              SWEEP(apus_erf_f32, erf, step, 3e-7) SWEEP(apus_sin_f32, sin, step, 2e-7)
                  SWEEP(apus_cos_f32, cos, step, 2e-7) SWEEP(apus_tan_f32, tan, step, 5e-7)
                      SWEEP(apus_sqrt_f32, sqrt, step, 1e-7) SWEEP(apus_rsqrt_f32, rsq, step, 2e-7)
                          SWEEP(apus_floor_f32, floor, step, 0) SWEEP(apus_ceil_f32, ceil, step, 0)
                              SWEEP(apus_round_f32, rint, step, 0) {
    double worst = 0, at = 0;
    float sp[] = {0.f,       -0.f,       INFINITY,      -INFINITY,      NAN,   1,    -1,
                  0x1p-149f, -0x1p-126f, 3.4028234e38f, -3.4028234e38f, .5f,   2,    3,
                  -3,        -2,         -.5f,          16777217.f,     7.25f, 1e-3f};
    int S = sizeof sp / 4;
    for (int i = 0; i < S; i++)
      for (int j = 0; j < S; j++)
        check("pow", sp[i], sp[j], apus_pow_f32(sp[i], sp[j]), pow((double)sp[i], (double)sp[j]), &worst, &at);
    srand(7);
    double sec = 0;
    long cnt = 0;
    for (int k = 0; k < 300; k++) {
      for (int i = 0; i < N; i++) {
        int m = k % 3;
        in[i] = m == 0   ? apus_f32_bits((u32)rand() * 2u + (rand() & 1))
                : m == 1 ? expf((rand() / (float)RAND_MAX - .5f) * 20)
                         : 1 + (rand() / (float)RAND_MAX - .5f) * 1e-2f;
        in2[i] = m == 0 ? (rand() % 41 - 20) * .5f : (rand() / (float)RAND_MAX - .5f) * (m == 1 ? 20 : 20000);
      }
      double t = now();
      for (int i = 0; i < N; i++) out[i] = apus_pow_f32(in[i], in2[i]);
      sec += now() - t;
      cnt += N;
      asm volatile("" ::"r"(out) : "memory");
      for (int i = 0; i < N; i++) check("pow", in[i], in2[i], out[i], pow(in[i], in2[i]), &worst, &at);
    }
    printf("%-20s max rel %.3g at %a %.2f ns/elem\n", "apus_pow_f32", worst, at, sec / cnt * 1e9);
    if (worst > 2e-7) bad++;
  }
  {
    float g = 0;
    for (int i = -4000; i <= 4000; i++) {
      float x = i / 500.f;
      double w = .5 * x * (1 + erf(x * M_SQRT1_2));
      float e = fabs(apus_gelu_f32(x) - w);
      if (e > g) g = e;
    }
    printf("gelu abs %g\n", g);
    if (g > 5e-7) bad++;
  }
  // 16-bit conversions: all f16/bf16 values, and f32 values against the compiler's own conversion.
  for (u32 h = 0; h < 65536; h++) {
    _Float16 f;
    u16 hh = h;
    __builtin_memcpy(&f, &hh, 2);
    float a = apus_f16_f32(hh), b = (float)f;
    if (!(a == b || (a != a && b != b)) || signbit(a) != signbit(b)) {
      bad++;
      printf("f16 %x\n", h);
    }
    if (a == a && apus_f32_f16(a) != hh) {
      bad++;
      printf("f16 back %x %x\n", h, apus_f32_f16(a));
    }
    float c = apus_bf16_f32(hh);
    if (c == c && apus_f32_bf16(c) != hh) {
      bad++;
      printf("bf16 %x\n", h);
    }
  }
  for (u64 u = 0; u < 0x100000000ul; u += 977) {
    float x = apus_f32_bits((u32)u);
    _Float16 f = (_Float16)x;
    u16 w, g = apus_f32_f16(x);
    __builtin_memcpy(&w, &f, 2);
    if (x == x ? w != g : ((g & 0x7fff) <= 0x7c00)) {
      if (bad < 60) printf("to f16 %a %x %x\n", x, g, w);
      bad++;
    }
    u16 b = apus_f32_bf16(x);
    float r = apus_bf16_f32(b);
    if (x != x) {
      if (r == r) bad++;
    } else {
      float lo = apus_bf16_f32((u16)(u >> 16)), hi = apus_bf16_f32((u16)((u >> 16) + 1));
      double dl = fabs((double)x - lo),
             dh = fabs((double)(isinf(hi) ? copysignf(0x1p128, x) == INFINITY ? 0 : 0 : hi) - x);
      if (!isinf(hi) && !isinf(lo)) {
        float want = dl < dh || (dl == dh && !((u >> 16) & 1)) ? lo : hi;
        if (r != want) {
          bad++;
          if (bad < 80) printf("bf16 %a %a %a\n", x, r, want);
        }
      }
    }
  }
  printf(bad ? "math FAILED %d\n" : "math ok\n", bad);
  return bad != 0;
}
