// Basic types and helpers shared by every kernel. Includes no header: the compiler's built-in functions suffice.
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
static_assert(sizeof(i64) == 8, "LP64 is assumed");

#define APUS_INLINE __device__ __forceinline__
#define APUS_UNROLL _Pragma("unroll")
#define APUS_NOUNROLL _Pragma("unroll 1")
#define APUS_MIN(a, b) ((a) < (b) ? (a) : (b))
#define APUS_MAX(a, b) ((a) > (b) ? (a) : (b))
#define APUS_CEIL(a, b) (((a) + (b) - 1) / (b))
// Small constants that a launch reads, as `F(buffer, bytes)`.
#ifndef LAUNCH_CONSTANTS
#define LAUNCH_CONSTANTS(F)
#endif
#define APUS_ALL_LANES 0xffffffffu

// What the texts shared with other compilers name.
#define __builtin_inff() __int_as_float(0x7f800000)
#define __builtin_nanf(s) __int_as_float(0x7fc00000)
#define __builtin_inf() __longlong_as_double(0x7ff0000000000000LL)
#define __builtin_nan(s) __longlong_as_double(0x7ff8000000000000LL)
#define __builtin_fabsf fabsf
#define __builtin_fabs fabs
#define __builtin_rintf rintf
#define __builtin_sqrt sqrt
#define __builtin_pow pow

// What a launch supplies, each one argument of the kernel.
template <int N> struct apus_buffers { void *b[N]; };
template <int N> struct apus_params { i64 p[N]; };
// Descriptions of tensors for the copy engine, encoded on the host; `const __grid_constant__` where a kernel takes them.
struct alignas(64) apus_map { u64 opaque[16]; };
template <int N> struct apus_maps { apus_map m[N]; };
// The same for functions that are called with it, such as an epilogue.
struct apus_ctx { void *const *buffers; const i64 *params; };

// Bit patterns. 16-bit floats travel as u16.
APUS_INLINE u32 apus_bits_f32(float x) { return __float_as_uint(x); }
APUS_INLINE float apus_f32_bits(u32 x) { return __uint_as_float(x); }
APUS_INLINE u64 apus_bits_f64(double x) { return (u64)__double_as_longlong(x); }
APUS_INLINE double apus_f64_bits(u64 x) { return __longlong_as_double((long long)x); }
APUS_INLINE float apus_bf16_f32(u16 x) { return apus_f32_bits((u32)x << 16); }

// Vectors of N elements that are moved by one instruction.
template <typename T, int N> struct alignas(sizeof(T) * N) apus_vec { T e[N]; };

// Exchange between the lanes of a warp.
template <typename T> APUS_INLINE T apus_shuffle_xor(T x, int mask) { return __shfl_xor_sync(APUS_ALL_LANES, x, mask); }
template <typename T> APUS_INLINE T apus_shuffle_up(T x, int step) { return __shfl_up_sync(APUS_ALL_LANES, x, step); }
template <typename T> APUS_INLINE T apus_shuffle(T x, int lane) { return __shfl_sync(APUS_ALL_LANES, x, lane); }

// Whether a candidate of a search takes the place of the best so far: `isMore` extreme, or as extreme and earlier. A NaN is
// more extreme than any number; a place below 0 stands for no candidate.
template <typename T> APUS_INLINE bool apus_is_better(T value, i64 place, T best, i64 at, bool isMore) {
  if (place < 0) return false;
  if (at < 0) return true;
  if (value != value) return best == best || place < at;
  return best == best && (isMore || (value == best && place < at));
}

// The part of `count` units that a block works on, the same split as on every device.
struct apus_range { i64 begin, end; };
APUS_INLINE apus_range apus_share(i64 count, i64 block, i64 blockCount) {
  i64 each = count / blockCount, rest = count % blockCount;
  i64 begin = block * each + APUS_MIN(block, rest);
  return {begin, begin + each + (block < rest)};
}

#endif
