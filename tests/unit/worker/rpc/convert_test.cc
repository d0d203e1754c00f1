#include "worker/rpc/convert.h"

#include "privacy/crypto/hash.h"
#include "proto/wire.h"
#include "tests/support/status_matchers.h"

namespace concordat::worker {
namespace {

using concordat::testing::HasStatus;

Digest DigestOf(std::string_view text) { return crypto::Sha256(AsBytes(text)); }

TEST(WorkerConvertTest, WhatAWorkerSaysIsCodesAndCounters) {
  JobAnswer answer;
  answer.job = DigestOf("job");
  answer.verdict = Verdict::kRefused;
  answer.rules = {policy::RuleCode::kSubmitter, policy::RuleCode::kDatasetBudget};
  answer.epsilon_after = 3;
  const pb::WorkerMessage wire = ToWire(answer);
  EXPECT_EQ(wire.job_answer().job(), wire::BytesOf(answer.job));
  EXPECT_EQ(wire.job_answer().verdict(), pb::JobAnswer::REFUSED);
  ASSERT_EQ(wire.job_answer().rules_size(), 2);
  EXPECT_EQ(wire.job_answer().rules(1), 512u);
  EXPECT_EQ(wire.job_answer().epsilon_after(), 3);

  const AttemptId id{DigestOf("job"), 4, 2};
  const pb::WorkerMessage drop =
      ToWire(Dropout{id, DropoutCode::kProtocolViolation, secagg::RefusalCode::kCharter});
  EXPECT_EQ(drop.dropout().code(), pb::Dropout::PROTOCOL_VIOLATION);
  EXPECT_EQ(drop.dropout().refusal(), 6u);
  EXPECT_EQ(drop.dropout().id().attempt(), 2u);

  const pb::WorkerMessage cell =
      ToWire(EvaluationCell{DigestOf("r"), CellState::kReleased, {-3, 4}, policy::RuleCode::kNone, 0.5});
  ASSERT_EQ(cell.evaluation_cell().values_size(), 2);
  EXPECT_EQ(cell.evaluation_cell().values(0), -3);
  EXPECT_EQ(cell.evaluation_cell().state(), pb::EvaluationCell::RELEASED);
  EXPECT_EQ(ToWire(Progress{id, Phase::kUploading, 7}).progress().phase(), pb::Progress::UPLOADING);
  EXPECT_EQ(ToWire(Pong{9}).pong().sequence(), 9u);
  EXPECT_EQ(ToWire(ResultAck{id, DigestOf("a")}).result_ack().new_adapter(), wire::BytesOf(DigestOf("a")));
}

pb::CoordinatorMessage Notice() {
  pb::CoordinatorMessage m;
  m.mutable_job_notice()->set_job_file("name: x\n");
  m.mutable_job_notice()->set_signature(std::string(64, 's'));
  m.mutable_job_notice()->set_submitter_chain("chain");
  m.mutable_job_notice()->set_purpose(pb::JobNotice::RUN);
  m.mutable_job_notice()->set_rounds_done(2);
  return m;
}

TEST(WorkerConvertTest, AJobNoticeKeepsItsBytes) {
  ASSERT_OK_AND_ASSIGN(const FromCoordinator m, FromWire(Notice()));
  const auto& notice = std::get<JobNotice>(m);
  EXPECT_EQ(notice.job.file, "name: x\n");
  EXPECT_EQ(notice.job.signature[63], 's');
  EXPECT_TRUE(notice.run);
  EXPECT_EQ(notice.rounds_done, 2u);
}

TEST(WorkerConvertTest, RefusesSizesAndCodesOutOfRange) {
  auto m = Notice();
  m.mutable_job_notice()->set_signature("short");
  EXPECT_THAT(FromWire(m), HasStatus(StatusCode::kInvalidArgument, "signature"));
  m = Notice();
  m.mutable_job_notice()->set_job_file(std::string(300 * 1024, 'x'));
  EXPECT_THAT(FromWire(m), HasStatus(StatusCode::kInvalidArgument, "job_file"));
  m = Notice();
  m.mutable_job_notice()->set_purpose(static_cast<pb::JobNotice::Purpose>(7));
  EXPECT_THAT(FromWire(m), HasStatus(StatusCode::kInvalidArgument, "purpose"));
  m = {};
  m.mutable_job_ended()->set_job(std::string(32, 'j'));
  m.mutable_job_ended()->set_state(static_cast<pb::JobEnded::State>(9));
  EXPECT_THAT(FromWire(m), HasStatus(StatusCode::kInvalidArgument, "state"));
  m.mutable_job_ended()->set_job("short");
  EXPECT_FALSE(FromWire(m).ok());
}

TEST(WorkerConvertTest, AnEvaluationRequestNamesOneToSixtyFourModels) {
  pb::CoordinatorMessage m;
  auto* request = m.mutable_evaluation_request();
  request->set_request(std::string(32, 'r'));
  request->set_job(std::string(32, 'j'));
  EXPECT_THAT(FromWire(m), HasStatus(StatusCode::kInvalidArgument, "adapters"));
  for (int i = 0; i < 64; ++i) request->add_adapters(std::string(32, 'a'));
  EXPECT_OK(FromWire(m));
  request->add_adapters(std::string(32, 'a'));
  EXPECT_THAT(FromWire(m), HasStatus(StatusCode::kInvalidArgument, "adapters"));
  request->clear_adapters();
  request->add_adapters("short");
  EXPECT_FALSE(FromWire(m).ok());
}

TEST(WorkerConvertTest, RefusesAnEmptyMessageASecondHelloAndAMalformedOffer) {
  EXPECT_THAT(FromWire(pb::CoordinatorMessage()), HasStatus(StatusCode::kInvalidArgument, "kind"));
  pb::CoordinatorMessage hello;
  hello.mutable_hello();
  EXPECT_THAT(FromWire(hello), HasStatus(StatusCode::kInvalidArgument, "hello"));
  pb::CoordinatorMessage offer;
  offer.mutable_offer()->set_threshold(3);
  EXPECT_FALSE(FromWire(offer).ok());
}

}  // namespace
}  // namespace concordat::worker
