// Checks every template against plain f64 loops: odd sizes, guard bytes, poisoned outputs, several block counts.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <time.h>
#include "Kernels/prelude.h"
#include "Kernels/math.h"
static int failures;
static u64 seed;
static u64 rnd(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}
static i64 ri(i64 a, i64 b) { return a + (i64)(rnd() % (u64)(b - a + 1)); }
static double rv(void) { return (double)(i64)(rnd() % 2001 - 1000) / 1000.0; }
// A buffer whose end abuts guard bytes; the start too.
typedef struct {
  u8* raw;
  void* p;
  i64 bytes;
} buf;
static buf mk(i64 bytes) {
  buf b;
  b.bytes = bytes;
  b.raw = aligned_alloc(64, APUS_ROUND_UP(bytes + 192, 64));
  memset(b.raw, 0xA5, APUS_ROUND_UP(bytes + 192, 64));
  b.p = b.raw + 64;
  return b;
}
static void done(buf* b, const char* w) {
  for (int i = 0; i < 64; i++)
    if (b->raw[i] != 0xA5 || b->raw[64 + b->bytes + i] != 0xA5) {
      printf("FAIL guard %s\n", w);
      failures++;
      break;
    }
  free(b->raw);
}
static buf mkf(i64 n) {
  buf b = mk(n * 4);
  for (i64 i = 0; i < n; i++) ((float*)b.p)[i] = rv();
  return b;
}
static buf mkd(i64 n) {
  buf b = mk(n * 8);
  for (i64 i = 0; i < n; i++) ((double*)b.p)[i] = rv();
  return b;
}
static void poison(buf* b) { memset(b->p, 0xFF, b->bytes); }
static void fail(const char* w, const char* d, double g, double e) {
  if (failures++ < 30) printf("FAIL %s %s got %g want %g\n", w, d, g, e);
}
#define NEAR(w, g, e, tol, ...)                       \
  do {                                                \
    double g_ = (g), e_ = (e);                        \
    if (!(fabs(g_ - e_) <= (tol) * (1 + fabs(e_)))) { \
      char d_[200];                                   \
      snprintf(d_, 200, __VA_ARGS__);                 \
      fail(w, d_, g_, e_);                            \
    }                                                 \
  } while (0)

// Default epilogue: bias per column, relu, store. buffers = {bias, out}, params = {row stride, batch stride}.
#define EPI(name, E)                                                                                             \
  APUS_INLINE void name(const void* c, const E* tile, i64 ts, i64 batch, i64 row, i64 rows, i64 col, i64 cols) { \
    const apus_ctx* x = c;                                                                                       \
    const E* bias = x->buffers[0];                                                                               \
    E* out = (E*)x->buffers[1] + batch * x->params[1];                                                           \
    for (i64 i = 0; i < rows; i++) APUS_LANES for (i64 j = 0; j < cols; j++) {                                   \
        E v = tile[i * ts + j] + bias[col + j];                                                                  \
        out[(row + i) * x->params[0] + col + j] = v > 0 ? v : 0;                                                 \
      }                                                                                                          \
  }
EPI(epi_f32, float)
EPI(epi_f64, double)
#define KERNEL kf
#define EPILOGUE epi_f32
#include "Kernels/gemm.h"
#include "Kernels/conv.h"
#define WINO 4
#include "Kernels/winograd.h"
#define LINE_TAPS 5
#include "Kernels/winograd_line.h"
#include "Kernels/conv_transpose.h"
    static i64 kf_NR(void) {
  return NR;
}
#include "Kernels/undef.h"
#define KERNEL kn
#define EPILOGUE epi_f32
#define APUS_LIGHT_EPILOGUE
#define NV 1
#include "Kernels/gemm.h"
#include "Kernels/conv.h"
#define WINO 2
#include "Kernels/winograd.h"
#define LINE_TAPS 3
#include "Kernels/winograd_line.h"
#include "Kernels/undef.h"
#define KERNEL kd
#define T double
#define EPILOGUE epi_f64
#include "Kernels/gemm.h"
#include "Kernels/conv.h"
#include "Kernels/conv_transpose.h"
#include "Kernels/depthwise.h"
#include "Kernels/undef.h"
#define KERNEL kw
#define EPILOGUE epi_f32
#define APUS_LIGHT_EPILOGUE
#include "Kernels/depthwise.h"
#include "Kernels/undef.h"

