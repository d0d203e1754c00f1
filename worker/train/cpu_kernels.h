#ifndef CONCORDAT_WORKER_TRAIN_CPU_KERNELS_H_
#define CONCORDAT_WORKER_TRAIN_CPU_KERNELS_H_

#include <cstdint>

// On the first declaration too: g++ takes a template's target from there.
#define CONCORDAT_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

/// Elementwise passes of a decoder layer for CPUs with AVX-512 and its bf16 instructions (Intel from Cooper
/// Lake, AMD from Zen 4). Everything here is single-threaded over the rows it is given; nothing allocates.
/// Matrices are row-major with a leading dimension (`ld…`, elements). T is float or Bf16; sums and
/// transcendental functions are in f32. Call nothing unless Avx512Bf16Available().
namespace concordat::train::cpu {

/// The upper 16 bits of an f32.
struct Bf16 {
  uint16_t bits;
};

/// Whether this CPU (and its operating system) has AVX-512 F, BW, DQ, VL and BF16.
bool Avx512Bf16Available();

/// out = x · rstd · weight, rstd = 1/sqrt(mean(x²) + eps) (Zhang & Sennrich 2019).
template <typename T>
CONCORDAT_AVX512 void RmsNorm(const T* x, int64_t ldx, const float* weight, float eps, T* out, int64_t ldo,
                              float* rstd, int64_t rows, int64_t width);

/// dx += gradient of RmsNorm at x for dy; normed = the norm's output again.
template <typename T>
CONCORDAT_AVX512 void RmsNormBackward(const T* x, int64_t ldx, const float* weight, const float* rstd,
                                      const T* dy, int64_t lddy, T* dx, int64_t lddx, T* normed, int64_t ldn,
                                      int64_t rows, int64_t width);

/// Rotates each head's pairs (i, i + head_dim/2) by the row's angles; `inverse` turns back (also the
/// gradient). cosine, sine: rows × head_dim/2.
template <typename T>
CONCORDAT_AVX512 void Rope(T* x, int64_t ldx, const float* cosine, const float* sine, bool inverse,
                           int64_t rows, int64_t heads, int64_t head_dim);

/// out = silu(gate) · up, gate_up = [gate | up], each `width` wide.
template <typename T>
CONCORDAT_AVX512 void SwiGlu(const T* gate_up, int64_t ld, T* out, int64_t ldo, int64_t rows, int64_t width);

/// From dout: d_gate_up = [dgate | dup], and out again.
template <typename T>
CONCORDAT_AVX512 void SwiGluBackward(const T* gate_up, int64_t ld, const T* dout, int64_t lddo, T* d_gate_up,
                                     int64_t ldd, T* out, int64_t ldo, int64_t rows, int64_t width);

/// Per row: log-likelihood (nats) of column target[row], whether it is the largest (the first of equals),
/// and, with `gradient`, logits := softmax(logits) − onehot(target).
template <typename T>
CONCORDAT_AVX512 void CrossEntropy(T* logits, int64_t ld, const int64_t* target, float* log_likelihood,
                                   uint8_t* correct, bool gradient, int64_t rows, int64_t width);

/// out = a + b.
template <typename T>
CONCORDAT_AVX512 void Add(const T* a, int64_t lda, const T* b, int64_t ldb, T* out, int64_t ldo, int64_t rows,
                          int64_t width);

/// sum += alpha · x, f32 sums.
template <typename T>
CONCORDAT_AVX512 void Accumulate(const T* x, int64_t ldx, float alpha, float* sum, int64_t ldsum,
                                 int64_t rows, int64_t width);

/// One AdamW step over n elements; g is multiplied by `grad_scale` first and zeroed after.
/// bias1, bias2: 1 − βᵗ.
struct AdamWStep {
  float rate, beta1, beta2, epsilon, weight_decay, grad_scale, bias1, bias2;
};
void AdamW(const AdamWStep& step, float* parameter, float* gradient, float* m, float* v, int64_t n);

/// Softmax of one block of causal attention scores. Row r may see columns 0 … first_row + r. Writes
/// exp(scale·s − max) as bf16 (0 where hidden, up to `columns`), the row's log-sum-exp of scale·s, and
/// 1/sum of what was written.
void SoftmaxBlock(const float* scores, int64_t lds, float scale, Bf16* out, int64_t ldo, float* log_sum_exp,
                  float* inverse_sum, int64_t first_row, int64_t rows, int64_t columns);

/// out = in · inverse_sum[row], f32 to bf16; no inverse_sum: a plain conversion.
void ScaleRows(const float* in, int64_t ldi, const float* inverse_sum, Bf16* out, int64_t ldo, int64_t rows,
               int64_t width);

/// out[row] = Σ a·b over `width`: attention's "delta".
void RowDot(const Bf16* a, int64_t lda, const Bf16* b, int64_t ldb, float* out, int64_t rows, int64_t width);

/// For a block with keys as rows and queries as columns: p = exp(scale·s − lse[column]), 0 where the key is
/// after the query; ds = scale · p · (dp − delta[column]). p and ds in bf16, row-major, leading dimension
/// `columns`; ds_pairs: ds again in panels of `panel` columns, rows interleaved by two (see PackPairs).
/// diagonal: first query minus first key of the block (0 on the diagonal, larger: nothing hidden).
/// rows even, columns a multiple of panel, panel of 16.
void SoftmaxBackwardBlock(const float* s, const float* dp, const float* lse, const float* delta, float scale,
                          int64_t diagonal, Bf16* p, Bf16* ds, Bf16* ds_pairs, int64_t panel, int64_t rows,
                          int64_t columns);

/// Packs x (rows × columns) as the right factor of x: panels of `panel` columns, each rows/2 × panel × 2, two
/// rows interleaved. Rows at and beyond `valid` read as 0. columns a multiple of panel, panel of 16.
void PackPairs(const Bf16* x, int64_t ldx, int64_t valid, Bf16* out, int64_t rows, int64_t columns,
               int64_t panel);

/// Packs x (rows × columns) as the right factor of xᵀ: panels of `panel` rows of x, each columns/2 × panel
/// × 2. Rows at and beyond `valid` read as 0. rows a multiple of panel.
void PackPairsTransposed(const Bf16* x, int64_t ldx, int64_t valid, Bf16* out, int64_t rows, int64_t columns,
                         int64_t panel);

/// out (columns × rows) = xᵀ; rows at and beyond `valid` read as 0.
void Transpose(const Bf16* x, int64_t ldx, int64_t valid, Bf16* out, int64_t rows, int64_t columns);

/// out (rows × columns, bf16) = (Σ of `parts` matrices, columns × rows, `part_stride` elements apart)ᵀ.
void SumTransposed(const float* in, int64_t ldi, int64_t parts, int64_t part_stride, Bf16* out, int64_t ldo,
                   int64_t rows, int64_t columns);

}  // namespace concordat::train::cpu

#endif  // CONCORDAT_WORKER_TRAIN_CPU_KERNELS_H_
