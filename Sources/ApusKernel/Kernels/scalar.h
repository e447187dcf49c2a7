// Scalar functions that generated expressions name and math.h does not have. Needs prelude.h and math.h.
#ifndef APUS_SCALAR
#define APUS_SCALAR

#define APUS_FLOAT_FUNCTIONS(T, S, ABS) \
  APUS_INLINE T apus_reciprocal_##S(T x) { return (T)1 / x; } \
  APUS_INLINE T apus_relu_##S(T x) { return x < 0 ? (T)0 : x; } \
  APUS_INLINE T apus_silu_##S(T x) { return x * apus_sigmoid_##S(x); } \
  APUS_INLINE T apus_softsign_##S(T x) { return x / ((T)1 + ABS(x)); } \
  APUS_INLINE T apus_mish_##S(T x) { return x * apus_tanh_##S(apus_softplus_##S(x)); } \
  APUS_INLINE T apus_hard_swish_##S(T x) { \
    T g = x * (T)(1.0 / 6.0) + (T)0.5; \
    g = g < 0 ? (T)0 : g > 1 ? (T)1 : g; \
    return x * g; \
  } \
  APUS_INLINE T apus_floor_mod_##S(T x, T y) { \
    T r = apus_fmod_##S(x, y); \
    return r != 0 && (r < 0) != (y < 0) ? r + y : r; \
  } \
  APUS_INLINE i64 apus_##S##_to_i64(T x) { \
    return x != x ? 0 : x >= (T)0x1p63 ? 0x7fffffffffffffffL : x < -(T)0x1p63 ? -0x7fffffffffffffffL - 1 : (i64)x; \
  } \
  APUS_INLINE u64 apus_##S##_to_u64(T x) { \
    return x >= (T)0x1p64 ? ~0UL : x >= (T)0x1p63 ? (u64)(x - (T)0x1p63) + (1UL << 63) \
      : x < -(T)0x1p63 ? 0 : (u64)apus_##S##_to_i64(x); \
  } \
  APUS_INLINE i32 apus_##S##_to_i32(T x) { return (i32)(i64)apus_##S##_to_i64(x); } \
  APUS_INLINE u32 apus_##S##_to_u32(T x) { return (u32)apus_##S##_to_i64(x); } \
  APUS_INLINE i16 apus_##S##_to_i16(T x) { return (i16)apus_##S##_to_i64(x); } \
  APUS_INLINE u16 apus_##S##_to_u16(T x) { return (u16)apus_##S##_to_i64(x); } \
  APUS_INLINE i8 apus_##S##_to_i8(T x) { return (i8)apus_##S##_to_i64(x); } \
  APUS_INLINE u8 apus_##S##_to_u8(T x) { return (u8)apus_##S##_to_i64(x); }
APUS_FLOAT_FUNCTIONS(float, f32, __builtin_fabsf)
APUS_FLOAT_FUNCTIONS(double, f64, __builtin_fabs)

// Division truncates; a zero divisor gives 0 and the one overflow wraps, so that no input traps.
#define APUS_SIGNED_FUNCTIONS(T) \
  APUS_INLINE T apus_div_##T(T a, T b) { return b == 0 ? 0 : b == -1 ? (T)-(u64)a : (T)(a / b); } \
  APUS_INLINE T apus_fmod_##T(T a, T b) { return b == 0 || b == -1 ? 0 : (T)(a % b); } \
  APUS_INLINE T apus_floor_mod_##T(T a, T b) { T r = apus_fmod_##T(a, b); return r != 0 && (r < 0) != (b < 0) ? (T)(r + b) : r; } \
  APUS_INLINE T apus_abs_##T(T a) { return a < 0 ? (T)-a : a; } \
  APUS_INLINE T apus_sign_##T(T a) { return (T)((a > 0) - (a < 0)); } \
  APUS_INLINE T apus_relu_##T(T a) { return a < 0 ? 0 : a; }
#define APUS_UNSIGNED_FUNCTIONS(T) \
  APUS_INLINE T apus_div_##T(T a, T b) { return b == 0 ? 0 : (T)(a / b); } \
  APUS_INLINE T apus_fmod_##T(T a, T b) { return b == 0 ? 0 : (T)(a % b); } \
  APUS_INLINE T apus_floor_mod_##T(T a, T b) { return apus_fmod_##T(a, b); } \
  APUS_INLINE T apus_abs_##T(T a) { return a; } \
  APUS_INLINE T apus_sign_##T(T a) { return a != 0; } \
  APUS_INLINE T apus_relu_##T(T a) { return a; }
#define APUS_INTEGER_FUNCTIONS(T) \
  APUS_INLINE T apus_min_##T(T a, T b) { return a < b ? a : b; } \
  APUS_INLINE T apus_max_##T(T a, T b) { return a > b ? a : b; } \
  APUS_INLINE T apus_reciprocal_##T(T a) { return apus_div_##T(1, a); } \
  APUS_INLINE T apus_sqrt_##T(T a) { return (T)__builtin_sqrt((double)a); } \
  APUS_INLINE T apus_shift_left_##T(T a, u64 n) { return n >= sizeof(T) * 8 ? 0 : (T)((u64)a << n); } \
  APUS_INLINE T apus_shift_right_##T(T a, u64 n) { return n >= sizeof(T) * 8 ? (a < 0 ? (T)-1 : 0) : (T)(a >> n); } \
  APUS_INLINE T apus_pow_##T(T a, i64 n) { \
    if (n < 0) return a == 1 ? 1 : a == (T)-1 ? (n & 1 ? (T)-1 : 1) : 0; \
    T r = 1; \
    for (; n; n >>= 1) { if (n & 1) r = (T)(r * a); a = (T)(a * a); } \
    return r; \
  }
