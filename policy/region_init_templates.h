#ifndef CONCORDAT_POLICY_REGION_INIT_TEMPLATES_H_
#define CONCORDAT_POLICY_REGION_INIT_TEMPLATES_H_

#include <string_view>

// The commented examples of configs/, built into the library (policy/CMakeLists.txt): `region init` writes
// them with the region's own names put in.
namespace concordat::policy {

extern const std::string_view kWorkerExample;
extern const std::string_view kOperatorExample;
extern const std::string_view kCoordinatorExample;
extern const std::string_view kRegionPolicyExample;
extern const std::string_view kDatasetCardExample;

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_REGION_INIT_TEMPLATES_H_
