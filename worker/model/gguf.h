#ifndef CONCORDAT_WORKER_MODEL_GGUF_H_
#define CONCORDAT_WORKER_MODEL_GGUF_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "worker/model/tensor_format.h"

namespace concordat::model {

/// One tensor of a GGUF file. `dims` in the file's order: the first varies fastest, so a matrix of `out` rows
/// and `in` columns has dims {in, out}.
struct GgufTensor {
  std::string name;
  TensorFormat format{};
  std::vector<uint64_t> dims;
  ByteView data;
};

/// A GGUF file, versions 2 and 3, little-endian
/// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Views into the bytes it was parsed from;
/// those must outlive it. Memory use is bounded by a small multiple of the file's size, whatever its counts
/// claim.
class GgufFile {
 public:
  /// InvalidArgument, naming the key or tensor and the field: wrong magic or version, truncation, counts that
  /// the file cannot hold, a key or tensor twice, unknown or unsupported types, a wrong alignment, shapes
  /// that overflow or do not fill whole blocks, data that overlap or run past the end.
  static StatusOr<GgufFile> Parse(ByteView file);

  bool Has(std::string_view key) const { return values_.contains(key); }
  /// Typed access to the metadata. NotFound; InvalidArgument for another type or, for integers, a value
  /// outside [0, 2^32).
  StatusOr<uint32_t> U32(std::string_view key) const;
  StatusOr<double> F64(std::string_view key) const;
  StatusOr<bool> Bool(std::string_view key) const;
  StatusOr<std::string_view> Text(std::string_view key) const;
  StatusOr<std::vector<std::string_view>> Texts(std::string_view key) const;
  StatusOr<std::vector<int64_t>> Integers(std::string_view key) const;

  /// Sorted by name.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  /// nullptr when there is none.
  const GgufTensor* Find(std::string_view name) const;

 private:
  friend class GgufParser;
  struct Value {
    uint32_t type = 0;          // as in the file
    uint32_t element_type = 0;  // of an array
    uint64_t count = 1;
    ByteView raw;  // the value, or an array's elements
  };
  StatusOr<const Value*> Find(std::string_view key, std::string_view expected) const;

  std::map<std::string, Value, std::less<>> values_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_GGUF_H_
