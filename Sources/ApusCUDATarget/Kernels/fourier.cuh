// Discrete Fourier transforms of lines: powers of two by butterflies, short lengths by the definition, others as a
// convolution of a power of two (Cooley & Tukey 1965; Bluestein 1970). Needs prelude.cuh.
#ifndef APUS_FOURIER
#define APUS_FOURIER

template <class T> struct apus_complex { T re, im; };
template <class T> APUS_INLINE apus_complex<T> apus_times(apus_complex<T> a, apus_complex<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
APUS_INLINE void apus_sincospi(float x, float *s, float *c) { sincospif(x, s, c); }
APUS_INLINE void apus_sincospi(double x, double *s, double *c) { sincospi(x, s, c); }
// exp(-2 pi i k / n), or its conjugate, for k < n.
template <class T> APUS_INLINE apus_complex<T> apus_root(i64 k, i64 n, bool isConjugate) {
  // The angle from -1 to 1, so that it is as exact as can be.
  const i64 turned = 2 * k > n ? k - n : k;
  apus_complex<T> r;
  apus_sincospi((T)(2 * turned) / (T)n, &r.im, &r.re);
  if (!isConjugate) r.im = -r.im;
  return r;
}

// Where lines are: line = a * period + b begins at a * outer + b * inner, elements are `step` apart.
struct apus_fourier_lines { i64 period, outer, inner, step; };
APUS_INLINE i64 apus_fourier_start(const apus_fourier_lines &l, i64 line) {
  return line / l.period * l.outer + line % l.period * l.inner;
}
struct apus_fourier_args {
  i64 count, length, given, kept;  // lines, points of the transform, elements given of each line, and those kept
  apus_fourier_lines from, to;
  i64 parts;  // 1: real elements, 2: complex ones
};

// The place of a point before butterflies.
APUS_INLINE u32 apus_bits_reversed(u32 x, i32 bits) {
  u32 r = 0;
  for (i32 i = 0; i < bits; i++) r = r << 1 | (x >> i & 1);
  return r;
}

// OP loads and stores elements; LINE makes points of a line.
template <class T, class OP, bool INVERSE, bool HALF, int THREADS> struct apus_fourier {
  typedef apus_complex<T> point;
  typedef typename OP::raw R;
  const apus_fourier_args &g;
  const R *x, *window;
  R *y;

  APUS_INLINE point at(i64 start, i64 i) const {
    // Half a spectrum stands for one whose signal is real.
    const bool isMirrored = INVERSE && HALF && 2 * i > g.length;
    const i64 k = isMirrored ? g.length - i : i;
    if (k >= g.given) return {0, 0};
    const R *const p = x + start + k * g.from.step;
    point r = {OP::load(p[0]), g.parts == 2 ? OP::load(p[1]) : (T)0};
    if (INVERSE && HALF && (k == 0 || 2 * k == g.length)) r.im = 0;
    if (isMirrored) r.im = -r.im;
    if (window) r.re *= OP::load(window[i]), r.im *= OP::load(window[i]);
    return r;
  }
  APUS_INLINE void put(i64 start, i64 k, point r) const {
    const T scale = INVERSE ? (T)1 / (T)g.length : (T)1;
    R *const p = y + start + k * g.to.step;
    p[0] = OP::store(r.re * scale);
    if (!(INVERSE && HALF)) p[1] = OP::store(r.im * scale);
  }

  static APUS_INLINE void butterflies(point *a, i64 size, bool isConjugate) {
    for (i64 half = 1; half < size; half *= 2) {
      __syncthreads();
      for (i64 i = threadIdx.x; i < size / 2; i += THREADS) {
        const i64 offset = i & (half - 1), low = ((i & ~(half - 1)) << 1) | offset;
        const point odd = apus_times(a[low + half], apus_root<T>(offset, 2 * half, isConjugate)), even = a[low];
        a[low] = {even.re + odd.re, even.im + odd.im};
        a[low + half] = {even.re - odd.re, even.im - odd.im};
      }
    }
    __syncthreads();
  }

  // exp(-pi i k^2 / length), conjugated for the inverse.
  APUS_INLINE point chirp(i64 k) const {
    return apus_root<T>((i64)((u64)k * (u64)k % (u64)(2 * g.length)), 2 * g.length, INVERSE);
  }

  // `a` and, for lengths that are no power of two and long, `b` hold a power of two of points.
  APUS_INLINE void run(point *a, point *b, i64 block, i64 blockCount) const {
    const i64 n = g.length;
    const bool isPower = (n & (n - 1)) == 0, isShort = !isPower && n <= 64;
    i64 size = isPower || isShort ? n : 1;
    while (size < (isPower || isShort ? n : 2 * n - 1)) size *= 2;
    i32 bits = 0;
    while ((i64)1 << bits < size) bits++;
    if (!isPower && !isShort && block < g.count) {
      // The filter is the same for all lines.
      for (i64 i = threadIdx.x; i < size; i += THREADS) {
        const i64 k = i < n ? i : size - i < n ? size - i : n;
        point r = {0, 0};
        if (k < n) r = chirp(k), r.im = -r.im;
        b[apus_bits_reversed((u32)i, bits)] = r;
      }
      butterflies(b, size, false);
    }
    for (i64 line = block; line < g.count; line += blockCount) {
      const i64 from = apus_fourier_start(g.from, line), to = apus_fourier_start(g.to, line);
      __syncthreads();
      for (i64 i = threadIdx.x; i < size; i += THREADS) {
        point r = i < n ? at(from, i) : point{0, 0};
        if (!isPower && !isShort && i < n) r = apus_times(r, chirp(i));
        a[isShort ? i : (i64)apus_bits_reversed((u32)i, bits)] = r;
      }
      if (isShort) {
        __syncthreads();
        for (i64 k = threadIdx.x; k < g.kept; k += THREADS) {
          point sum = {0, 0};
          for (i64 i = 0; i < n; i++) {
            const point term = apus_times(a[i], apus_root<T>(i * k % n, n, INVERSE));
            sum.re += term.re, sum.im += term.im;
          }
          put(to, k, sum);
        }
        continue;
      }
      butterflies(a, size, isPower && INVERSE);
      if (isPower) {
        for (i64 k = threadIdx.x; k < g.kept; k += THREADS) put(to, k, a[k]);
        continue;
      }
      // The product of the spectra, brought back in the order that butterflies take: pairs are exchanged.
      for (i64 i = threadIdx.x; i < size; i += THREADS) {
        const i64 j = apus_bits_reversed((u32)i, bits);
        if (i > j) continue;
        const point p = apus_times(a[i], b[i]), q = apus_times(a[j], b[j]);
        a[i] = q, a[j] = p;
      }
      butterflies(a, size, true);
      for (i64 k = threadIdx.x; k < g.kept; k += THREADS) {
        const point r = apus_times(a[k], chirp(k));
        put(to, k, {r.re / (T)size, r.im / (T)size});
      }
    }
  }
};
#endif
