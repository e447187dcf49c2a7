// Instructions of sm_90a: warpgroup products and the copy of tiles. Needs prelude.cuh and barrier.cuh. Macros:
//   WG_KIND    0 tf32, 1 f16, 2 bf16;  WG_N  columns of a product, a multiple of 8 up to 256
//   WG_CONSUMERS  warpgroups that multiply, beside one that copies
//   GEMM_B_NK  1: shared memory holds rows of K for B as for A; 0: rows of N, 16-bit only
#define WG_ES (WG_KIND == 0 ? 4 : 2)
#define WG_BK (128 / WG_ES)

// Registers of the accumulators, from operand 3 on.
#define WG_R8 "%3, %4, %5, %6"
#define WG_R16 WG_R8 ", %7, %8, %9, %10"
#define WG_R24 WG_R16 ", %11, %12, %13, %14"
#define WG_R32 WG_R24 ", %15, %16, %17, %18"
#define WG_R40 WG_R32 ", %19, %20, %21, %22"
#define WG_R48 WG_R40 ", %23, %24, %25, %26"
#define WG_R56 WG_R48 ", %27, %28, %29, %30"
#define WG_R64 WG_R56 ", %31, %32, %33, %34"
#define WG_R72 WG_R64 ", %35, %36, %37, %38"
#define WG_R80 WG_R72 ", %39, %40, %41, %42"
#define WG_R88 WG_R80 ", %43, %44, %45, %46"
#define WG_R96 WG_R88 ", %47, %48, %49, %50"
#define WG_R104 WG_R96 ", %51, %52, %53, %54"
#define WG_R112 WG_R104 ", %55, %56, %57, %58"
#define WG_R120 WG_R112 ", %59, %60, %61, %62"
#define WG_R128 WG_R120 ", %63, %64, %65, %66"
#define WG_R136 WG_R128 ", %67, %68, %69, %70"
#define WG_R144 WG_R136 ", %71, %72, %73, %74"
#define WG_R152 WG_R144 ", %75, %76, %77, %78"
#define WG_R160 WG_R152 ", %79, %80, %81, %82"
#define WG_R168 WG_R160 ", %83, %84, %85, %86"
#define WG_R176 WG_R168 ", %87, %88, %89, %90"
#define WG_R184 WG_R176 ", %91, %92, %93, %94"
#define WG_R192 WG_R184 ", %95, %96, %97, %98"
#define WG_R200 WG_R192 ", %99, %100, %101, %102"
#define WG_R208 WG_R200 ", %103, %104, %105, %106"
#define WG_R216 WG_R208 ", %107, %108, %109, %110"
#define WG_R224 WG_R216 ", %111, %112, %113, %114"
#define WG_R232 WG_R224 ", %115, %116, %117, %118"
#define WG_R240 WG_R232 ", %119, %120, %121, %122"
#define WG_R248 WG_R240 ", %123, %124, %125, %126"
#define WG_R256 WG_R248 ", %127, %128, %129, %130"
#define WG_O(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WG_O8 WG_O(0)
#define WG_O16 WG_O8, WG_O(4)
#define WG_O24 WG_O16, WG_O(8)
#define WG_O32 WG_O24, WG_O(12)
#define WG_O40 WG_O32, WG_O(16)
#define WG_O48 WG_O40, WG_O(20)
#define WG_O56 WG_O48, WG_O(24)
#define WG_O64 WG_O56, WG_O(28)
#define WG_O72 WG_O64, WG_O(32)
#define WG_O80 WG_O72, WG_O(36)
#define WG_O88 WG_O80, WG_O(40)
#define WG_O96 WG_O88, WG_O(44)
#define WG_O104 WG_O96, WG_O(48)
#define WG_O112 WG_O104, WG_O(52)
#define WG_O120 WG_O112, WG_O(56)
#define WG_O128 WG_O120, WG_O(60)
#define WG_O136 WG_O128, WG_O(64)
#define WG_O144 WG_O136, WG_O(68)
#define WG_O152 WG_O144, WG_O(72)
#define WG_O160 WG_O152, WG_O(76)
#define WG_O168 WG_O160, WG_O(80)
#define WG_O176 WG_O168, WG_O(84)
#define WG_O184 WG_O176, WG_O(88)
#define WG_O192 WG_O184, WG_O(92)
#define WG_O200 WG_O192, WG_O(96)
#define WG_O208 WG_O200, WG_O(100)
#define WG_O216 WG_O208, WG_O(104)
#define WG_O224 WG_O216, WG_O(108)
#define WG_O232 WG_O224, WG_O(112)
#define WG_O240 WG_O232, WG_O(116)
#define WG_O248 WG_O240, WG_O(120)
#define WG_O256 WG_O248, WG_O(124)
#define WG_CAT_(a, b) a##b
#define WG_CAT(a, b) WG_CAT_(a, b)
#define WG_TEXT_(a) #a
#define WG_TEXT(a) WG_TEXT_(a)
#if WG_KIND == 0
#define WG_TYPES "k8.f32.tf32.tf32"
#define WG_MAJOR ""
#else
#if WG_KIND == 1
#define WG_TYPES "k16.f32.f16.f16"
#else
#define WG_TYPES "k16.f32.bf16.bf16"
#endif
#if GEMM_B_NK
#define WG_MAJOR ", 0, 0"
#else
#define WG_MAJOR ", 0, 1"
#endif
#endif