#define GEMM_TEST(P, E, MK, tol)                                                                                  \
  static void P##_gemm(void) {                                                                                    \
    i64 outer = ri(0, 2), inner = ri(1, 3), batch = outer * inner, M = ri(0, 1) ? ri(0, 30) : ri(0, 9),           \
        N = ri(0, 1) ? ri(0, 80) : ri(30, 70), K = ri(0, 1) ? ri(0, 40) : ri(0, 300);                             \
    i64 ta = ri(0, 1), tb = ri(0, 1), shared = ri(0, 1);                                                          \
    if (ri(0, 9) == 0) M = ri(1, 300);                                                                            \
    i64 lda = (ta ? M : K) + ri(0, 3), ldb = (tb ? K : N) + ri(0, 3), am = (ta ? K : M) * lda,                    \
        bm = (tb ? N : K) * ldb, ldo = N + ri(0, 2);                                                              \
    buf a = MK(batch * am), b = MK((shared ? 1 : batch) * bm), bias = MK(N), o = mk(batch * M * ldo * sizeof(E)); \
    poison(&o);                                                                                                   \
    i64 nb = shared ? 1 : batch, ps = P##_packed_size(K, N);                                                      \
    buf p = mk(nb * ps * sizeof(E));                                                                              \
    poison(&p);                                                                                                   \
    apus_pack_args pk = {b.p, p.p, nb, 1, K, N, tb ? 1 : ldb, tb ? ldb : 1, bm, 0};                               \
    i64 bc = ri(1, 5);                                                                                            \
    for (i64 i = bc - 1; i >= 0; i--) P##_pack_b(&pk, i, bc);                                                     \
    i64 prm[] = {ldo, M * ldo};                                                                                   \
    void* bs[] = {bias.p, o.p};                                                                                   \
    apus_ctx cx = {bs, prm};                                                                                      \
    apus_matmul_args g = {a.p,                                                                                    \
                          p.p,                                                                                    \
                          &cx,                                                                                    \
                          batch,                                                                                  \
                          inner,                                                                                  \
                          M,                                                                                      \
                          N,                                                                                      \
                          K,                                                                                      \
                          ta ? 1 : lda,                                                                           \
                          ta ? lda : 1,                                                                           \
                          am * inner,                                                                             \
                          am,                                                                                     \
                          shared ? 0 : ps * inner,                                                                \
                          shared ? 0 : ps};                                                                       \
    buf sc = mk(P##_matmul_scratch(M, K, g.aK));                                                                  \
    bc = ri(0, 1) ? P##_matmul_blocks(batch, M, N, K, 2) : ri(1, 9);                                              \
    for (i64 i = bc - 1; i >= 0; i--) {                                                                           \
      poison(&sc);                                                                                                \
      P##_matmul(&g, i, bc, sc.p);                                                                                \
    }                                                                                                             \
    for (i64 q = 0; q < batch; q++)                                                                               \
      for (i64 m = 0; m < M; m++)                                                                                 \
        for (i64 n = 0; n < N; n++) {                                                                             \
          double s = ((E*)bias.p)[n];                                                                             \
          for (i64 k = 0; k < K; k++)                                                                             \
            s += (double)((E*)a.p)[q * am + (ta ? k * lda + m : m * lda + k)] *                                   \
                 ((E*)b.p)[(shared ? 0 : q) * bm + (tb ? n * ldb + k : k * ldb + n)];                             \
          NEAR(#P " gemm", ((E*)o.p)[q * M * ldo + m * ldo + n], s > 0 ? s : 0, tol,                              \
               "M%ld N%ld K%ld b%ld ta%ld tb%ld at %ld,%ld", M, N, K, batch, ta, tb, m, n);                       \
        }                                                                                                         \
    done(&a, "a");                                                                                                \
    done(&b, "b");                                                                                                \
    done(&bias, "bias");                                                                                          \
    done(&o, "gemm out");                                                                                         \
    done(&p, "packed");                                                                                           \
    done(&sc, "gemm scratch");                                                                                    \
  }
