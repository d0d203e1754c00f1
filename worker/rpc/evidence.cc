#include "worker/rpc/evidence.h"

#include "common/files.h"
#include "privacy/crypto/hash.h"

namespace concordat::worker {

Status KeepEvidence(const std::filesystem::path& folder, const Evidence& evidence) {
  const auto stem =
      folder / fmt::format("{}-{}-{}-{}-{}", evidence.id.job.brief(), evidence.id.round, evidence.id.attempt,
                           evidence.name, crypto::Sha256(evidence.body).hex());
  const auto file = [&](std::string_view end) {
    return std::filesystem::path(stem.string() + std::string(end));
  };
  // The signature last: where it is, the body is too.
  std::error_code error;
  if (std::filesystem::exists(file(".signature"), error)) return OkStatus();
  RETURN_IF_ERROR(WriteFileAtomically(file(".body"), ByteView(evidence.body), 0600));
  return WriteFileAtomically(file(".signature"), ByteView(evidence.signature), 0600);
}

}  // namespace concordat::worker
