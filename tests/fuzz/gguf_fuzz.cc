// Any bytes as a GGUF file, and as the tokenizer within it.
#include <cstddef>
#include <cstdint>

#include "worker/model/gguf.h"
#include "worker/model/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace concordat::model;
  const auto file = GgufFile::Parse({data, size});
  if (!file.ok()) return 0;
  uint64_t sum = 0;
  for (const GgufTensor& t : file->tensors()) {
    float out[32];
    const BlockSize block = BlockSizeOf(t.format);
    if (t.data.size() >= block.bytes) Dequantize(t.format, t.data.data(), block.values, out);
    sum += t.data.empty() ? 0 : t.data.back();
  }
  auto spec = TokenizerSpecFromGguf(*file);
  if (spec.ok()) {
    const auto tokenizer = Tokenizer::Make(*std::move(spec));
    if (tokenizer.ok()) (void)(*tokenizer)->Encode("ab 12 \xc3\xa9", ParseSpecial::kYes);
  }
  return sum == UINT64_MAX ? 1 : 0;
}
