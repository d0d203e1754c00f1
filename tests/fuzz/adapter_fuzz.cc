// Any bytes as an adapter: a blob of the chain, and the two files of a PEFT folder (the first two bytes are
// the length of its configuration). What is taken is what would be written.
#include <algorithm>

#include "aggregation/adapter_blob.h"
#include "aggregation/peft.h"
#include "tests/fuzz/choices.h"

namespace concordat::fuzz {
namespace {

constexpr ModelShape kShape{1, 8, 12, 2, 1, 4};

AdapterLayout LayoutOf(LoraMethod method) {
  return AdapterLayout::Make(kShape, {1, 2, {LoraTarget::kQ, LoraTarget::kV}, method}).value();
}

void ReadBlob(ByteView bytes, const AdapterLayout& layout) {
  const auto blob = DecodeAdapterBlob(bytes, layout);
  if (!blob.ok()) return;
  Must(EncodeAdapterBlob(*blob) == ToBytes(bytes), "a blob is what EncodeAdapterBlob writes");
  const auto weights = PeftWeights(layout, blob->weights);
  if (!weights.ok()) return;  // a product or scale that takes a weight out of range
  Must(ReadPeft(PeftConfig(layout, "m"), *weights, kShape).ok(), "an exported adapter can be read");
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
  static const auto fedit = concordat::fuzz::LayoutOf(concordat::LoraMethod::kFedIt);
  static const auto core = concordat::fuzz::LayoutOf(concordat::LoraMethod::kCore);
  concordat::fuzz::ReadBlob({data, size}, fedit);
  concordat::fuzz::ReadBlob({data, size}, core);
  concordat::fuzz::ReadFolder(concordat::fuzz::Choices(data, size));
  return 0;
}