#define GEMV_TEST(P, E, MK, tol)                                                                                  \
  static void P##_gemv_(void) {                                                                                   \
    i64 N = ri(0, 1) ? ri(0, 80) : ri(30, 170), K = ri(0, 1) ? ri(0, 40) : ri(0, 300);                            \
    buf a = MK(K), b = MK(K * N), bias = MK(N), o = mk(N * sizeof(E)), p = mk(P##_packed_size(K, N) * sizeof(E)); \
    poison(&o);                                                                                                   \
    poison(&p);                                                                                                   \
    apus_pack_args pk = {b.p, p.p, 1, 1, K, N, N, 1, 0, 0};                                                       \
    P##_pack_b(&pk, 0, 1);                                                                                        \
    i64 prm[] = {N, N};                                                                                           \
    void* bs[] = {bias.p, o.p};                                                                                   \
    apus_ctx cx = {bs, prm};                                                                                      \
    apus_matmul_args g = {.a = a.p, .b = p.p, .ctx = &cx, .batch = 1, .inner = 1, .M = 1, .N = N, .K = K};        \
    i64 bc = ri(1, 9);                                                                                            \
    for (i64 i = bc - 1; i >= 0; i--) P##_gemv(&g, i, bc);                                                        \
    for (i64 n = 0; n < N; n++) {                                                                                 \
      double s = ((E*)bias.p)[n];                                                                                 \
      for (i64 k = 0; k < K; k++) s += (double)((E*)a.p)[k] * ((E*)b.p)[k * N + n];                               \
      NEAR(#P " gemv", ((E*)o.p)[n], s > 0 ? s : 0, tol, "N%ld K%ld at %ld", N, K, n);                            \
    }                                                                                                             \
    done(&a, "a");                                                                                                \
    done(&b, "b");                                                                                                \
    done(&bias, "bias");                                                                                          \
    done(&o, "gemv out");                                                                                         \
    done(&p, "packed");                                                                                           \
  }
GEMV_TEST(kf, float, mkf, 3e-5) GEMV_TEST(kn, float, mkf, 3e-5) GEMV_TEST(kd, double, mkd, 1e-11)
GEMM_TEST(kf, float, mkf, 3e-5)
GEMM_TEST(kn, float, mkf, 3e-5) GEMM_TEST(kd, double, mkd, 1e-11)
#define ANY_WINDOW                                                                                                     \
    i64 G = ri(0, 2) ? 1 : ri(1, 4), Cg = ri(0, 1) ? ri(1, 5) : ri(1, 40), Og = ri(1, 50), N = ri(0, 2),               \
        KH = ri(1, 4), KW = ri(1, 4), SH = ri(1, 3), SW = ri(1, 3), DH = ri(1, 2), DW = ri(1, 2), PT = ri(0, 3),       \
        PL = ri(0, 3), PB = ri(0, 3), PR = ri(0, 3), H = ri(1, 11), W = ri(1, 11)
#define SMALL_WINDOW                                                                                                   \
    i64 G = 1, Cg = VL * ri(1, 5), Og = ri(1, 50), N = ri(0, 2), KH = 3, KW = 3, SH = 1, SW = 1, DH = 1, DW = 1,       \
        PT = ri(0, 3), PL = ri(0, 3), PB = ri(0, 3), PR = ri(0, 3), H = ri(1, 20), W = ri(1, 20)
#define LINE_WINDOW(taps)                                                                                              \
    i64 G = 1, Cg = VL * ri(1, 5), Og = ri(1, 50), N = ri(0, 3), KH = 1, KW = taps, SH = 1, SW = 1, DH = 1, DW = 1,    \
        PT = 0, PL = ri(0, 5), PB = 0, PR = ri(0, 5), H = 1, W = ri(1, 60)
// Of convolutions by the text F, of sizes that the declarations SIZES make up.
#define CONV_TEST(P, F, SIZES, E, MK, tol)                                                                             \
  static void P##_##F##t(void) {                                                                                       \
    SIZES;                                                                                                             \
    i64 OH = (H + PT + PB - (KH - 1) * DH - 1) / SH + 1, OW = (W + PL + PR - (KW - 1) * DW - 1) / SW + 1;              \
    if (H + PT + PB < (KH - 1) * DH + 1 || W + PL + PR < (KW - 1) * DW + 1) return;                                    \
    i64 C = G * Cg, O = G * Og, ldo = O + ri(0, 2);                                                                    \
    buf x = MK(N * H * W * C), w = MK(O * Cg * KH * KW), bias = MK(O), z = mk(Cg * sizeof(E)),                         \
        o = mk(N * OH * OW * ldo * sizeof(E));                                                                         \
    memset(z.p, 0, z.bytes);                                                                                           \
    poison(&o);                                                                                                        \
    i64 prm[] = {ldo, 0};                                                                                              \
    void* bs[] = {bias.p, o.p};                                                                                        \
    apus_ctx cx = {bs, prm};                                                                                           \
    apus_conv_args g = {x.p, 0, &cx, z.p, N, H, W, C, OH, OW, O, KH, KW, SH, SW, DH, DW, PT, PL, G};                   \
    buf p = mk(P##_##F##_packed_size(&g) * sizeof(E));                                                                 \
    poison(&p);                                                                                                        \
    P##_##F##_pack(&g, w.p, p.p);                                                                                      \
    g.w = p.p;                                                                                                         \
    buf sc = mk(P##_##F##_scratch(&g));                                                                                \
    i64 bc = ri(0, 1) ? P##_conv_blocks(&g, 2) : ri(1, 9);                                                             \
    for (i64 i = bc - 1; i >= 0; i--) {                                                                                \
      poison(&sc);                                                                                                     \
      P##_##F(&g, i, bc, sc.p);                                                                                        \
    }                                                                                                                  \
    for (i64 n = 0; n < N; n++)                                                                                        \
      for (i64 oh = 0; oh < OH; oh++)                                                                                  \
        for (i64 ow = 0; ow < OW; ow++)                                                                                \
          for (i64 q = 0; q < O; q++) {                                                                                \
            double s = ((E*)bias.p)[q];                                                                                \
            i64 gi = q / Og;                                                                                           \
            for (i64 kh = 0; kh < KH; kh++)                                                                            \
              for (i64 kw = 0; kw < KW; kw++) {                                                                        \
                i64 y = oh * SH - PT + kh * DH, xx = ow * SW - PL + kw * DW;                                           \
                if (y < 0 || y >= H || xx < 0 || xx >= W) continue;                                                    \
                for (i64 c = 0; c < Cg; c++)                                                                           \
                  s += (double)((E*)x.p)[((n * H + y) * W + xx) * C + gi * Cg + c] *                                   \
                       ((E*)w.p)[((q * Cg + c) * KH + kh) * KW + kw];                                                  \
              }                                                                                                        \
            NEAR(#P " " #F, ((E*)o.p)[((n * OH + oh) * OW + ow) * ldo + q], s > 0 ? s : 0, tol,                        \
                 "C%ld O%ld G%ld k%ldx%ld s%ld,%ld d%ld,%ld", C, O, G, KH, KW, SH, SW, DH, DW);                        \
          }                                                                                                            \
    done(&x, "x");                                                                                                     \
    done(&w, "w");                                                                                                     \
    done(&bias, "bias");                                                                                               \
    done(&z, "z");                                                                                                     \
    done(&o, #F " out");                                                                                               \
    done(&p, #F " packed");                                                                                            \
    done(&sc, #F " scratch");                                                                                          \
  }
CONV_TEST(kf, conv, ANY_WINDOW, float, mkf, 3e-5) CONV_TEST(kn, conv, ANY_WINDOW, float, mkf, 3e-5)
CONV_TEST(kd, conv, ANY_WINDOW, double, mkd, 1e-11)
CONV_TEST(kf, winograd, SMALL_WINDOW, float, mkf, 2e-4) CONV_TEST(kn, winograd, SMALL_WINDOW, float, mkf, 6e-5)
CONV_TEST(kf, winograd_line, LINE_WINDOW(5), float, mkf, 2e-4)
CONV_TEST(kn, winograd_line, LINE_WINDOW(3), float, mkf, 6e-5)

#define DW_TEST(P, E, MK, tol)                                                                                     \
  static void P##_dwt(void) {                                                                                      \
    i64 mult = ri(0, 3) ? 1 : ri(1, 3), C = ri(0, 1) ? ri(1, 40) : ri(1, 300), N = ri(0, 2),                       \
        KH = ri(0, 1) ? 3 : ri(1, 5), KW = ri(0, 2) ? 3 : ri(1, 5), SH = ri(1, 2), SW = ri(1, 2),                  \
        DH = ri(0, 2) ? 1 : ri(1, 2), DW = ri(0, 2) ? 1 : ri(1, 2), PT = ri(0, 4), PL = ri(0, 4), PB = ri(0, 4),   \
        PR = ri(0, 4), H = ri(1, 9), W = ri(0, 1) ? ri(1, 9) : ri(5, 40);                                          \
    i64 OH = (H + PT + PB - (KH - 1) * DH - 1) / SH + 1, OW = (W + PL + PR - (KW - 1) * DW - 1) / SW + 1;          \
    if (H + PT + PB < (KH - 1) * DH + 1 || W + PL + PR < (KW - 1) * DW + 1) return;                                \
    i64 O = C * mult, ldo = O + ri(0, 2);                                                                          \
    buf x = MK(N * H * W * C), w = MK(O * KH * KW), bias = MK(O), o = mk(N * OH * OW * ldo * sizeof(E));           \
    poison(&o);                                                                                                    \
    i64 prm[] = {ldo, 0};                                                                                          \
    void* bs[] = {bias.p, o.p};                                                                                    \
    apus_ctx cx = {bs, prm};                                                                                       \
    apus_depthwise_args g = {x.p, w.p, &cx, N, H, W, C, OH, OW, mult, KH, KW, SH, SW, DH, DW, PT, PL};             \
    i64 bc = ri(0, 1) ? P##_depthwise_blocks(&g, 2) : ri(1, 9);                                                    \
    for (i64 i = bc - 1; i >= 0; i--) P##_depthwise(&g, i, bc);                                                    \
    for (i64 n = 0; n < N; n++)                                                                                    \
      for (i64 oh = 0; oh < OH; oh++)                                                                              \
        for (i64 ow = 0; ow < OW; ow++)                                                                            \
          for (i64 q = 0; q < O; q++) {                                                                            \
            double s = ((E*)bias.p)[q];                                                                            \
            for (i64 kh = 0; kh < KH; kh++)                                                                        \
              for (i64 kw = 0; kw < KW; kw++) {                                                                    \
                i64 y = oh * SH - PT + kh * DH, xx = ow * SW - PL + kw * DW;                                       \
                if (y < 0 || y >= H || xx < 0 || xx >= W) continue;                                                \
                s += (double)((E*)x.p)[((n * H + y) * W + xx) * C + q / mult] * ((E*)w.p)[(kh * KW + kw) * O + q]; \
              }                                                                                                    \
            NEAR(#P " depthwise", ((E*)o.p)[((n * OH + oh) * OW + ow) * ldo + q], s > 0 ? s : 0, tol,              \
                 "C%ld m%ld k%ldx%ld s%ld,%ld d%ld,%ld", C, mult, KH, KW, SH, SW, DH, DW);                         \
          }                                                                                                        \
    done(&x, "x");                                                                                                 \
    done(&w, "w");                                                                                                 \
    done(&bias, "bias");                                                                                           \
    done(&o, "depthwise out");                                                                                     \
  }
        DW_TEST(kw, float, mkf, 3e-5) DW_TEST(kd, double, mkd, 1e-11)
#define CT_TEST(P, E, MK, tol)                                                                                   \
  static void P##_ctt(void) {                                                                                    \
    i64 G = ri(0, 2) ? 1 : ri(1, 3), Cg = ri(1, 30), Og = ri(1, 40), N = ri(0, 2), KH = ri(1, 4), KW = ri(1, 4), \
        SH = ri(1, 3), SW = ri(1, 3), DH = ri(1, 2), DW = ri(1, 2), PT = ri(0, 3), PL = ri(0, 3), H = ri(1, 7),  \
        W = ri(1, 7);                                                                                            \
    i64 OH = SH * (H - 1) + (KH - 1) * DH + 1 - PT - ri(0, 2) + ri(0, SH - 1),                                   \
        OW = SW * (W - 1) + (KW - 1) * DW + 1 - PL - ri(0, 2) + ri(0, SW - 1);                                   \
    if (OH < 1 || OW < 1) return;                                                                                \
    i64 C = G * Cg, O = G * Og, ldo = O + ri(0, 2);                                                              \
    buf x = MK(N * H * W * C), w = MK(C * Og * KH * KW), bias = MK(O), z = mk(Cg * sizeof(E)),                   \
        o = mk(N * OH * OW * ldo * sizeof(E));                                                                   \
    memset(z.p, 0, z.bytes);                                                                                     \
    poison(&o);                                                                                                  \
    i64 prm[] = {ldo, 0};                                                                                        \
    void* bs[] = {bias.p, o.p};                                                                                  \
    apus_ctx cx = {bs, prm};                                                                                     \
    apus_conv_transpose_args g = {x.p, 0, &cx, z.p, N, H, W, C, OH, OW, O, KH, KW, SH, SW, DH, DW, PT, PL, G};   \
    buf p = mk(P##_conv_transpose_packed_size(&g) * sizeof(E));                                                  \
    poison(&p);                                                                                                  \
    P##_conv_transpose_pack(&g, w.p, p.p);                                                                       \
    g.w = p.p;                                                                                                   \
    buf sc = mk(P##_conv_transpose_scratch(&g));                                                                 \
    i64 bc = ri(0, 1) ? P##_conv_transpose_blocks(&g, 2) : ri(1, 9);                                             \
    for (i64 i = bc - 1; i >= 0; i--) {                                                                          \
      poison(&sc);                                                                                               \
      P##_conv_transpose(&g, i, bc, sc.p);                                                                       \
    }                                                                                                            \
    double* ref = calloc(N * OH * OW * O + 1, 8);                                                                \
    for (i64 n = 0; n < N; n++)                                                                                  \
      for (i64 y = 0; y < H; y++)                                                                                \
        for (i64 xx = 0; xx < W; xx++)                                                                           \
          for (i64 c = 0; c < C; c++)                                                                            \
            for (i64 q = 0; q < Og; q++)                                                                         \
              for (i64 kh = 0; kh < KH; kh++)                                                                    \
                for (i64 kw = 0; kw < KW; kw++) {                                                                \
                  i64 oy = y * SH + kh * DH - PT, ox = xx * SW + kw * DW - PL;                                   \
                  if (oy < 0 || oy >= OH || ox < 0 || ox >= OW) continue;                                        \
                  ref[((n * OH + oy) * OW + ox) * O + c / Cg * Og + q] +=                                        \
                      (double)((E*)x.p)[((n * H + y) * W + xx) * C + c] *                                        \
                      ((E*)w.p)[((c * Og + q) * KH + kh) * KW + kw];                                             \
                }                                                                                                \
    for (i64 m = 0; m < N * OH * OW; m++)                                                                        \
      for (i64 q = 0; q < O; q++) {                                                                              \
        double s = ref[m * O + q] + ((E*)bias.p)[q];                                                             \
        NEAR(#P " conv_transpose", ((E*)o.p)[m * ldo + q], s > 0 ? s : 0, tol,                                   \
             "C%ld O%ld G%ld k%ldx%ld s%ld,%ld d%ld,%ld", C, O, G, KH, KW, SH, SW, DH, DW);                      \
      }                                                                                                          \
    free(ref);                                                                                                   \
    done(&x, "x");                                                                                               \
    done(&w, "w");                                                                                               \
    done(&bias, "bias");                                                                                         \
    done(&z, "z");                                                                                               \
    done(&o, "ct out");                                                                                          \
    done(&p, "ct packed");                                                                                       \
    done(&sc, "ct scratch");                                                                                     \
  }
            CT_TEST(kf, float, mkf, 3e-5) CT_TEST(kd, double, mkd, 1e-11)

#define EPIN(name, E)                                                                                            \
  APUS_INLINE void name(const void* c, const E* tile, i64 ts, i64 batch, i64 row, i64 rows, i64 col, i64 cols) { \
    const apus_ctx* x = c;                                                                                       \
    E* out = (E*)x->buffers[0] + batch * x->params[1];                                                           \
    for (i64 i = 0; i < rows; i++)                                                                               \
      for (i64 j = 0; j < cols; j++) out[(row + i) * x->params[0] + col + j] = tile[i * ts + j];                 \
  }
                EPIN(store_f32, float) EPIN(store_f64, double)
#define KERNEL p0
#define EPILOGUE store_f32
#define POOL POOL_MAX
#include "Kernels/pool.h"
#include "Kernels/undef.h"
#define KERNEL p1
#define EPILOGUE store_f32
#define POOL POOL_AVERAGE
#include "Kernels/pool.h"
#include "Kernels/undef.h"
#define KERNEL p2
#define EPILOGUE store_f32
#define POOL POOL_LP
#include "Kernels/pool.h"
#include "Kernels/undef.h"
#define KERNEL q1
#define T double
#define EPILOGUE store_f64
#define POOL POOL_AVERAGE
#include "Kernels/pool.h"
#include "Kernels/undef.h"
#define KERNEL q2
#define T double
#define EPILOGUE store_f64
#define POOL POOL_LP
#include "Kernels/pool.h"
#include "Kernels/undef.h"
#define POOL_TEST(P, E, MK, mode, tol)                                                                           \
  static void P##_poolt(void) {                                                                                  \
    i64 C = ri(0, 1) ? ri(1, 40) : ri(1, 300), N = ri(0, 2), KH = ri(1, 4), KW = ri(1, 4), SH = ri(1, 3),        \
        SW = ri(1, 3), DH = ri(1, 2), DW = ri(1, 2), PT = ri(0, KH - 1), PL = ri(0, KW - 1), PB = ri(0, KH - 1), \
        PR = ri(0, KW - 1), H = ri(1, 9), W = ri(1, 9), ce = ri(0, 1), cip = ri(0, 1), pp = ri(1, 3);            \
    if (H + PT + PB < (KH - 1) * DH + 1 || W + PL + PR < (KW - 1) * DW + 1) return;                              \
    i64 OH = (H + PT + PB - (KH - 1) * DH - 1 + (ce ? SH - 1 : 0)) / SH + 1,                                     \
        OW = (W + PL + PR - (KW - 1) * DW - 1 + (ce ? SW - 1 : 0)) / SW + 1;                                     \
    i64 ldo = C + ri(0, 2);                                                                                      \
    buf x = MK(N * H * W * C), o = mk(N * OH * OW * ldo * sizeof(E));                                            \
    poison(&o);                                                                                                  \
    i64 nan = mode == 0 && N * H * W * C && ri(0, 3) == 0;                                                       \
    if (nan) ((E*)x.p)[ri(0, N * H * W * C - 1)] = NAN;                                                          \
    i64 prm[] = {ldo, 0};                                                                                        \
    void* bs[] = {o.p};                                                                                          \
    apus_ctx cx = {bs, prm};                                                                                     \
    apus_pool_args g = {x.p, &cx, N, H, W, C, OH, OW, KH, KW, SH, SW, DH, DW, PT, PL, PB, PR, cip, pp};          \
    i64 bc = ri(0, 1) ? P##_pool_blocks(&g, 2) : ri(1, 9);                                                       \
    for (i64 i = bc - 1; i >= 0; i--) P##_pool(&g, i, bc);                                                       \
    for (i64 n = 0; n < N; n++)                                                                                  \
      for (i64 oh = 0; oh < OH; oh++)                                                                            \
        for (i64 ow = 0; ow < OW; ow++)                                                                          \
          for (i64 q = 0; q < C; q++) {                                                                          \
            double s = mode == 0 ? -INFINITY : 0;                                                                \
            i64 cnt = 0, cp = 0;                                                                                 \
            for (i64 kh = 0; kh < KH; kh++)                                                                      \
              for (i64 kw = 0; kw < KW; kw++) {                                                                  \
                i64 y = oh * SH - PT + kh * DH, xx = ow * SW - PL + kw * DW;                                     \
                if (y < H + PB && xx < W + PR) cp++;                                                             \
                if (y < 0 || y >= H || xx < 0 || xx >= W) continue;                                              \
                cnt++;                                                                                           \
                double v = ((E*)x.p)[((n * H + y) * W + xx) * C + q];                                            \
                if (mode == 0)                                                                                   \
                  s = (v > s || v != v) ? v : s;                                                                 \
                else if (mode == 1)                                                                              \
                  s += v;                                                                                        \
                else                                                                                             \
                  s += pow(fabs(v), pp);                                                                         \
              }                                                                                                  \
            if (mode == 1) s /= cip ? cp : cnt;                                                                  \
            if (mode == 2) s = pow(s, 1.0 / pp);                                                                 \
            double got = ((E*)o.p)[((n * OH + oh) * OW + ow) * ldo + q];                                         \
            if ((s != s && got != got) || s == got) continue;                                                    \
            NEAR(#P " pool", got, s, tol, "C%ld k%ldx%ld s%ld,%ld d%ld,%ld", C, KH, KW, SH, SW, DH, DW);         \
          }                                                                                                      \
    done(&x, "x");                                                                                               \
    done(&o, "pool out");                                                                                        \
  }
                    POOL_TEST(p0, float, mkf, 0, 0) POOL_TEST(p1, float, mkf, 1, 1e-5)
                        POOL_TEST(p2, float, mkf, 2, 1e-5) POOL_TEST(q1, double, mkd, 1, 1e-12)
                            POOL_TEST(q2, double, mkd, 2, 1e-12)

#define KERNEL kr
#define EPILOGUE epi_f32
#include "Kernels/gemm.h"
#include "Kernels/lstm.h"
#include "Kernels/undef.h"
                                static double sg(double x) {
  return 1 / (1 + exp(-x));
}
static double cl(double x, double c) { return c > 0 ? fmax(-c, fmin(c, x)) : x; }
// kind 0 lstm, 1 gru, 2 rnn. Layouts as in ONNX: x gates [T,B,D,gates,H], R [D,gates*H,H].
static void rnn_test(int kind) {
  i64 gates = kind == 0   ? 4
              : kind == 1 ? 3
                          : 1,
      T = ri(0, 6), B = ri(1, ri(0, 3) ? 5 : 30), D = ri(1, 2), H = ri(0, 1) ? ri(1, 20) : ri(1, 90), lay = ri(0, 1),
      lbr = ri(0, 1), seq = ri(0, 1), peep = ri(0, 1), init = ri(0, 1), outs = ri(0, 3), couple = ri(0, 4) == 0,
      rev = ri(0, 3);
  float clip = ri(0, 3) ? 0 : 0.7f;
  buf x = mkf(T * B * D * gates * H), R = mkf(D * gates * H * H), rb = mkf(D * H), P = mkf(D * 3 * H),
      h0 = mkf(D * B * H), c0 = mkf(D * B * H), len = mk(B * 4), y = mk(T * D * B * H * 4), yh = mk(D * B * H * 4),
      yc = mk(D * B * H * 4);
  poison(&y);
  poison(&yh);
  poison(&yc);
  for (i64 i = 0; i < D * gates * H * H; i++) ((float*)R.p)[i] *= 0.5f;
  for (i64 b = 0; b < B; b++) ((i32*)len.p)[b] = ri(0, T);
  i64 ps = kr_packed_size(H, H);
  buf p = mk(D * gates * ps * 4);
  poison(&p);
  apus_pack_args pk = {R.p, p.p, D * gates, 1, H, H, 1, H, H * H, 0};
  kr_pack_b(&pk, 0, 1);
  apus_rnn_args g = {0};
  g.x = x.p;
  g.r = p.p;
  g.rBias = rb.p;
  g.peephole = peep ? P.p : 0;
  g.h0 = init ? h0.p : 0;
  g.c0 = init ? c0.p : 0;
  g.lengths = seq ? len.p : 0;
  g.y = outs & 1 ? y.p : 0;
  g.yh = outs != 1 ? yh.p : 0;
  g.yc = outs != 1 && kind == 0 ? yc.p : 0;
  g.steps = T;
  g.B = B;
  g.D = D;
  g.H = H;
  g.xT = B * D * gates * H;
  g.xB = D * gates * H;
  g.xD = gates * H;
  g.rbD = H;
  if (lay) {
    g.sB = D * H;
    g.sD = H;
    g.yB = T * D * H;
    g.yT = D * H;
    g.yD = H;
  } else {
    g.sD = B * H;
    g.sB = H;
    g.yT = D * B * H;
    g.yD = B * H;
    g.yB = H;
  }
  g.reverse = rev;
  g.linearBeforeReset = lbr;
  g.inputForget = couple;
  g.clip = clip;
  buf sc = mk(kr_rnn_scratch(&g));
  i64 bc = ri(0, 1) ? kr_rnn_blocks(&g, 2) : ri(1, 9);
  for (i64 i = bc - 1; i >= 0; i--) {
    poison(&sc);
    (kind == 0 ? kr_lstm : kind == 1 ? kr_gru : kr_rnn)(&g, i, bc, sc.p);
  }
  double *h = calloc(H * 8 + 1, 8), *c = h + H, *hn = h + 2 * H, *r = h + 3 * H, *z = h + 4 * H;
  const char* nm = kind == 0 ? "lstm" : kind == 1 ? "gru" : "rnn";
#define XG(q, u) ((float*)x.p)[((tt * B + b) * D + d) * gates * H + (q) * H + (u)]
  for (i64 d = 0; d < D; d++)
    for (i64 b = 0; b < B; b++) {
      i64 n = seq ? ((i32*)len.p)[b] : T;
      for (i64 u = 0; u < H; u++) {
        h[u] = init ? ((float*)h0.p)[d * g.sD + b * g.sB + u] : 0;
        c[u] = init ? ((float*)c0.p)[d * g.sD + b * g.sB + u] : 0;
      }
      for (i64 t = 0; t < T; t++) {
        i64 tt = t >= n ? t : (rev >> d & 1) ? n - 1 - t : t;
        if (t < n) {
#define DOT(q, vec)                                                                                          \
  ({                                                                                                         \
    double s_ = 0;                                                                                           \
    for (i64 k = 0; k < H; k++) s_ += (double)(vec)[k] * ((float*)R.p)[((d * gates + (q)) * H + u) * H + k]; \
    s_;                                                                                                      \
  })
          if (kind == 0) {
            for (i64 u = 0; u < H; u++) {
              float* pp = (float*)P.p + d * 3 * H;
              double zi = XG(0, u) + DOT(0, h), zo = XG(1, u) + DOT(1, h), zf = XG(2, u) + DOT(2, h),
                     zc = XG(3, u) + DOT(3, h);
              if (peep) {
                zi += pp[u] * c[u];
                zf += pp[2 * H + u] * c[u];
              }
              double i = sg(cl(zi, clip)), f = couple ? 1 - i : sg(cl(zf, clip));
              double cn = f * c[u] + i * tanh(cl(zc, clip));
              if (peep) zo += pp[H + u] * cn;
              z[u] = cn;
              hn[u] = sg(cl(zo, clip)) * tanh(cn);
            }
            memcpy(c, z, H * 8);
          } else if (kind == 1) {
            for (i64 u = 0; u < H; u++) {
              z[u] = sg(cl(XG(0, u) + DOT(0, h), clip));
              r[u] = sg(cl(XG(1, u) + DOT(1, h), clip));
            }
            double* rh = r + 2 * H;
            for (i64 u = 0; u < H; u++) rh[u] = r[u] * h[u];
            for (i64 u = 0; u < H; u++) {
              double v = lbr ? XG(2, u) + r[u] * (DOT(2, h) + ((float*)rb.p)[d * H + u]) : XG(2, u) + DOT(2, rh);
              v = tanh(cl(v, clip));
              hn[u] = (1 - z[u]) * v + z[u] * h[u];
            }
          } else
            for (i64 u = 0; u < H; u++) hn[u] = tanh(cl(XG(0, u) + DOT(0, h), clip));
          memcpy(h, hn, H * 8);
        }
        if (g.y)
          for (i64 u = 0; u < H; u++)
            NEAR(nm, g.y[tt * g.yT + d * g.yD + b * g.yB + u], t < n ? h[u] : 0, 2e-5, "y T%ld B%ld D%ld H%ld t%ld", T,
                 B, D, H, t);
      }
      for (i64 u = 0; u < H; u++) {
        if (g.yh) NEAR(nm, g.yh[d * g.sD + b * g.sB + u], h[u], 2e-5, "yh T%ld B%ld D%ld H%ld", T, B, D, H);
        if (g.yc) NEAR(nm, g.yc[d * g.sD + b * g.sB + u], c[u], 4e-5, "yc T%ld B%ld D%ld H%ld", T, B, D, H);
      }
    }
  free(h);
  done(&x, "x");
  done(&R, "R");
  done(&rb, "rb");
  done(&P, "P");
  done(&h0, "h0");
  done(&c0, "c0");
  done(&len, "len");
  done(&y, "y");
  done(&yh, "yh");
  done(&yc, "yc");
  done(&p, "packed r");
  done(&sc, "rnn scratch");
}
static void lstm(void) { rnn_test(0); }
static void gru(void) { rnn_test(1); }
static void rnn(void) { rnn_test(2); }

#define KERNEL ka
#define EPILOGUE store_f32
#include "Kernels/gemm.h"
#include "Kernels/attention.h"
#include "Kernels/undef.h"
static void attention(void) {
  i64 B = ri(0, 2), kvh = ri(1, 3), group = ri(1, 3), H = kvh * group, Sq = ri(0, 2) ? ri(0, 40) : ri(1, 400),
      Sk = ri(0, 1) ? ri(1, 40) : ri(1, 400), D = ri(0, 1) ? ri(1, 20) : ri(1, 80), Dv = ri(0, 1) ? D : ri(1, 80),
      causal = ri(0, 1), um = ri(0, 2), bshd = ri(0, 1);
  if (ri(0, 2) == 0) Sq = 1;
  i64 qn = B * H * Sq * D;
  buf q = mkf(qn), k = mkf(B * kvh * Sk * D), v = mkf(B * kvh * Sk * Dv),
      mask = mkf(um ? (um == 1 ? Sq * Sk : B * Sk) : 0), o = mk(B * H * Sq * Dv * 4);
  poison(&o);
  for (i64 i = 0; i < qn; i++) ((float*)q.p)[i] *= 3;
  if (um)
    for (i64 i = 0; i < mask.bytes / 4; i++)
      if (ri(0, 3) == 0) ((float*)mask.p)[i] = -INFINITY;
  apus_attention_args g = {0};
  i64 prm[] = {Dv, Sq * Dv};
  void* bs[] = {o.p};
  apus_ctx cx = {bs, prm};
  g.q = q.p;
  g.k = k.p;
  g.v = v.p;
  g.mask = um ? mask.p : 0;
  g.ctx = &cx;
  g.B = B;
  g.heads = H;
  g.kvHeads = kvh;
  g.Sq = Sq;
  g.Sk = Sk;
  g.D = D;
  g.Dv = Dv;
  if (bshd) {
    g.qB = Sq * H * D;
    g.qS = H * D;
    g.qH = D;
    g.kB = Sk * kvh * D;
    g.kS = kvh * D;
    g.kH = D;
    g.vB = Sk * kvh * Dv;
    g.vS = kvh * Dv;
    g.vH = Dv;
  } else {
    g.qB = H * Sq * D;
    g.qH = Sq * D;
    g.qS = D;
    g.kB = kvh * Sk * D;
    g.kH = Sk * D;
    g.kS = D;
    g.vB = kvh * Sk * Dv;
    g.vH = Sk * Dv;
    g.vS = Dv;
  }
  if (um == 1) {
    g.maskQ = Sk;
    g.maskK = 1;
  }
  if (um == 2) {
    g.maskB = Sk;
    g.maskK = 1;
  }
  g.causal = causal;
  g.causalOffset = Sk - Sq + ri(-1, 1);
  g.scale = 1 / sqrtf(D);
  buf sc = mk(ka_attention_scratch(&g));
  i64 bc = ri(0, 1) ? ka_attention_blocks(&g, 2) : ri(1, 9);
  for (i64 i = bc - 1; i >= 0; i--) {
    poison(&sc);
    ka_attention(&g, i, bc, sc.p);
  }
  double* s = calloc(Sk + 1, 8);
  for (i64 b = 0; b < B; b++)
    for (i64 h = 0; h < H; h++)
      for (i64 i = 0; i < Sq; i++) {
        double mx = -INFINITY, sum = 0;
        const float* Q = g.q + b * g.qB + h * g.qH + i * g.qS;
        for (i64 j = 0; j < Sk; j++) {
          const float* K = g.k + b * g.kB + h / group * g.kH + j * g.kS;
          double t = 0;
          for (i64 d = 0; d < D; d++) t += (double)Q[d] * K[d];
          t *= g.scale;
          if (um) t += g.mask[b * g.maskB + i * g.maskQ + j];
          if (causal && j > i + g.causalOffset) t = -INFINITY;
          s[j] = t;
          if (t > mx) mx = t;
        }
        for (i64 j = 0; j < Sk; j++) {
          s[j] = exp(s[j] - mx);
          sum += s[j];
        }
        for (i64 c = 0; c < Dv; c++) {
          double t = 0;
          for (i64 j = 0; j < Sk; j++) t += s[j] / sum * g.v[b * g.vB + h / group * g.vH + j * g.vS + c];
          float got = ((float*)o.p)[((b * H + h) * Sq + i) * Dv + c];
          if (t != t && got != got) continue;
          NEAR("attention", got, t, 2e-5, "B%ld H%ld/%ld Sq%ld Sk%ld D%ld Dv%ld causal%ld mask%ld at %ld", B, H, kvh,
               Sq, Sk, D, Dv, causal, um, i);
        }
      }
  free(s);
  done(&q, "q");
  done(&k, "k");
  done(&v, "v");
  done(&mask, "mask");
  done(&o, "attn out");
  done(&sc, "attn scratch");
}

// Mixed storage: A f32 or 16-bit, B 16-bit.
#define MIX(P, TA_)                                                                                       \
  static void P##_mix(void) {                                                                             \
    i64 M = ri(1, 20), N = ri(1, 70), K = ri(1, 60);                                                      \
    i64 ps = P##_packed_size(K, N);                                                                       \
    buf a = mk(M * K * sizeof(TA_)), b = mk(K * N * 2), p = mk(ps * 2), o = mk(M * N * 4), bias = mkf(N); \
    poison(&p);                                                                                           \
    poison(&o);                                                                                           \
    TA_* A = a.p;                                                                                         \
    P##_tb* B = b.p;                                                                                      \
    for (i64 i = 0; i < M * K; i++) A[i] = (TA_)(float)rv();                                              \
    for (i64 i = 0; i < K * N; i++) B[i] = (P##_tb)(float)rv();                                           \
    apus_pack_args pk = {b.p, p.p, 1, 1, K, N, N, 1, 0, 0};                                               \
    P##_pack_b(&pk, 0, 1);                                                                                \
    i64 prm[] = {N, 0};                                                                                   \
    void* bs[] = {bias.p, o.p};                                                                           \
    apus_ctx cx = {bs, prm};                                                                              \
    apus_matmul_args g = {a.p, p.p, &cx, 1, 1, M, N, K, K, 1, 0, 0, 0, 0};                                \
    P##_matmul(&g, 0, 1, 0);                                                                              \
    for (i64 m = 0; m < M; m++)                                                                           \
      for (i64 n = 0; n < N; n++) {                                                                       \
        double s = ((float*)bias.p)[n];                                                                   \
        for (i64 k = 0; k < K; k++) s += (double)(float)A[m * K + k] * (double)(float)B[k * N + n];       \
        NEAR(#P, ((float*)o.p)[m * N + n], s > 0 ? s : 0, 3e-5, "M%ld N%ld K%ld", M, N, K);               \
      }                                                                                                   \
    done(&a, "a");                                                                                        \
    done(&b, "b");                                                                                        \
    done(&p, "p");                                                                                        \
    done(&o, "o");                                                                                        \
    done(&bias, "bias");                                                                                  \
  }
#if defined(__F16C__)
#define KERNEL kh
#define EPILOGUE epi_f32
#define TB _Float16
#include "Kernels/gemm.h"
typedef _Float16 kh_tb;
#include "Kernels/undef.h"
MIX(kh, float)
#endif
#if defined(__AVX512BF16__)
#define KERNEL kb
#define EPILOGUE epi_f32
#define TA __bf16
#define TB __bf16
#include "Kernels/gemm.h"
typedef __bf16 kb_tb;
#include "Kernels/undef.h"
MIX(kb, __bf16)
#endif
// MORE
int main(int c, char** v) {
  setvbuf(stdout, 0, _IOLBF, 0);
  i64 n = c > 1 ? atol(v[1]) : 300;
  seed = c > 2 ? strtoul(v[2], 0, 10) : 1;
  printf("seed %lu VL %d NR %ld\n", seed, (int)VL, kf_NR());
#define RUN(f)                                                      \
  {                                                                 \
    int before = failures;                                          \
    for (i64 i = 0; i < n; i++) f();                                \
    printf("%-16s %s\n", #f, failures == before ? "ok" : "FAILED"); \
  }
  RUN(kf_gemm) RUN(kf_gemv_) RUN(kn_gemv_) RUN(kd_gemv_)
  RUN(kn_gemm) RUN(kd_gemm) RUN(kf_winogradt) RUN(kn_winogradt) RUN(kf_winograd_linet) RUN(kn_winograd_linet) RUN(kf_convt) RUN(kn_convt) RUN(kd_convt) RUN(kw_dwt) RUN(kd_dwt) RUN(kf_ctt) RUN(kd_ctt)
      RUN(p0_poolt) RUN(p1_poolt) RUN(p2_poolt) RUN(q1_poolt) RUN(q2_poolt) RUN(lstm) RUN(gru) RUN(rnn) RUN(attention)

#if defined(__F16C__)
          RUN(kh_mix)
#endif
#if defined(__AVX512BF16__)
              RUN(kb_mix)
#endif
      // RUNS
      fflush(stdout);
  printf(failures ? "%d FAILURES\n" : "all ok\n", failures);
  return failures != 0;
}