// d = keep ? d + A B : A B. The places come first among the operands, so that their numbers do not depend on WG_N.
APUS_INLINE void apus_wgmma(float *d, u64 a, u64 b, u32 keep) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %2, 0;\nwgmma.mma_async.sync.aligned.m64n" WG_TEXT(WG_N) WG_TYPES " {"
               WG_CAT(WG_R, WG_N) "}, %0, %1, p, 1, 1" WG_MAJOR ";\n}"
               : "+l"(a), "+l"(b), "+r"(keep), WG_CAT(WG_O, WG_N));
}
APUS_INLINE void apus_wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
APUS_INLINE void apus_wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> APUS_INLINE void apus_wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// The place of a tile in shared memory, swizzled by 128 bytes; eight rows of 128 bytes are 1024 apart.
APUS_INLINE u64 apus_wgmma_tile(u32 at) {
  return (1ull << 62) | (64ull << 32) | (1ull << 16) | (u64)((at & 0x3ffff) >> 4);
}
// The same for rows of N: groups of 64 columns are a box of WG_BK rows apart.
APUS_INLINE u64 apus_wgmma_tile_rows(u32 at) {
  return (1ull << 62) | (64ull << 32) | ((u64)(WG_BK * 128 >> 4) << 16) | (u64)((at & 0x3ffff) >> 4);
}

// With SHARE to the same place, and reported to the same barrier, in every block of the mask.
template <bool SHARE>
APUS_INLINE void apus_copy_tile(u32 to, const apus_map &map, u32 bar, i32 x, i32 y, i32 z, u16 mask) {
  if constexpr (SHARE)
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
                 " [%0], [%1, {%3, %4, %5}], [%2], %6;"
                 ::"r"(to), "l"(&map), "r"(bar), "r"(x), "r"(y), "r"(z), "h"(mask) : "memory");
  else
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%3, %4, %5}], [%2];"
                 ::"r"(to), "l"(&map), "r"(bar), "r"(x), "r"(y), "r"(z) : "memory");
}
// What the warpgroup that copies does not need is shared out among those that multiply.
APUS_INLINE void apus_give_registers() {
#if WG_CONSUMERS == 2
  asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
#elif WG_CONSUMERS == 3
  asm volatile("setmaxnreg.dec.sync.aligned.u32 32;");
#endif
}
APUS_INLINE void apus_take_registers() {
#if WG_CONSUMERS == 2
  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
#elif WG_CONSUMERS == 3
  asm volatile("setmaxnreg.inc.sync.aligned.u32 160;");
#endif
}
APUS_INLINE void apus_group_sync(u32 id, u32 threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
APUS_INLINE void apus_group_arrive(u32 id, u32 threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
