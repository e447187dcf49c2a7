// Basic types, vector width and helpers shared by every kernel template. Includes no system header.
#ifndef APUS_PRELUDE
#define APUS_PRELUDE

typedef long i64;
typedef unsigned long u64;
typedef int i32;
typedef unsigned int u32;
typedef short i16;
typedef unsigned short u16;
typedef signed char i8;
typedef unsigned char u8;
_Static_assert(sizeof(i64) == 8, "LP64 is assumed");

#define APUS_INLINE static inline __attribute__((always_inline, unused))
#define APUS_STATIC static __attribute__((unused))
#define APUS_NOINLINE static __attribute__((noinline, unused))
#define APUS_CAT_(a, b) a##b
#define APUS_CAT(a, b) APUS_CAT_(a, b)
#define APUS_CAT3(a, b, c) APUS_CAT(APUS_CAT(a, b), c)
#define APUS_UNROLL _Pragma("clang loop unroll(full)")
#define APUS_NOUNROLL _Pragma("clang loop unroll(disable) vectorize(disable) interleave(disable)")
// Before an element loop whose iterations are independent (in-place is fine): vectorises without alias checks and keeps
// short constant trip counts from being unrolled into scalars.
#define APUS_LANES _Pragma("clang loop vectorize(assume_safety) unroll(disable)")
#define APUS_LIKELY(x) __builtin_expect(!!(x), 1)
#define APUS_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define APUS_MIN(a, b) ((a) < (b) ? (a) : (b))
#define APUS_MAX(a, b) ((a) > (b) ? (a) : (b))
#define APUS_CEIL(a, b) (((a) + (b) - 1) / (b))
#define APUS_ROUND_UP(a, b) (APUS_CEIL(a, b) * (b))
#define APUS_ALIGNED __attribute__((aligned(64)))

// Bytes of one vector register, and the number of such registers.
#if defined(__AVX512F__)
#define APUS_VB 64
#define APUS_VREGS 32
#elif defined(__AVX__)
#define APUS_VB 32
#define APUS_VREGS 16
#elif defined(__aarch64__)
#define APUS_VB 16
#define APUS_VREGS 32
#else
#define APUS_VB 16
#define APUS_VREGS 16
#endif
#define VL (APUS_VB / 4)

// Codes by which templates tell element types apart in #if.
#define APUS_TYPE_float 1
#define APUS_TYPE_double 2
#define APUS_TYPE__Float16 3
#define APUS_TYPE___bf16 4
#define APUS_TYPE_OF(t) APUS_CAT(APUS_TYPE_, t)

// What EPILOGUE receives as ctx; the first row of a part of the result that is computed as one of its own.
typedef struct { void *const *buffers; const i64 *params; i64 row; } apus_ctx;

typedef struct { i64 begin, end; } apus_range;
// The share of n units that block gets; shares differ by at most one unit.
APUS_INLINE apus_range apus_share(i64 n, i64 block, i64 blockCount) {
  i64 q = n / blockCount, r = n % blockCount;
  i64 b = block * q + APUS_MIN(block, r);
  return (apus_range){b, b + q + (block < r)};
}

typedef float apus_vf __attribute__((vector_size(APUS_VB)));
typedef i32 apus_vi __attribute__((vector_size(APUS_VB)));
typedef double apus_vd __attribute__((vector_size(APUS_VB)));
typedef float apus_vf_u __attribute__((vector_size(APUS_VB), aligned(4)));
typedef double apus_vd_u __attribute__((vector_size(APUS_VB), aligned(8)));
#define APUS_LOADV(p) (*(const apus_vf_u *)(p))
#define APUS_STOREV(p, v) (*(apus_vf_u *)(p) = (v))

