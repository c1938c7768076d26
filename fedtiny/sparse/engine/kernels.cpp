// Sparse training on planes: a convolution's three products, batch norm with what follows it, and max-pooling.
//
// The layout. A batch (N, C, H, W) lies in memory as C, H, W, N: a plane a channel, and in it N numbers a pixel. One
// weight then multiplies a whole run of numbers that lie side by side: no gather, no im2col, and no waste at odd N.
//
// A tap is one kept weight: (output channel, input channel, row shift a, column shift b). Taps are sorted by output
// channel, then a, then b; `first[(o * A + a) * B + b]` is where the taps of (o, a, b) begin. Near an edge some shifts
// fall outside the image. Because of that order, the taps that stay inside are one range of b for each a: nothing is
// ever padded or copied. `offset` is how many pixels a tap's input lies from that of output pixel (0, 0).
//
//   product     out[o, y] = bias[o] + sum of value[t] * in[y + offset[t]] over the taps t of o    (forward; and, with
//               the taps turned round, the gradient of the input)
//   tap_product grad[t] = sum of upstream[o(t), y] * in[y + offset[t]] over the pixels y          (at kept weights only)
//
// All sums run in a fixed order, whatever the number of threads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#ifndef REAL
#define REAL float
#endif
using real = REAL;

#if defined(__AVX512F__)
constexpr int BYTES = 64, TILE = 16;  // 32 registers of 64 bytes: 16 hold sums
#elif defined(__AVX__)
constexpr int BYTES = 32, TILE = 8;  // 16 registers of 32 bytes
#else
constexpr int BYTES = 16, TILE = 16;  // 32 registers of 16 bytes (NEON); SSE2 has fewer, and is slow but right
#endif
constexpr int LANES = BYTES / sizeof(real);
typedef real vec __attribute__((vector_size(BYTES)));
typedef real loose_vec __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
typedef real loose_real __attribute__((may_alias));

template <class V> struct Loose { typedef loose_vec type; };
template <> struct Loose<real> { typedef loose_real type; };
template <class V> inline V load(const real* p) { return *reinterpret_cast<const typename Loose<V>::type*>(p); }
template <class V> inline void store(real* p, V v) { *reinterpret_cast<typename Loose<V>::type*>(p) = v; }
inline real sum(real v) { return v; }
inline real sum(vec v) {
  real part[LANES];
  store<vec>(part, v);
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) part[i] += part[i + half];
  return part[0];
}

template <int K> struct Tile { static constexpr int k = K; };

// ---------------------------------------------------------------------------------------------------- convolution

extern "C" struct Grid {       // all lengths in pixels, but `lanes`
  int64_t lanes;               // N, numbers a pixel
  int64_t channels;            // output channels
  int64_t height, width;       // output pixels that this call makes
  int64_t in_row, in_step;     // from one output row, one output pixel, to the next: how far the input moves
  int64_t out_plane, out_row, out_step, out_start;  // and how far the output does
  int64_t A, B;                // row shifts, column shifts
  int64_t runs;
  const int32_t *first, *offset;
  const int32_t* rows;         // (height, 2): the row shifts [a0, a1) that stay inside, for each output row
  const int32_t* run;          // (runs, 4): columns [j0, j1) that share the column shifts [b0, b1)
  const int32_t* wide;         // (B, 2): the columns at which a column shift stays inside
};

struct Range {
  int64_t a0, a1, b0, b1;
};

template <class V, int K>
inline void tile(const Grid& g, const real* value, const Range& s, real bias, int64_t o, const real* in, real* out) {
  constexpr int W = sizeof(V) / sizeof(real);
  V acc[K];
  for (int k = 0; k < K; k++) acc[k] = V{} + bias;
  auto walk = [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) {
      const real v = value[p];
      const real* x = in + g.offset[p] * g.lanes;
#pragma GCC unroll 16
      for (int k = 0; k < K; k++) acc[k] += v * load<V>(x + k * W);
    }
  };
  const int32_t* first = g.first + o * g.A * g.B;
  if (s.b0 == 0 && s.b1 == g.B) {
    walk(first[s.a0 * g.B], first[s.a1 * g.B]);
  } else {
    for (int64_t a = s.a0; a < s.a1; a++) walk(first[a * g.B + s.b0], first[a * g.B + s.b1]);
  }
  for (int k = 0; k < K; k++) store<V>(out + k * W, acc[k]);
}

