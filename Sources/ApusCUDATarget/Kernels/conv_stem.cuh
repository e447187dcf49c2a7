// Convolution of few channels (a network's first layer) by warp-level tensor instructions, sm_80 and later: a block
// keeps a patch of the image in shared memory, from where fragments are read in place. Needs prelude.cuh, gemm.cuh and
// conv.cuh before it.
// Any sizes, pads and strides of x (NCHW, NHWC); two dimensions, dilation 1, one group. Macros:
//   STEM_X           storage of x: 0 f32, 1 f16, 2 bf16;  STEM_KIND  multiplied as 1 f16, 2 bf16 (the weights' storage)
//   STEM_CIN, STEM_KH, STEM_KW, STEM_SH, STEM_SW    the convolution, KW up to 8, the same as in the parameters
//   STEM_WARPS       rows of 16 places of a block are STEM_WARPS * STEM_MI;  STEM_MI  rows of a warp
//   STEM_COUT        channels of a block, a multiple of 16
//   STEM_PLANAR      1: neighbouring lanes read neighbouring columns of x (NCHW); 0: neighbouring channels (NHWC)
//   GEMM_B_EARLY     1: no earlier kernel writes the weights
// Weights: [Cout rounded up to STEM_COUT][STEM_DEPTH], element (c * KH + kh) * STEM_LINE + kw of a row, zeros
// elsewhere; 16-byte aligned. STEM_LINE is 4 for KW <= 4, else 8; STEM_DEPTH is Cin * KH * STEM_LINE rounded up to 16.
// Threads: STEM_THREADS. Shared memory: STEM_SHARED bytes. Blocks: any; best what the device holds at once.
#define STEM_THREADS (STEM_WARPS * 32)
#define STEM_LINE (STEM_KW <= 4 ? 4 : 8)
#define STEM_LINES (STEM_CIN * STEM_KH)
#define STEM_DEPTH (APUS_CEIL(STEM_LINES * STEM_LINE, 16) * 16)
#define STEM_ROWS (STEM_WARPS * STEM_MI)
#define STEM_HIGH ((STEM_ROWS - 1) * STEM_SH + STEM_KH)
// Columns that fragments touch, those of zero weights too; an even number.
#define STEM_WIDE ((15 * STEM_SW + STEM_LINE + 1) / 2 * 2)
#define STEM_PITCH (STEM_DEPTH + 8)
// A second patch, one element further, where windows begin at odd elements.
#define STEM_PATCHES (STEM_SW % 2 ? 2 : 1)
#define STEM_PATCH (STEM_CIN * STEM_HIGH * STEM_WIDE)
#define STEM_BYTES_W (STEM_COUT * STEM_PITCH * 2)
#define STEM_BYTES_X (APUS_CEIL(STEM_PATCHES * STEM_PATCH * 2, 16) * 16)
#define STEM_SHARED (STEM_BYTES_W + STEM_BYTES_X + STEM_WARPS * APUS_GEMM_SLAB)
static_assert(STEM_KW <= 8 && STEM_COUT % 16 == 0 && CONV_RANK == 2, "macros");

#if STEM_X == 0
typedef float apus_stem_element;
#else
typedef u16 apus_stem_element;
#endif
APUS_INLINE u16 apus_stem_value(apus_stem_element x) {
#if STEM_X == STEM_KIND
  return x;
#else
#if STEM_X == 0
  float v = x;
#else
  float v = STEM_X == 1 ? apus_f16_f32(x) : apus_bf16_f32(x);
#endif
  return STEM_KIND == 1 ? apus_f32_f16(v) : apus_f32_bf16(v);
#endif
}
#if STEM_KIND == 1
#define STEM_SHAPE "m16n8k16.row.col.f32.f16.f16.f32"
#else
#define STEM_SHAPE "m16n8k16.row.col.f32.bf16.bf16.f32"
#endif
APUS_INLINE void apus_stem_mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned." STEM_SHAPE " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
APUS_INLINE void apus_stem_matrices(u32 (&r)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}

// The patch of x whose first element is (y0, x0) of an image.
APUS_INLINE void apus_stem_load(const apus_conv_args &a, const apus_stem_element *x, i32 y0, i32 x0, u16 *patch) {
  const int ROUNDS = APUS_CEIL(STEM_PATCH, STEM_THREADS), BATCH = 8;
  APUS_NOUNROLL for (int round = 0; round < ROUNDS; round += BATCH) {
    apus_stem_element v[BATCH];
    int to[BATCH];
    APUS_UNROLL for (int i = 0; i < BATCH; i++) {
      int u = (round + i) * STEM_THREADS + (int)threadIdx.x, c, y, w;
      if (STEM_PLANAR) w = u % STEM_WIDE, y = u / STEM_WIDE % STEM_HIGH, c = u / (STEM_WIDE * STEM_HIGH);
      else c = u % STEM_CIN, w = u / STEM_CIN % STEM_WIDE, y = u / (STEM_CIN * STEM_WIDE);
      to[i] = u < STEM_PATCH ? (c * STEM_HIGH + y) * STEM_WIDE + w : -1;
      v[i] = 0;
      if (u < STEM_PATCH && apus_conv_inside(a, 0, y0 + y, x0 + w))
        v[i] = x[(y0 + y) * a.x[1] + (x0 + w) * a.x[2] + c * a.x_channel];
    }
    APUS_UNROLL for (int i = 0; i < BATCH; i++) {
      if (to[i] < 0) continue;
      u16 value = apus_stem_value(v[i]);
      patch[to[i]] = value;
      if (STEM_PATCHES == 2 && to[i] > 0) patch[STEM_PATCH + to[i] - 1] = value;
    }
  }
}

