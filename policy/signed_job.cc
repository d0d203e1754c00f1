#include "policy/signed_job.h"

namespace concordat::policy {

SignedJob SignJob(std::string_view file, const crypto::SigningKey& key, std::string_view chain) {
  SignedJob job;
  job.file = file;
  job.signature = key.Sign(SignedJob::kDomain, AsBytes(file));
  job.submitter_chain = chain;
  return job;
}

StatusOr<VerifiedJob> OpenJob(const SignedJob& job, const Charter& charter, Instant now) {
  if (job.file.size() > kMaxJobFileBytes) {
    return InvalidArgument("job file: expected at most {} bytes, got {}", kMaxJobFileBytes, job.file.size());
  }
  auto peer = CheckPeer(charter, job.submitter_chain, now);
  if (!peer.ok()) return Annotate(peer.status(), "the job's submitter");
  if (peer->id.role() != Role::kOperator) {
    return PermissionDenied("the job's submitter is {}: expected an operator", peer->id.ToString());
  }
  ASSIGN_OR_RETURN(const crypto::VerifyKey key, crypto::VerifyKey::FromSpki(peer->spki));
  if (const Status signature = key.Verify(SignedJob::kDomain, AsBytes(job.file), job.signature);
      !signature.ok()) {
    return Annotate(signature, fmt::format("the job file is not as {} signed it", peer->id.ToString()));
  }
  VerifiedJob out;
  ASSIGN_OR_RETURN(out.spec, ParseJob(job.file, "job"));
  out.submitter = peer->id;
  out.id = JobIdOf(job.file, peer->id);
  return out;
}

}  // namespace concordat::policy
