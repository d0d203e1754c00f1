#include "aggregation/initial_adapter.h"

#include <array>
#include <bit>
#include <cmath>
#include <span>

#include "privacy/crypto/ctr_stream.h"

namespace concordat {
namespace {

constexpr size_t kLanes = 8;

std::vector<uint64_t> Words(crypto::CtrStream& stream, const AdapterTensor& tensor) {
  std::vector<uint64_t> out(tensor.elements());
  stream.Keystream(tensor.offset * sizeof(uint64_t),
                   {reinterpret_cast<uint8_t*>(out.data()), out.size() * sizeof(uint64_t)});
  if constexpr (std::endian::native == std::endian::big)
    for (uint64_t& w : out) w = __builtin_bswap64(w);
  return out;
}

// Uniform in (−1/√in, 1/√in): the middles of 2^32 equal cells.
void FillUniform(std::span<const uint64_t> words, uint64_t in, std::span<float> out) {
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  for (size_t i = 0; i < out.size(); ++i) {
    const double unit = (static_cast<double>(words[i] >> 32) + 0.5) * 0x1p-31 - 1;
    out[i] = static_cast<float>(unit * bound);
  }
}

// Eight fixed lanes: the order of the sum is part of the format, not the compiler's choice.
double Dot(const double* a, const double* b, size_t n) {
  std::array<double, kLanes> lanes{};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) lanes[l] += a[i + l] * b[i + l];
  for (size_t l = 0; i < n; ++i, ++l) lanes[l] += a[i] * b[i];
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

// Rows that are close to Gaussian: a sum of four 16-bit numbers, exact in integers, where a library's log and
// cosine would differ between machines. Then Gram–Schmidt, each row twice (Giraud et al. 2005: twice is
// enough).
void FillOrthonormal(std::span<const uint64_t> words, uint64_t rows, uint64_t cols, double row_norm,
                     std::span<float> out) {
  std::vector<double> m(rows * cols);
  for (size_t i = 0; i < m.size(); ++i) {
    const uint64_t w = words[i];
    const uint64_t sum = (w & 0xffff) + ((w >> 16) & 0xffff) + ((w >> 32) & 0xffff) + (w >> 48);
    m[i] = static_cast<double>(static_cast<int64_t>(sum) - 2 * 0xffff) * 0x1p-16;
  }
  for (uint64_t r = 0; r < rows; ++r) {
    double* row = m.data() + r * cols;
    for (int pass = 0; pass < 2; ++pass)
      for (uint64_t q = 0; q < r; ++q) {
        const double* done = m.data() + q * cols;
        const double along = Dot(row, done, cols);
        for (uint64_t c = 0; c < cols; ++c) row[c] -= along * done[c];
      }
    const double norm = std::sqrt(Dot(row, row, cols));
    for (uint64_t c = 0; c < cols; ++c) {
      row[c] /= norm;
      out[r * cols + c] = static_cast<float>(row[c] * row_norm);
    }
  }
}

void FillOrthonormalColumns(std::span<const uint64_t> words, uint64_t rows, uint64_t cols,
                            std::span<float> out) {
  const double norm = std::sqrt(static_cast<double>(rows) / static_cast<double>(cols));
  std::vector<float> columns(out.size());
  FillOrthonormal(words, cols, rows, norm, columns);
  for (uint64_t r = 0; r < rows; ++r)
    for (uint64_t c = 0; c < cols; ++c) out[r * cols + c] = columns[c * rows + r];
}

}  // namespace

StatusOr<std::vector<float>> InitialAdapter(const AdapterLayout& layout, const Digest& seed) {
  std::vector<float> out(layout.adapter_elements(), 0.0F);
  crypto::CtrStream stream(Secret32(std::span<const uint8_t, 32>(seed.bytes)));
  const LoraMethod method = layout.spec().method;
  for (const AdapterTensor& tensor : layout.tensors()) {
    const bool core_b = method == LoraMethod::kCore && tensor.factor == LoraFactor::kB;
    if (tensor.factor != LoraFactor::kA && !core_b) continue;
    const std::span<float> weights(out.data() + tensor.offset, tensor.elements());
    const std::vector<uint64_t> words = Words(stream, tensor);
    if (core_b) {
      FillOrthonormalColumns(words, tensor.rows, tensor.cols, weights);
      continue;
    }
    if (method == LoraMethod::kFedIt) {
      FillUniform(words, tensor.cols, weights);
      continue;
    }
    if (tensor.rows > tensor.cols)
      return InvalidArgument("initial adapter: {} cannot have {} orthonormal rows of {} columns",
                             tensor.PeftName(), tensor.rows, tensor.cols);
    FillOrthonormal(words, tensor.rows, tensor.cols, 1 / std::sqrt(3.0), weights);
  }
  return out;
}

}  // namespace concordat
