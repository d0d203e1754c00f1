// A folder of a base model in Hugging Face's form: config.json, the index and one file of weights, each but
// the last after its length as u16. What opens can be read to its last row.
#include "tests/fuzz/scratch.h"
#include "worker/model/weight_source.h"

namespace concordat::fuzz {
namespace {

void ReadFirstAndLast(const model::WeightSource& source, const std::string& name) {
  const auto shape = source.Shape(name);
  if (!shape.ok() || shape->first == 0) return;
  std::vector<float> row(shape->second);
  Must(source.Read(name, 0, row).ok(), "a tensor's first row is there");
  Must(source.Read(name, shape->first - 1, row).ok(), "a tensor's last row is there");
  Must(!source.Read(name, shape->first, row).ok() || row.empty(), "nothing is read behind a tensor");
}

void FuzzOne(Choices c) {
  static const Scratch folder;
  for (const char* name : {"config.json", "model.safetensors.index.json"}) {
    const size_t low = c.Byte(), high = c.Byte();
    const ByteView content = c.Take(low | high << 8);
    std::filesystem::remove(folder / name);
    if (!content.empty()) folder.Put(name, content);
  }
  folder.Put("model.safetensors", c.Rest());
  const auto source = model::OpenWeights(folder / ".");
  if (!source.ok()) return;
  for (const char* name : {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
                           "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"})
    ReadFirstAndLast(**source, name);
}

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  concordat::fuzz::FuzzOne(concordat::fuzz::Choices(data, size));
  return 0;
}
