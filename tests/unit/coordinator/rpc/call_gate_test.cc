#include "coordinator/rpc/call_gate.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>

#include "concordat/v1/jobs.grpc.pb.h"
#include "tests/support/status_matchers.h"

namespace concordat::coordinator {
namespace {

namespace pb = concordat::v1;
using Verdict = CallCounts::Verdict;

SpiffeId Operator(const std::string& jurisdiction, std::string_view name) {
  return *SpiffeId::Make(jurisdiction, Role::kOperator, name);
}

TEST(CallCountsTest, OneKeyNeverHasAllOfItsJurisdictionsShare) {
  CallCounts counts(448, 4);
  ASSERT_EQ(counts.most_of_jurisdiction(), 56u);
  ASSERT_EQ(counts.most_of_identity(), 28u);
  const SpiffeId anna = Operator("de", "anna");
  for (int i = 0; i < 28; ++i) EXPECT_EQ(counts.Begin(anna), Verdict::kTaken) << i;
  for (int i = 0; i < 28; ++i) EXPECT_EQ(counts.Begin(anna), Verdict::kRefused) << i;
  EXPECT_EQ(counts.Begin(anna), Verdict::kCancelled);
  EXPECT_EQ(counts.Begin(Operator("fr", "luc")), Verdict::kTaken);
}

TEST(CallCountsTest, IdentitiesWithoutEndDoNotAddUp) {
  CallCounts counts(448, 4);
  size_t taken = 0, held = 0;
  for (int i = 0; i < 1000; ++i) {
    const Verdict verdict = counts.Begin(Operator("de", "n" + std::to_string(i)));
    taken += verdict == Verdict::kTaken ? 1 : 0;
    held += verdict == Verdict::kCancelled ? 0 : 1;
  }
  EXPECT_EQ(taken, 56u);
  EXPECT_EQ(held, 112u) << "a fourth of all threads";
  EXPECT_EQ(counts.Begin(Operator("fr", "luc")), Verdict::kTaken);
}

TEST(CallCountsTest, AnEndGivesThePlaceBack) {
  CallCounts counts(448, 4);
  const SpiffeId anna = Operator("de", "anna");
  for (int i = 0; i < 29; ++i) counts.Begin(anna);
  for (int i = 0; i < 29; ++i) counts.End(anna);
  for (int i = 0; i < 28; ++i) EXPECT_EQ(counts.Begin(anna), Verdict::kTaken) << i;
}

TEST(CallCountsTest, NoUploadIsToldToHaveMoreChunksUnderWayThanItsKeyMayHaveCalls) {
  for (size_t members = 1; members <= 200; ++members) {
    CallCounts counts(448, members);
    const size_t most = counts.most_of_upload();
    EXPECT_GE(most, 4u) << "one for each connection";
    EXPECT_LE(most + 4, counts.most_of_identity()) << members;
    if (members <= 112) {
      EXPECT_LE(members * most, 448u) << "an upload of each member finds its threads";
    }
    const SpiffeId worker = *SpiffeId::Make("de", Role::kWorker, "w");
    for (size_t i = 0; i < most + 4; ++i) EXPECT_EQ(counts.Begin(worker), Verdict::kTaken) << members;
  }
  EXPECT_EQ(CallCounts(448, 4).most_of_upload(), 24u);
  EXPECT_EQ(CallCounts(448, 20).most_of_upload(), 8u);
  EXPECT_EQ(CallCounts(448, 100).most_of_upload(), 4u);
}

/// Streams without end, and says when a write did not go through.
class Endless final : public pb::Jobs::Service {
 public:
  grpc::Status Fetch(grpc::ServerContext*, const pb::FetchRequest*,
                     grpc::ServerWriter<pb::FetchChunk>* writer) override {
    pb::FetchChunk chunk;
    chunk.set_data(std::string(1 << 20, 'x'));
    while (writer->Write(chunk)) {
    }
    stopped_.set_value();
    return grpc::Status::OK;
  }
  std::promise<void> stopped_;
};

TEST(CallGateTest, AReplyThatNobodyReadsIsCancelled) {
  CallGate gate([](const grpc::ServerContextBase&) -> StatusOr<SpiffeId> { return Operator("de", "anna"); },
                448, 4, Millis(100));
  Endless service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(gate.Factory());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  const auto server = builder.BuildAndStart();
  const auto stub = pb::Jobs::NewStub(
      grpc::CreateChannel(fmt::format("127.0.0.1:{}", port), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto reader = stub->Fetch(&context, {});  // and never reads
  const auto stopped = service.stopped_.get_future().wait_for(std::chrono::seconds(60));
  EXPECT_EQ(stopped, std::future_status::ready);
  context.TryCancel();
  pb::FetchChunk chunk;
  while (reader->Read(&chunk)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  server->Shutdown();
}

}  // namespace
}  // namespace concordat::coordinator
