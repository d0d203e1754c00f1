#include "worker/train/cpu_kernels.h"

// g++ 12 takes the undefined vectors in its own intrinsics for a mistake of the caller.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

// Shapes: rows are tokens (or, in the attention's backward block, keys); 16 lanes of f32 at a time, the tail
// of a row under a mask. Each function carries its own target attribute: the rest of the program still runs
// on a CPU without AVX-512.
#define CONCORDAT_AVX512_INLINE \
  static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

namespace concordat::train::cpu {
namespace {

constexpr int64_t kLanes = 16;

CONCORDAT_AVX512_INLINE __mmask16 Tail(int64_t left) {
  return left >= kLanes ? __mmask16{0xFFFF} : static_cast<__mmask16>((1U << left) - 1U);
}
CONCORDAT_AVX512_INLINE __m512 Load(const float* p, __mmask16 k) { return _mm512_maskz_loadu_ps(k, p); }
CONCORDAT_AVX512_INLINE __m512 Load(const Bf16* p, __mmask16 k) {
  const __m256i half = _mm256_maskz_loadu_epi16(k, p);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
CONCORDAT_AVX512_INLINE __m256i ToBf16(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }
CONCORDAT_AVX512_INLINE void Store(float* p, __mmask16 k, __m512 x) { _mm512_mask_storeu_ps(p, k, x); }
CONCORDAT_AVX512_INLINE void Store(Bf16* p, __mmask16 k, __m512 x) {
  _mm256_mask_storeu_epi16(p, k, ToBf16(x));
}

/// e^x to about one unit in the last place (Cephes' expf); 0 below −104, NaN stays NaN.
CONCORDAT_AVX512_INLINE __m512 Exp(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-126.0F), x);  // this order of operands lets a NaN through
  x = _mm512_min_ps(_mm512_set1_ps(88.7F), x);
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341F)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375F), x);
  f = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4F), f);
  __m512 y = _mm512_set1_ps(1.9875691500e-4F);
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.3981999507e-3F));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(8.3334519073e-3F));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(4.1665795894e-2F));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.6666665459e-1F));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.0000001201e-1F));
  y = _mm512_fmadd_ps(y, _mm512_mul_ps(f, f), _mm512_add_ps(f, _mm512_set1_ps(1.0F)));
  return _mm512_scalef_ps(y, n);
}

CONCORDAT_AVX512_INLINE __m512 Sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0F);
  return _mm512_div_ps(one, _mm512_add_ps(one, Exp(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

template <typename T>
CONCORDAT_AVX512_INLINE float Get(const T* p) {
  if constexpr (sizeof(T) == 4) {
    return *p;
  } else {
    return std::bit_cast<float>(static_cast<uint32_t>(p->bits) << 16);
  }
}

/// 16 columns of two rows, interleaved: what a bf16 dot-product instruction takes as its right factor.
CONCORDAT_AVX512_INLINE __m512i Interleave(__m256i even, __m256i odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

}  // namespace

bool Avx512Bf16Available() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bf16");
}

template <typename T>
CONCORDAT_AVX512 void RmsNorm(const T* x, int64_t ldx, const float* weight, float eps, T* out, int64_t ldo,
                              float* rstd, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r, x += ldx, out += ldo) {
    __m512 squares = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += kLanes) {
      const __m512 v = Load(x + c, Tail(width - c));
      squares = _mm512_fmadd_ps(v, v, squares);
    }
    const float inverse = 1.0F / std::sqrt(_mm512_reduce_add_ps(squares) / static_cast<float>(width) + eps);
    rstd[r] = inverse;
    const __m512 scale = _mm512_set1_ps(inverse);
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      Store(out + c, k, _mm512_mul_ps(_mm512_mul_ps(Load(x + c, k), scale), Load(weight + c, k)));
    }
  }
}

