// Element functions. The f32 ones are branch-free, so that loops over them vectorise. Needs prelude.h.
#ifndef APUS_MATH
#define APUS_MATH

#define APUS_INF_F32 __builtin_inff()
#define APUS_NAN_F32 __builtin_nanf("")
// Adding this rounds to the nearest integer, which the low bits of the sum then hold.
#define APUS_MAGIC_F32 12582912.0f
#define APUS_MAGIC_F64 6755399441055744.0

APUS_INLINE float apus_sqrt_f32(float x) { return __builtin_sqrtf(x); }
APUS_INLINE float apus_rsqrt_f32(float x) { return 1.0f / __builtin_sqrtf(x); }
APUS_INLINE float apus_floor_f32(float x) { return __builtin_floorf(x); }
APUS_INLINE float apus_ceil_f32(float x) { return __builtin_ceilf(x); }
APUS_INLINE float apus_trunc_f32(float x) { return __builtin_truncf(x); }
APUS_INLINE float apus_round_f32(float x) { return __builtin_rintf(x); }
APUS_INLINE float apus_abs_f32(float x) { return __builtin_fabsf(x); }
APUS_INLINE float apus_copysign_f32(float m, float s) {
  return apus_f32_bits((apus_bits_f32(m) & 0x7fffffffu) | (apus_bits_f32(s) & 0x80000000u));
}
APUS_INLINE float apus_sign_f32(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : x; }
// NaN if either operand is NaN.
APUS_INLINE float apus_max_f32(float a, float b) { float m = a > b ? a : b; return a != a ? a : m; }
APUS_INLINE float apus_min_f32(float a, float b) { float m = a < b ? a : b; return a != a ? a : m; }

// 2^n for -126 <= n <= 127, n given as bits(MAGIC + n).
APUS_INLINE float apus_pow2_magic(u32 bits) { return apus_f32_bits((bits - 0x4b400000u + 127u) << 23); }

APUS_INLINE float apus_exp_f32(float x) {
  float c = x < -104.0f ? -104.0f : x;
  c = c > 89.0f ? 89.0f : c;
  float t = c * 0x1.715476p+0f + APUS_MAGIC_F32, n = t - APUS_MAGIC_F32;
  float r = c - n * 0x1.62e4p-1f;
  r = r - n * 1.4286068203e-6f;
  float q = 1.39505405e-3f;
  q = q * r + 8.36891787e-3f;
  q = q * r + 4.16662051e-2f;
  q = q * r + 1.66665186e-1f;
  q = q * r + 5.00000010e-1f;
  q = (q * r) * r + r + 1.0f;
  // Two factors, so that subnormal results and the last binade are reached.
  i32 k = (i32)(apus_bits_f32(t) - 0x4b400000u), h = k >> 1;
  u32 last = (u32)(k - h + 127) << 23;
  // A zero factor spares the far negative side the cost of underflow.
  return q * apus_f32_bits((u32)(h + 127) << 23) * apus_f32_bits(x < -104.0f ? 0u : last);
}

APUS_INLINE float apus_expm1_f32(float x) {
  float c = x < -20.0f ? -20.0f : x;
  c = c > 89.0f ? 89.0f : c;
  float t = c * 0x1.715476p+0f + APUS_MAGIC_F32, n = t - APUS_MAGIC_F32;
  float r = c - n * 0x1.62e4p-1f;
  r = r - n * 1.4286068203e-6f;
  float q = 1.39464969e-3f;
  q = q * r + 8.36661061e-3f;
  q = q * r + 4.16662814e-2f;
  q = q * r + 1.66665428e-1f;
  q = q * r + 5.00000006e-1f;
  q = (q * r) * r + r;
  float s = apus_pow2_magic(apus_bits_f32(t) - 1u);
  float y = (s * q + (s - 0.5f)) * 2.0f;
  return __builtin_fabsf(x) < 0x1p-13f ? x * (x * 0.5f + 1.0f) : y;
}

