#include <algorithm>

#include "worker/core/worker_core.h"

// WorkerCore: attempts that an earlier process was in.
namespace concordat::worker {
namespace {

using secagg::RefusalCode;
using secagg::Signed;
using secagg::WorkerPhase;

/// The coordinator sends the message of one step again; more is not needed.
constexpr size_t kMaxMessagesKept = 8;

Millis WholeAttempt(const secagg::Deadlines& d) {
  return Millis(d.advert_ms) + Millis(d.shares_ms) + Millis(d.input_ms) + Millis(d.agreement_ms) +
         Millis(d.unmask_ms);
}

}  // namespace

void WorkerCore::PutToSleep(const std::vector<RoundSeal>& sealed) {
  for (const RoundSeal& seal : sealed) {
    const auto step = steps_.find(seal.id);
    auto state = DecodeRoundState(seal.id, seal.state.view());
    const bool known = step != steps_.end() && state.ok();
    // Sealed before it is journaled: a state may be one step ahead of the journal, with nothing sent, and is
    // never behind it.
    const bool newest = known && (DigestOfState(seal.state.view()) == step->second.state ||
                                  static_cast<uint8_t>(state->phase) > step->second.phase);
    if (!newest || state->phase >= WorkerPhase::kDone) {
      Say(LogLine::Level::kWarning,
          fmt::format("{}: its sealed state is not the newest one: lost in this attempt", seal.id.Brief()));
      fx_.commands.push_back(ForgetRound{seal.id});
      continue;
    }
    Asleep asleep{seal.id, *std::move(state), std::nullopt, {}};
    // Its sum was not checked yet when the earlier process ended.
    if (const auto* said = SaidOf(seal.id)) asleep.messages.push_back(*said);
    asleep_.insert_or_assign(seal.id.job, std::move(asleep));
  }
}

Effects WorkerCore::OnStarted(Instant now) {
  for (auto& [job, asleep] : asleep_) {
    asleep.until = now + WholeAttempt(asleep.state.offer.body.deadlines);
    Say(LogLine::Level::kInfo, fmt::format("{}: waits for the coordinator to go on while {}",
                                           asleep.id.Brief(), secagg::WorkerPhaseName(asleep.state.phase)));
  }
  return Done(now);
}

/// `id`, if it waits to be gone on with.
const WorkerCore::Asleep* WorkerCore::FindAsleep(const AttemptId& id) const {
  const auto it = asleep_.find(id.job);
  return it == asleep_.end() || it->second.id != id ? nullptr : &it->second;
}

bool WorkerCore::WaitsToUpload(const AttemptId& id) const {
  const Asleep* asleep = FindAsleep(id);
  return asleep != nullptr && asleep->state.phase == WorkerPhase::kInputBegun;
}

bool WorkerCore::KeepForLater(const AttemptId& id, const FromCoordinator& message) {
  if (FindAsleep(id) == nullptr) return false;
  auto& messages = asleep_.at(id.job).messages;
  if (messages.size() < kMaxMessagesKept) messages.push_back(message);
  return true;
}

void WorkerCore::GiveUp(const JobId& job) {
  const auto node = asleep_.extract(job);
  if (node.empty()) return;
  const Asleep& asleep = node.mapped();
  Say(LogLine::Level::kInfo, fmt::format("{}: not gone on with after the restart", asleep.id.Brief()));
  steps_.erase(asleep.id);
  fx_.records.emplace_back(AttemptLeft{asleep.id});
  if (asleep.state.phase == WorkerPhase::kInputBegun) fx_.commands.push_back(RecoverUpload{asleep.id});
  fx_.commands.push_back(ForgetRound{asleep.id});
}

void WorkerCore::GiveUpLate(Instant now) {
  std::vector<JobId> late;
  for (const auto& [job, asleep] : asleep_)
    if (asleep.until && now >= *asleep.until) late.push_back(job);
  for (const JobId& job : late) GiveUp(job);
}

/// The attempt goes on where the earlier process was. \param offer as it came now: the same, or refused
void WorkerCore::Wake(Job& job, const Signed<secagg::Offer>& offer, Instant now) {
  const AttemptId id = offer.body.id;
  const RoundState& state = asleep_.at(id.job).state;
  const auto bounds = BoundsOf(job, id);
  if (!bounds.ok()) return RefuseOffer(offer, DropoutCode::kPolicyRefused, bounds.status());
  auto round = secagg::WorkerRound::Restore(p_.self, *p_.key, *p_.peers, coordinator_, *p_.random, *bounds,
                                            p_.ledger->head(), state.snapshot.view());
  if (!round.ok()) return RefuseOffer(offer, DropoutCode::kShuttingDown, round.status());
  if (const auto repeat = round->OnOffer(offer, now); !repeat.ok()) {
    KeepAccepted(state.accepted);
    return RefuseOffer(offer, DropoutCode::kProtocolViolation, repeat.status());
  }
  auto open = MakeOpen(job, state.offer, *std::move(round));
  if (!open.ok()) return RefuseOffer(offer, DropoutCode::kPolicyRefused, open.status());
  auto node = asleep_.extract(id.job);
  open->accepted = std::move(node.mapped().state.accepted);
  open->woken = true;
  open->deadline = now + WholeAttempt(offer.body.deadlines);
  GoOn(open_.insert_or_assign(id.job, *std::move(open)).first->second, std::move(node.mapped()), now);
}

void WorkerCore::GoOn(Open& open, Asleep asleep, Instant now) {
  const WorkerPhase phase = open.round.phase();
  Say(LogLine::Level::kInfo,
      fmt::format("{}: goes on after a restart while {}", asleep.id.Brief(), secagg::WorkerPhaseName(phase)));
  if (phase <= WorkerPhase::kReady) TrainFor(jobs_.at(asleep.id.job), open.offer.body, now);
  if (phase == WorkerPhase::kInputBegun) {
    open.uploading = true;
    const EncodingConfig& config = open.plan.config();
    fx_.commands.push_back(
        ResumeUpload{asleep.id, open.plan.total_elements(), config.modulus_bits, config.sites});
  }
  // From here on `open` may end.
  for (const FromCoordinator& message : asleep.messages)
    std::visit(
        [&](const auto& m) {
          if constexpr (
              requires { m.body.t2; } || requires { m.body.adverts; } || requires { m.body.rows; })
            OnRoundMessage(m, now);
        },
        message);
}

}  // namespace concordat::worker
