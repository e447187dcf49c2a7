// What the convolution texts share. Needs prelude.cuh and gemm.cuh. A convolution is a matrix product whose rows are
// the places of the result, ((image * OD + od) * OH + oh) * OW + ow, and whose columns are its channels. The depth of a
// product runs over taps (kd, kh, kw), then over the channels of a group: weights are [Cout][KD][KH][KW][Cin/groups].
// CONV_RANK 2 (default) or 3: with 2 the sizes of axis d are 1; one dimension is a width with a height of 1.
#ifndef APUS_CONV
#define APUS_CONV

#ifndef CONV_RANK
#define CONV_RANK 2
#endif

// Axes are d, h, w. `g` has batch 1, m places, n channels of the result (of all groups), k taps * channels of a group.
struct apus_conv_args {
  apus_gemm_args g;
  i64 groups, channels, images;
  i32 in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
  i64 x_image, x_channel, x[3];
};
// Parameters in the order of the fields from `groups` on, after m, n, k and split. Strides of x count elements.
APUS_INLINE apus_conv_args apus_conv_read(const void *x, const void *w, void *partial, const i64 *p) {
  apus_conv_args a;
  a.g = apus_gemm_args{x, w, (GEMM_ACC *)partial, 1, p[1], p[2], p[3], 0, 0, p[3], 0, p[4]};
  a.groups = p[5], a.channels = p[6], a.images = p[7];
  APUS_UNROLL for (int i = 0; i < 3; i++) {
    a.in[i] = (i32)p[8 + i], a.out[i] = (i32)p[11 + i], a.kernel[i] = (i32)p[14 + i], a.stride[i] = (i32)p[17 + i];
    a.dilation[i] = (i32)p[20 + i], a.pad[i] = (i32)p[23 + i], a.x[i] = p[28 + i];
  }
  a.x_image = p[26], a.x_channel = p[27];
  return a;
}

// Where the window of a place begins: its first tap's element of channel 0, which may lie outside, and coordinates.
struct alignas(16) apus_conv_row {
  i64 at;
  i32 y, x;
};
#define APUS_CONV_OUTSIDE (1 << 29)
// Coordinates so far out that no tap leads back in.
APUS_INLINE apus_conv_row apus_conv_place(const apus_conv_args &a, i64 row, i32 &z) {
  z = 0;
  if (row >= a.g.m) {
    z = -2 * APUS_CONV_OUTSIDE;
    return {0, -2 * APUS_CONV_OUTSIDE, 0};
  }
  u32 left = (u32)row, ow = left % a.out[2];
  left /= a.out[2];
  u32 oh = left % a.out[1];
  left /= a.out[1];
  apus_conv_row r;
  r.y = (i32)oh * a.stride[1] - a.pad[1], r.x = (i32)ow * a.stride[2] - a.pad[2];
  r.at = r.y * a.x[1] + r.x * a.x[2];
#if CONV_RANK == 3
  u32 od = left % a.out[0];
  left /= a.out[0];
  z = (i32)od * a.stride[0] - a.pad[0];
  r.at += z * a.x[0];
#endif
  r.at += left * a.x_image;
  return r;
}

// One step of the depth: a tap and a channel.
struct apus_conv_step {
  i32 c, kw, kh, kd;
  APUS_INLINE void start(const apus_conv_args &a, u32 k) {
    u32 tap = k / (u32)a.channels;
    c = (i32)(k - tap * (u32)a.channels);
    kh = (i32)(tap / a.kernel[2]), kw = (i32)(tap - (u32)kh * a.kernel[2]), kd = 0;
#if CONV_RANK == 3
    kd = kh / a.kernel[1], kh -= kd * a.kernel[1];
#endif
  }
  APUS_INLINE void advance(const apus_conv_args &a, i32 by) {
    c += by;
    while (c >= (i32)a.channels) {
      c -= (i32)a.channels;
      if (++kw == a.kernel[2]) {
        kw = 0, kh++;
#if CONV_RANK == 3
        if (kh == a.kernel[1]) kh = 0, kd++;
#endif
      }
    }
  }
  APUS_INLINE bool exists(const apus_conv_args &a) const {
    return CONV_RANK == 3 ? kd < a.kernel[0] : kh < a.kernel[1];
  }
  // The distance of this step's element from a window's first one.
  APUS_INLINE i64 offset(const apus_conv_args &a) const {
    i64 at = (i64)(kh * a.dilation[1]) * a.x[1] + (i64)(kw * a.dilation[2]) * a.x[2] + c * a.x_channel;
#if CONV_RANK == 3
    at += (i64)(kd * a.dilation[0]) * a.x[0];
#endif
    return at;
  }
};
APUS_INLINE bool apus_conv_inside(const apus_conv_args &a, i32 z, i32 y, i32 x) {
  return (u32)y < (u32)a.in[1] && (u32)x < (u32)a.in[2] && (CONV_RANK == 2 || (u32)z < (u32)a.in[0]);
}

// A tile of the result: columns n0 to n_end of one group, from row m0 on.
struct apus_conv_tile {
  apus_gemm_tile t;
  i64 m0, n0, n_end;
  i32 group;
};
APUS_INLINE i64 apus_conv_tiles(const apus_conv_args &a, i32 bm, i32 bn) {
  return a.g.split * APUS_CEIL(a.g.m, bm) * (a.groups * APUS_CEIL(a.g.n / a.groups, bn));
}
APUS_INLINE apus_conv_tile apus_conv_find(const apus_conv_args &a, i64 index, i32 bm, i32 bn) {
  apus_conv_tile r;
  u32 width = (u32)(a.g.n / a.groups), across = (width + bn - 1) / bn;
  r.t = apus_gemm_place((u32)index, (u32)APUS_CEIL(a.g.m, bm), (u32)a.groups * across, (u32)a.g.split);
  u32 group = r.t.n / across;
  r.group = (i32)group;
  r.m0 = (i64)r.t.m * bm;
  r.n0 = (i64)group * width + (r.t.n - group * across) * bn;
  r.n_end = (i64)(group + 1) * width;
  return r;
}

#endif