template <typename T>
CONCORDAT_AVX512 void RmsNormBackward(const T* x, int64_t ldx, const float* weight, const float* rstd,
                                      const T* dy, int64_t lddy, T* dx, int64_t lddx, T* normed, int64_t ldn,
                                      int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r, x += ldx, dy += lddy, dx += lddx, normed += ldn) {
    __m512 dot = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      dot = _mm512_fmadd_ps(Load(x + c, k), _mm512_mul_ps(Load(dy + c, k), Load(weight + c, k)), dot);
    }
    const float inverse = rstd[r];
    const __m512 scale = _mm512_set1_ps(inverse);
    const __m512 mean =
        _mm512_set1_ps(_mm512_reduce_add_ps(dot) * inverse * inverse / static_cast<float>(width));
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      const __m512 xv = Load(x + c, k);
      const __m512 w = Load(weight + c, k);
      const __m512 g = _mm512_fnmadd_ps(xv, mean, _mm512_mul_ps(Load(dy + c, k), w));
      Store(normed + c, k, _mm512_mul_ps(_mm512_mul_ps(xv, scale), w));
      Store(dx + c, k, _mm512_fmadd_ps(g, scale, Load(dx + c, k)));
    }
  }
}

template <typename T>
CONCORDAT_AVX512 void Rope(T* x, int64_t ldx, const float* cosine, const float* sine, bool inverse,
                           int64_t rows, int64_t heads, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t r = 0; r < rows; ++r, x += ldx, cosine += half, sine += half) {
    for (int64_t h = 0; h < heads; ++h) {
      T* a = x + h * head_dim;
      T* b = a + half;
      for (int64_t c = 0; c < half; c += kLanes) {
        const __mmask16 k = Tail(half - c);
        const __m512 cv = Load(cosine + c, k);
        __m512 sv = Load(sine + c, k);
        if (inverse) sv = _mm512_sub_ps(_mm512_setzero_ps(), sv);
        const __m512 av = Load(a + c, k);
        const __m512 bv = Load(b + c, k);
        Store(a + c, k, _mm512_fnmadd_ps(bv, sv, _mm512_mul_ps(av, cv)));
        Store(b + c, k, _mm512_fmadd_ps(av, sv, _mm512_mul_ps(bv, cv)));
      }
    }
  }
}

template <typename T>
CONCORDAT_AVX512 void SwiGlu(const T* gate_up, int64_t ld, T* out, int64_t ldo, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r, gate_up += ld, out += ldo) {
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      const __m512 g = Load(gate_up + c, k);
      const __m512 u = Load(gate_up + width + c, k);
      Store(out + c, k, _mm512_mul_ps(_mm512_mul_ps(g, Sigmoid(g)), u));
    }
  }
}

template <typename T>
CONCORDAT_AVX512 void SwiGluBackward(const T* gate_up, int64_t ld, const T* dout, int64_t lddo, T* d_gate_up,
                                     int64_t ldd, T* out, int64_t ldo, int64_t rows, int64_t width) {
  const __m512 one = _mm512_set1_ps(1.0F);
  for (int64_t r = 0; r < rows; ++r, gate_up += ld, dout += lddo, d_gate_up += ldd, out += ldo) {
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      const __m512 g = Load(gate_up + c, k);
      const __m512 u = Load(gate_up + width + c, k);
      const __m512 d = Load(dout + c, k);
      const __m512 s = Sigmoid(g);
      const __m512 silu = _mm512_mul_ps(g, s);
      const __m512 slope = _mm512_mul_ps(s, _mm512_fmadd_ps(g, _mm512_sub_ps(one, s), one));
      Store(out + c, k, _mm512_mul_ps(silu, u));
      Store(d_gate_up + c, k, _mm512_mul_ps(_mm512_mul_ps(d, u), slope));
      Store(d_gate_up + width + c, k, _mm512_mul_ps(d, silu));
    }
  }
}

