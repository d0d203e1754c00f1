#include "worker/model/gguf.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace concordat::model {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxNameBytes = 1024;
constexpr uint32_t kMaxDimensions = 4;
constexpr uint32_t kDefaultAlignment = 32;
constexpr uint32_t kMaxAlignment = 1 << 16;

/// Types of metadata values, as numbered in the file.
enum ValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kText, kArray, kU64, kI64, kF64 };

/// Bytes of a value of fixed size; 0 for the others.
uint64_t FixedBytes(uint32_t type) {
  switch (type) {
    case kU8:
    case kI8:
    case kBool:
      return 1;
    case kU16:
    case kI16:
      return 2;
    case kU32:
    case kI32:
    case kF32:
      return 4;
    case kU64:
    case kI64:
    case kF64:
      return 8;
    default:
      return 0;
  }
}

template <typename T>
T Load(const uint8_t* p) {
  static_assert(std::endian::native == std::endian::little);
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

StatusOr<TensorFormat> FormatOf(uint32_t ggml_type) {
  switch (ggml_type) {
    case 0:
      return TensorFormat::kF32;
    case 1:
      return TensorFormat::kF16;
    case 2:
      return TensorFormat::kQ4_0;
    case 3:
      return TensorFormat::kQ4_1;
    case 8:
      return TensorFormat::kQ8_0;
    case 30:
      return TensorFormat::kBf16;
    default:
      return InvalidArgument("type: {} is not supported (F32, F16, BF16, Q8_0, Q4_0, Q4_1 are)", ggml_type);
  }
}

bool IsInteger(uint32_t type) {
  return FixedBytes(type) > 0 && type != kF32 && type != kF64 && type != kBool;
}

/// The value as i64; u64 above the range of i64 saturates, which every caller refuses.
int64_t LoadInteger(uint32_t type, const uint8_t* p) {
  switch (type) {
    case kU8:
      return *p;
    case kI8:
      return static_cast<int8_t>(*p);
    case kU16:
      return Load<uint16_t>(p);
    case kI16:
      return Load<int16_t>(p);
    case kU32:
      return Load<uint32_t>(p);
    case kI32:
      return Load<int32_t>(p);
    case kU64:
      return static_cast<int64_t>(std::min<uint64_t>(Load<uint64_t>(p), INT64_MAX));
    default:
      return Load<int64_t>(p);
  }
}

/// Keys and names come from the file and go into messages: only printable ASCII is shown as it is.
std::string Printable(std::string_view text) {
  std::string out(text.substr(0, 80));
  for (char& c : out) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return out;
}

}  // namespace

/// Reads front to back; every length is checked against what is left before anything is reserved.
class GgufParser {
 public:
  explicit GgufParser(ByteView file) : file_(file) {}

  StatusOr<GgufFile> Parse() {
    ASSIGN_OR_RETURN(const uint32_t magic, Number<uint32_t>("magic"));
    if (magic != kMagic) return InvalidArgument("magic: not a GGUF file");
    ASSIGN_OR_RETURN(const uint32_t version, Number<uint32_t>("version"));
    if (version != 2 && version != 3) return InvalidArgument("version: expected 2 or 3, got {}", version);
    ASSIGN_OR_RETURN(const uint64_t tensors, Number<uint64_t>("tensor_count"));
    ASSIGN_OR_RETURN(const uint64_t pairs, Number<uint64_t>("metadata_kv_count"));
    // The smallest pair has 13 bytes, the smallest tensor entry 24.
    if (pairs > Left() / 13) return InvalidArgument("metadata_kv_count: {} do not fit into the file", pairs);
    for (uint64_t i = 0; i < pairs; ++i) RETURN_IF_ERROR(Pair());
    RETURN_IF_ERROR(ReadAlignment());
    if (tensors > Left() / 24) return InvalidArgument("tensor_count: {} do not fit into the file", tensors);
    for (uint64_t i = 0; i < tensors; ++i) RETURN_IF_ERROR(TensorEntry());
    RETURN_IF_ERROR(PlaceTensors());
    return std::move(out_);
  }

 private:
  uint64_t Left() const { return file_.size() - position_; }

  StatusOr<ByteView> Take(uint64_t bytes, std::string_view field) {
    if (bytes > Left()) {
      return InvalidArgument("{}: the file ends at byte {}, {} more bytes expected", field, file_.size(),
                             bytes - Left());
    }
    const ByteView v = file_.subspan(position_, bytes);
    position_ += bytes;
    return v;
  }
  template <typename T>
  StatusOr<T> Number(std::string_view field) {
    ASSIGN_OR_RETURN(const ByteView v, Take(sizeof(T), field));
    return Load<T>(v.data());
  }
  StatusOr<std::string_view> Text(std::string_view field, uint64_t max) {
    ASSIGN_OR_RETURN(const uint64_t bytes, Number<uint64_t>(field));
    if (bytes > max) return InvalidArgument("{}: length {}, expected at most {}", field, bytes, max);
    ASSIGN_OR_RETURN(const ByteView v, Take(bytes, field));
    return AsText(v);
  }

