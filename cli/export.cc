#include "cli/export.h"

#include "worker/model/merge.h"
#include "worker/model/weight_source.h"

namespace concordat::cli {

StatusOr<ModelShape> ShapeOfModel(const std::filesystem::path& model) {
  ASSIGN_OR_RETURN(const auto weights, model::OpenWeights(model));
  return weights->config().shape;
}

Status ExportMerged(const std::filesystem::path& model, const PeftAdapter& adapter,
                    const std::filesystem::path& out) {
  ASSIGN_OR_RETURN(const auto weights, model::OpenWeights(model));
  return model::WriteMergedFolder(out, model, *weights, adapter.layout, adapter.adapter,
                                  model::MergedDtype::kBf16);
}

}  // namespace concordat::cli