APUS_INLINE void apus_conv_stem(const apus_conv_args &a, const apus_ctx &c, i64 block, i64 blockCount, u8 *shared) {
  const int NI = STEM_COUT / 8, STEPS = STEM_DEPTH / 16, BLOCKS = GEMM_SLAB / 8, CHUNKS = APUS_CEIL(NI, BLOCKS);
  const u32 lane = apus_lane(), warp = threadIdx.x >> 5, p = lane >> 2, t = lane & 3;
  const apus_gemm_slab slab(shared + STEM_BYTES_W + STEM_BYTES_X + warp * APUS_GEMM_SLAB);
  u16 *const patch = (u16 *)(shared + STEM_BYTES_W);
  const u32 weights = (u32)__cvta_generic_to_shared(shared), image_at = weights + STEM_BYTES_W;
  const u32 wide = (u32)APUS_CEIL(a.out[2], 16), high = (u32)APUS_CEIL(a.out[1], STEM_ROWS);
  const i64 places = (i64)wide * high * a.images, tiles = places * APUS_CEIL(a.g.n, STEM_COUT);
  bool waited = !GEMM_B_EARLY;
  if (waited) apus_wait_prior();
  i64 loaded = -1;
  for (i64 index = block; index < tiles; index += blockCount) {
    i64 part = index / places, n0 = part * STEM_COUT;
    u32 left = (u32)(index - part * places), bx = left % wide, by = left / wide % high;
    i64 image = left / (wide * high);
    i32 oy0 = (i32)by * STEM_ROWS, ox0 = (i32)bx * 16;
    __syncthreads();
    if (part != loaded) {
      const u16 *w = (const u16 *)a.g.b + n0 * STEM_DEPTH;
      for (u32 u = threadIdx.x; u < STEM_COUT * STEM_DEPTH / 8; u += STEM_THREADS) {
        u32 r = u / (STEM_DEPTH / 8), q = u % (STEM_DEPTH / 8);
        *(apus_vec<u32, 4> *)(shared + (r * STEM_PITCH + q * 8) * 2) =
            *(const apus_vec<u32, 4> *)(w + r * STEM_DEPTH + q * 8);
      }
      loaded = part;
    }
    if (!waited) apus_wait_prior();
    waited = true;
    apus_stem_load(a, (const apus_stem_element *)a.g.a + image * a.x_image, oy0 * STEM_SH - a.pad[1],
                   ox0 * STEM_SW - a.pad[2], patch);
    __syncthreads();
    float acc[STEM_MI][NI][4];
    APUS_UNROLL for (int i = 0; i < STEM_MI; i++)
      APUS_UNROLL for (int j = 0; j < NI; j++)
        APUS_UNROLL for (int e = 0; e < 4; e++) acc[i][j][e] = 0;
    // The pair of columns that this lane has of a line, and which of the two exist.
    const u32 kw = STEM_LINE == 8 ? 2 * t : 2 * (t & 1);
    const u32 mask = kw + 1 < STEM_KW ? ~0u : kw < STEM_KW ? 0xffffu : 0u;
    APUS_UNROLL for (int s = 0; s < STEPS; s++) {
      u32 x[STEM_MI][4];
      APUS_UNROLL for (int h = 0; h < 2; h++) {
        u32 line = STEM_LINE == 8 ? 2 * s + h : 4 * s + 2 * h + (t >> 1);
        bool exists = line < STEM_LINES;
        u32 offset = exists ? line / STEM_KH * (STEM_HIGH * STEM_WIDE) + line % STEM_KH * STEM_WIDE : 0;
        APUS_UNROLL for (int i = 0; i < STEM_MI; i++)
          APUS_UNROLL for (int e = 0; e < 2; e++) {
            u32 col = (p + 8 * e) * STEM_SW + kw, odd = STEM_PATCHES == 2 ? col & 1 : 0;
            u32 at = offset + (warp * STEM_MI + i) * STEM_SH * STEM_WIDE + odd * STEM_PATCH + (col - odd), word;
            asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(image_at + at * 2) : "memory");
            x[i][2 * h + e] = exists ? word & mask : 0u;
          }
      }
      APUS_UNROLL for (int j = 0; j < NI / 2; j++) {
        u32 b[4], n = j * 16 + (lane & 7) + (lane >> 4 << 3);
        apus_stem_matrices(b, weights + (n * STEM_PITCH + s * 16 + (lane >> 3 & 1) * 8) * 2);
        APUS_UNROLL for (int i = 0; i < STEM_MI; i++)
          APUS_UNROLL for (int e = 0; e < 2; e++) apus_stem_mma(acc[i][2 * j + e], x[i], b[2 * e], b[2 * e + 1]);
      }
    }
    apus_gemm_args g = a.g;
    APUS_UNROLL for (int i = 0; i < STEM_MI; i++) {
      i32 oy = oy0 + (i32)warp * STEM_MI + i;
      if (oy >= a.out[1]) break;
      i64 row0 = (image * a.out[1] + oy) * a.out[2] + ox0;
      // The line of the result ends the rows of the slab.
      g.m = row0 + APUS_MIN(a.out[2] - ox0, 16);
      APUS_UNROLL for (int q = 0; q < CHUNKS; q++) {
        slab.write(&acc[i][q * BLOCKS][0], NI - q * BLOCKS);
        __syncwarp();
        apus_gemm_slab_emit(g, c, slab, apus_gemm_part(g, 0, 0, row0, n0 + q * GEMM_SLAB,
                                                       (u32)APUS_MIN(STEM_COUT - q * GEMM_SLAB, GEMM_SLAB)));
        __syncwarp();
      }
    }
  }
}
