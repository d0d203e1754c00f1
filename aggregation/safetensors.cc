#include "aggregation/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace concordat {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxDimensions = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

/// Bytes of one element; 0 for an unknown dtype.
uint64_t DtypeBytes(std::string_view dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "I8" || dtype == "U8" || dtype == "BOOL" || dtype == "F8_E4M3" || dtype == "F8_E5M2") return 1;
  return 0;
}

struct Entry {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  std::vector<uint64_t> offsets;
};

/// Takes exactly the header's grammar as it is parsed: no tree of a hostile 100 MB header is ever built.
class HeaderSax {
 public:
  std::vector<Entry> entries;
  std::string error;

  bool null() { return Stop("null is not expected"); }
  bool boolean(bool) { return Stop("a boolean is not expected"); }
  bool number_integer(json::number_integer_t) { return Stop("a negative number is not expected"); }
  bool number_float(json::number_float_t, const std::string&) { return Stop("a fraction is not expected"); }
  bool binary(json::binary_t&) { return Stop("binary is not expected"); }
  bool number_unsigned(json::number_unsigned_t v) {
    if (state_ == State::kShape) {
      if (entries.back().shape.size() == kMaxDimensions) return Stop("shape: more than 8 dimensions");
      entries.back().shape.push_back(v);
      return true;
    }
    if (state_ == State::kOffsets) {
      if (entries.back().offsets.size() == 2) return Stop("data_offsets: expected two numbers");
      entries.back().offsets.push_back(v);
      return true;
    }
    return Stop("a number is not expected");
  }
  bool string(std::string& v) {
    if (state_ == State::kMetadata) return true;
    if (state_ != State::kTensor || field_ != "dtype") return Stop("a string is not expected");
    entries.back().dtype = v;
    return true;
  }
  bool start_object(size_t) {
    if (state_ == State::kStart) return Go(State::kRoot);
    if (state_ != State::kRoot) return Stop("an object is not expected");
    if (field_ == kMetadataKey) return Go(State::kMetadata);
    entries.push_back({});
    entries.back().name = field_;
    seen_.clear();
    return Go(State::kTensor);
  }
  bool end_object() {
    if (state_ == State::kRoot) return Go(State::kEnd);
    if (state_ == State::kTensor && seen_.size() != 3) return Stop("expected dtype, shape and data_offsets");
    return Go(State::kRoot);
  }
  bool start_array(size_t) {
    if (state_ == State::kTensor && field_ == "shape") return Go(State::kShape);
    if (state_ == State::kTensor && field_ == "data_offsets") return Go(State::kOffsets);
    return Stop("an array is not expected");
  }
  bool end_array() {
    if (state_ == State::kOffsets && entries.back().offsets.size() != 2) {
      return Stop("data_offsets: expected two numbers");
    }
    return Go(State::kTensor);
  }
  bool key(std::string& v) {
    if (state_ == State::kRoot) {
      // Names go into messages and logs.
      if (std::any_of(v.begin(), v.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; })) {
        return Stop("a tensor name with control characters");
      }
      if (v == kMetadataKey && std::exchange(has_metadata_, true)) return Stop("__metadata__ twice");
    } else if (state_ == State::kTensor) {
      if (v != "dtype" && v != "shape" && v != "data_offsets") return Stop("unknown field");
      if (!seen_.insert(v).second) return Stop("a field twice");
    } else if (state_ == State::kMetadata && !metadata_.insert(v).second) {
      return Stop("a metadata key twice");
    }
    if (state_ != State::kMetadata) field_ = v;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) {
    return Stop(fmt::format("header is not valid JSON at byte {}", position));
  }

 private:
  enum class State { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets, kEnd };
  bool Go(State next) {
    state_ = next;
    return true;
  }
  bool Stop(std::string what) {
    if (!error.empty()) return false;
    const bool in_tensor = state_ == State::kTensor || state_ == State::kShape || state_ == State::kOffsets;
    error = in_tensor ? fmt::format("tensor '{}': {}", entries.back().name, what) : std::move(what);
    return false;
  }

  State state_ = State::kStart;
  std::string field_;
  std::set<std::string> seen_;
  std::set<std::string> metadata_;
  bool has_metadata_ = false;
};

/// Elements times bytes; an error when it does not fit in 64 bits or the dtype is unknown.
StatusOr<uint64_t> TensorBytes(const std::string& name, const std::string& dtype,
                               const std::vector<uint64_t>& shape) {
  uint64_t bytes = DtypeBytes(dtype);
  if (bytes == 0) return InvalidArgument("tensor '{}': unknown dtype '{}'", name, dtype);
  bool empty = false;
  for (const uint64_t n : shape) {
    if (n == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(bytes, n, &bytes)) {
      return InvalidArgument("tensor '{}': shape overflows", name);
    }
  }
  return empty ? 0 : bytes;
}

