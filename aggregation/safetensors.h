#ifndef CONCORDAT_AGGREGATION_SAFETENSORS_H_
#define CONCORDAT_AGGREGATION_SAFETENSORS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/files.h"

namespace concordat {

/// One tensor of a safetensors file. `data` is valid as long as what it was read from.
struct SafetensorsTensor {
  std::string name;
  std::string dtype;  // "F32", "F16", "BF16", "I64", …
  std::vector<uint64_t> shape;
  ByteView data;  // little-endian, row-major
};

/// Reads the header of `file` (format: https://github.com/huggingface/safetensors, "Format": u64 LE header
/// length, JSON, then the data). Sorted by name. InvalidArgument, naming the tensor: header over 100,000,000
/// bytes or past the end, not JSON, duplicate keys, unknown dtype, shape that overflows or does not match its
/// bytes, offsets that overlap, leave a hole or run past the end.
StatusOr<std::vector<SafetensorsTensor>> ReadSafetensors(ByteView file);

/// What a header says of one tensor that is written.
struct SafetensorsShape {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
};

/// The first bytes of a file whose tensors' data follow in the given order, without gaps; for files too large
/// to build in memory. The length is a multiple of 8. InvalidArgument as WriteSafetensors.
StatusOr<Bytes> SafetensorsHeader(const std::vector<SafetensorsShape>& tensors,
                                  const std::map<std::string, std::string>& metadata);

/// The bytes of a file with these tensors in the given order, with `metadata` (plus "format": "pt").
/// The same input gives the same bytes. InvalidArgument on repeated names or sizes that do not match.
StatusOr<Bytes> WriteSafetensors(const std::vector<SafetensorsTensor>& tensors,
                                 const std::map<std::string, std::string>& metadata);

}  // namespace concordat

#endif  // CONCORDAT_AGGREGATION_SAFETENSORS_H_
