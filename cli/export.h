#ifndef CONCORDAT_CLI_EXPORT_H_
#define CONCORDAT_CLI_EXPORT_H_

#include <filesystem>

#include "aggregation/peft.h"
#include "common/status.h"

namespace concordat::cli {

/// The shape of a GGUF file's or Hugging Face folder's model. Errors as model::OpenWeights.
StatusOr<ModelShape> ShapeOfModel(const std::filesystem::path& model);

/// Writes the base model with the adapter added to it, W + scale·B·A, as a Hugging Face folder in `out`.
/// InvalidArgument when the model has another shape than the adapter.
Status ExportMerged(const std::filesystem::path& model, const PeftAdapter& adapter,
                    const std::filesystem::path& out);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_EXPORT_H_