// Two vectors' elements in turn: of their first halves, and of their last.
#if VL == 16
#define APUS_FIRST_IN_TURN 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define APUS_LAST_IN_TURN 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VL == 8
#define APUS_FIRST_IN_TURN 0, 8, 1, 9, 2, 10, 3, 11
#define APUS_LAST_IN_TURN 4, 12, 5, 13, 6, 14, 7, 15
#else
#define APUS_FIRST_IN_TURN 0, 4, 1, 5
#define APUS_LAST_IN_TURN 2, 6, 3, 7
#endif
// Transposes VL vectors.
APUS_INLINE void apus_transpose(apus_vf *v) {
  APUS_UNROLL for (int w = 1; w < VL; w *= 2) {
    apus_vf o[VL];
    APUS_UNROLL for (int i = 0; i < VL / 2; i++) {
      o[2 * i] = __builtin_shufflevector(v[i], v[i + VL / 2], APUS_FIRST_IN_TURN);
      o[2 * i + 1] = __builtin_shufflevector(v[i], v[i + VL / 2], APUS_LAST_IN_TURN);
    }
    APUS_UNROLL for (int i = 0; i < VL; i++) v[i] = o[i];
  }
}

APUS_INLINE u32 apus_bits_f32(float x) { u32 r; __builtin_memcpy(&r, &x, 4); return r; }
APUS_INLINE float apus_f32_bits(u32 x) { float r; __builtin_memcpy(&r, &x, 4); return r; }
APUS_INLINE u64 apus_bits_f64(double x) { u64 r; __builtin_memcpy(&r, &x, 8); return r; }
APUS_INLINE double apus_f64_bits(u64 x) { double r; __builtin_memcpy(&r, &x, 8); return r; }

// 16-bit floats travel as u16.
APUS_INLINE float apus_bf16_f32(u16 x) { return apus_f32_bits((u32)x << 16); }
APUS_INLINE u16 apus_f32_bf16(float x) {
  u32 u = apus_bits_f32(x);
  u32 r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return (u16)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : r);
}
#if defined(__F16C__) || defined(__AVX512FP16__) || defined(__aarch64__)
APUS_INLINE float apus_f16_f32(u16 x) { _Float16 h; __builtin_memcpy(&h, &x, 2); return (float)h; }
APUS_INLINE u16 apus_f32_f16(float x) { _Float16 h = (_Float16)x; u16 r; __builtin_memcpy(&r, &h, 2); return r; }
#else
APUS_INLINE float apus_f16_f32(u16 x) {
  u32 s = (u32)(x & 0x8000u) << 16, m = x & 0x7fffu;
  u32 normal = (m << 13) + 0x38000000u;
  u32 special = (m << 13) | 0x7f800000u | (m > 0x7c00u ? 0x400000u : 0u);
  u32 tiny = apus_bits_f32((float)(i32)m * 0x1p-24f);
  return apus_f32_bits(s | (m >= 0x7c00u ? special : m < 0x400u ? tiny : normal));
}
APUS_INLINE u16 apus_f32_f16(float x) {
  u32 u = apus_bits_f32(x), s = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
  u32 normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
  // Adding 0.5 puts the 2^-24 unit of a subnormal half at the last bit of the significand.
  u32 tiny = apus_bits_f32(apus_f32_bits(APUS_MIN(a, 0x38800000u)) + 0.5f) - 0x3f000000u;
  u32 r = a < 0x38800000u ? tiny : a >= 0x47800000u ? 0x7c00u : normal;
  r = a > 0x7f800000u ? 0x7e00u | ((a >> 13) & 0x3ffu) : r;
  return (u16)(s | r);
}
#endif
APUS_INLINE double apus_f16_f64(u16 x) { return apus_f16_f32(x); }
APUS_INLINE double apus_bf16_f64(u16 x) { return apus_bf16_f32(x); }

// Element access by storage kind: APUS_LD_f16(p, i) reads element i of p as f32.
#define APUS_LD_f32(p, i) (((const float *)(p))[i])
#define APUS_LD_f64(p, i) (((const double *)(p))[i])
#define APUS_LD_f16(p, i) apus_f16_f32(((const u16 *)(p))[i])
#define APUS_LD_bf16(p, i) apus_bf16_f32(((const u16 *)(p))[i])
#define APUS_ST_f32(p, i, v) (((float *)(p))[i] = (v))
#define APUS_ST_f64(p, i, v) (((double *)(p))[i] = (v))
#define APUS_ST_f16(p, i, v) (((u16 *)(p))[i] = apus_f32_f16(v))
#define APUS_ST_bf16(p, i, v) (((u16 *)(p))[i] = apus_f32_bf16(v))

#endif
