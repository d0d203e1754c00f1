#include "common/bytes.h"
#include "policy/charter.h"
#include "policy/dataset_card.h"
#include "policy/job.h"
#include "policy/node_config.h"
#include "policy/region_policy.h"

// Every config file that a person or a peer may hand us.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = concordat::AsText({data, size});
  (void)concordat::policy::ParseJob(text, "job");
  (void)concordat::policy::ParseRegionPolicy(text, "policy");
  (void)concordat::policy::ParseDatasetCard(text, "card", "/");
  (void)concordat::policy::ParseSignedCharter(text, "charter");
  (void)concordat::policy::ParseWorkerConfig(text, "worker", "/");
  (void)concordat::policy::ParseCoordinatorConfig(text, "coordinator", "/");
  (void)concordat::policy::ParseOperatorConfig(text, "operator", "/");
  return 0;
}
