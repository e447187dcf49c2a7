// Boxes of feature maps: pooling, and picking by score. Needs prelude.cuh.
#ifndef APUS_BOXES
#define APUS_BOXES

// A sample along one axis between two elements.
struct apus_box_sample { i64 low, high; double rest; bool isOutside; };
template <class T> APUS_INLINE apus_box_sample apus_box_at(T x, i64 size) {
  if (!(x >= -1 && x <= (T)size) || size == 0) return {0, 0, 0, true};
  const T bounded = x > 0 ? x : (T)0;
  const i64 low = (i64)bounded;
  if (low >= size - 1) return {size - 1, size - 1, 0, false};
  return {low, low + 1, (double)(bounded - (T)low), false};
}

struct apus_roi_args { i64 count, images, channels, height, width, rows, columns, samples; double scale; bool half, isMax; };
// LOAD reads an element as T, STORE writes one; a thread makes one element of [count, channels, rows, columns].
template <class T, class OP, class INDEX>
APUS_INLINE void apus_roi_align(const apus_roi_args &g, const typename OP::raw *x, const typename OP::raw *boxes,
                                const INDEX *batches, typename OP::raw *y, i64 block, i64 blockCount, i64 threads) {
  const i64 total = g.count * g.channels * g.rows * g.columns;
  const T offset = g.half ? (T)0.5 : (T)0, scale = (T)g.scale;
  for (i64 i = block * threads + threadIdx.x; i < total; i += blockCount * threads) {
    const i64 column = i % g.columns, row = i / g.columns % g.rows, channel = i / (g.columns * g.rows) % g.channels;
    const i64 box = i / (g.columns * g.rows * g.channels);
    T corner[4], bin[2];
    for (int e = 0; e < 4; e++) corner[e] = OP::load(boxes[box * 4 + e]) * scale - offset;
    i64 samples[2];
    for (int axis = 0; axis < 2; axis++) {
      T length = corner[2 + axis] - corner[axis];
      if (!g.half && !(length > 1)) length = 1;
      bin[axis] = length / (T)(axis ? g.rows : g.columns);
      samples[axis] = g.samples > 0 ? g.samples : (i64)ceil(bin[axis]);
      samples[axis] = APUS_MIN(APUS_MAX(samples[axis], 0L), 1024L);
    }
    i64 batch = batches[box];
    batch = APUS_MAX(APUS_MIN(batch < 0 ? batch + g.images : batch, g.images - 1), 0L);
    const typename OP::raw *const plane = x + (batch * g.channels + channel) * g.height * g.width;
    T sum = 0, best = 0;
    bool isFirst = true;
    for (i64 sy = 0; sy < samples[1]; sy++) {
      const apus_box_sample v =
          apus_box_at(corner[1] + (T)row * bin[1] + ((T)sy + (T)0.5) * bin[1] / (T)samples[1], g.height);
      for (i64 sx = 0; sx < samples[0]; sx++) {
        const apus_box_sample u =
            apus_box_at(corner[0] + (T)column * bin[0] + ((T)sx + (T)0.5) * bin[0] / (T)samples[0], g.width);
        T part[4] = {0, 0, 0, 0};
        if (!v.isOutside && !u.isOutside) {
          const T b = (T)v.rest, a = (T)u.rest;
          part[0] = (1 - b) * (1 - a) * OP::load(plane[v.low * g.width + u.low]);
          part[1] = (1 - b) * a * OP::load(plane[v.low * g.width + u.high]);
          part[2] = b * (1 - a) * OP::load(plane[v.high * g.width + u.low]);
          part[3] = b * a * OP::load(plane[v.high * g.width + u.high]);
        }
        sum += part[0] + part[1] + part[2] + part[3];
        for (int e = 0; e < 4; e++)
          if (isFirst || part[e] > best) best = part[e], isFirst = false;
      }
    }
    const i64 taken = samples[0] * samples[1];
    y[i] = OP::store(g.isMax ? best : sum / (T)APUS_MAX(taken, 1L));
  }
}