// Pieces of a run of `length` numbers: calls f(width tag, V, start) for each. Only the last may overlap the one before.
template <class F> inline void pieces(int64_t length, F f) {
  int64_t at = 0;
  for (; at + TILE * LANES <= length; at += TILE * LANES) f(Tile<TILE>{}, vec{}, at);
  if (at + TILE / 2 * LANES <= length) f(Tile<TILE / 2>{}, vec{}, at), at += TILE / 2 * LANES;
  if (at + TILE / 4 * LANES <= length) f(Tile<TILE / 4>{}, vec{}, at), at += TILE / 4 * LANES;
  for (; at + LANES <= length; at += LANES) f(Tile<1>{}, vec{}, at);
  if (at < length && length >= LANES)
    f(Tile<1>{}, vec{}, length - LANES);
  else
    for (; at < length; at++) f(Tile<1>{}, real{}, at);
}

extern "C" void product(const Grid* grid, const real* in, const real* value, const real* bias, real* out, int threads) {
  const Grid& g = *grid;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int t = 0; t < threads; t++) {
    const int64_t o0 = g.channels * t / threads, o1 = g.channels * (t + 1) / threads;
    // Rows outside, channels inside: the rows of all input channels that an output row sees stay in the cache, and
    // each is read and written as one long run.
    for (int64_t i = 0; i < g.height; i++) {
      for (int64_t o = o0; o < o1; o++) {
        const real b = bias ? bias[o] : real(0);
        for (int64_t r = 0; r < g.runs; r++) {
          const int32_t* run = g.run + 4 * r;
          const Range s{g.rows[2 * i], g.rows[2 * i + 1], run[2], run[3]};
          const real* x = in + (i * g.in_row + run[0] * g.in_step) * g.lanes;
          real* y = out + (g.out_start + o * g.out_plane + i * g.out_row + run[0] * g.out_step) * g.lanes;
          pieces((run[1] - run[0]) * g.lanes, [&](auto width, auto v, int64_t at) {
            tile<decltype(v), decltype(width)::k>(g, value, s, b, o, x + at, y + at);
          });
        }
      }
    }
  }
}

// Sum of x * y, gathered run by run.
struct Dot {
  vec part[4] = {};
  real rest = 0;

  void add(const real* x, const real* y, int64_t n) {
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
      for (int k = 0; k < 4; k++) part[k] += load<vec>(x + i + k * LANES) * load<vec>(y + i + k * LANES);
    for (; i + LANES <= n; i += LANES) part[0] += load<vec>(x + i) * load<vec>(y + i);
    for (; i < n; i++) rest += x[i] * y[i];
  }

  real total() const { return sum((part[0] + part[1]) + (part[2] + part[3])) + rest; }
};

// `upstream` has the pixels that `out` has in `product`; `grad` is (taps,) and is written whole.
extern "C" void tap_product(const Grid* grid, const real* in, const real* upstream, real* grad, int threads) {
  const Grid& g = *grid;
  const bool side_by_side = g.in_step == 1 && g.out_step == 1;
  std::fill(grad, grad + g.first[g.channels * g.A * g.B], real(0));
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int t = 0; t < threads; t++) {
    const int64_t o0 = g.channels * t / threads, o1 = g.channels * (t + 1) / threads;
    for (int64_t i = 0; i < g.height; i++) {
      for (int64_t o = o0; o < o1; o++) {
        const real* up = upstream + (g.out_start + o * g.out_plane + i * g.out_row) * g.lanes;
        const real* x = in + i * g.in_row * g.lanes;
        for (int64_t a = g.rows[2 * i]; a < g.rows[2 * i + 1]; a++) {
          for (int64_t b = 0; b < g.B; b++) {
            const int32_t* first = g.first + (o * g.A + a) * g.B + b;
            const int64_t j0 = g.wide[2 * b], j1 = g.wide[2 * b + 1];
            for (int64_t p = first[0]; p < first[1]; p++) {
              const real* from = x + g.offset[p] * g.lanes;
              Dot dot;
              if (side_by_side)
                dot.add(from + j0 * g.lanes, up + j0 * g.lanes, (j1 - j0) * g.lanes);
              else
                for (int64_t j = j0; j < j1; j++)
                  dot.add(from + j * g.in_step * g.lanes, up + j * g.out_step * g.lanes, g.lanes);
              grad[p] += dot.total();
            }
          }
        }
      }
    }
  }
}

