// Barriers in shared memory that count bytes, and what the copy engine brings without a description of a tensor: instructions of
// sm_90 and later. Needs prelude.cuh.
#ifndef APUS_BARRIER
#define APUS_BARRIER

APUS_INLINE void apus_bar_init(u32 bar, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory");
}
APUS_INLINE void apus_bar_expect(u32 bar, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
APUS_INLINE void apus_bar_arrive(u32 bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
APUS_INLINE u32 apus_bar_peer(u32 at, u32 rank) {
  u32 r;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(at), "r"(rank));
  return r;
}
APUS_INLINE void apus_bar_arrive_at(u32 bar, u32 rank) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(apus_bar_peer(bar, rank)) : "memory");
}
// Not at cluster scope, which would empty the L1 cache at every wait: what arrives comes by the copy engine.
APUS_INLINE void apus_bar_wait(u32 bar, u32 parity) {
  asm volatile("{\n.reg .pred p;\nwait:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
               "@p bra done;\nbra wait;\ndone:\n}" ::"r"(bar), "r"(parity)
               : "memory");
}
// What arrives here other blocks stored.
APUS_INLINE void apus_bar_wait_cluster(u32 bar, u32 parity) {
  asm volatile("{\n.reg .pred p;\nwait:\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n"
               "@p bra done;\nbra wait;\ndone:\n}" ::"r"(bar), "r"(parity)
               : "memory");
}
// Contiguous bytes, a multiple of 16 as both places, reported to a barrier of this block.
APUS_INLINE void apus_copy_bytes(u32 to, const void *from, u32 bytes, u32 bar) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
               ::"r"(to), "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(bar) : "memory");
}

#endif