Status CheckNames(const std::vector<Entry>& entries) {
  std::vector<std::string_view> names;
  for (const Entry& e : entries) names.push_back(e.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return InvalidArgument("tensor '{}': appears twice", *twice);
  return OkStatus();
}

/// Every byte of the data belongs to exactly one tensor.
Status CheckOffsets(std::vector<Entry>& entries, uint64_t data_bytes) {
  for (const Entry& e : entries) {
    ASSIGN_OR_RETURN(const uint64_t bytes, TensorBytes(e.name, e.dtype, e.shape));
    if (e.offsets[0] > e.offsets[1] || e.offsets[1] > data_bytes) {
      return InvalidArgument("tensor '{}': data_offsets [{}, {}] outside the {} bytes of data", e.name,
                             e.offsets[0], e.offsets[1], data_bytes);
    }
    if (e.offsets[1] - e.offsets[0] != bytes) {
      return InvalidArgument("tensor '{}': shape needs {} bytes, data_offsets give {}", e.name, bytes,
                             e.offsets[1] - e.offsets[0]);
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.offsets[0], a.offsets[1], a.name) < std::tie(b.offsets[0], b.offsets[1], b.name);
  });
  uint64_t position = 0;
  for (const Entry& e : entries) {
    if (e.offsets[0] != position) {
      return InvalidArgument("tensor '{}': data_offsets start at {}, expected {} ({})", e.name, e.offsets[0],
                             position, e.offsets[0] < position ? "overlap" : "hole");
    }
    position = e.offsets[1];
  }
  if (position != data_bytes) {
    return InvalidArgument("{} bytes of data belong to no tensor", data_bytes - position);
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::vector<SafetensorsTensor>> ReadSafetensors(ByteView file) {
  if (file.size() < 8) return InvalidArgument("expected at least 8 bytes, got {}", file.size());
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | file[i];
  if (header_bytes > kMaxHeaderBytes || header_bytes > file.size() - 8) {
    return InvalidArgument("header length {}: expected at most {}", header_bytes,
                           std::min<uint64_t>(kMaxHeaderBytes, file.size() - 8));
  }
  const std::string_view header = AsText(file.subspan(8, header_bytes));
  if (header.empty() || header[0] != '{') return InvalidArgument("header: expected a JSON object");
  HeaderSax sax;
  try {
    if (!json::sax_parse(header.begin(), header.end(), &sax)) {
      return InvalidArgument("{}", sax.error.empty() ? "header is not valid JSON" : sax.error);
    }
  } catch (const json::exception& e) {
    return InvalidArgument("header is not valid JSON (library error {})", e.id);
  }
  const ByteView data = file.subspan(8 + header_bytes);
  RETURN_IF_ERROR(CheckNames(sax.entries));
  RETURN_IF_ERROR(CheckOffsets(sax.entries, data.size()));
  std::vector<SafetensorsTensor> out;
  out.reserve(sax.entries.size());
  for (Entry& e : sax.entries) {
    out.push_back({std::move(e.name), std::move(e.dtype), std::move(e.shape),
                   data.subspan(e.offsets[0], e.offsets[1] - e.offsets[0])});
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return out;
}

StatusOr<Bytes> SafetensorsHeader(const std::vector<SafetensorsShape>& tensors,
                                  const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  auto& meta = header[std::string(kMetadataKey)];
  for (const auto& [key, value] : metadata) meta[key] = value;
  meta["format"] = "pt";
  uint64_t position = 0;
  std::set<std::string_view> names;
  for (const SafetensorsShape& t : tensors) {
    if (t.name == kMetadataKey || !names.insert(t.name).second) {
      return InvalidArgument("tensor '{}': appears twice or is reserved", t.name);
    }
    ASSIGN_OR_RETURN(const uint64_t bytes, TensorBytes(t.name, t.dtype, t.shape));
    if (position + bytes < position) return InvalidArgument("tensor '{}': file overflows", t.name);
    header.push_back(
        {t.name, {{"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {position, position + bytes}}}});
    position += bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    return InvalidArgument("a tensor name or metadata value is not UTF-8");
  }
  // Data starts at a multiple of 8, so that a mapped file's tensors are aligned.
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kMaxHeaderBytes) return InvalidArgument("header of {} bytes is too long", text.size());
  Bytes out;
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<uint8_t>(uint64_t{text.size()} >> (8 * i)));
  out.insert(out.end(), text.begin(), text.end());
  return out;
}

StatusOr<Bytes> WriteSafetensors(const std::vector<SafetensorsTensor>& tensors,
                                 const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsShape> shapes;
  uint64_t total = 0;
  for (const SafetensorsTensor& t : tensors) {
    ASSIGN_OR_RETURN(const uint64_t bytes, TensorBytes(t.name, t.dtype, t.shape));
    if (bytes != t.data.size()) {
      return InvalidArgument("tensor '{}': shape needs {} bytes, got {}", t.name, bytes, t.data.size());
    }
    shapes.push_back({t.name, t.dtype, t.shape});
    total += bytes;
  }
  ASSIGN_OR_RETURN(Bytes out, SafetensorsHeader(shapes, metadata));
  out.reserve(out.size() + total);
  for (const SafetensorsTensor& t : tensors) out.insert(out.end(), t.data.begin(), t.data.end());
  return out;
}

}  // namespace concordat