// ------------------------------------------------------------------------------- batch norm, and what follows it
//
//   y = cap(scale * x + shift + residual), scale = weight / sqrt(var + eps), shift = bias - mean * scale
//
// where cap is max(0, min(., ceiling)) if there is a ceiling (infinite for ReLU, 6 for ReLU6) and nothing if it is NaN.
// `plane`s say how far one channel lies from the next; `size` is H * W * N.

template <class V> inline V capped(V v, real ceiling) {
  const V low = V{}, high = V{} + ceiling;
  v = v <= low ? low : v;  // so that NaN stays NaN
  return v >= high ? high : v;
}

// `up` where the cap let y through, otherwise 0.
template <class V> inline V behind(V y, V up, real ceiling) {
  const V low = V{}, high = V{} + ceiling;
  up = y <= low ? low : up;
  return y >= high ? low : up;
}

// Calls f(V, i) for all of [0, size): a vector at a time, at last a number at a time.
template <class F> inline void each(int64_t begin, int64_t size, F f) {
  int64_t i = begin;
  for (; i + LANES <= size; i += LANES) f(vec{}, i);
  for (; i < size; i++) f(real{}, i);
}

template <class V> struct Pair {
  V first, second;
};

// Sums of the pairs f(V, i) over [0, size): float64 over short pieces.
template <class F> inline Pair<double> totals(int64_t size, F f) {
  constexpr int64_t PIECE = 64 * LANES;
  Pair<double> all{0, 0};
  for (int64_t begin = 0; begin < size; begin += PIECE) {
    const int64_t end = std::min(size, begin + PIECE);
    vec first[2] = {}, second[2] = {};
    int64_t i = begin;
    for (; i + 2 * LANES <= end; i += 2 * LANES)
      for (int k = 0; k < 2; k++) {
        const auto pair = f(vec{}, i + k * LANES);
        first[k] += pair.first, second[k] += pair.second;
      }
    for (; i < end; i++) {
      const auto pair = f(real{}, i);
      all.first += pair.first, all.second += pair.second;
    }
    all.first += sum(first[0] + first[1]), all.second += sum(second[0] + second[1]);
  }
  return all;
}

// With `measure`, writes the batch's mean and biased variance first; without, uses those it is given.
extern "C" void norm(const real* x, int64_t x_plane, const real* residual, int64_t residual_plane, real* y, int64_t y_plane,
                     int64_t channels, int64_t size, const real* weight, const real* bias, real* mean, real* var,
                     int measure, double eps, double ceiling, int threads) {
  const real top = ceiling;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t c = 0; c < channels; c++) {
    const real *from = x + c * x_plane, *add = residual + c * residual_plane;
    real* to = y + c * y_plane;
    if (measure) {
      const real m = mean[c] = totals(size, [=](auto v, int64_t i) {
        using V = decltype(v);
        return Pair<V>{load<V>(from + i), V{}};
      }).first / size;
      var[c] = totals(size, [=](auto v, int64_t i) {
        using V = decltype(v);
        const V apart = load<V>(from + i) - m;
        return Pair<V>{apart * apart, V{}};
      }).first / size;
    }
    const real scale = (weight ? weight[c] : real(1)) * (real(1) / std::sqrt(var[c] + real(eps)));
    const real shift = (bias ? bias[c] : real(0)) - mean[c] * scale;
    auto write = [&](auto finish) {
      each(0, size, [=](auto v, int64_t i) {
        using V = decltype(v);
        store<V>(to + i, finish(load<V>(from + i) * scale + shift, i));
      });
    };
    if (std::isnan(top) && residual)
      write([=](auto v, int64_t i) { return v + load<decltype(v)>(add + i); });
    else if (std::isnan(top))
      write([=](auto v, int64_t) { return v; });
    else if (residual)
      write([=](auto v, int64_t i) { return capped(v + load<decltype(v)>(add + i), top); });
    else
      write([=](auto v, int64_t) { return capped(v, top); });
  }
}

