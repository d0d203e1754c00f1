// Any bytes as a tokenizer.json; an accepted one must encode and decode without harm.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "worker/model/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace concordat::model;
  auto spec = TokenizerSpecFromJson({reinterpret_cast<const char*>(data), size}, "");
  if (!spec.ok()) return 0;
  const auto tokenizer = Tokenizer::Make(*std::move(spec));
  if (!tokenizer.ok()) return 0;
  const auto ids = (*tokenizer)->Encode("abab 12\n<s>\xc3\xa9", ParseSpecial::kYes);
  if (ids.ok() && !(*tokenizer)->Decode(*ids).ok()) std::abort();
  return 0;
}