template <typename T>
CONCORDAT_AVX512 void CrossEntropy(T* logits, int64_t ld, const int64_t* target, float* log_likelihood,
                                   uint8_t* correct, bool gradient, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r, logits += ld) {
    __m512 largest = _mm512_set1_ps(-INFINITY);
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      largest = _mm512_mask_max_ps(largest, k, largest, Load(logits + c, k));
    }
    const float max = _mm512_reduce_max_ps(largest);
    const __m512 shift = _mm512_set1_ps(max);
    __m512 sums = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      sums = _mm512_mask_add_ps(sums, k, sums, Exp(_mm512_sub_ps(Load(logits + c, k), shift)));
    }
    const float sum = _mm512_reduce_add_ps(sums);
    const float at_target = Get(logits + target[r]);
    log_likelihood[r] = at_target - max - std::log(sum);
    correct[r] = at_target == max;
    for (int64_t c = 0; correct[r] != 0 && c < target[r]; ++c) correct[r] = Get(logits + c) != max;
    if (!gradient) continue;
    const __m512 inverse = _mm512_set1_ps(1.0F / sum);
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i hit = _mm512_set1_epi32(static_cast<int32_t>(target[r]));
    const __m512 one = _mm512_set1_ps(1.0F);
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      __m512 p = _mm512_mul_ps(Exp(_mm512_sub_ps(Load(logits + c, k), shift)), inverse);
      const __m512i column = _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int32_t>(c)));
      p = _mm512_mask_sub_ps(p, _mm512_cmpeq_epi32_mask(column, hit), p, one);
      Store(logits + c, k, p);
    }
  }
}

template <typename T>
CONCORDAT_AVX512 void Add(const T* a, int64_t lda, const T* b, int64_t ldb, T* out, int64_t ldo, int64_t rows,
                          int64_t width) {
  for (int64_t r = 0; r < rows; ++r, a += lda, b += ldb, out += ldo) {
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      Store(out + c, k, _mm512_add_ps(Load(a + c, k), Load(b + c, k)));
    }
  }
}

template <typename T>
CONCORDAT_AVX512 void Accumulate(const T* x, int64_t ldx, float alpha, float* sum, int64_t ldsum,
                                 int64_t rows, int64_t width) {
  const __m512 scale = _mm512_set1_ps(alpha);
  for (int64_t r = 0; r < rows; ++r, x += ldx, sum += ldsum) {
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      Store(sum + c, k, _mm512_fmadd_ps(Load(x + c, k), scale, Load(sum + c, k)));
    }
  }
}

CONCORDAT_AVX512 void AdamW(const AdamWStep& step, float* parameter, float* gradient, float* m, float* v,
                            int64_t n) {
  const __m512 scale = _mm512_set1_ps(step.grad_scale);
  const __m512 beta1 = _mm512_set1_ps(step.beta1);
  const __m512 beta2 = _mm512_set1_ps(step.beta2);
  const __m512 one_less_beta1 = _mm512_set1_ps(1.0F - step.beta1);
  const __m512 one_less_beta2 = _mm512_set1_ps(1.0F - step.beta2);
  const __m512 decay = _mm512_set1_ps(1.0F - step.rate * step.weight_decay);
  const __m512 rate = _mm512_set1_ps(step.rate / step.bias1);
  const __m512 root_bias2 = _mm512_set1_ps(1.0F / std::sqrt(step.bias2));
  const __m512 epsilon = _mm512_set1_ps(step.epsilon);
  for (int64_t i = 0; i < n; i += kLanes) {
    const __mmask16 k = Tail(n - i);
    const __m512 g = _mm512_mul_ps(Load(gradient + i, k), scale);
    const __m512 mv = _mm512_fmadd_ps(Load(m + i, k), beta1, _mm512_mul_ps(g, one_less_beta1));
    const __m512 vv =
        _mm512_fmadd_ps(Load(v + i, k), beta2, _mm512_mul_ps(_mm512_mul_ps(g, g), one_less_beta2));
    const __m512 root = _mm512_fmadd_ps(_mm512_sqrt_ps(vv), root_bias2, epsilon);
    const __m512 p = _mm512_mul_ps(Load(parameter + i, k), decay);
    Store(parameter + i, k, _mm512_fnmadd_ps(rate, _mm512_div_ps(mv, root), p));
    Store(m + i, k, mv);
    Store(v + i, k, vv);
    Store(gradient + i, k, _mm512_setzero_ps());
  }
}