// The elements of a cell of a grid laid over start ... end.
APUS_INLINE void apus_box_cell(i64 index, i64 cells, i64 start, i64 end, i64 size, i64 &low, i64 &high) {
  const double bin = (double)APUS_MAX(end - start + 1, 1L) / (double)cells;
  low = APUS_MIN(APUS_MAX((i64)floor((double)index * bin) + start, 0L), size);
  high = APUS_MIN(APUS_MAX((i64)ceil((double)(index + 1) * bin) + start, 0L), size);
}
// A coordinate as a number of an element: half away from zero.
APUS_INLINE i64 apus_box_rounded(double x) {
  const double bounded = x > 1e12 ? 1e12 : x > -1e12 ? x : -1e12;
  return (i64)(bounded < 0 ? ceil(bounded - 0.5) : floor(bounded + 0.5));
}
template <class T, class OP>
APUS_INLINE void apus_roi_max(const apus_roi_args &g, const typename OP::raw *x, const typename OP::raw *boxes,
                              typename OP::raw *y, i64 block, i64 blockCount, i64 threads) {
  const i64 total = g.count * g.channels * g.rows * g.columns;
  for (i64 i = block * threads + threadIdx.x; i < total; i += blockCount * threads) {
    const i64 column = i % g.columns, row = i / g.columns % g.rows, channel = i / (g.columns * g.rows) % g.channels;
    const typename OP::raw *const box = boxes + i / (g.columns * g.rows * g.channels) * 5;
    i64 corner[4], top, bottom, left, right;
    for (int e = 0; e < 4; e++) corner[e] = apus_box_rounded((double)OP::load(box[e + 1]) * g.scale);
    apus_box_cell(row, g.rows, corner[1], corner[3], g.height, top, bottom);
    apus_box_cell(column, g.columns, corner[0], corner[2], g.width, left, right);
    i64 batch = (i64)OP::load(box[0]);
    batch = APUS_MAX(APUS_MIN(batch < 0 ? batch + g.images : batch, g.images - 1), 0L);
    const typename OP::raw *const plane = x + (batch * g.channels + channel) * g.height * g.width;
    T best = 0;
    bool isFirst = true;
    for (i64 v = top; v < bottom; v++)
      for (i64 u = left; u < right; u++) {
        const T value = OP::load(plane[v * g.width + u]);
        if (isFirst || value > best) best = value, isFirst = false;
      }
    y[i] = OP::store(best);
  }
}

struct apus_box { float y1, x1, y2, x2; };
template <bool CENTERED> APUS_INLINE apus_box apus_box_of(const float *p) {
  if (CENTERED) return {p[0] - p[2] / 2, p[1] - p[3] / 2, p[0] + p[2] / 2, p[1] + p[3] / 2};
  return {fminf(p[0], p[2]), fminf(p[1], p[3]), fmaxf(p[0], p[2]), fmaxf(p[1], p[3])};
}
APUS_INLINE float apus_box_overlap(const apus_box &a, const apus_box &b) {
  const float h = fminf(a.y2, b.y2) - fmaxf(a.y1, b.y1), w = fminf(a.x2, b.x2) - fmaxf(a.x1, b.x1);
  if (h <= 0 || w <= 0) return 0;
  const float own = (a.y2 - a.y1) * (a.x2 - a.x1), its = (b.y2 - b.y1) * (b.x2 - b.x1);
  if (own <= 0 || its <= 0) return 0;
  const float common = h * w, all = own + its - common;
  return all <= 0 ? 0 : common / all;
}
// A block for each line (batch, class) of scores sorted falling, with the boxes they belong to: picks boxes in order, and
// marks in `mask` [lines, n] as many elements as it picked, their numbers in `picked`. `state` [lines, n] is its own.
template <bool CENTERED, int THREADS, class INDEX>
APUS_INLINE void apus_box_pick(i64 lines, i64 classes, i64 n, const float *boxes, const float *scores,
                               const i64 *order, const INDEX *most, const float *overlap, const float *least, u8 *state,
                               u32 *picked, u32 *mask, i64 block, i64 blockCount) {
  for (i64 line = block; line < lines; line += blockCount) {
    const float *const own = boxes + line / classes * n * 4;
    const i64 *const places = order + line * n;
    u8 *const dropped = state + line * n;
    const i64 limit = *most;
    const float share = *overlap, score = *least;
    for (i64 i = threadIdx.x; i < n; i += THREADS) dropped[i] = !(scores[line * n + i] > score);
    __syncthreads();
    i64 count = 0;
    for (i64 i = 0; i < n && count < limit; i++) {
      if (dropped[i]) continue;
      const apus_box box = apus_box_of<CENTERED>(own + places[i] * 4);
      if (threadIdx.x == 0) picked[line * n + count] = (u32)places[i];
      count++;
      for (i64 j = i + 1 + threadIdx.x; j < n; j += THREADS)
        if (!dropped[j] && apus_box_overlap(box, apus_box_of<CENTERED>(own + places[j] * 4)) > share) dropped[j] = 1;
      __syncthreads();
    }
    for (i64 i = threadIdx.x; i < n; i += THREADS) mask[line * n + i] = i < count;
    __syncthreads();
  }
}
#endif