// Gradients of `norm`. `y` is null if there was no residual. `up_residual` (where not null) gets the upstream gradient behind the cap, that of the residual.
// With `measured`, mean and variance were the batch's own, and depend on x.
extern "C" void norm_gradients(const real* x, int64_t x_plane, const real* y, int64_t y_plane, const real* up,
                               int64_t up_plane, real* up_residual, int64_t residual_plane, real* grad, int64_t grad_plane,
                               int64_t channels, int64_t size, const real* weight, const real* bias, const real* mean,
                               const real* var, real* grad_weight, real* grad_bias, int measured, double eps, double ceiling, int threads) {
  const real top = ceiling;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t c = 0; c < channels; c++) {
    const real *in = x + c * x_plane, *out = y + c * y_plane, *from = up + c * up_plane;  // y may be null
    real *to = grad + c * grad_plane, *pass = up_residual + c * residual_plane;
    const real m = mean[c], rstd = real(1) / std::sqrt(var[c] + real(eps));
    const real scale = (weight ? weight[c] : real(1)) * rstd, shift = (bias ? bias[c] : real(0)) - m * scale;
    auto finish = [&](auto upstream) {
      const Pair<double> sums = totals(size, [=](auto v, int64_t i) {
        using V = decltype(v);
        const V u = upstream(v, i);
        if (up_residual) store<V>(pass + i, u);
        return Pair<V>{u, u * (load<V>(in + i) - m)};
      });
      grad_bias[c] = sums.first;
      grad_weight[c] = sums.second * rstd;
      const real a = measured ? -scale * sums.first / size : 0, b = measured ? -scale * rstd * rstd * sums.second / size : 0;
      each(0, size, [=](auto v, int64_t i) {
        using V = decltype(v);
        const V u = up_residual ? load<V>(pass + i) : upstream(v, i);
        store<V>(to + i, scale * u + (a + b * (load<V>(in + i) - m)));
      });
    };
    if (std::isnan(top))
      finish([=](auto v, int64_t i) { return load<decltype(v)>(from + i); });
    else if (y)
      finish([=](auto v, int64_t i) { return behind(load<decltype(v)>(out + i), load<decltype(v)>(from + i), top); });
    else  // the cap's argument made anew costs less than reading y
      finish([=](auto v, int64_t i) {
        using V = decltype(v);
        return behind(V(load<V>(in + i) * scale + shift), load<V>(from + i), top);
      });
  }
}

// ---------------------------------------------------------------------------------------------------- max-pooling
//
// Windows of `window` x `window` pixels that do not overlap; the last ones may hang over the edge. Of equal numbers the
// first wins, as in PyTorch. `winner` (channels, out_height, out_width, lanes) is its place in the window.

extern "C" void pool(const real* x, int64_t x_plane, real* y, int64_t y_plane, uint8_t* winner, int64_t channels,
                     int64_t height, int64_t width, int64_t out_height, int64_t out_width, int64_t lanes, int64_t window) {
  for (int64_t c = 0; c < channels; c++)
    for (int64_t i = 0; i < out_height; i++)
      for (int64_t j = 0; j < out_width; j++) {
        real* best = y + c * y_plane + (i * out_width + j) * lanes;
        uint8_t* who = winner + ((c * out_height + i) * out_width + j) * lanes;
        std::fill(best, best + lanes, -std::numeric_limits<real>::infinity());
        std::fill(who, who + lanes, 0);
        for (int64_t a = 0; a < window && i * window + a < height; a++)
          for (int64_t b = 0; b < window && j * window + b < width; b++) {
            const real* from = x + c * x_plane + ((i * window + a) * width + j * window + b) * lanes;
            const uint8_t place = a * window + b;
            for (int64_t n = 0; n < lanes; n++) {
              const bool more = (from[n] > best[n]) | (from[n] != from[n]);  // NaN wins, and stays
              best[n] = more ? from[n] : best[n];
              who[n] = more ? place : who[n];
            }
          }
      }
}

// `grad` must hold zeros where no window reaches.
extern "C" void pool_gradient(const real* up, int64_t up_plane, const uint8_t* winner, real* grad, int64_t grad_plane,
                              int64_t channels, int64_t height, int64_t width, int64_t out_height, int64_t out_width,
                              int64_t lanes, int64_t window) {
  for (int64_t c = 0; c < channels; c++)
    for (int64_t i = 0; i < out_height; i++)
      for (int64_t j = 0; j < out_width; j++) {
        const real* from = up + c * up_plane + (i * out_width + j) * lanes;
        const uint8_t* who = winner + ((c * out_height + i) * out_width + j) * lanes;
        for (int64_t a = 0; a < window && i * window + a < height; a++)
          for (int64_t b = 0; b < window && j * window + b < width; b++) {
            real* to = grad + c * grad_plane + ((i * window + a) * width + j * window + b) * lanes;
            const uint8_t place = a * window + b;
            for (int64_t n = 0; n < lanes; n++) to[n] = who[n] == place ? from[n] : real(0);
          }
      }
}

// Lets the process keep memory that it frees: see memory.py.
extern "C" void keep_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
}