CONCORDAT_AVX512 void SoftmaxBlock(const float* scores, int64_t lds, float scale, Bf16* out, int64_t ldo,
                                   float* log_sum_exp, float* inverse_sum, int64_t first_row, int64_t rows,
                                   int64_t columns) {
  const __m512 factor = _mm512_set1_ps(scale);
  for (int64_t r = 0; r < rows; ++r, scores += lds, out += ldo) {
    const int64_t seen = std::min(columns, first_row + r + 1);
    __m512 largest = _mm512_set1_ps(-INFINITY);
    for (int64_t c = 0; c < seen; c += kLanes) {
      const __mmask16 k = Tail(seen - c);
      largest = _mm512_mask_max_ps(largest, k, largest, Load(scores + c, k));
    }
    const float max = _mm512_reduce_max_ps(largest) * scale;  // scale is positive
    const __m512 shift = _mm512_set1_ps(max);
    __m512 sums = _mm512_setzero_ps();
    for (int64_t c = 0; c < seen; c += kLanes) {
      const __mmask16 k = Tail(seen - c);
      const __m512 p = _mm512_maskz_mov_ps(k, Exp(_mm512_fmsub_ps(Load(scores + c, k), factor, shift)));
      sums = _mm512_add_ps(sums, p);
      Store(out + c, __mmask16{0xFFFF}, p);  // columns is a multiple of 16: the zeros after `seen` fit
    }
    const int64_t done = (seen + kLanes - 1) / kLanes * kLanes;
    if (done < columns) std::memset(out + done, 0, static_cast<size_t>(columns - done) * sizeof(Bf16));
    const float sum = _mm512_reduce_add_ps(sums);
    log_sum_exp[r] = max + std::log(sum);
    inverse_sum[r] = 1.0F / sum;
  }
}

CONCORDAT_AVX512 void ScaleRows(const float* in, int64_t ldi, const float* inverse_sum, Bf16* out,
                                int64_t ldo, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r, in += ldi, out += ldo) {
    const __m512 scale = _mm512_set1_ps(inverse_sum == nullptr ? 1.0F : inverse_sum[r]);
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      Store(out + c, k, _mm512_mul_ps(Load(in + c, k), scale));
    }
  }
}

CONCORDAT_AVX512 void RowDot(const Bf16* a, int64_t lda, const Bf16* b, int64_t ldb, float* out, int64_t rows,
                             int64_t width) {
  for (int64_t r = 0; r < rows; ++r, a += lda, b += ldb) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += kLanes) {
      const __mmask16 k = Tail(width - c);
      sum = _mm512_fmadd_ps(Load(a + c, k), Load(b + c, k), sum);
    }
    out[r] = _mm512_reduce_add_ps(sum);
  }
}

CONCORDAT_AVX512 void SoftmaxBackwardBlock(const float* s, const float* dp, const float* lse,
                                           const float* delta, float scale, int64_t diagonal, Bf16* p,
                                           Bf16* ds, Bf16* ds_pairs, int64_t panel, int64_t rows,
                                           int64_t columns) {
  const __m512 factor = _mm512_set1_ps(scale);
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t r = 0; r < rows; r += 2) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      const __m512i query = _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int32_t>(c + diagonal)));
      const __m512 shift = _mm512_loadu_ps(lse + c);
      const __m512 less = _mm512_loadu_ps(delta + c);
      __m256i halves[2];
      for (int64_t i = 0; i < 2; ++i) {
        const int64_t at = (r + i) * columns + c;
        const __mmask16 seen = _mm512_cmpge_epi32_mask(query, _mm512_set1_epi32(static_cast<int32_t>(r + i)));
        const __m512 pv =
            _mm512_maskz_mov_ps(seen, Exp(_mm512_fmsub_ps(_mm512_loadu_ps(s + at), factor, shift)));
        // Masked too: a row after the sequence's end may hold anything, and 0 times NaN is NaN.
        const __m512 g = _mm512_maskz_mul_ps(seen, _mm512_mul_ps(pv, factor),
                                             _mm512_sub_ps(_mm512_loadu_ps(dp + at), less));
        Store(p + at, __mmask16{0xFFFF}, pv);
        halves[i] = ToBf16(g);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(ds + at), halves[i]);
      }
      Bf16* pairs = ds_pairs + ((c / panel) * (rows / 2) + r / 2) * panel * 2 + (c % panel) * 2;
      _mm512_storeu_si512(pairs, Interleave(halves[0], halves[1]));
    }
  }
}

