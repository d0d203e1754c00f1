// Any bytes as an adapter: a blob of the chain, and the two files of a PEFT folder (the first two bytes are
// the length of its configuration). What is taken is what would be written.
#include <algorithm>

#include "aggregation/adapter_blob.h"
#include "aggregation/peft.h"
#include "tests/fuzz/choices.h"

namespace concordat::fuzz {
namespace {

constexpr ModelShape kShape{1, 8, 12, 2, 1, 4};

void ReadBlob(ByteView bytes) {
  static const AdapterLayout layout =
      AdapterLayout::Make(kShape, {1, 2, {LoraTarget::kQ, LoraTarget::kV}, LoraMethod::kFedIt}).value();
  const auto blob = DecodeAdapterBlob(bytes, layout);
  if (!blob.ok()) return;
  Must(EncodeAdapterBlob(*blob) == ToBytes(bytes), "a blob is what EncodeAdapterBlob writes");
}

void ReadFolder(Choices c) {
  const size_t low = c.Byte(), high = c.Byte();
  const ByteView config = c.Take(low | high << 8);
  const auto adapter = ReadPeft(AsText(config), c.Rest(), kShape);
  if (!adapter.ok()) return;
  Must(adapter->adapter.size() == adapter->layout.adapter_elements(), "an adapter has its layout's length");
  const auto weights = PeftWeights(adapter->layout, adapter->adapter);
  if (!weights.ok()) return;  // a scale that takes a weight out of range
  const auto again = ReadPeft(PeftConfig(adapter->layout, adapter->base_model), *weights, kShape);
  Must(again.ok(), "an adapter that was read can be written and read");
}

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  concordat::fuzz::ReadBlob({data, size});
  concordat::fuzz::ReadFolder(concordat::fuzz::Choices(data, size));
  return 0;
}
