#include "aggregation/server_optimizer.h"

#include <cmath>

namespace concordat {
namespace {

class FedAvg final : public ServerOptimizer {
 public:
  explicit FedAvg(double learning_rate) : learning_rate_(learning_rate) {}

  StatusOr<Result> Step(const AdapterLayout& layout, std::span<const float> old_adapter,
                        std::span<const float> mean_delta, ByteView state) const override {
    if (!state.empty()) return InvalidArgument("fedavg: expected no state, got {} bytes", state.size());
    ASSIGN_OR_RETURN(std::vector<float> adapter, NewAdapter(layout, {old_adapter.begin(), old_adapter.end()},
                                                            mean_delta, learning_rate_));
    return Result{.adapter = std::move(adapter), .state = {}};
  }

 private:
  double learning_rate_;
};

}  // namespace

std::string_view ServerRuleText(ServerRule rule) {
  return rule == ServerRule::kFedAvg ? "fedavg" : "unknown";
}

StatusOr<ServerRule> ParseServerRule(std::string_view text) {
  if (text == "fedavg") return ServerRule::kFedAvg;
  return InvalidArgument("server rule: expected 'fedavg', got '{}'", text);
}

StatusOr<std::unique_ptr<ServerOptimizer>> MakeServerOptimizer(const ServerOptimizerConfig& config) {
  if (!(config.learning_rate > 0) || !std::isfinite(config.learning_rate))
    return InvalidArgument("server optimizer: expected a learning rate of more than 0, got {}",
                           config.learning_rate);
  if (config.rule != ServerRule::kFedAvg)
    return InvalidArgument("server optimizer: unknown rule {}", static_cast<int>(config.rule));
  return std::unique_ptr<ServerOptimizer>(new FedAvg(config.learning_rate));
}

StatusOr<std::vector<float>> NewAdapter(const AdapterLayout& layout, std::vector<float> adapter,
                                        std::span<const float> mean_delta, double learning_rate) {
  if (adapter.size() != layout.adapter_elements())
    return InvalidArgument("new adapter: expected {} weights, got {}", layout.adapter_elements(),
                           adapter.size());
  if (mean_delta.size() != layout.delta_elements())
    return InvalidArgument("new adapter: expected a delta of {} elements, got {}", layout.delta_elements(),
                           mean_delta.size());
  for (const AdapterTensor& tensor : layout.tensors()) {
    if (!tensor.trained) continue;
    float* weights = adapter.data() + tensor.offset;
    const float* delta = mean_delta.data() + tensor.delta_offset;
    bool finite = true;
    for (uint64_t i = 0; i < tensor.elements(); ++i) {
      weights[i] = static_cast<float>(static_cast<double>(weights[i]) + learning_rate * delta[i]);
      finite &= std::isfinite(weights[i]);
    }
    if (!finite) return DataLoss("new adapter: {} has a weight that is not finite", tensor.PeftName());
  }
  return adapter;
}

}  // namespace concordat
