#include "aggregation/modular_sum.h"

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

Status ModularSum::AddBytes(uint64_t first_element, std::span<const uint8_t> little_endian,
                            uint32_t modulus_bits) {
  const uint64_t word_bytes = WordBytes(modulus_bits);
  if (little_endian.size() % word_bytes != 0)
    return InvalidArgument("sum: {} bytes are no whole number of {}-byte words", little_endian.size(),
                           word_bytes);
  const uint64_t count = little_endian.size() / word_bytes;
  RETURN_IF_ERROR(CheckRange(first_element, count));
  AddPackedWords(little_endian, modulus_bits, std::span(words_).subspan(first_element, count));
  return OkStatus();
}

void ModularSum::Clear() {
  Wipe({reinterpret_cast<uint8_t*>(words_.data()), words_.size() * sizeof(uint32_t)});
  words_.clear();
  words_.shrink_to_fit();
}

}  // namespace concordat