  Status Pair() {
    ASSIGN_OR_RETURN(const std::string_view key, Text("key", kMaxKeyBytes));
    if (key.empty()) return InvalidArgument("key: empty");
    GgufFile::Value value;
    ASSIGN_OR_RETURN(value.type, Number<uint32_t>("value type"));
    if (const Status s = ReadValue(value); !s.ok())
      return Annotate(s, fmt::format("key '{}'", Printable(key)));
    if (!out_.values_.emplace(key, value).second) return InvalidArgument("key '{}': twice", Printable(key));
    return OkStatus();
  }

  Status ReadValue(GgufFile::Value& value) {
    if (value.type == kText) {
      ASSIGN_OR_RETURN(const std::string_view v, Text("string", Left()));
      value.raw = AsBytes(v);
      return OkStatus();
    }
    if (value.type == kArray) return ReadArray(value);
    const uint64_t bytes = FixedBytes(value.type);
    if (bytes == 0) return InvalidArgument("type: {} is unknown", value.type);
    ASSIGN_OR_RETURN(value.raw, Take(bytes, "value"));
    if (value.type == kBool && value.raw[0] > 1) return InvalidArgument("bool: expected 0 or 1");
    return OkStatus();
  }

  Status ReadArray(GgufFile::Value& value) {
    ASSIGN_OR_RETURN(value.element_type, Number<uint32_t>("array type"));
    ASSIGN_OR_RETURN(value.count, Number<uint64_t>("array length"));
    const uint64_t start = position_;
    if (value.element_type == kText) {
      if (value.count > Left() / 8) return InvalidArgument("array length: {} do not fit", value.count);
      for (uint64_t i = 0; i < value.count; ++i) RETURN_IF_ERROR(Text("array element", Left()).status());
      value.raw = file_.subspan(start, position_ - start);
      return OkStatus();
    }
    const uint64_t bytes = FixedBytes(value.element_type);
    if (bytes == 0) return InvalidArgument("array type: {} is not supported", value.element_type);
    if (value.count > Left() / bytes) return InvalidArgument("array length: {} do not fit", value.count);
    ASSIGN_OR_RETURN(value.raw, Take(value.count * bytes, "array"));
    return OkStatus();
  }

  Status ReadAlignment() {
    if (!out_.Has("general.alignment")) return OkStatus();
    ASSIGN_OR_RETURN(alignment_, out_.U32("general.alignment"));
    if (alignment_ < 8 || alignment_ > kMaxAlignment || !std::has_single_bit(alignment_)) {
      return InvalidArgument("general.alignment: expected a power of two from 8 to {}, got {}", kMaxAlignment,
                             alignment_);
    }
    return OkStatus();
  }

  Status TensorEntry() {
    ASSIGN_OR_RETURN(const std::string_view name, Text("tensor name", kMaxNameBytes));
    // Names go into messages and logs.
    if (name.empty() || Printable(name) != name.substr(0, 80)) {
      return InvalidArgument("tensor '{}': name: expected printable ASCII", Printable(name));
    }
    GgufTensor t;
    t.name = name;
    uint64_t offset = 0;
    if (const Status s = TensorFields(t, offset); !s.ok()) {
      return Annotate(s, fmt::format("tensor '{}'", Printable(name)));
    }
    out_.tensors_.push_back(std::move(t));
    offsets_.push_back(offset);
    return OkStatus();
  }

  Status TensorFields(GgufTensor& t, uint64_t& offset) {
    ASSIGN_OR_RETURN(const uint32_t dimensions, Number<uint32_t>("n_dimensions"));
    if (dimensions < 1 || dimensions > kMaxDimensions) {
      return InvalidArgument("n_dimensions: expected 1 to {}, got {}", kMaxDimensions, dimensions);
    }
    uint64_t elements = 1;
    for (uint32_t i = 0; i < dimensions; ++i) {
      ASSIGN_OR_RETURN(const uint64_t n, Number<uint64_t>("dimensions"));
      if (n == 0 || __builtin_mul_overflow(elements, n, &elements) || elements > uint64_t{1} << 40) {
        return InvalidArgument("dimensions: zero or too large");
      }
      t.dims.push_back(n);
    }
    ASSIGN_OR_RETURN(const uint32_t type, Number<uint32_t>("type"));
    ASSIGN_OR_RETURN(t.format, FormatOf(type));
    ASSIGN_OR_RETURN(offset, Number<uint64_t>("offset"));
    if (offset % alignment_ != 0) {
      return InvalidArgument("offset: {} is not a multiple of the alignment {}", offset, alignment_);
    }
    const BlockSize block = BlockSizeOf(t.format);
    if (t.dims[0] % block.values != 0) {
      return InvalidArgument("dimensions: rows of {} do not fill {} blocks of {}", t.dims[0],
                             TensorFormatName(t.format), block.values);
    }
    bytes_.push_back(elements / block.values * block.bytes);
    return OkStatus();
  }

