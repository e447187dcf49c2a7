// What ptx.cuh has, without its instructions.
#ifndef APUS_PTX
#define APUS_PTX
APUS_INLINE float apus_f16_f32(u16 x) { _Float16 h; memcpy(&h, &x, 2); return (float)h; }
APUS_INLINE u16 apus_f32_f16(float x) { _Float16 h = (_Float16)x; u16 r; memcpy(&r, &h, 2); return r; }
APUS_INLINE u16 apus_f32_bf16(float x) {
  u32 u = apus_bits_f32(x), r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return (u16)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : r);
}
APUS_INLINE float apus_exp2_short(float x) { return exp2f(x); }
APUS_INLINE float apus_reciprocal_short(float x) { return 1 / x; }
APUS_INLINE u32 apus_lane() { return threadIdx.x % 32; }
template <typename T, int N> APUS_INLINE void apus_store(T *to, const T (&v)[N]) { memcpy(to, v, sizeof v); }
template <int N> APUS_INLINE void apus_store_f16(u16 *to, const float (&v)[N]) {
  for (int i = 0; i < N; i++) to[i] = apus_f32_f16(v[i]);
}
template <int N> APUS_INLINE void apus_store_bf16(u16 *to, const float (&v)[N]) {
  for (int i = 0; i < N; i++) to[i] = apus_f32_bf16(v[i]);
}
APUS_INLINE void apus_wait_prior() {}
APUS_INLINE void apus_start_next() {}
#define APUS_ASK_EARLY(i, bytes)
#endif
