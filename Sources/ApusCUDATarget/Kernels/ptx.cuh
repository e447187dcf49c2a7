// What takes instructions that CUDA C++ has no words for. Needs prelude.cuh.
#ifndef APUS_PTX
#define APUS_PTX

// 16-bit floats.
APUS_INLINE float apus_f16_f32(u16 x) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
  return r;
}
APUS_INLINE u16 apus_f32_f16(float x) {
  u16 r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
  return r;
}
APUS_INLINE u16 apus_f32_bf16(float x) {
  u16 r;
#if __CUDA_ARCH__ >= 900
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(x));
#else
  u32 u = apus_bits_f32(x);
  u32 n = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  r = (u16)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : n);
#endif
  return r;
}
// Two floats as one word of two 16-bit floats, the first in the low half.
APUS_INLINE u32 apus_f32x2_f16x2(float low, float high) {
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
APUS_INLINE u32 apus_f32x2_bf16x2(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// To 2 units in the last place, numbers too small for a normal float as zero.
APUS_INLINE float apus_exp2_short(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
APUS_INLINE float apus_reciprocal_short(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

// Number of the thread in its warp.
APUS_INLINE u32 apus_lane() {
  u32 r;
  asm("mov.u32 %0, %%laneid;" : "=r"(r));
  return r;
}

// Words to memory by instructions of 4, 8 or 16 bytes, to a multiple of as many. A plain store of a vector under a
// condition is often taken apart by the compiler, which can cost more than all that comes before it.
template <int N> APUS_INLINE void apus_store_words(void *to, const u32 (&w)[N]) {
  static_assert(N == 1 || N == 2 || N % 4 == 0, "words");
  u64 p = (u64)__cvta_generic_to_global(to);
  if constexpr (N == 1) asm volatile("st.global.b32 [%0], %1;" ::"l"(p), "r"(w[0]) : "memory");
  else if constexpr (N == 2) asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(p), "r"(w[0]), "r"(w[1]) : "memory");
  else
    APUS_UNROLL for (int i = 0; i < N; i += 4)
      asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(p + i * 4), "r"(w[i]), "r"(w[i + 1]), "r"(w[i + 2]),
                   "r"(w[i + 3]) : "memory");
}
template <typename T, int N> APUS_INLINE void apus_store(T *to, const T (&v)[N]) {
  if constexpr (sizeof(T) * N % 4 == 0) apus_store_words(to, (const u32(&)[sizeof(T) * N / 4])v);
  else *(apus_vec<T, N> *)to = *(const apus_vec<T, N> *)v;
}
// Floats, as 16-bit ones.
template <int N> APUS_INLINE void apus_store_f16(u16 *to, const float (&v)[N]) {
  if constexpr (N == 1) *to = apus_f32_f16(v[0]);
  else {
    u32 w[N / 2];
    APUS_UNROLL for (int i = 0; i < N / 2; i++) w[i] = apus_f32x2_f16x2(v[2 * i], v[2 * i + 1]);
    apus_store_words(to, w);
  }
}
template <int N> APUS_INLINE void apus_store_bf16(u16 *to, const float (&v)[N]) {
  if constexpr (N == 1) *to = apus_f32_bf16(v[0]);
  else {
    u32 w[N / 2];
    APUS_UNROLL for (int i = 0; i < N / 2; i++) w[i] = apus_f32x2_bf16x2(v[2 * i], v[2 * i + 1]);
    apus_store_words(to, w);
  }
}

// Waits for the kernels that this one may overlap: what they wrote is there afterwards. The next kernel may start then: were
// it to start with this one, its blocks would pile up on the multiprocessors that have room left, two to one of them.
APUS_INLINE void apus_wait_prior() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\ngriddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// Lets the next kernel start at once, so that it asks for its weights all the sooner.
APUS_INLINE void apus_start_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// Brings `bytes` of constant memory into the L2 cache while earlier kernels are still at work: buffer `i` of `B`.
#define APUS_ASK_EARLY(i, bytes) apus_ask_early(B.b[i], bytes);
APUS_INLINE void apus_ask_early(const void *p, u32 bytes) {
#if __CUDA_ARCH__ >= 900
  if (blockIdx.x == 0 && threadIdx.x == blockDim.x - 1)
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes & ~15u) : "memory");
#endif
}

#endif