APUS_SIGNED_FUNCTIONS(i8) APUS_INTEGER_FUNCTIONS(i8)
APUS_SIGNED_FUNCTIONS(i16) APUS_INTEGER_FUNCTIONS(i16)
APUS_SIGNED_FUNCTIONS(i32) APUS_INTEGER_FUNCTIONS(i32)
APUS_SIGNED_FUNCTIONS(i64) APUS_INTEGER_FUNCTIONS(i64)
APUS_UNSIGNED_FUNCTIONS(u8) APUS_INTEGER_FUNCTIONS(u8)
APUS_UNSIGNED_FUNCTIONS(u16) APUS_INTEGER_FUNCTIONS(u16)
APUS_UNSIGNED_FUNCTIONS(u32) APUS_INTEGER_FUNCTIONS(u32)
APUS_UNSIGNED_FUNCTIONS(u64) APUS_INTEGER_FUNCTIONS(u64)

// Floor division and remainder of index arithmetic; a divisor of 0 (an empty tensor) gives 0.
APUS_INLINE i64 apus_floor_div(i64 a, i64 b) {
  if (b == 0) return 0;
  i64 q = a / b;
  return q - (a % b != 0 && (a < 0) != (b < 0));
}

// Floats of 8 bits and fewer: E exponent bits, M mantissa bits, bias B; kind 0 IEEE, 1 NaN only, 2 no −0, 3 no specials.
APUS_INLINE float apus_small_f32(u8 x, int E, int M, int B, int kind) {
  u32 sign = (u32)(x >> (E + M) & 1), mag = x & ((1u << (E + M)) - 1);
  if (kind == 2 && sign && mag == 0) return __builtin_nanf("");
  if (kind == 1 && mag == (1u << (E + M)) - 1) return __builtin_nanf("");
  u32 e = mag >> M, m = mag & ((1u << M) - 1);
  if (kind == 0 && e == (1u << E) - 1) return m ? __builtin_nanf("") : sign ? -__builtin_inff() : __builtin_inff();
  float s = (float)(e ? m + (1u << M) : m);
  i32 p = (i32)(e ? e : 1) - B - M;
  float v = s * apus_f32_bits((u32)(p + 127) << 23);
  return sign ? -v : v;
}
APUS_INLINE u8 apus_f32_small(float x, int E, int M, int B, int kind) {
  u32 sign = apus_bits_f32(x) >> 31, full = (1u << (E + M)) - 1;
  u32 largest = kind == 0 ? (((1u << E) - 1) << M) - 1 : kind == 1 ? full - 1 : full;
  u32 nan = kind == 0 ? (((1u << E) - 1) << M) | 1u << (M - 1) : kind >= 2 ? 1u << (E + M) : full;
  if (x != x) return (u8)(kind >= 2 ? nan : sign << (E + M) | nan);
  float a = __builtin_fabsf(x);
  if (a == 0) return (u8)(kind == 2 ? 0 : sign << (E + M));
  i32 e = (i32)(apus_bits_f32(a) >> 23) - 127;
  if (e < 1 - B) e = 1 - B;
  u32 pattern;
  if (a > 0x1p20f) pattern = full + 1;
  else {
    float unit = apus_f32_bits((u32)(e - M + 127) << 23);
    u32 r = (u32)__builtin_rintf(a / unit);
    pattern = r + ((e == 1 - B && r < (1u << M) ? 0u : (u32)(e + B - 1)) << M);
  }
  if (pattern > largest) pattern = largest;
  if (pattern == 0 && kind == 2) return 0;
  return (u8)(sign << (E + M) | pattern);
}
#define APUS_SMALL(N, E, M, B, KIND) \
  APUS_INLINE float apus_##N##_f32(u8 x) { return apus_small_f32(x, E, M, B, KIND); } \
  APUS_INLINE u8 apus_f32_##N(float x) { return apus_f32_small(x, E, M, B, KIND); }
APUS_SMALL(f8e4m3fn, 4, 3, 7, 1)
APUS_SMALL(f8e4m3fnuz, 4, 3, 8, 2)
APUS_SMALL(f8e5m2, 5, 2, 15, 0)
APUS_SMALL(f8e5m2fnuz, 5, 2, 16, 2)
APUS_SMALL(f4e2m1, 2, 1, 1, 3)
APUS_INLINE float apus_f8e8m0_f32(u8 x) { return x == 255 ? __builtin_nanf("") : x ? apus_f32_bits((u32)x << 23) : 0x1p-127f; }
APUS_INLINE u8 apus_f32_f8e8m0(float x) {
  if (x != x || x < 0) return 255;
  if (x == 0) return 0;
  if (x == __builtin_inff()) return 254;
  u32 u = apus_bits_f32(x), e = u >> 23, m = u & 0x7fffffu, r = e + (m > (e ? 0u : 0x400000u));
  return (u8)(r > 254 ? 254 : r);
}
#endif
