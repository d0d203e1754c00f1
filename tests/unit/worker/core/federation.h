#ifndef CONCORDAT_TESTS_UNIT_WORKER_CORE_FEDERATION_H_
#define CONCORDAT_TESTS_UNIT_WORKER_CORE_FEDERATION_H_

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aggregation/adapter_steps.h"
#include "aggregation/modular_sum.h"
#include "policy/job_privacy.h"
#include "policy/peer_verifier.h"
#include "policy/signed_job.h"
#include "policy/worker_bounds.h"
#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/x509.h"
#include "privacy/mechanism/encoder.h"
#include "privacy/secagg/coordinator_round.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "worker/core/worker_core.h"

// Worker cores under a coordinator made of secagg's own core: real keys, certificates, ledger files, noise
// and masks; no network, no clock, and a trainer that answers from a table.
namespace concordat::worker::testing {

inline Instant At(int64_t ms) { return Instant(Millis(1'790'000'000'000 + ms)); }
inline Secret32 SeedFor(std::string_view text) { return Secret32(crypto::Sha256(AsBytes(text)).bytes); }

/// \param extra lines of its privacy section; when they say `noise: distributed`, a job of one sum over
/// records \param section a section more
inline std::string JobText(const Digest& charter, std::string_view extra = "noise_multiplier: 0.05",
                           std::string_view section = "", LoraMethod method = LoraMethod::kFfa) {
  const bool sum = extra.find("noise: distributed") != std::string_view::npos;
  return fmt::format(R"(name: small
seed: 7
charter: {}
base_model:
  name: tiny
  sha256: {}
  license: Apache-2.0
  shape: {{layers: 2, hidden: 32, intermediate: 64, heads: 4, kv_heads: 2, head_dim: 8}}
adapter:
  method: {}
  rank: 4
  alpha: 8
  targets: [q_proj, v_proj]
training:
  {}
  batch_sequences: 1
  sequence_tokens: 64
  learning_rate: 0.001
  schedule: constant
rounds: 3
cohort:
  jurisdictions: [a.example, b.example, c.example, d.example]
  minimum: 4
  min_survivors: 3
  assumed_colluding: 1
  attempts_per_round: 3
  wait: 30s
privacy:
  {}
  clip: 1.0
  {}
  delta: 0.00001
  rounding: stochastic
metrics:
  loss_bound: 8
server:
  learning_rate: 1.0
{}
)",
                     charter.hex(), crypto::Sha256(AsBytes("tiny model")).hex(), LoraMethodName(method),
                     sum ? "local_steps: 1\n  optimizer: sgd" : "local_steps: 4",
                     sum ? "unit: record" : "unit: site\n  noise: local", extra, section);
}

/// A certificate authority with one leaf.
struct Party {
  SpiffeId id;
  crypto::SigningKey key;
  std::string chain;
};

struct Root {
  std::string jurisdiction;
  crypto::SigningKey key;
  std::string pem;

