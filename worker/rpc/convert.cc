#include "worker/rpc/convert.h"

#include "policy/signed_job.h"
#include "proto/wire.h"

namespace concordat::worker {
namespace {

using secagg::Signed;

void Put(const JobAnswer& in, pb::WorkerMessage* out) {
  auto* answer = out->mutable_job_answer();
  answer->set_job(wire::BytesOf(in.job));
  answer->set_verdict(static_cast<pb::JobAnswer::Verdict>(in.verdict));
  for (policy::RuleCode rule : in.rules) answer->add_rules(static_cast<uint32_t>(rule));
  answer->set_bytes_per_round(in.bytes_per_round);
  answer->set_epsilon_before(in.epsilon_before);
  answer->set_epsilon_after(in.epsilon_after);
  answer->set_epsilon_budget(in.epsilon_budget);
}
void Put(const Progress& in, pb::WorkerMessage* out) {
  auto* progress = out->mutable_progress();
  progress->set_job(wire::BytesOf(in.id.job));
  progress->set_round(in.id.round);
  progress->set_attempt(in.id.attempt);
  progress->set_phase(static_cast<pb::Progress::Phase>(in.phase));
  progress->set_permille(in.permille);
}
void Put(const Dropout& in, pb::WorkerMessage* out) {
  auto* dropout = out->mutable_dropout();
  wire::ToProto(in.id, dropout->mutable_id());
  dropout->set_code(static_cast<pb::Dropout::Code>(in.code));
  dropout->set_refusal(static_cast<uint32_t>(in.refusal));
}
void Put(const ResultAck& in, pb::WorkerMessage* out) {
  wire::ToProto(in.id, out->mutable_result_ack()->mutable_id());
  out->mutable_result_ack()->set_new_adapter(wire::BytesOf(in.new_adapter));
}
void Put(const EvaluationCell& in, pb::WorkerMessage* out) {
  auto* cell = out->mutable_evaluation_cell();
  cell->set_request(wire::BytesOf(in.request));
  cell->set_state(static_cast<pb::EvaluationCell::State>(in.state));
  for (int64_t value : in.values) cell->add_values(value);
  cell->set_rule(static_cast<uint32_t>(in.rule));
  cell->set_epsilon_charged(in.epsilon_charged);
}
void Put(const Pong& in, pb::WorkerMessage* out) { out->mutable_pong()->set_sequence(in.sequence); }
void Put(const Signed<secagg::Advert>& in, pb::WorkerMessage* out) {
  wire::ToProto(in, out->mutable_advert());
}
void Put(const Signed<secagg::Shares>& in, pb::WorkerMessage* out) {
  wire::ToProto(in, out->mutable_shares());
}
void Put(const Signed<secagg::Complaint>& in, pb::WorkerMessage* out) {
  wire::ToProto(in, out->mutable_complaint());
}
void Put(const Signed<secagg::InputHeader>& in, pb::WorkerMessage* out) {
  wire::ToProto(in, out->mutable_input_header());
}
void Put(const Signed<secagg::Agreement>& in, pb::WorkerMessage* out) {
  wire::ToProto(in, out->mutable_agreement());
}
void Put(const Signed<secagg::Unmask>& in, pb::WorkerMessage* out) {
  wire::ToProto(in, out->mutable_unmask());
}

StatusOr<FromCoordinator> Notice(const pb::JobNotice& in) {
  JobNotice out;
  if (in.job_file().size() > policy::kMaxJobFileBytes)
    return InvalidArgument("job_file: expected at most {} bytes, got {}", policy::kMaxJobFileBytes,
                           in.job_file().size());
  if (in.submitter_chain().size() > crypto::kMaxChainBytes)
    return InvalidArgument("submitter_chain: expected at most {} bytes", crypto::kMaxChainBytes);
  if (in.signature().size() != out.job.signature.size())
    return InvalidArgument("signature: expected {} bytes, got {}", out.job.signature.size(),
                           in.signature().size());
  if (in.purpose() != pb::JobNotice::PLAN && in.purpose() != pb::JobNotice::RUN)
    return InvalidArgument("purpose: expected 1 or 2, got {}", static_cast<int>(in.purpose()));
  out.job.file = in.job_file();
  std::memcpy(out.job.signature.data(), in.signature().data(), out.job.signature.size());
  out.job.submitter_chain = in.submitter_chain();
  out.run = in.purpose() == pb::JobNotice::RUN;
  out.rounds_done = in.rounds_done();
  return out;
}

StatusOr<FromCoordinator> Ended(const pb::JobEnded& in) {
  JobEnded out;
  ASSIGN_OR_RETURN(out.job, wire::DigestFrom(in.job(), "job"));
  if (in.state() < pb::JobEnded::DONE || in.state() > pb::JobEnded::FAILED)
    return InvalidArgument("state: expected 1 to 3, got {}", static_cast<int>(in.state()));
  out.state = static_cast<JobEnded::State>(in.state());
  out.final_adapter = wire::DigestOrZero(in.final_adapter());
  return out;
}

StatusOr<FromCoordinator> Aborted(const pb::AttemptAborted& in) {
  AttemptAborted out;
  ASSIGN_OR_RETURN(out.id, wire::FromProto(in.id()));
  out.reason = in.reason();
  return out;
}

StatusOr<FromCoordinator> Evaluation(const pb::EvaluationRequest& in) {
  EvaluationRequest out;
  ASSIGN_OR_RETURN(out.request, wire::DigestFrom(in.request(), "request"));
  ASSIGN_OR_RETURN(out.job, wire::DigestFrom(in.job(), "job"));
  if (in.adapters_size() < 1 || static_cast<size_t>(in.adapters_size()) > kMaxModelsInRequest)
    return InvalidArgument("adapters: expected 1 to {}, got {}", kMaxModelsInRequest, in.adapters_size());
  for (const std::string& adapter : in.adapters()) {
    ASSIGN_OR_RETURN(const Digest digest, wire::DigestFrom(adapter, "adapters"));
    out.adapters.push_back(digest);
  }
  out.max_documents = in.max_documents();
  out.round = in.round();
  return out;
}

template <typename T>
StatusOr<FromCoordinator> OfRound(const T& in) {
  ASSIGN_OR_RETURN(auto out, wire::FromProto(in));
  return FromCoordinator(std::move(out));
}

}  // namespace

pb::WorkerMessage ToWire(const ToCoordinator& message) {
  pb::WorkerMessage out;
  std::visit([&](const auto& m) { Put(m, &out); }, message);
  return out;
}

StatusOr<FromCoordinator> FromWire(const pb::CoordinatorMessage& message) {
  switch (message.kind_case()) {
    case pb::CoordinatorMessage::kJobNotice:
      return Notice(message.job_notice());
    case pb::CoordinatorMessage::kOffer:
      return OfRound(message.offer());
    case pb::CoordinatorMessage::kKeys:
      return OfRound(message.keys());
    case pb::CoordinatorMessage::kDelivery:
      return OfRound(message.delivery());
    case pb::CoordinatorMessage::kSurvivors:
      return OfRound(message.survivors());
    case pb::CoordinatorMessage::kAgreementBundle:
      return OfRound(message.agreement_bundle());
    case pb::CoordinatorMessage::kResult:
      return OfRound(message.result());
    case pb::CoordinatorMessage::kAttemptAborted:
      return Aborted(message.attempt_aborted());
    case pb::CoordinatorMessage::kJobEnded:
      return Ended(message.job_ended());
    case pb::CoordinatorMessage::kEvaluationRequest:
      return Evaluation(message.evaluation_request());
    case pb::CoordinatorMessage::kPing:
      return FromCoordinator(Ping{message.ping().sequence()});
    case pb::CoordinatorMessage::kHello:
      return InvalidArgument("a second hello");
    case pb::CoordinatorMessage::KIND_NOT_SET:
      break;
  }
  return InvalidArgument("a message of a kind that this version does not know");
}

}  // namespace concordat::worker