  /// Data begin at the next multiple of the alignment after the entries.
  Status PlaceTensors() {
    const uint64_t start = (position_ + alignment_ - 1) / alignment_ * alignment_;
    const ByteView data = start <= file_.size() ? file_.subspan(start) : ByteView();
    for (size_t i = 0; i < out_.tensors_.size(); ++i) {
      GgufTensor& t = out_.tensors_[i];
      if (offsets_[i] > data.size() || bytes_[i] > data.size() - offsets_[i]) {
        return InvalidArgument("tensor '{}': offset: {} bytes from {} run past the {} bytes of data",
                               Printable(t.name), bytes_[i], offsets_[i], data.size());
      }
      t.data = data.subspan(offsets_[i], bytes_[i]);
    }
    auto& tensors = out_.tensors_;
    std::sort(tensors.begin(), tensors.end(),
              [](const GgufTensor& a, const GgufTensor& b) { return a.data.data() < b.data.data(); });
    for (size_t i = 1; i < tensors.size(); ++i) {
      if (tensors[i - 1].data.data() + tensors[i - 1].data.size() > tensors[i].data.data()) {
        return InvalidArgument("tensor '{}': offset: data overlap those of '{}'", Printable(tensors[i].name),
                               Printable(tensors[i - 1].name));
      }
    }
    std::sort(tensors.begin(), tensors.end(),
              [](const GgufTensor& a, const GgufTensor& b) { return a.name < b.name; });
    for (size_t i = 1; i < tensors.size(); ++i) {
      if (tensors[i - 1].name == tensors[i].name) {
        return InvalidArgument("tensor '{}': name: twice", Printable(tensors[i].name));
      }
    }
    return OkStatus();
  }

  ByteView file_;
  uint64_t position_ = 0;
  uint32_t alignment_ = kDefaultAlignment;
  GgufFile out_;
  std::vector<uint64_t> offsets_;
  std::vector<uint64_t> bytes_;
};

StatusOr<GgufFile> GgufFile::Parse(ByteView file) { return GgufParser(file).Parse(); }

StatusOr<const GgufFile::Value*> GgufFile::Find(std::string_view key, std::string_view expected) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return NotFound("key '{}' is missing (expected {})", key, expected);
  return &it->second;
}

StatusOr<uint32_t> GgufFile::U32(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* v, Find(key, "an integer"));
  if (!IsInteger(v->type)) return InvalidArgument("key '{}': expected an integer", key);
  const int64_t n = LoadInteger(v->type, v->raw.data());
  if (n < 0 || n > UINT32_MAX) return InvalidArgument("key '{}': {} is out of range", key, n);
  return static_cast<uint32_t>(n);
}

StatusOr<double> GgufFile::F64(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* v, Find(key, "a number"));
  if (v->type != kF32 && v->type != kF64) return InvalidArgument("key '{}': expected a float", key);
  const double x = v->type == kF32 ? Load<float>(v->raw.data()) : Load<double>(v->raw.data());
  if (!std::isfinite(x)) return InvalidArgument("key '{}': not finite", key);
  return x;
}

StatusOr<bool> GgufFile::Bool(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* v, Find(key, "a bool"));
  if (v->type != kBool) return InvalidArgument("key '{}': expected a bool", key);
  return v->raw[0] == 1;
}

StatusOr<std::string_view> GgufFile::Text(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* v, Find(key, "a string"));
  if (v->type != kText) return InvalidArgument("key '{}': expected a string", key);
  return AsText(v->raw);
}

StatusOr<std::vector<std::string_view>> GgufFile::Texts(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* v, Find(key, "a list of strings"));
  if (v->type != kArray || v->element_type != kText) {
    return InvalidArgument("key '{}': expected a list of strings", key);
  }
  std::vector<std::string_view> out;
  out.reserve(v->count);
  const uint8_t* p = v->raw.data();
  for (uint64_t i = 0; i < v->count; ++i) {
    const auto bytes = Load<uint64_t>(p);
    out.emplace_back(reinterpret_cast<const char*>(p + 8), bytes);
    p += 8 + bytes;
  }
  return out;
}

StatusOr<std::vector<int64_t>> GgufFile::Integers(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* v, Find(key, "a list of integers"));
  if (v->type != kArray || !IsInteger(v->element_type)) {
    return InvalidArgument("key '{}': expected a list of integers", key);
  }
  std::vector<int64_t> out;
  out.reserve(v->count);
  for (uint64_t i = 0; i < v->count; ++i) {
    out.push_back(LoadInteger(v->element_type, v->raw.data() + i * FixedBytes(v->element_type)));
  }
  return out;
}

const GgufTensor* GgufFile::Find(std::string_view name) const {
  const auto it = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const GgufTensor& t, std::string_view n) { return t.name < n; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

}  // namespace concordat::model
