// Element functions, by the compiler's own library: 1 to 4 units in the last place. Needs prelude.cuh. Macro:
//   APUS_BRIEF  1: all results are stored in 16 bits, and functions of f32 that have a short form may be off by 2^-16
//               of their value
#ifndef APUS_MATH
#define APUS_MATH

#define APUS_MATH_FUNCTIONS(T, S, F) \
  APUS_INLINE T apus_sqrt_##S(T x) { return sqrt##F(x); } \
  APUS_INLINE T apus_rsqrt_##S(T x) { return (T)1 / sqrt##F(x); } \
  APUS_INLINE T apus_floor_##S(T x) { return floor##F(x); } \
  APUS_INLINE T apus_ceil_##S(T x) { return ceil##F(x); } \
  APUS_INLINE T apus_trunc_##S(T x) { return trunc##F(x); } \
  APUS_INLINE T apus_round_##S(T x) { return rint##F(x); } \
  APUS_INLINE T apus_abs_##S(T x) { return fabs##F(x); } \
  APUS_INLINE T apus_sign_##S(T x) { return x > 0 ? (T)1 : x < 0 ? (T)-1 : x; } \
  APUS_INLINE T apus_max_##S(T a, T b) { T m = a > b ? a : b; return a != a ? a : m; } \
  APUS_INLINE T apus_min_##S(T a, T b) { T m = a < b ? a : b; return a != a ? a : m; } \
  APUS_INLINE T apus_expm1_##S(T x) { return expm1##F(x); } \
  APUS_INLINE T apus_log_##S(T x) { return log##F(x); } \
  APUS_INLINE T apus_log1p_##S(T x) { return log1p##F(x); } \
  APUS_INLINE T apus_sin_##S(T x) { return sin##F(x); } \
  APUS_INLINE T apus_cos_##S(T x) { return cos##F(x); } \
  APUS_INLINE T apus_tan_##S(T x) { return tan##F(x); } \
  APUS_INLINE T apus_asin_##S(T x) { return asin##F(x); } \
  APUS_INLINE T apus_acos_##S(T x) { return acos##F(x); } \
  APUS_INLINE T apus_atan_##S(T x) { return atan##F(x); } \
  APUS_INLINE T apus_sinh_##S(T x) { return sinh##F(x); } \
  APUS_INLINE T apus_cosh_##S(T x) { return cosh##F(x); } \
  APUS_INLINE T apus_tanh_##S(T x) { return tanh##F(x); } \
  APUS_INLINE T apus_asinh_##S(T x) { return asinh##F(x); } \
  APUS_INLINE T apus_acosh_##S(T x) { return acosh##F(x); } \
  APUS_INLINE T apus_atanh_##S(T x) { return atanh##F(x); } \
  APUS_INLINE T apus_erf_##S(T x) { return erf##F(x); } \
  APUS_INLINE T apus_fmod_##S(T x, T y) { return fmod##F(x, y); } \
  APUS_INLINE T apus_pow_##S(T x, T y) { return pow##F(x, y); } \
  APUS_INLINE T apus_softplus_##S(T x) { return log1p##F(exp##F(-fabs##F(x))) + (x > 0 ? x : (T)0); }
#define APUS_MATH_LONG_FORMS(T, S, F) \
  APUS_INLINE T apus_exp_##S(T x) { return exp##F(x); } \
  APUS_INLINE T apus_sigmoid_##S(T x) { \
    T e = exp##F(-fabs##F(x)), r = (T)1 / ((T)1 + e); \
    return x < 0 ? e * r : r; \
  } \
  APUS_INLINE T apus_gelu_##S(T x) { return (T)0.5 * x * ((T)1 + erf##F(x * (T)0.70710678118654752)); } \
  APUS_INLINE T apus_gelu_tanh_##S(T x) { \
    return (T)0.5 * x * ((T)1 + tanh##F((T)0.79788456080286536 * (x + (T)0.044715 * x * x * x))); \
  }
APUS_MATH_FUNCTIONS(float, f32, f)
APUS_MATH_FUNCTIONS(double, f64, )
APUS_MATH_LONG_FORMS(double, f64, )
#if APUS_BRIEF
APUS_INLINE float apus_exp_f32(float x) { return apus_exp2_short(x * 1.44269504f); }
// 1 / (1 + exp(-x)), small values included: exp(-x) is infinite only where the quotient is no f16 or bf16 but 0.
APUS_INLINE float apus_sigmoid_f32(float x) { return apus_reciprocal_short(1.0f + apus_exp2_short(x * -1.44269504f)); }
// x Q(-x), where Q(a) is what a normal distribution has above a. The logarithm of Q is a polynomial to 7e-6 up to 6,
// from where a Q(a) is below what an f16 can hold.
APUS_INLINE float apus_gelu_f32(float x) {
  float a = fminf(fabsf(x), 6.0f), p = fmaf(a, -1.83483075e-6f, 6.15986719e-5f);
  p = fmaf(p, a, -9.30527749e-4f);
  p = fmaf(p, a, 8.50790180e-3f);
  p = fmaf(p, a, -5.39600886e-2f);
  p = fmaf(p, a, -4.58464384e-1f);
  p = fmaf(p, a, -1.15125108f);
  p = fmaf(p, a, -9.99995291e-1f);
  return fmaf(-a, apus_exp2_short(p), fmaf(0.5f, x, 0.5f * fabsf(x)));
}
// x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
APUS_INLINE float apus_gelu_tanh_f32(float x) {
  float u = x * fmaf(x * x, -0.10294324f, -2.30220819f);
  return x * apus_reciprocal_short(1.0f + apus_exp2_short(u));
}
#else
APUS_MATH_LONG_FORMS(float, f32, f)
#endif

#endif
