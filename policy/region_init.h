#ifndef CONCORDAT_POLICY_REGION_INIT_H_
#define CONCORDAT_POLICY_REGION_INIT_H_

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "common/random.h"
#include "common/status.h"
#include "privacy/crypto/signature.h"

// `concordat region init` and its twin for a coordinator: a jurisdiction's own CA and what hangs on it.
namespace concordat::policy {

struct RegionInitOptions {
  std::string jurisdiction;
  std::string worker_name = "site";
  std::string operator_name = "admin";
  /// Names and addresses that go into the worker's leaf; usually none: workers only dial out.
  std::vector<std::string> dns_names;
  /// Of all its keys; one charter has one kind.
  crypto::SignatureProfile keys = crypto::SignatureProfile::kEd25519;
};

/// Makes the folder of a region:
///   ca/root.key ca/root.pem                10 years; the key belongs offline once the leaves are issued
///   worker/key.pem worker/cert.pem         90 days
///   operator/key.pem operator/cert.pem     90 days
///   split.key                              decides which documents are held out
///   policy.yaml dataset-card.yaml worker.yaml operator.yaml    templates, to be filled in
/// Keys have mode 0600, folders 0700. AlreadyExists when `folder` holds anything already: nothing is
/// overwritten. InvalidArgument for a name that is none.
Status InitRegion(const std::filesystem::path& folder, const RegionInitOptions& options, Instant now,
                  RandomSource& random);

struct CoordinatorInitOptions {
  std::string jurisdiction;
  std::string name = "main";
  std::vector<std::string> dns_names;     // under which it is reached; at least one of the two
  std::vector<std::string> ip_addresses;  // likewise
  std::string listen = "0.0.0.0:7443";
  crypto::SignatureProfile keys = crypto::SignatureProfile::kEd25519;
};

/// Makes the folder of a coordinator: ca/root.key ca/root.pem coordinator/key.pem coordinator/cert.pem
/// coordinator.yaml. Refusals as InitRegion.
Status InitCoordinator(const std::filesystem::path& folder, const CoordinatorInitOptions& options,
                       Instant now, RandomSource& random);

/// Issues a fresh leaf with the old one's names, for 90 days, for the key in `key_file`, which stays: rosters
/// and charters that pin it stay good; replaces `cert_file`.
Status RenewLeaf(const std::filesystem::path& ca_folder, const std::filesystem::path& key_file,
                 const std::filesystem::path& cert_file, Instant now, RandomSource& random);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_REGION_INIT_H_
