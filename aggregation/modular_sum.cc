#include "aggregation/modular_sum.h"

#include <bit>
#include <cstring>

#include "common/secret.h"

namespace concordat {

Status ModularSum::CheckRange(uint64_t first_element, uint64_t count) const {
  if (first_element > words_.size() || count > words_.size() - first_element)
    return InvalidArgument("sum: elements {} and {} more reach past the end of {}", first_element, count,
                           words_.size());
  return OkStatus();
}

Status ModularSum::Add(uint64_t first_element, std::span<const uint32_t> values) {
  RETURN_IF_ERROR(CheckRange(first_element, values.size()));
  uint32_t* words = words_.data() + first_element;
  for (size_t i = 0; i < values.size(); ++i) words[i] += values[i];
  return OkStatus();
}

Status ModularSum::Subtract(uint64_t first_element, std::span<const uint32_t> values) {
  RETURN_IF_ERROR(CheckRange(first_element, values.size()));
  uint32_t* words = words_.data() + first_element;
  for (size_t i = 0; i < values.size(); ++i) words[i] -= values[i];
  return OkStatus();
}

Status ModularSum::AddBytes(uint64_t first_element, std::span<const uint8_t> little_endian) {
  if (little_endian.size() % sizeof(uint32_t) != 0)
    return InvalidArgument("sum: {} bytes are no whole number of 4-byte words", little_endian.size());
  const uint64_t count = little_endian.size() / sizeof(uint32_t);
  RETURN_IF_ERROR(CheckRange(first_element, count));
  uint32_t* words = words_.data() + first_element;
  for (size_t i = 0; i < count; ++i) {
    uint32_t word;
    std::memcpy(&word, little_endian.data() + i * sizeof word, sizeof word);
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap32(word);
    words[i] += word;
  }
  return OkStatus();
}

void ModularSum::Clear() {
  Wipe({reinterpret_cast<uint8_t*>(words_.data()), words_.size() * sizeof(uint32_t)});
  words_.clear();
  words_.shrink_to_fit();
}

}  // namespace concordat
