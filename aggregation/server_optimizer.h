#ifndef CONCORDAT_AGGREGATION_SERVER_OPTIMIZER_H_
#define CONCORDAT_AGGREGATION_SERVER_OPTIMIZER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "aggregation/adapter_layout.h"
#include "common/bytes.h"

namespace concordat {

/// Rule that makes the next adapter from the last one and the mean delta.
enum class ServerRule : uint8_t { kFedAvg = 1 };
std::string_view ServerRuleText(ServerRule rule);
StatusOr<ServerRule> ParseServerRule(std::string_view text);

struct ServerOptimizerConfig {
  ServerRule rule = ServerRule::kFedAvg;
  double learning_rate = 1;  // η, more than 0
  bool operator==(const ServerOptimizerConfig&) const = default;
};

/// Pure: the same inputs give the same bits at the coordinator and in every region, which recompute and
/// compare. Arithmetic in f64, element by element, rounded to f32 once, no fused multiply-add.
/// State of rules with momentum goes in and out as bytes, so that it can be journaled and hashed.
class ServerOptimizer {
 public:
  virtual ~ServerOptimizer() = default;
  struct Result {
    std::vector<float> adapter;  // layout.adapter_elements()
    Bytes state;                 // empty for FedAvg
  };
  /// \param old_adapter layout.adapter_elements(); tensors that are not trained are copied.
  /// \param mean_delta layout.delta_elements().
  /// \param state of the last step, empty at the first.
  /// InvalidArgument on a size that does not match; DataLoss if a result is not finite.
  virtual StatusOr<Result> Step(const AdapterLayout& layout, std::span<const float> old_adapter,
                                std::span<const float> mean_delta, ByteView state) const = 0;
};

/// InvalidArgument on a rate that is not finite or not more than 0.
StatusOr<std::unique_ptr<ServerOptimizer>> MakeServerOptimizer(const ServerOptimizerConfig& config);

/// FedAvg in one call: adapter + η·delta on trained tensors, made in place of `adapter`.
StatusOr<std::vector<float>> NewAdapter(const AdapterLayout& layout, std::vector<float> adapter,
                                        std::span<const float> mean_delta, double learning_rate = 1);

}  // namespace concordat

#endif  // CONCORDAT_AGGREGATION_SERVER_OPTIMIZER_H_