// log(2^e * (1 + f)) for 1 + f in [sqrt(1/2), sqrt(2)).
APUS_INLINE float apus_log_tail(float e, float f) {
  float p = -7.85962855e-2f;
  p = p * f + 1.28816674e-1f;
  p = p * f - 1.31287575e-1f;
  p = p * f + 1.41811893e-1f;
  p = p * f - 1.66245535e-1f;
  p = p * f + 2.00022864e-1f;
  p = p * f - 2.50008104e-1f;
  p = p * f + 3.33333167e-1f;
  float f2 = f * f;
  float t = f2 * f * p + e * 1.4286068203e-6f;
  t = t - 0.5f * f2;
  return (t + f) + e * 0x1.62e4p-1f;
}
APUS_INLINE float apus_log_f32(float x) {
  float big = x < 0x1p-126f ? x * 0x1p23f : x;
  i32 u = (i32)apus_bits_f32(big), e = (u - 0x3f3504f3) >> 23;
  float f = apus_f32_bits((u32)u - ((u32)e << 23)) - 1.0f;
  float y = apus_log_tail((float)(x < 0x1p-126f ? e - 23 : e), f);
  y = x < APUS_INF_F32 ? y : x;
  y = x == 0.0f ? -APUS_INF_F32 : y;
  return x < 0.0f ? APUS_NAN_F32 : y;
}
APUS_INLINE float apus_log2_f32(float x) { return apus_log_f32(x) * 1.44269504089f; }
APUS_INLINE float apus_log10_f32(float x) { return apus_log_f32(x) * 0.434294481903f; }

APUS_INLINE float apus_log1p_f32(float x) {
  float w = 1.0f + x;
  float c = x < 1.0f ? x - (w - 1.0f) : 1.0f - (w - x);
  i32 u = (i32)apus_bits_f32(w), e = (u - 0x3f3504f3) >> 23;
  // c is zero where 2^-e would leave the normal range.
  i32 s = e > 100 ? 100 : e;
  float f = (apus_f32_bits((u32)u - ((u32)e << 23)) - 1.0f) + c * apus_f32_bits((u32)(127 - s) << 23);
  float y = apus_log_tail((float)e, f);
  y = x < APUS_INF_F32 ? y : x;
  y = x == -1.0f ? -APUS_INF_F32 : y;
  y = __builtin_fabsf(x) < 0x1p-13f ? x - x * x * 0.5f : y;
  return x < -1.0f ? APUS_NAN_F32 : y;
}

APUS_INLINE float apus_tanh_f32(float x) {
  float a = __builtin_fabsf(x);
  float t = apus_expm1_f32(2.0f * (a > 10.0f ? 10.0f : a));
  return apus_copysign_f32(t / (t + 2.0f), x);
}
APUS_INLINE float apus_sigmoid_f32(float x) {
  float e = apus_exp_f32(-__builtin_fabsf(x)), r = 1.0f / (1.0f + e);
  return x < 0.0f ? e * r : r;
}
APUS_INLINE float apus_softplus_f32(float x) {
  return apus_log1p_f32(apus_exp_f32(-__builtin_fabsf(x))) + (x > 0.0f ? x : 0.0f);
}

APUS_INLINE float apus_erf_f32(float x) {
  float a = __builtin_fabsf(x), z = x * x;
  float p = 8.34522766e-5f;
  p = p * z - 8.13743828e-4f;
  p = p * z + 5.20063438e-3f;
  p = p * z - 2.68592708e-2f;
  p = p * z + 1.12836939e-1f;
  p = p * z - 3.76126337e-1f;
  p = p * z + 1.28379167e-1f;
  p = p * x + x;
  float b = a > 4.0f ? 4.0f : a;
  float q = -2.10949095e-5f;
  q = q * b + 4.34461094e-4f;
  q = q * b - 4.17105615e-3f;
  q = q * b + 2.51194105e-2f;
  q = q * b - 1.08280065e-1f;
  q = q * b - 6.33346927e-1f;
  q = q * b - 1.12951492f;
  q = q * b + 1.74682651e-4f;
  float y = 1.0f - apus_exp_f32(q);
  return a < 0.92f ? p : apus_copysign_f32(y, x);
}
// x * Phi(x): 2 * Phi(-a) = 2^h(a) for a = |x|, h by a polynomial up to 8, beyond which Phi(-a) is less than 1e-15.
APUS_INLINE float apus_gelu_f32(float x) {
  float a = __builtin_fabsf(x), b = a > 8.0f ? 8.0f : a;
  float h = 9.23680465e-10f;
  h = h * b - 4.14072936e-8f;
  h = h * b + 8.09762184e-7f;
  h = h * b - 8.9698442e-6f;
  h = h * b + 5.97352737e-5f;
  h = h * b - 2.0875498e-4f;
  h = h * b - 1.71942083e-4f;
  h = h * b + 7.18763657e-3f;
  h = h * b - 5.26259057e-2f;
  h = h * b - 4.59153116e-1f;
  h = h * b - 1.15111256f;
  h = h * b;
  float t = h + APUS_MAGIC_F32, f = h - (t - APUS_MAGIC_F32);
  float p = 1.32647064e-3f;
  p = p * f + 9.67151206e-3f;
  p = p * f + 5.55073358e-2f;
  p = p * f + 2.40222424e-1f;
  p = p * f + 6.93147004e-1f;
  p = p * f + 1.0f;
  // The lowest bits of t are the power of two.
  float phi = 0.5f * apus_f32_bits(a > 8.0f ? 0u : apus_bits_f32(p) + (apus_bits_f32(t) << 23));
  return x * (x < 0.0f ? phi : 1.0f - phi);
}
APUS_INLINE float apus_gelu_tanh_f32(float x) {
  return 0.5f * x * (1.0f + apus_tanh_f32(0.797884560803f * (x + 0.044715f * x * x * x)));
}

