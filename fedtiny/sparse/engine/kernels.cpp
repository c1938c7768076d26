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
  real total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
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

extern "C" void product(const Grid* grid, const real* in, const real* value, const real* bias, real* out, int threads) {
  const Grid& g = *grid;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int t = 0; t < threads; t++) {
    const int64_t o0 = g.channels * t / threads, o1 = g.channels * (t + 1) / threads;
    for (int64_t i = 0; i < g.height; i++) {
      for (int64_t r = 0; r < g.runs; r++) {
        const int32_t* run = g.run + 4 * r;
        const Range s{g.rows[2 * i], g.rows[2 * i + 1], run[2], run[3]};
        const real* x = in + (i * g.in_row + run[0] * g.in_step) * g.lanes;
        real* y = out + (g.out_start + i * g.out_row + run[0] * g.out_step) * g.lanes;
        const int64_t length = (run[1] - run[0]) * g.lanes, plane = g.out_plane * g.lanes;
        // One piece of the row for all output channels: the input around it stays in the cache.
        auto all = [&](auto piece, int64_t at) {
          for (int64_t o = o0; o < o1; o++) piece(o, bias ? bias[o] : real(0), x + at, y + o * plane + at);
        };
        auto with = [&](auto tag, int64_t at) {
          all([&](int64_t o, real b, const real* from, real* to) { tile<vec, decltype(tag)::k>(g, value, s, b, o, from, to); }, at);
        };
        int64_t at = 0;
        for (; at + TILE * LANES <= length; at += TILE * LANES) with(Tile<TILE>{}, at);
        if (at + TILE / 2 * LANES <= length) with(Tile<TILE / 2>{}, at), at += TILE / 2 * LANES;
        if (at + TILE / 4 * LANES <= length) with(Tile<TILE / 4>{}, at), at += TILE / 4 * LANES;
        for (; at + LANES <= length; at += LANES) with(Tile<1>{}, at);
        if (at < length && length >= LANES) {
          with(Tile<1>{}, length - LANES);  // overlaps what was made before, with the same numbers
        } else {
          for (; at < length; at++)
            all([&](int64_t o, real b, const real* from, real* to) { tile<real, 1>(g, value, s, b, o, from, to); }, at);
        }
      }
    }
  }
}

inline real dot(const real* x, const real* y, int64_t n) {
  vec a{}, b{}, c{}, d{};
  int64_t i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES) {
    a += load<vec>(x + i) * load<vec>(y + i);
    b += load<vec>(x + i + LANES) * load<vec>(y + i + LANES);
    c += load<vec>(x + i + 2 * LANES) * load<vec>(y + i + 2 * LANES);
    d += load<vec>(x + i + 3 * LANES) * load<vec>(y + i + 3 * LANES);
  }
  for (; i + LANES <= n; i += LANES) a += load<vec>(x + i) * load<vec>(y + i);
  real rest = 0;
  for (; i < n; i++) rest += x[i] * y[i];
  return sum((a + b) + (c + d)) + rest;
}

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
              if (side_by_side) {
                grad[p] += dot(from + j0 * g.lanes, up + j0 * g.lanes, (j1 - j0) * g.lanes);
              } else {
                real total = 0;
                for (int64_t j = j0; j < j1; j++)
                  total += dot(from + j * g.in_step * g.lanes, up + j * g.out_step * g.lanes, g.lanes);
                grad[p] += total;
              }
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

inline real capped(real v, real ceiling) { return v > 0 ? (v < ceiling ? v : ceiling) : real(0); }

// Sum of f(i) over [0, size), in float64 by pieces that the compiler turns into vectors.
template <class F> inline double total(int64_t size, F f) {
  constexpr int64_t PIECE = 1024;
  double all = 0;
  for (int64_t begin = 0; begin < size; begin += PIECE) {
    const int64_t end = std::min(size, begin + PIECE);
    real part[LANES] = {};
    int64_t i = begin;
    for (; i + LANES <= end; i += LANES)
      for (int k = 0; k < LANES; k++) part[k] += f(i + k);
    for (; i < end; i++) part[0] += f(i);
    for (int k = 0; k < LANES; k++) all += part[k];
  }
  return all;
}

// With `measure`, writes the batch's mean and biased variance first; without, uses those it is given.
extern "C" void norm(const real* x, int64_t x_plane, const real* residual, int64_t residual_plane, real* y, int64_t y_plane,
                     int64_t channels, int64_t size, const real* weight, const real* bias, real* mean, real* var,
                     int measure, double eps, double ceiling, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t c = 0; c < channels; c++) {
    const real* from = x + c * x_plane;
    const real* add = residual ? residual + c * residual_plane : nullptr;
    real* to = y + c * y_plane;
    if (measure) {
      const real m = mean[c] = total(size, [&](int64_t i) { return from[i]; }) / size;
      var[c] = total(size, [&](int64_t i) { return (from[i] - m) * (from[i] - m); }) / size;
    }
    const real scale = (weight ? weight[c] : real(1)) / std::sqrt(var[c] + real(eps));
    const real shift = (bias ? bias[c] : real(0)) - mean[c] * scale, top = ceiling;
    if (std::isnan(top) && add)
      for (int64_t i = 0; i < size; i++) to[i] = from[i] * scale + shift + add[i];
    else if (std::isnan(top))
      for (int64_t i = 0; i < size; i++) to[i] = from[i] * scale + shift;
    else if (add)
      for (int64_t i = 0; i < size; i++) to[i] = capped(from[i] * scale + shift + add[i], top);
    else
      for (int64_t i = 0; i < size; i++) to[i] = capped(from[i] * scale + shift, top);
  }
}

// Gradients of `norm`. `up_residual` (where not null) gets the upstream gradient behind the cap, that of the residual.
// With `measured`, mean and variance were the batch's own, and depend on x.
extern "C" void norm_gradients(const real* x, int64_t x_plane, const real* y, int64_t y_plane, const real* up,
                               int64_t up_plane, real* up_residual, int64_t residual_plane, real* grad, int64_t grad_plane,
                               int64_t channels, int64_t size, const real* weight, const real* mean, const real* var,
                               real* grad_weight, real* grad_bias, int measured, double eps, double ceiling, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t c = 0; c < channels; c++) {
    const real *in = x + c * x_plane, *out = y + c * y_plane, *from = up + c * up_plane;
    real* to = grad + c * grad_plane;
    const real m = mean[c], rstd = real(1) / std::sqrt(var[c] + real(eps)), top = ceiling;
    const bool cut = !std::isnan(top);
    auto behind = [&](int64_t i) { return out[i] > 0 && out[i] < top ? from[i] : real(0); };
    if (up_residual) {
      real* pass = up_residual + c * residual_plane;
      for (int64_t i = 0; i < size; i++) pass[i] = behind(i);
      from = pass;
    }
    auto finish = [&](auto upstream) {
      const real s1 = total(size, upstream), s2 = rstd * total(size, [&](int64_t i) { return upstream(i) * (in[i] - m); });
      grad_bias[c] = s1;
      grad_weight[c] = s2;
      const real scale = (weight ? weight[c] : real(1)) * rstd;
      const real a = measured ? -scale * s1 / size : real(0), b = measured ? -scale * rstd * s2 / size : real(0);
      for (int64_t i = 0; i < size; i++) to[i] = scale * upstream(i) + (a + b * (in[i] - m));
    };
    if (cut && !up_residual)
      finish(behind);
    else
      finish([&](int64_t i) { return from[i]; });
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
              const bool more = from[n] > best[n];
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
