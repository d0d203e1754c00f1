#include "coordinator/rpc/convert.h"

#include <algorithm>
#include <cmath>

#include "proto/wire.h"

namespace concordat::coordinator {
namespace {

constexpr int kMaxRules = 256;
constexpr int kMaxCellValues = 64;
constexpr uint32_t kMaxCode = 65535;

Status CheckEpsilon(double value, std::string_view field) {
  if (std::isnan(value) || value < 0) return InvalidArgument("{}: expected at least 0 or infinity", field);
  return OkStatus();
}

StatusOr<WorkerEvent> From(const pb::JobAnswer& in) {
  JobAnswer out;
  ASSIGN_OR_RETURN(out.job, wire::DigestFrom(in.job(), "job_answer.job"));
  if (in.verdict() < pb::JobAnswer::ELIGIBLE || in.verdict() > pb::JobAnswer::PAUSED) {
    return InvalidArgument("job_answer.verdict: unknown value {}", static_cast<int>(in.verdict()));
  }
  out.verdict = static_cast<Verdict>(in.verdict());
  if (in.rules_size() > kMaxRules) return InvalidArgument("job_answer.rules: more than {}", kMaxRules);
  for (const uint32_t rule : in.rules()) {
    if (rule > kMaxCode) return InvalidArgument("job_answer.rules: {} is no rule", rule);
    out.rules.push_back(rule);
  }
  out.bytes_per_round = in.bytes_per_round();
  RETURN_IF_ERROR(CheckEpsilon(in.epsilon_before(), "job_answer.epsilon_before"));
  RETURN_IF_ERROR(CheckEpsilon(in.epsilon_after(), "job_answer.epsilon_after"));
  RETURN_IF_ERROR(CheckEpsilon(in.epsilon_budget(), "job_answer.epsilon_budget"));
  out.epsilon_before = in.epsilon_before();
  out.epsilon_after = in.epsilon_after();
  out.epsilon_budget = in.epsilon_budget();
  return WorkerEvent(std::move(out));
}

StatusOr<WorkerEvent> From(const pb::Progress& in) {
  WorkerProgress out;
  ASSIGN_OR_RETURN(out.id.job, wire::DigestFrom(in.job(), "progress.job"));
  out.id.round = in.round();
  out.id.attempt = in.attempt();
  if (in.phase() < pb::Progress::IDLE || in.phase() > pb::Progress::EVALUATING || in.permille() > 1000) {
    return InvalidArgument("progress: unknown phase {} or {} permille", static_cast<int>(in.phase()),
                           in.permille());
  }
  out.phase = static_cast<uint32_t>(in.phase());
  out.permille = in.permille();
  return WorkerEvent(out);
}

StatusOr<WorkerEvent> From(const pb::Dropout& in) {
  Dropout out;
  ASSIGN_OR_RETURN(out.id, wire::FromProto(in.id()));
  if (in.code() < pb::Dropout::TRAINER_FAILED || in.code() > pb::Dropout::DENIED || in.refusal() > 255) {
    return InvalidArgument("dropout: unknown code {} or refusal {}", static_cast<int>(in.code()),
                           in.refusal());
  }
  out.code = static_cast<uint32_t>(in.code());
  out.refusal = in.refusal();
  return WorkerEvent(out);
}

StatusOr<WorkerEvent> From(const pb::ResultAck& in) {
  ResultAck out;
  ASSIGN_OR_RETURN(out.id, wire::FromProto(in.id()));
  ASSIGN_OR_RETURN(out.new_adapter, wire::DigestFrom(in.new_adapter(), "result_ack.new_adapter"));
  return WorkerEvent(out);
}

StatusOr<WorkerEvent> From(const pb::EvaluationCell& in) {
  EvaluationCell out;
  ASSIGN_OR_RETURN(out.request, wire::DigestFrom(in.request(), "evaluation_cell.request"));
  if (in.state() < pb::EvaluationCell::RELEASED || in.state() > pb::EvaluationCell::FAILED) {
    return InvalidArgument("evaluation_cell.state: unknown value {}", static_cast<int>(in.state()));
  }
  if (in.values_size() > kMaxCellValues || in.rule() > kMaxCode) {
    return InvalidArgument("evaluation_cell: {} values or rule {}", in.values_size(), in.rule());
  }
  RETURN_IF_ERROR(CheckEpsilon(in.epsilon_charged(), "evaluation_cell.epsilon_charged"));
  out.state = static_cast<uint32_t>(in.state());
  out.values.assign(in.values().begin(), in.values().end());
  out.rule = in.rule();
  out.epsilon_charged = in.epsilon_charged();
  return WorkerEvent(std::move(out));
}

template <typename T>
StatusOr<FromWorker> AsEvent(StatusOr<T> in) {
  if (!in.ok()) return in.status();
  return FromWorker(WorkerEvent(std::move(in).value()));
}

void Fill(const JobNotice& in, pb::CoordinatorMessage* out) {
  auto* m = out->mutable_job_notice();
  m->set_job_file(in.job->file);
  m->set_signature(in.job->signature.data(), in.job->signature.size());
  m->set_submitter_chain(in.job->submitter_chain);
  m->set_purpose(in.plan_only ? pb::JobNotice::PLAN : pb::JobNotice::RUN);
  m->set_rounds_done(in.rounds_done);
}
void Fill(const AttemptAborted& in, pb::CoordinatorMessage* out) {
  auto* m = out->mutable_attempt_aborted();
  wire::ToProto(in.id, m->mutable_id());
  m->set_reason(static_cast<uint32_t>(in.reason));
}
void Fill(const JobEnded& in, pb::CoordinatorMessage* out) {
  auto* m = out->mutable_job_ended();
  m->set_job(wire::BytesOf(in.job));
  m->set_state(in.phase == JobPhase::kDone        ? pb::JobEnded::DONE
               : in.phase == JobPhase::kCancelled ? pb::JobEnded::CANCELLED
                                                  : pb::JobEnded::FAILED);
  m->set_final_adapter(wire::BytesOf(in.final_adapter));
}
void Fill(const EvaluationRequest& in, pb::CoordinatorMessage* out) {
  auto* m = out->mutable_evaluation_request();
  m->set_request(wire::BytesOf(in.request));
  m->set_job(wire::BytesOf(in.job));
  for (const Digest& adapter : in.adapters) m->add_adapters(wire::BytesOf(adapter));
  m->set_max_documents(in.max_documents);
  m->set_round(in.round);
}
void FillSigned(const secagg::Signed<secagg::Offer>& in, pb::CoordinatorMessage* out) {
  wire::ToProto(in, out->mutable_offer());
}
void FillSigned(const secagg::Signed<secagg::Keys>& in, pb::CoordinatorMessage* out) {
  wire::ToProto(in, out->mutable_keys());
}
void FillSigned(const secagg::Signed<secagg::Delivery>& in, pb::CoordinatorMessage* out) {
  wire::ToProto(in, out->mutable_delivery());
}
void FillSigned(const secagg::Signed<secagg::Survivors>& in, pb::CoordinatorMessage* out) {
  wire::ToProto(in, out->mutable_survivors());
}
void FillSigned(const secagg::Signed<secagg::AgreementBundle>& in, pb::CoordinatorMessage* out) {
  wire::ToProto(in, out->mutable_agreement_bundle());
}
void FillSigned(const secagg::Signed<secagg::Result>& in, pb::CoordinatorMessage* out) {
  wire::ToProto(in, out->mutable_result());
}
void Fill(const std::shared_ptr<const secagg::CoordinatorMessage>& in, pb::CoordinatorMessage* out) {
  std::visit([out](const auto& m) { FillSigned(m, out); }, *in);
}

int64_t Ms(Instant t) { return t.time_since_epoch().count(); }

}  // namespace

StatusOr<FromWorker> FromProto(const pb::WorkerMessage& in) {
  using M = pb::WorkerMessage;
  switch (in.kind_case()) {
    case M::kJobAnswer:
      return AsEvent(From(in.job_answer()));
    case M::kProgress:
      return AsEvent(From(in.progress()));
    case M::kAdvert:
      return AsEvent(wire::FromProto(in.advert()));
    case M::kShares:
      return AsEvent(wire::FromProto(in.shares()));
    case M::kComplaint:
      return AsEvent(wire::FromProto(in.complaint()));
    case M::kAgreement:
      return AsEvent(wire::FromProto(in.agreement()));
    case M::kUnmask:
      return AsEvent(wire::FromProto(in.unmask()));
    case M::kResultAck:
      return AsEvent(From(in.result_ack()));
    case M::kDropout:
      return AsEvent(From(in.dropout()));
    case M::kEvaluationCell:
      return AsEvent(From(in.evaluation_cell()));
    case M::kInputHeader: {
      ASSIGN_OR_RETURN(auto header, wire::FromProto(in.input_header()));
      return FromWorker(std::move(header));
    }
    case M::kPong:
      return FromWorker(std::monostate{});
    case M::kHello:
      return InvalidArgument("a second hello");
    default:
      return InvalidArgument("a message of no known kind");
  }
}

pb::CoordinatorMessage ToProto(const ToWorkerMessage& in) {
  pb::CoordinatorMessage out;
  std::visit([&out](const auto& m) { Fill(m, &out); }, in);
  return out;
}

pb::RoundSummary ToProto(const RoundRecord& in) {
  pb::RoundSummary out;
  out.set_round(in.id.round);
  out.set_attempt(in.id.attempt);
  for (const SpiffeId& id : in.survivors) out.add_survivors(id.ToString());
  for (const SpiffeId& id : in.missing) out.add_missing(id.ToString());
  out.set_adapter(wire::BytesOf(in.adapter));
  out.set_parent(wire::BytesOf(in.parent));
  out.set_sum_sha256(wire::BytesOf(in.sum_sha256));
  out.set_mean_loss(in.mean_loss);
  out.set_epsilon_local(in.epsilon_local);
  out.set_epsilon_distributed(in.epsilon_distributed);
  out.set_clipped_tokens(in.tokens);
  out.set_bytes_up(in.bytes_up);
  out.set_bytes_down(in.bytes_down);
  out.set_started_ms(Ms(in.started));
  out.set_ended_ms(Ms(in.ended));
  return out;
}

pb::JobState ToProto(const JobView& in, size_t most_rounds) {
  pb::JobState out;
  out.set_job(wire::BytesOf(in.id));
  out.set_name(in.name);
  out.set_state(static_cast<pb::JobState::State>(in.phase));
  out.set_rounds_done(static_cast<uint32_t>(in.rounds.size()));
  out.set_rounds_total(in.rounds_total);
  out.set_attempt(in.attempt);
  out.set_step(in.step);
  for (const RegionView& region : in.regions) {
    auto* r = out.add_regions();
    r->set_worker(region.worker);
    r->set_connected(region.connected);
    r->set_verdict(static_cast<uint32_t>(region.answer.verdict));
    for (const uint32_t rule : region.answer.rules) r->add_rules(rule);
    r->set_phase(region.phase);
    r->set_permille(region.permille);
    r->set_dropped(static_cast<uint32_t>(region.dropped));
  }
  out.set_adapter(wire::BytesOf(in.adapter));
  const size_t first = in.rounds.size() - std::min(in.rounds.size(), most_rounds);
  for (size_t i = first; i < in.rounds.size(); ++i) *out.add_rounds() = ToProto(in.rounds[i]);
  for (const RoundRecord& round : in.rounds) {
    out.set_bytes_up(out.bytes_up() + round.bytes_up);
    out.set_bytes_down(out.bytes_down() + round.bytes_down);
  }
  out.set_eta_ms(in.eta.count());
  out.set_failure(static_cast<uint32_t>(in.failure));
  out.set_failure_text(in.text);
  out.set_submitter(in.submitter.ToString());
  out.set_submitted_ms(Ms(in.submitted));
  return out;
}

pb::PlanReply ToProto(const PlanOutcome& in) {
  pb::PlanReply out;
  out.set_job(wire::BytesOf(in.job));
  out.set_can_start(in.can_start);
  for (const RegionPlan& region : in.regions) {
    auto* r = out.add_regions();
    r->set_worker(region.worker);
    r->set_connected(region.connected);
    r->set_verdict(static_cast<uint32_t>(region.answer.verdict));
    for (const uint32_t rule : region.answer.rules) r->add_rules(rule);
    r->set_bytes_per_round(region.answer.bytes_per_round);
    r->set_epsilon_before(region.answer.epsilon_before);
    r->set_epsilon_after(region.answer.epsilon_after);
    r->set_epsilon_budget(region.answer.epsilon_budget);
  }
  return out;
}

pb::EvaluateReply ToProto(const EvaluationOutcome& in) {
  pb::EvaluateReply out;
  for (const auto& row : in.rows) {
    auto* c = out.add_cells();
    c->set_worker(row.worker.ToString());
    c->set_state(row.cell.state);
    for (const int64_t value : row.cell.values) c->add_values(value);
    c->set_rule(row.cell.rule);
    c->set_epsilon_charged(row.cell.epsilon_charged);
  }
  return out;
}

}  // namespace concordat::coordinator