typedef struct { float r; i32 q; } apus_reduced;
// x = (4m + q) * pi/2 + r for every finite x: 2/pi is cut into 27-bit parts, whose products with x are exact.
APUS_INLINE apus_reduced apus_reduce_f32(float xf) {
  double x = xf, s = 0, q = 0;
#define APUS_PART(c) { double p = x * c; p = p - 4.0 * __builtin_rint(p * 0.25); s += p; \
                       double i = __builtin_rint(s); s -= i; q += i; }
  APUS_PART(0x517cc1bp-27) APUS_PART(0x3939105p-54) APUS_PART(0x253f84ep-81) APUS_PART(0x57d1f53p-108)
  APUS_PART(0x26ee06dp-135) APUS_PART(0x58a5664p-162) APUS_PART(0x7887208p-189)
#undef APUS_PART
  return (apus_reduced){(float)(s * 1.57079632679489662), (i32)apus_bits_f64(q + APUS_MAGIC_F64)};
}
APUS_INLINE float apus_sin_poly(float r) {
  float z = r * r, p = 2.71827450e-6f;
  p = p * z - 1.98393310e-4f;
  p = p * z + 8.33332937e-3f;
  p = p * z - 1.66666666e-1f;
  return p * z * r + r;
}
APUS_INLINE float apus_cos_poly(float r) {
  float z = r * r, p = -2.72098935e-7f;
  p = p * z + 2.47995159e-5f;
  p = p * z - 1.38888837e-3f;
  p = p * z + 4.16666666e-2f;
  return p * z * z - 0.5f * z + 1.0f;
}
APUS_INLINE float apus_sin_f32(float x) {
  apus_reduced d = apus_reduce_f32(x);
  float s = apus_sin_poly(d.r), c = apus_cos_poly(d.r), y = (d.q & 1) ? c : s;
  y = (d.q & 2) ? -y : y;
  return __builtin_fabsf(x) < 0x1p-12f ? x : y;
}
APUS_INLINE float apus_cos_f32(float x) {
  apus_reduced d = apus_reduce_f32(x);
  float s = apus_sin_poly(d.r), c = apus_cos_poly(d.r), y = (d.q & 1) ? s : c;
  return ((d.q + 1) & 2) ? -y : y;
}
APUS_INLINE float apus_tan_f32(float x) {
  apus_reduced d = apus_reduce_f32(x);
  float s = apus_sin_poly(d.r), c = apus_cos_poly(d.r);
  float y = ((d.q & 1) ? -c : s) / ((d.q & 1) ? s : c);
  return __builtin_fabsf(x) < 0x1p-12f ? x : y;
}

APUS_INLINE float apus_pow_f32(float x, float y) {
  // log2 of any finite positive f32 in double, where subnormals are normal.
  double a = __builtin_fabs((double)x);
  i64 u = (i64)apus_bits_f64(a), e = (u - 0x3fe6a09e667f3bcd) >> 52;
  double m = apus_f64_bits((u64)u - ((u64)e << 52));
  double s = (m - 1.0) / (m + 1.0), z = s * s;
  double p = 2.82936119409348763e-01;
  p = p * z + 3.19903231411725386e-01;
  p = p * z + 4.12209311432181424e-01;
  p = p * z + 5.77077941788445292e-01;
  p = p * z + 9.61796694115301776e-01;
  p = p * z + 2.88539008177784817e+00;
  // e as a double without an integer conversion, which narrow targets lack for 64 bits.
  double ed = apus_f64_bits(0x4338000000000000u + (u64)e) - APUS_MAGIC_F64;
  double l = p * s + ed;
  l = a == 0.0 ? -__builtin_inf() : l;
  l = a < __builtin_inf() ? l : a;
  double w = l * (double)y;
  w = w > 1000.0 ? 1000.0 : w;
  w = w < -1000.0 ? -1000.0 : w;
  double t = w + APUS_MAGIC_F64, n = t - APUS_MAGIC_F64, f = w - n;
  double v = 1.53164885670400354e-05;
  v = v * f + 1.54697581777450975e-04;
  v = v * f + 1.33334225308978194e-03;
  v = v * f + 9.61802552127478429e-03;
  v = v * f + 5.55041097624948479e-02;
  v = v * f + 2.40226512142054649e-01;
  v = v * f + 6.93147180534982366e-01;
  v = v * f + 1.0;
  float r = (float)(v * apus_f64_bits((apus_bits_f64(t) - 0x4338000000000000u + 1023u) << 52));
  float h = y * 0.5f;
  float whole = __builtin_floorf(y);
  r = (x < 0.0f && x > -APUS_INF_F32 && whole != y) ? APUS_NAN_F32 : r;
  float neg = apus_copysign_f32(r, -1.0f);
  r = (whole == y && __builtin_floorf(h) != h && apus_bits_f32(x) >> 31) ? neg : r;
  r = x != x ? x : r;
  r = y != y ? y : r;
  r = (x == -1.0f && __builtin_fabsf(y) == APUS_INF_F32) ? 1.0f : r;
  return (y == 0.0f || x == 1.0f) ? 1.0f : r;
}