CONCORDAT_AVX512 void PackPairs(const Bf16* x, int64_t ldx, int64_t valid, Bf16* out, int64_t rows,
                                int64_t columns, int64_t panel) {
  const __m256i zero = _mm256_setzero_si256();
  for (int64_t r = 0; r < rows; r += 2) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      const Bf16* at = x + r * ldx + c;
      const __m256i even = r < valid ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)) : zero;
      const __m256i odd =
          r + 1 < valid ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + ldx)) : zero;
      Bf16* to = out + ((c / panel) * (rows / 2) + r / 2) * panel * 2 + (c % panel) * 2;
      _mm512_storeu_si512(to, Interleave(even, odd));
    }
  }
}

CONCORDAT_AVX512 void PackPairsTransposed(const Bf16* x, int64_t ldx, int64_t valid, Bf16* out, int64_t rows,
                                          int64_t columns, int64_t panel) {
  // A pair of neighbours in a row of x is one 32-bit element, so this is a transposition of such elements.
  for (int64_t r = 0; r < rows; ++r) {
    Bf16* to = out + (r / panel) * columns * panel + (r % panel) * 2;
    const Bf16* from = x + r * ldx;
    for (int64_t c = 0; c < columns; c += 2) {
      uint32_t pair = 0;
      if (r < valid) std::memcpy(&pair, from + c, sizeof(pair));
      std::memcpy(to + (c / 2) * panel * 2, &pair, sizeof(pair));
    }
  }
}

void Transpose(const Bf16* x, int64_t ldx, int64_t valid, Bf16* out, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) out[c * rows + r] = r < valid ? x[r * ldx + c] : Bf16{0};
  }
}

CONCORDAT_AVX512 void SumTransposed(const float* in, int64_t ldi, int64_t parts, int64_t part_stride,
                                    Bf16* out, int64_t ldo, int64_t rows, int64_t columns) {
  alignas(64) Bf16 block[kLanes];
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; r += kLanes) {
      const __mmask16 k = Tail(rows - r);
      __m512 sum = _mm512_setzero_ps();
      for (int64_t i = 0; i < parts; ++i) {
        sum = _mm512_add_ps(sum, Load(in + i * part_stride + c * ldi + r, k));
      }
      Store(block, __mmask16{0xFFFF}, sum);
      const int64_t count = std::min(kLanes, rows - r);
      for (int64_t i = 0; i < count; ++i) out[(r + i) * ldo + c] = block[i];
    }
  }
}

#define CONCORDAT_INSTANTIATE(T)                                                                           \
  template void RmsNorm<T>(const T*, int64_t, const float*, float, T*, int64_t, float*, int64_t, int64_t); \
  template void RmsNormBackward<T>(const T*, int64_t, const float*, const float*, const T*, int64_t, T*,   \
                                   int64_t, T*, int64_t, int64_t, int64_t);                                \
  template void Rope<T>(T*, int64_t, const float*, const float*, bool, int64_t, int64_t, int64_t);         \
  template void SwiGlu<T>(const T*, int64_t, T*, int64_t, int64_t, int64_t);                               \
  template void SwiGluBackward<T>(const T*, int64_t, const T*, int64_t, T*, int64_t, T*, int64_t, int64_t, \
                                  int64_t);                                                                \
  template void CrossEntropy<T>(T*, int64_t, const int64_t*, float*, uint8_t*, bool, int64_t, int64_t);    \
  template void Add<T>(const T*, int64_t, const T*, int64_t, T*, int64_t, int64_t, int64_t);               \
  template void Accumulate<T>(const T*, int64_t, float, float*, int64_t, int64_t, int64_t)
CONCORDAT_INSTANTIATE(float);
CONCORDAT_INSTANTIATE(Bf16);
#undef CONCORDAT_INSTANTIATE

}  // namespace concordat::train::cpu
