#ifndef CONCORDAT_AGGREGATION_PEFT_H_
#define CONCORDAT_AGGREGATION_PEFT_H_

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aggregation/adapter_layout.h"
#include "common/bytes.h"

// Adapters as other programs read them. `adapter` is the flat f32 vector of AdapterLayout throughout.
namespace concordat {

inline constexpr std::string_view kPeftConfigFile = "adapter_config.json";
inline constexpr std::string_view kPeftWeightsFile = "adapter_model.safetensors";

/// An adapter that was read from a PEFT folder.
struct PeftAdapter {
  AdapterLayout layout;
  std::vector<float> adapter;
  std::string base_model;  // base_model_name_or_path
};

/// Text of adapter_config.json: uniform r, lora_alpha = r, use_rslora false, no dropout, no bias.
std::string PeftConfig(const AdapterLayout& layout, std::string_view base_model);

/// Bytes of adapter_model.safetensors (f32): lora_A and lora_B, whatever the method. The scale alpha/r is
/// folded into B, so that readers which treat alpha differently still agree; exact when the scale is a power
/// of two. A core's lora_B is scale·B·R, summed in f64 and rounded once: the same bits everywhere.
/// InvalidArgument on a wrong size or a value that is not finite.
StatusOr<Bytes> PeftWeights(const AdapterLayout& layout, std::span<const float> adapter);

/// Writes both files into `folder`, which is made when absent. Each file is replaced atomically.
Status WritePeftFolder(const std::filesystem::path& folder, const AdapterLayout& layout,
                       std::span<const float> adapter, std::string_view base_model);

/// Reads the two files' contents for a model of `shape`. The layout's method is FedIT: a file does not say,
/// and a core's R cannot be had back from the product (nobody needs it: jobs go on from blobs, not from
/// folders). InvalidArgument, naming the field or tensor, for what is missing, extra, of another shape or not
/// finite, and for whatever would change the adapter's meaning (rslora, DoRA, bias, patterns, modules to
/// save, …).
StatusOr<PeftAdapter> ReadPeft(std::string_view config, ByteView weights, const ModelShape& shape);

/// ReadPeft on a folder's two files.
StatusOr<PeftAdapter> ReadPeftFolder(const std::filesystem::path& folder, const ModelShape& shape);

/// Bytes of a GGUF v3 adapter for llama.cpp (general.type "adapter", adapter.type "lora",
/// adapter.lora.alpha = r with the scale folded into B). Rows of B for q and k are permuted as llama.cpp's
/// converter permutes the rows of the weights. InvalidArgument as PeftWeights.
StatusOr<Bytes> GgufAdapter(const AdapterLayout& layout, std::span<const float> adapter,
                            std::string_view name);

}  // namespace concordat

#endif  // CONCORDAT_AGGREGATION_PEFT_H_
