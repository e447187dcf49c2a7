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

// Number of the thread in its warp.
APUS_INLINE u32 apus_lane() {
  u32 r;
  asm("mov.u32 %0, %%laneid;" : "=r"(r));
  return r;
}

// Launched before the kernel in front has ended: what that one writes is there after the wait. No-ops elsewhere.
APUS_INLINE void apus_wait_prior() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
APUS_INLINE void apus_launch_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#endif
