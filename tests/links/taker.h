#ifndef CONCORDAT_TESTS_LINKS_TAKER_H_
#define CONCORDAT_TESTS_LINKS_TAKER_H_

#include <memory>
#include <string>

#include "common/ids.h"
#include "concordat/v1/federation.grpc.pb.h"
#include "coordinator/rpc/uploads.h"
#include "policy/charter.h"
#include "tests/support/federation.h"

namespace concordat::testing {

/// The part of a coordinator that takes uploads, over mutual TLS, with some uploads of one worker open.
class Taker final : public concordat::v1::Federation::Service {
 public:
  Taker(const Federation& federation, const std::string& jurisdiction, uint64_t bytes,
        RoundIndex uploads = 1);
  ~Taker() override;

  int port() const { return port_; }
  /// Of what came; empty while something is missing.
  std::string DigestOf(RoundIndex number) const;

  grpc::Status PutChunk(grpc::ServerContext*, const concordat::v1::PutChunkRequest* request,
                        concordat::v1::PutChunkReply* reply) override;
  grpc::Status UploadState(grpc::ServerContext*, const concordat::v1::UploadStateRequest* request,
                           concordat::v1::PutChunkReply* reply) override;

 private:
  const policy::Charter charter_;
  const SpiffeId worker_;
  const TempDir folder_;
  std::unique_ptr<coordinator::Uploads> uploads_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_LINKS_TAKER_H_