APUS_INLINE float apus_atan_f32(float x) { return __builtin_atanf(x); }
APUS_INLINE float apus_asin_f32(float x) { return __builtin_asinf(x); }
APUS_INLINE float apus_acos_f32(float x) { return __builtin_acosf(x); }
APUS_INLINE float apus_sinh_f32(float x) { return __builtin_sinhf(x); }
APUS_INLINE float apus_cosh_f32(float x) { return __builtin_coshf(x); }
APUS_INLINE float apus_asinh_f32(float x) { return __builtin_asinhf(x); }
APUS_INLINE float apus_acosh_f32(float x) { return __builtin_acoshf(x); }
APUS_INLINE float apus_atanh_f32(float x) { return __builtin_atanhf(x); }
APUS_INLINE float apus_fmod_f32(float x, float y) { return __builtin_fmodf(x, y); }

#define APUS_LIBM_F64(n) APUS_INLINE double apus_##n##_f64(double x) { return __builtin_##n(x); }
APUS_LIBM_F64(exp) APUS_LIBM_F64(expm1) APUS_LIBM_F64(log) APUS_LIBM_F64(log2) APUS_LIBM_F64(log10) APUS_LIBM_F64(log1p)
APUS_LIBM_F64(tanh) APUS_LIBM_F64(erf) APUS_LIBM_F64(sin) APUS_LIBM_F64(cos) APUS_LIBM_F64(tan) APUS_LIBM_F64(sqrt)
APUS_LIBM_F64(floor) APUS_LIBM_F64(ceil) APUS_LIBM_F64(trunc) APUS_LIBM_F64(asin) APUS_LIBM_F64(acos) APUS_LIBM_F64(atan)
APUS_LIBM_F64(sinh) APUS_LIBM_F64(cosh) APUS_LIBM_F64(asinh) APUS_LIBM_F64(acosh) APUS_LIBM_F64(atanh)
#undef APUS_LIBM_F64
APUS_INLINE double apus_round_f64(double x) { return __builtin_rint(x); }
APUS_INLINE double apus_abs_f64(double x) { return __builtin_fabs(x); }
APUS_INLINE double apus_rsqrt_f64(double x) { return 1.0 / __builtin_sqrt(x); }
APUS_INLINE double apus_pow_f64(double x, double y) { return __builtin_pow(x, y); }
APUS_INLINE double apus_fmod_f64(double x, double y) { return __builtin_fmod(x, y); }
APUS_INLINE double apus_copysign_f64(double m, double s) { return __builtin_copysign(m, s); }
APUS_INLINE double apus_sign_f64(double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : x; }
APUS_INLINE double apus_max_f64(double a, double b) { double m = a > b ? a : b; return a != a ? a : m; }
APUS_INLINE double apus_min_f64(double a, double b) { double m = a < b ? a : b; return a != a ? a : m; }
APUS_INLINE double apus_sigmoid_f64(double x) {
  double e = __builtin_exp(-__builtin_fabs(x)), r = 1.0 / (1.0 + e);
  return x < 0.0 ? e * r : r;
}
APUS_INLINE double apus_softplus_f64(double x) {
  return __builtin_log1p(__builtin_exp(-__builtin_fabs(x))) + (x > 0.0 ? x : 0.0);
}
APUS_INLINE double apus_gelu_f64(double x) { return 0.5 * x * (1.0 + __builtin_erf(x * 0.70710678118654752)); }
APUS_INLINE double apus_gelu_tanh_f64(double x) {
  return 0.5 * x * (1.0 + __builtin_tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
}

#endif