  static Root Make(const std::string& jurisdiction, RandomSource& random,
                   crypto::SignatureProfile keys = crypto::SignatureProfile::kEd25519) {
    crypto::SigningKey key = crypto::SigningKey::Generate(random, keys);
    auto pem = crypto::MakeRootCertificate(key, jurisdiction, At(-86'400'000), At(86'400'000'000), random);
    EXPECT_OK(pem);
    return {jurisdiction, std::move(key), *pem};
  }
  Party Issue(Role role, const std::string& name, RandomSource& random) const {
    crypto::SigningKey leaf = crypto::SigningKey::Generate(random, key.profile());
    const SpiffeId id = *SpiffeId::Make(jurisdiction, role, name);
    crypto::CertificateProfile profile;
    profile.id = id;
    profile.spki = leaf.PublicSpki();
    profile.not_before = At(-3'600'000);
    profile.not_after = At(8'640'000'000);
    auto pem = crypto::IssueLeaf(key, pem_of(), profile, random);
    EXPECT_OK(pem);
    return {id, std::move(leaf), *pem};
  }
  const std::string& pem_of() const { return pem; }
};

inline policy::RegionPolicy OpenPolicy() {
  policy::RegionPolicy p;
  p.submitters = {*policy::SubmitterPattern::Parse("spiffe://a.example/operator/*")};
  p.base_models = {{crypto::Sha256(AsBytes("tiny model")), "Apache-2.0"}};
  p.adapters = {{kAllLoraMethods.begin(), kAllLoraMethods.end()}, {LoraTarget::kQ, LoraTarget::kV}, 16};
  p.cohort = {3, 3, 2, 1, 5};
  p.privacy = {10, 0, 0, 1e-5, {policy::NoisePlacement::kLocal}, {policy::RoundingMode::kStochastic}};
  p.training = {100, 500, 2048, 64};
  p.deadlines.minimum = {1'000, 1'000, 1'000, 1'000, 1'000};
  p.deadlines.maximum = {600'000, 600'000, 86'400'000, 600'000, 600'000};
  p.artefacts.delta = p.artefacts.metrics = true;
  p.artefacts.evaluation = {true, 8, 0.01, 3};
  p.approval = policy::ApprovalMode::kAutomatic;
  p.sandbox = policy::SandboxMode::kRequired;
  return p;
}

inline policy::DatasetCard OpenCard() {
  policy::DatasetCard card;
  card.name = "manuals";
  card.classification = {policy::DataClass::kRestricted, policy::DataClass::kRestricted,
                         policy::DataClass::kRestricted, policy::DataClass::kInternal,
                         policy::DataClass::kRestricted, policy::DataClass::kConfidential,
                         policy::DataClass::kInternal};
  card.privacy = {PrivacyUnit::kSite, 1e9, 1e-5, policy::BudgetPeriod::kNone};
  return card;
}

/// A region: its core and a shell that carries out effects in memory, in the order that Effects fixes.
class Region {
 public:
  Region(Party party, policy::Charter charter, Digest charter_hash)
      : party_(std::move(party)), charter_(std::move(charter)), hash_(charter_hash), peers_(charter_) {
    random_ = std::make_unique<crypto::CtrRandom>(SeedFor(party_.id.Brief()));
  }

  /// Makes the core, from the journal so far. Call again for a restart.
  void Start() {
    if (!ledger) {
      auto opened =
          policy::Ledger::Open(folder_ / "ledger.jsonl", card.name, card.budget(), card.privacy.period);
      ASSERT_OK(opened);
      ledger = std::move(opened).value();
    }
    CoreParams params;
    params.self = party_.id;
    params.key = &party_.key;
    params.peers = &peers_;
    params.random = random_.get();
    params.charter = charter_;
    params.charter_hash = hash_;
    params.policy = policy;
    params.card = card;
    params.ledger = ledger.get();
    params.base_model = base_model;
    params.base_shape = base_shape;
    params.pairwise = pairwise;
    params.desk.configure.sandbox_required = policy.sandbox == policy::SandboxMode::kRequired;
    std::vector<RoundSeal> seals;
    for (const auto& [id, state] : sealed) seals.push_back({id, crypto::SecretText(state)});
    auto made = WorkerCore::Make(std::move(params), journal, seals);
    ASSERT_OK(made);
    core = std::move(made).value();
    events_.clear();
    held_.reset();
    held_fetch_.reset();
    trainer_running = false;
    Apply(core->OnStarted(now));
    Apply(core->OnConnected(now));
  }

  void Apply(Effects effects) {
    if (storage_fails && (!effects.records.empty() || !effects.evidence.empty())) {
      storage_fails = false;
      Apply(core->OnStorageFailed(std::move(effects), now));
      return;
    }
    for (const RoundSeal& seal : effects.seals) {
      const ByteView state = seal.state.view();
      sealed[seal.id] = Bytes(state.begin(), state.end());
      seal_history.push_back({seal.id, sealed[seal.id]});
    }
    for (Record& r : effects.records) journal.push_back(std::move(r));
    for (Evidence& e : effects.evidence) evidence.push_back(std::move(e));
    for (const LedgerCharge& charge : effects.charges) {
      EXPECT_TRUE(effects.commands.empty() || !std::holds_alternative<StartUpload>(effects.commands.back()))
          << "an upload before its charge";
      ChargeOutcome outcome{charge.attempt, charge.kind, OkStatus(), 0, 0, {}};
      auto entry = ledger_fails
                       ? StatusOr<policy::LedgerEntry>(ResourceExhausted("no space left on the disk"))
                       : ledger->Charge(now, charge);
      outcome.status = entry.status();
      if (entry.ok()) {
        outcome.epsilon_before = entry->epsilon_before;
        outcome.epsilon_after = entry->epsilon_after;
        outcome.ledger_head = entry->hash;
      }
      events_.push_back([this, outcome] { return core->OnCharged(outcome, now); });
    }
    for (policy::Receipt& r : effects.receipts) receipts.push_back(std::move(r));
    for (ToCoordinator& m : effects.send) sent.push_back(std::move(m));
    for (Command& c : effects.commands) std::visit([this](auto& command) { Do(command); }, c);
    wake = effects.wake;
    for (LogLine& line : effects.log) log.push_back(std::move(line));
  }

  /// Carries out what is queued, until nothing is left. True if there was anything.
  bool Settle() {
    bool any = false;
    while (!events_.empty()) {
      auto event = std::move(events_.front());
      events_.pop_front();
      Apply(event());
      any = true;
    }
    return any;
  }
  void Receive(const FromCoordinator& message) {
    Apply(core->OnMessage(message, now));
    Settle();
  }
  void Tick(Instant at) {
    now = at;
    Apply(core->OnTimer(now));
    Settle();
  }
  template <typename T>
  std::vector<T> Sent() const {
    std::vector<T> out;
    for (const ToCoordinator& m : sent)
      if (const T* t = std::get_if<T>(&m)) out.push_back(*t);
    return out;
  }
  template <typename T>
  size_t JournalCount() const {
    size_t n = 0;
    for (const Record& r : journal) n += std::holds_alternative<T>(r);
    return n;
  }
  /// Lets the trainer answer the task that it holds.
  void FinishTraining() {
    hold_training = false;
    if (held_) events_.push_back(*std::exchange(held_, std::nullopt));
    Settle();
  }
  void FinishFetch() {
    hold_fetch = false;
    if (held_fetch_) events_.push_back(*std::exchange(held_fetch_, std::nullopt));
    Settle();
  }
  void KillTrainer() {
    held_.reset();
    trainer_running = false;
    Apply(core->OnTrainer(TrainerGone{"killed by signal 9"}, now));
    Settle();
  }
  const Party& party() const { return party_; }

  Instant now = At(0);
  std::unique_ptr<WorkerCore> core;
  std::unique_ptr<policy::Ledger> ledger;
  policy::RegionPolicy policy = OpenPolicy();
  policy::DatasetCard card = OpenCard();
  secagg::PairwiseKeys pairwise;  // for the next start
  Digest base_model = crypto::Sha256(AsBytes("tiny model"));
  ModelShape base_shape{2, 32, 64, 4, 2, 8};
  std::vector<Record> journal;
  std::map<AttemptId, Bytes> sealed;  // as in the region's files, unsealed
  std::vector<std::pair<AttemptId, Bytes>> seal_history;
  std::map<AttemptId, Bytes> outbox;  // y_i as stored, until it is reported
  std::vector<AttemptId> recovered;
  std::vector<Evidence> evidence;
  std::vector<policy::Receipt> receipts;
  std::vector<ToCoordinator> sent;
  std::vector<LogLine> log;
  std::optional<Instant> wake;
  std::map<AttemptId, Bytes> uploads;          // y_i, complete
  std::vector<std::vector<uint32_t>> encoded;  // noised integers, before the masks
  std::map<Digest, Bytes>* blobs = nullptr;
  std::vector<sandbox::ToTrainer> told;  // everything the trainer was told
  sandbox::Ready::Lockdown lockdown = sandbox::Ready::Lockdown::kFull;
  float delta_value = 0.01f;
  std::optional<sandbox::RoundSums> sums;
  double bits_per_byte = 1.25;
  bool hold_training = false;
  bool training_fails = false;
  bool evaluating_fails = false;
  uint32_t documents_told = 0;  // an evaluation says how far it is after each of so many
  bool preparing_fails = false;
  bool starting_fails = false;
  StatusCode starting_error = StatusCode::kInternal;
  bool hold_upload = false;    // the process dies before y_i is stored
  bool hold_uploaded = false;  // y_i is stored, and not yet sent
  bool upload_fails = false;
  bool ledger_fails = false;
  bool storage_fails = false;
  bool hold_fetch = false;
  Status fetch_error;  // instead of the file
  bool trainer_running = false;
  int trainer_starts = 0;
  int cancelled_uploads = 0;
  size_t entered_before = 0;

 private:
  void Said(sandbox::FromTrainer message, Floats weights = nullptr) {
    events_.push_back([this, message = std::move(message), weights] {
      return core->OnTrainer(TrainerSaid{message, weights}, now);
    });
  }
  void Do(const StartTrainer&) {
    EXPECT_FALSE(trainer_running) << "two trainers at once";
    trainer_running = true;
    ++trainer_starts;
  }
  void Do(const StopTrainer&) {
    trainer_running = false;
    held_.reset();
  }
  void Do(const TellTrainer& tell) {
    EXPECT_TRUE(trainer_running);
    told.push_back(tell.message);
    if (const auto* prepare = std::get_if<sandbox::Prepare>(&tell.message)) {
      layout_ = *AdapterLayout::Make(prepare->shape, prepare->adapter);
      if (preparing_fails) return Said(sandbox::Failed{8, "no memory"});
      Said(sandbox::Prepared{});
    } else if (std::holds_alternative<sandbox::Configure>(tell.message)) {
      if (starting_fails) return Said(sandbox::Failed{static_cast<uint8_t>(starting_error), "no"});
      Said(sandbox::Ready{lockdown, {2, 32, 64, 4, 2, 8}, 10, 2, 1000});
    } else if (std::holds_alternative<sandbox::Train>(tell.message)) {
      EXPECT_NE(tell.weights, nullptr);
      if (training_fails) return Said(sandbox::Failed{13, "no memory"});
      auto delta = std::make_shared<const std::vector<float>>(layout_->delta_elements(), delta_value);
      auto answer = [this, delta] {
        return core->OnTrainer(TrainerSaid{sandbox::Trained{2.5, 256, 256, 1, 4, sums}, delta}, now);
      };
      if (hold_training)
        held_ = answer;
      else
        events_.push_back(answer);
    } else if (std::holds_alternative<sandbox::Evaluate>(tell.message)) {
      for (uint32_t i = 1; i <= documents_told; ++i)
        Said(sandbox::TrainerProgress{i * 1000 / documents_told, 1, 1});
      if (evaluating_fails) return Said(sandbox::Failed{8, "no memory"});
      Said(sandbox::Evaluated{bits_per_byte, 0.02, 12, 30000, 1});
    }
  }
  void Do(StartUpload& upload) {
    Bytes y(upload.plan.vector_bytes());
    auto encoder = Encoder::Make(upload.plan, *upload.delta, 1, upload.metrics, upload.seed);
    ASSERT_OK(encoder);
    std::vector<uint32_t> words(upload.plan.total_elements());
    ASSERT_OK(encoder->Encode(0, words));
    encoded.push_back(words);
    secagg::MaskStream(upload.masks).Apply(0, words);
    modulus_bits_ = upload.plan.config().modulus_bits;
    PackWords(words, modulus_bits_, y);
    const AttemptId id = upload.id;
    if (hold_upload) return;
    if (upload_fails) {
      events_.push_back([this, id] {
        return core->OnUpload(UploadEnded{id, ResourceExhausted("no space"), 0, {}}, now);
      });
      return;
    }
    outbox[id] = y;
    if (!hold_uploaded) Finish(id);
  }
  void Finish(const AttemptId& id) {
    const Bytes y = outbox.at(id);
    uploads[id] = y;
    events_.push_back([this, id, bytes = y.size(), sha = crypto::Sha256(y)] {
      const uint64_t elements = bytes / WordBytes(modulus_bits_);
      outbox.erase(id);
      return core->OnUpload(Uploaded{id, elements, bytes, sha}, now);
    });
  }
  void Do(const ResumeUpload& order) {
    const AttemptId id = order.id;
    if (const auto it = outbox.find(id);
        it != outbox.end() && it->second.size() == VectorBytes(order.elements, order.modulus_bits)) {
      modulus_bits_ = order.modulus_bits;
      return Finish(id);
    }
    events_.push_back([this, id] {
      return core->OnUpload(UploadEnded{id, MakeStatus(StatusCode::kAborted, "not all is stored"), 0, {}},
                            now);
    });
  }
  void Do(const RecoverUpload& order) { recovered.push_back(order.id); }
  void Do(const ForgetRound& forget) { sealed.erase(forget.id); }
  void Do(const CancelUpload& cancel) {
    ++cancelled_uploads;
    const AttemptId id = cancel.id;
    events_.push_back([this, id] {
      return core->OnUpload(
          UploadEnded{id, FailedPrecondition("cancelled"), 100, crypto::Sha256(AsBytes("part"))}, now);
    });
  }
  void Do(const Fetch& fetch) {
    const auto it = blobs->find(fetch.sha256);
    const Digest sha = fetch.sha256;
    StatusOr<Bytes> content = NotFound("no such file");
    if (it != blobs->end()) content = it->second;
    if (!fetch_error.ok()) content = fetch_error;
    auto event = [this, sha, content] { return core->OnFetched(Fetched{sha, content}, now); };
    if (hold_fetch)
      held_fetch_ = event;
    else
      events_.push_back(event);
  }
  void Do(const KeepAdapter&) {}

  Party party_;
  policy::Charter charter_;
  Digest hash_;
  policy::CharterPeerVerifier peers_;
  concordat::testing::TempDir folder_;
  std::unique_ptr<RandomSource> random_;
  std::deque<std::function<Effects()>> events_;
  std::optional<std::function<Effects()>> held_, held_fetch_;
  std::optional<AdapterLayout> layout_;
  uint32_t modulus_bits_ = kPlainBits;  // of the last upload
};

/// Four regions and a coordinator.
class Federation {
 public:
  explicit Federation(std::string_view privacy = "noise_multiplier: 0.05", std::string_view section = "",
                      crypto::SignatureProfile keys = crypto::SignatureProfile::kEd25519,
                      LoraMethod method = LoraMethod::kFfa)
      : random_(SeedFor("federation")),
        neutral_(Root::Make("neutral.example", random_, keys)),
        coordinator(neutral_.Issue(Role::kCoordinator, "main", random_)) {
    charter.name = "test";
    charter.version = 1;
    charter.minimum_cohort = 3;
    for (const char* name : {"a.example", "b.example", "c.example", "d.example"}) {
      roots_.push_back(Root::Make(name, random_, keys));
      charter.members.push_back({name, "law", roots_.back().pem});
    }
    charter.coordinator = {coordinator.id, neutral_.pem, coordinator.key.PublicSpki(), "localhost:1",
                           "localhost"};
    for (policy::ArtefactKind kind : {policy::ArtefactKind::kDelta, policy::ArtefactKind::kMetrics,
                                      policy::ArtefactKind::kEvaluation, policy::ArtefactKind::kAdapter})
      charter.flows.push_back({kind, "*", "*", policy::LegalBasis::kStandardClauses});
    charter_hash = policy::CharterHash("test charter");
    submitter_.emplace(roots_[0].Issue(Role::kOperator, "anne", random_));
    signed_job =
        policy::SignJob(JobText(charter_hash, privacy, section, method), submitter_->key, submitter_->chain);
    auto opened = policy::OpenJob(signed_job, charter, now);
    EXPECT_OK(opened);
    job = *opened;
    layout = *AdapterLayout::Make(job.spec.base_model.shape, job.spec.adapter);
    auto first = FirstAdapter(layout, job.id, job.spec.seed);
    EXPECT_OK(first);
    Publish(*std::move(first));
    for (size_t i = 0; i < 4; ++i) {
      regions.push_back(
          std::make_unique<Region>(roots_[i].Issue(Role::kWorker, "site", random_), charter, charter_hash));
      regions.back()->blobs = &blobs;
    }
  }

  /// Every two regions get a key with each other, before they start.
  void CarryPairwiseKeys() {
    for (size_t i = 0; i < regions.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        const Secret32 key = SeedFor(fmt::format("pairwise {} {}", j, i));
        regions[i]->pairwise[regions[j]->party().id] = key;
        regions[j]->pairwise[regions[i]->party().id] = key;
      }
    }
  }
  void StartAll() {
    for (auto& region : regions) region->Start();
  }
  void Notify(bool run = true) {
    for (auto& region : regions) region->Receive(JobNotice{signed_job, run, 0});
  }

  /// Another job of the same submitter; each `number` has its own.
  policy::SignedJob OtherJob(uint32_t number) const {
    return JobWith(fmt::format("noise_multiplier: 1.{:05}", number));
  }
  /// The same with other lines in its privacy section.
  policy::SignedJob JobWith(std::string_view privacy) const {
    return policy::SignJob(JobText(charter_hash, privacy), submitter_->key, submitter_->chain);
  }
  secagg::Offer MakeOffer(RoundIndex round, AttemptIndex attempt) const {
    secagg::Offer offer;
    offer.id = {job.id, round, attempt};
    offer.adapter = adapter_hash;
    for (const auto& region : regions)
      offer.roster.push_back({region->party().id, region->party().key.Public().KeyHash()});
    EXPECT_OK(policy::FillOffer(job.spec, &offer));
    return offer;
  }
  secagg::Signed<secagg::Offer> SignedOffer(RoundIndex round, AttemptIndex attempt) const {
    return secagg::Sign(coordinator.key, MakeOffer(round, attempt));
  }

  /// Begins an attempt: the offer goes to every region that is up.
  void Begin(RoundIndex round, AttemptIndex attempt) {
    std::map<SiteIndex, std::string> chains;
    for (size_t i = 0; i < regions.size(); ++i)
      chains[static_cast<SiteIndex>(i + 1)] = regions[i]->party().chain;
    verifier_ = std::make_unique<policy::CharterPeerVerifier>(charter);
    round_ =
        std::make_unique<secagg::CoordinatorRound>(MakeOffer(round, attempt), coordinator.key, *verifier_,
                                                   chains, job.spec.secure_aggregation.pairwise_keys);
    sum_ = std::make_unique<ModularSum>(round_->offer().elements);
    for (auto& region : regions) read_[region.get()] = region->sent.size();
    auto effects = round_->Start(now);
    ASSERT_OK(effects);
    Carry(*std::move(effects));
  }
  /// Passes messages on until nobody has anything to say.
  void Run() {
    for (bool any = true; any;) {
      any = false;
      for (size_t i = 0; i < regions.size(); ++i) {
        Region& region = *regions[i];
        any |= region.Settle();
        while (read_[&region] < region.sent.size()) {
          const ToCoordinator message = region.sent[read_[&region]++];
          Hear(static_cast<SiteIndex>(i + 1), message);
          any = true;
        }
      }
    }
  }
  /// All start, hear of the job and of its first attempt, and do what they can.
  void PlayFirstAttempt() {
    StartAll();
    Notify();
    Begin(0, 0);
    Run();
  }
  /// The region's process was killed and starts again; the coordinator greets it as it greets everyone.
  void Restart(SiteIndex site) {
    Region& region = *regions[site - 1u];
    region.Start();
    region.Receive(JobNotice{signed_job, true, round_->offer().id.round});
    auto effects = round_->OnRejoined(site, now);
    if (effects.ok()) Carry(*std::move(effects));
  }
  void Timeout() {
    now += Millis(100'000'000);
    auto effects = round_->OnTimer(now);
    ASSERT_OK(effects);
    Carry(*std::move(effects));
  }
  secagg::CoordinatorRound& round() { return *round_; }
  /// The sum as published, and what it says.
  DecodedSum Decoded() {
    return *Decode(*policy::EncodingFor(job.spec, round_->offer()), sum_->words(),
                   round_->survivors().size());
  }
  /// What the survivors encoded, added up without any mask: what Decoded must say, to the bit.
  DecodedSum PlainSum() {
    std::vector<uint32_t> sum(round_->offer().elements);
    for (const SiteIndex i : round_->survivors()) {
      const std::vector<uint32_t>& x = regions[i - 1u]->encoded.back();
      for (size_t e = 0; e < sum.size(); ++e) sum[e] += x[e];
    }
    return *Decode(*policy::EncodingFor(job.spec, round_->offer()), sum, round_->survivors().size());
  }
  void Publish(AdapterBlob blob) {
    const Bytes bytes = EncodeAdapterBlob(blob);
    adapter_hash = AdapterHash(bytes);
    blobs[adapter_hash] = bytes;
    adapter = std::move(blob);
  }

  Instant now = At(0);
  policy::Charter charter;
  Digest charter_hash;
  policy::SignedJob signed_job;
  policy::VerifiedJob job;
  AdapterLayout layout;
  AdapterBlob adapter;
  Digest adapter_hash;
  std::map<Digest, Bytes> blobs;
  std::vector<std::unique_ptr<Region>> regions;
  bool lie_about_result = false;
  bool wide_sum = false;    // published in words of 32 bits, whatever the job's have
  std::set<SiteIndex> cut;  // sites that hear nothing

 private:
  crypto::CtrRandom random_;
  Root neutral_;

 public:
  Party coordinator;

 private:
  void Hear(SiteIndex site, const ToCoordinator& message) {
    StatusOr<secagg::CoordinatorEffects> effects = secagg::CoordinatorEffects{};
    if (const auto* m = std::get_if<secagg::Signed<secagg::Advert>>(&message)) {
      effects = round_->OnAdvert(*m, now);
    } else if (const auto* m = std::get_if<secagg::Signed<secagg::Shares>>(&message)) {
      effects = round_->OnShares(*m, now);
    } else if (const auto* m = std::get_if<secagg::Signed<secagg::Complaint>>(&message)) {
      if (round_->phase() == secagg::CoordinatorPhase::kAborted) return;  // another one was first
      effects = round_->OnComplaint(*m, now);
    } else if (const auto* m = std::get_if<secagg::Signed<secagg::InputHeader>>(&message)) {
      const Bytes& y = regions[site - 1u]->uploads.at(m->body.id);
      effects = round_->OnUploaded(site, y.size() / WordBytes(bits()), crypto::Sha256(y), *m, now);
    } else if (const auto* m = std::get_if<secagg::Signed<secagg::Agreement>>(&message)) {
      effects = round_->OnAgreement(*m, now);
    } else if (const auto* m = std::get_if<secagg::Signed<secagg::Unmask>>(&message)) {
      effects = round_->OnUnmask(*m, now);
    } else if (std::holds_alternative<Dropout>(message)) {
      effects = round_->OnLost(site, now);
    }
    ASSERT_OK(effects);
    Carry(*std::move(effects));
  }
  uint32_t bits() const { return job.spec.privacy.modulus_bits; }
  void Carry(secagg::CoordinatorEffects effects) {
    for (SiteIndex site : effects.accept)
      ASSERT_OK(sum_->AddBytes(0, regions[site - 1u]->uploads.at(round_->offer().id), bits()));
    for (const secagg::Outgoing& out : effects.send) {
      if (cut.contains(out.to)) continue;
      std::visit([&](const auto& m) { regions[out.to - 1u]->Receive(m); }, *out.message);
    }
    if (effects.unmask) Finish(*effects.unmask);
  }
  void Finish(const secagg::UnmaskWork& work) {
    secagg::MaskStream(work.keys).Apply(0, sum_->mutable_words());
    const uint32_t published = wide_sum ? kPlainBits : bits();
    Bytes sum(VectorBytes(sum_->elements(), published));
    PackWords(sum_->words(), published, sum);
    const Digest sha = crypto::Sha256(sum);
    blobs[sha] = sum;
    auto next =
        NextAdapter(layout, adapter, adapter_hash, Decoded().mean_delta, job.spec.server.learning_rate);
    ASSERT_OK(next);
    if (lie_about_result) next->weights[0] += 1;
    Publish(*std::move(next));
    auto effects = round_->Finish(adapter_hash, sha, now);
    ASSERT_OK(effects);
    Carry(*std::move(effects));
  }

  std::vector<Root> roots_;
  std::optional<Party> submitter_;
  std::unique_ptr<policy::CharterPeerVerifier> verifier_;
  std::unique_ptr<secagg::CoordinatorRound> round_;
  std::unique_ptr<ModularSum> sum_;
  std::map<Region*, size_t> read_;
};

/// Rounds of a job in which no site is lost: each sum is the plain one, to the bit, and every region makes
/// the adapter that was announced.
inline void PlayExactRounds(Federation& f, RoundIndex rounds) {
  f.StartAll();
  f.Notify();
  for (RoundIndex r = 0; r < rounds; ++r) {
    f.Begin(r, 0);
    f.Run();
    ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
    ASSERT_EQ(f.round().survivors().size(), f.regions.size());
    EXPECT_EQ(f.Decoded().mean_delta, f.PlainSum().mean_delta);
    for (auto& region : f.regions) EXPECT_EQ(region->Sent<ResultAck>().back().new_adapter, f.adapter_hash);
  }
}

}  // namespace concordat::worker::testing

#endif  // CONCORDAT_TESTS_UNIT_WORKER_CORE_FEDERATION_H_
