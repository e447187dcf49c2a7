// Element functions, by the compiler's own library: 1 to 4 units in the last place. Needs prelude.cuh.
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
  APUS_INLINE T apus_exp_##S(T x) { return exp##F(x); } \
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
  APUS_INLINE T apus_sigmoid_##S(T x) { \
    T e = exp##F(-fabs##F(x)), r = (T)1 / ((T)1 + e); \
    return x < 0 ? e * r : r; \
  } \
  APUS_INLINE T apus_softplus_##S(T x) { return log1p##F(exp##F(-fabs##F(x))) + (x > 0 ? x : (T)0); } \
  APUS_INLINE T apus_gelu_##S(T x) { return (T)0.5 * x * ((T)1 + erf##F(x * (T)0.70710678118654752)); } \
  APUS_INLINE T apus_gelu_tanh_##S(T x) { \
    return (T)0.5 * x * ((T)1 + tanh##F((T)0.79788456080286536 * (x + (T)0.044715 * x * x * x))); \
  }
APUS_MATH_FUNCTIONS(float, f32, f)
APUS_MATH_FUNCTIONS(double, f64, )

#endif
