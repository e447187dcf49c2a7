#include "CApusHost.h"

// Kernels that find out what the processor can do at most. They are called as compiled kernels are.

#if defined(__x86_64__)
#include <cpuid.h>
#define APUS_TARGET(features) __attribute__((target(features)))
#else
#define APUS_TARGET(features)
#endif

// More sums than the units have operations under way, and few enough for registers.
#define SUMS 12

#define APUS_PROBES(name, features, bytes)                                                                            \
  typedef float name##_floats __attribute__((vector_size(bytes)));                                                    \
  typedef int64_t name##_words __attribute__((vector_size(bytes), aligned(8)));                                       \
  APUS_TARGET(features)                                                                                               \
  static void multiply_##name(void *const *buffers, const int64_t *params, int64_t block, int64_t blocks, void *s) {  \
    (void)blocks;                                                                                                     \
    (void)s;                                                                                                          \
    const float a = ((const float *)buffers[0])[0], b = ((const float *)buffers[0])[1];                               \
    name##_floats sums[SUMS], factor, term;                                                                           \
    for (int l = 0; l < bytes / 4; l++) {                                                                             \
      factor[l] = a;                                                                                                  \
      term[l] = b;                                                                                                    \
    }                                                                                                                 \
    for (int i = 0; i < SUMS; i++) sums[i] = term + (float)i;                                                         \
    for (int64_t step = 0; step < params[0]; step++)                                                                  \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < SUMS; i++) sums[i] = sums[i] * factor + term;            \
    for (int i = 1; i < SUMS; i++) sums[0] += sums[i];                                                                \
    ((float *)buffers[1])[16 * block] = sums[0][0] + sums[0][bytes / 4 - 1];                                          \
  }                                                                                                                   \
  APUS_TARGET(features)                                                                                               \
  static void read_##name(void *const *buffers, const int64_t *params, int64_t block, int64_t blocks, void *s) {      \
    (void)s;                                                                                                          \
    const int64_t count = params[0] / (8 * bytes), first = count * block / blocks, end = count * (block + 1) / blocks; \
    const name##_words *from = (const name##_words *)buffers[0];                                                      \
    name##_words sums[8] = {0};                                                                                       \
    for (int64_t step = first; step < end; step++)                                                                    \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < 8; i++) sums[i] += from[8 * step + i];                   \
    for (int i = 1; i < 8; i++) sums[0] += sums[i];                                                                   \
    ((int64_t *)buffers[1])[8 * block] = sums[0][0] + sums[0][bytes / 8 - 1];                                         \
  }

#if defined(__x86_64__)
APUS_PROBES(v4, "avx512f,avx512vl,avx512dq,avx512bw,fma", 64)
APUS_PROBES(v3, "avx2,fma", 32)
APUS_PROBES(v2, "sse4.2", 16)
#else
APUS_PROBES(v2, "", 16)
#endif

static void nothing(void *const *buffers, const int64_t *params, int64_t block, int64_t blocks, void *scratch) {
  (void)buffers;
  (void)params;
  (void)block;
  (void)blocks;
  (void)scratch;
}

apus_probes apus_find_probes(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    return (apus_probes){multiply_v4, read_v4, nothing, 2 * SUMS * 16};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return (apus_probes){multiply_v3, read_v3, nothing, 2 * SUMS * 8};
#endif
  return (apus_probes){multiply_v2, read_v2, nothing, 2 * SUMS * 4};
}
