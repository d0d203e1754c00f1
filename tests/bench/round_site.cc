#include "tests/bench/round_site.h"

#include "common/files.h"
#include "common/logging.h"

namespace concordat::bench {
namespace {

constexpr size_t kMaxWaiting = 16;  // as worker_shell.cc has it

constexpr std::string_view kPolicy = R"(submitters: [spiffe://{submitter}/operator/*]
base_models:
  - {{sha256: {model}, license: Apache-2.0}}
adapters:
  methods: [ffa, fedit]
  targets: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]
  max_rank: 256
cohort: {{min_sites: 3, min_survivors: 3, min_honest: 2, min_colluding: 1, max_attempts_per_round: 5}}
privacy:
  max_clip: 10
  min_noise_multiplier: 0
  min_metrics_noise_multiplier: 0
  max_delta: 0.00001
  noise: [local, distributed]
  rounding: [stochastic, nearest]
training: {{max_rounds: 100, max_local_steps: 100000, max_sequence_tokens: 2048, max_batch_sequences: 64}}
deadlines:
  advert: {{min: 1s, max: 1h}}
  shares: {{min: 1s, max: 1h}}
  input: {{min: 1s, max: 24h}}
  agreement: {{min: 1s, max: 1h}}
  unmask: {{min: 1s, max: 1h}}
artefacts:
  delta: allow
  metrics: allow
  evaluation: {{release: allow, bound_bits_per_byte: 16, noise_stddev: 0.01, max_requests: 20}}
approval: automatic
sandbox: advisory
)";

constexpr std::string_view kCard = R"(name: card
path: data/records.jsonl
kind: jsonl
classification: {{raw: restricted, embeddings: restricted, activations: restricted, logs: internal,
                 checkpoints: restricted, deltas: confidential, metrics: internal}}
legal_frameworks: [GDPR]
residency: [{jurisdiction}]
sovereignty: [{jurisdiction}]
operation: [{jurisdiction}]
privacy: {{unit: site, epsilon: unlimited, delta: 0.00001, period: none}}
retention: until the measurement ends
licence: made up
held_out_permille: 250
split_key: split.key
)";

std::string Slurp(const std::filesystem::path& file) { return Must(ReadTextFile(file)); }

template <typename... F>
struct Cases : F... {
  using F::operator()...;
};
template <typename... F>
Cases(F...) -> Cases<F...>;

}  // namespace

void Must(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

// ---- Moments.

void Moments::Reset() {
  const std::lock_guard lock(mutex_);
  moments_ = {};
}

void Moments::Note(Kind kind) {
  const auto now = std::chrono::steady_clock::now();
  const std::lock_guard lock(mutex_);
  Moment& moment = moments_[kind];
  if (moment.count++ == 0) moment.first = now;
  moment.last = now;
  changed_.notify_all();
}

size_t Moments::Count(Kind kind) const {
  const std::lock_guard lock(mutex_);
  return moments_[kind].count;
}

Moments::Time Moments::First(Kind kind) const {
  const std::lock_guard lock(mutex_);
  return moments_[kind].first;
}

Moments::Time Moments::Last(Kind kind) const {
  const std::lock_guard lock(mutex_);
  return moments_[kind].last;
}

bool Moments::Await(Kind kind, size_t count, std::chrono::seconds patience) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, patience, [&] { return moments_[kind].count >= count; });
}

std::string_view StepName(Step step) {
  static constexpr std::array<std::string_view, kSteps + 1> kNames = {
      "advert", "shares", "input", "header", "agreement", "unmask", "never"};
  return kNames.at(static_cast<size_t>(step));
}

// ---- Site.

Site::Site(const World& world, const std::string& jurisdiction, const std::filesystem::path& folder,
           worker::Floats delta, Moments& moments)
    : world_(world),
      jurisdiction_(jurisdiction),
      outbox_(folder / "outbox"),
      delta_(std::move(delta)),
      moments_(moments) {
  const auto keys = world.root / jurisdiction / "worker";
  identity_ = {Slurp(keys / "cert.pem"), Slurp(keys / "key.pem")};
  key_ = Must(crypto::SigningKey::FromPem(AsBytes(identity_.private_key)));
  peers_ = std::make_unique<policy::CharterPeerVerifier>(world.charter.charter);
  Open(folder);
  Connect();
  thread_ = std::thread([this] { Run(); });
}

Site::~Site() {
  ending_ = true;
  loop_.Post([] {});
  thread_.join();
  loop_.End();
  session_->Stop(Millis(0));
  fetcher_->Stop();
}

void Site::Open(const std::filesystem::path& folder) {
  for (const auto& path : {folder, outbox_, folder / "adapters"}) Must(MakeFolder(path, 0700));
  worker::CoreParams params;
  params.self = Must(SpiffeId::Make(jurisdiction_, Role::kWorker, "site"));
  params.key = &*key_;
  params.peers = peers_.get();
  params.random = &random_;
  params.charter = world_.charter.charter;
  params.charter_hash = world_.charter.hash;
  const std::string submitter = world_.charter.charter.members.front().jurisdiction;
  params.policy = Must(policy::ParseRegionPolicy(
      fmt::format(kPolicy, fmt::arg("submitter", submitter), fmt::arg("model", world_.base_model.hex())),
      "policy.yaml"));
  params.card = Must(policy::ParseDatasetCard(fmt::format(kCard, fmt::arg("jurisdiction", jurisdiction_)),
                                              "dataset-card.yaml", folder));
  journal_ = Must(worker::WorkerJournal::Open(folder / "journal.bin", folder / "anchor"));
  rounds_ = Must(worker::RoundStore::Open(folder / "rounds", folder / "seal.key", random_));
  ledger_ = Must(policy::Ledger::Open(folder / "ledger.jsonl", params.card.name, params.card.budget(),
                                      params.card.privacy.period));
  receipts_ = Must(policy::ReceiptBook::Open(folder / "receipts.jsonl"));
  params.ledger = ledger_.get();
  params.base_model = world_.base_model;
  params.base_shape = world_.shape;
  params.desk.configure.sandbox_required = false;
  core_ = Must(worker::WorkerCore::Make(std::move(params), journal_->records()));
}

void Site::Connect() {
  worker::SessionOptions options;
  options.address = world_.address;
  options.identity = identity_;
  const policy::CharterCoordinator& coordinator = world_.charter.charter.coordinator;
  options.coordinator = {coordinator.root_pem, coordinator.id, coordinator.key_hash()};
  options.charter = world_.charter.hash;
  channel_ = worker::OpenChannel(options, clock_);
  dial_ = [options, clock = &clock_] { return worker::OpenBulkChannel(options, *clock); };
  fetcher_ = std::make_unique<worker::Fetcher>(
      outbox_.parent_path() / "adapters", channel_, [this](worker::Fetched fetched) {
        auto shared = std::make_shared<worker::Fetched>(std::move(fetched));
        loop_.Post([this, shared] { Apply(core_->OnFetched(*shared, clock_.Now())); });
      });
  worker::Session::Handlers handlers;
  handlers.up = [this] { loop_.Post([this] { Apply(core_->OnConnected(clock_.Now())); }); };
  handlers.down = [this](const std::string& why) {
    loop_.Post([this, why] {
      Complain("connection lost: " + why);
      Apply(core_->OnDisconnected(clock_.Now()));
    });
  };
  handlers.message = [this](worker::FromCoordinator message) {
    Note(message);
    auto shared = std::make_shared<worker::FromCoordinator>(std::move(message));
    loop_.PostWhenShort([this, shared] { Apply(core_->OnMessage(*shared, clock_.Now())); }, kMaxWaiting);
  };
  handlers.trouble = [this](const std::string& text) { spdlog::warn("{}: {}", jurisdiction_, text); };
  session_ = std::make_unique<worker::Session>(std::move(options), channel_, std::move(handlers));
}

void Site::Run() {
  Apply(core_->OnStarted(clock_.Now()));
  session_->Start();
  while (!ending_ && !gone_) {
    if (auto event = loop_.Next(wake_)) {
      (*event)();
    } else {
      wake_.reset();
      Apply(core_->OnTimer(clock_.Now()));
    }
  }
  for (auto& [id, upload] : uploads_) upload->Cancel();
  for (auto& [id, upload] : uploads_) upload->Discard();
  uploads_.clear();
}

/// As if the process had been killed: nothing is said, stream and uploads end.
void Site::Vanish() {
  gone_ = true;
  loop_.End();  // first: the session's reader may wait for room in it
  session_->Stop(Millis(0));
  for (auto& [id, upload] : uploads_) upload->Cancel();
}

std::string Site::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

void Site::Complain(const std::string& text) {
  if (gone_ || ending_) return;
  spdlog::warn("{}: {}", jurisdiction_, text);
  const std::lock_guard lock(mutex_);
  if (trouble_.empty()) trouble_ = jurisdiction_ + ": " + text;
}

void Site::Note(const worker::FromCoordinator& message) {
  using namespace secagg;
  std::visit(Cases{[this](const Signed<Offer>&) { moments_.Note(Moments::kOffer); },
                   [this](const Signed<Keys>&) { moments_.Note(Moments::kKeys); },
                   [this](const Signed<Delivery>&) { moments_.Note(Moments::kDelivery); },
                   [this](const Signed<Survivors>&) { moments_.Note(Moments::kSurvivors); },
                   [this](const Signed<AgreementBundle>&) { moments_.Note(Moments::kBundle); },
                   [this](const Signed<Result>&) { moments_.Note(Moments::kResult); }, [](const auto&) {}},
             message);
}

bool Site::IsTheEnd(const worker::ToCoordinator& message) const {
  using namespace secagg;
  switch (vanish_) {
    case Step::kAdvert:
      return std::holds_alternative<Signed<Advert>>(message);
    case Step::kShares:
      return std::holds_alternative<Signed<Shares>>(message);
    case Step::kInput:  // where no chunk was acknowledged before the last
    case Step::kHeader:
      return std::holds_alternative<Signed<InputHeader>>(message);
    case Step::kAgreement:
      return std::holds_alternative<Signed<Agreement>>(message);
    case Step::kUnmask:
      return std::holds_alternative<Signed<Unmask>>(message);
    case Step::kNever:
      break;
  }
  return false;
}

// ---- Effects, in their order (worker/core/effects.h).

void Site::Persist(const worker::Effects& effects) {
  for (const worker::RoundSeal& seal : effects.seals) Must(rounds_->Put(seal));
  if (!effects.records.empty()) Must(journal_->Append(effects.records));
  for (const worker::Evidence& evidence : effects.evidence) Complain("kept as evidence: " + evidence.name);
}

std::vector<worker::ChargeOutcome> Site::Charge(const std::vector<LedgerCharge>& charges) {
  std::vector<worker::ChargeOutcome> out;
  for (const LedgerCharge& charge : charges) {
    const auto entry = Must(ledger_->Charge(clock_.Now(), charge));
    out.push_back(
        {charge.attempt, charge.kind, OkStatus(), entry.epsilon_before, entry.epsilon_after, entry.hash});
  }
  return out;
}

void Site::Apply(worker::Effects effects) {
  if (gone_) return;
  Persist(effects);
  const auto charged = Charge(effects.charges);
  for (policy::Receipt& receipt : effects.receipts) (void)Must(receipts_->Append(std::move(receipt), *key_));
  for (const worker::ToCoordinator& message : effects.send) {
    if (IsTheEnd(message)) return Vanish();
    if (std::holds_alternative<worker::Dropout>(message)) Complain("it left the attempt");
    session_->Send(message);
    if (std::holds_alternative<worker::ResultAck>(message)) moments_.Note(Moments::kAcknowledged);
  }
  for (worker::Command& command : effects.commands) std::visit([this](auto& c) { Do(c); }, command);
  wake_ = effects.wake;
  for (const worker::LogLine& line : effects.log) {
    if (line.level == worker::LogLine::Level::kInfo)
      spdlog::debug("{}: {}", jurisdiction_, line.text);
    else
      Complain(line.text);
  }
  for (const worker::ChargeOutcome& outcome : charged) Apply(core_->OnCharged(outcome, clock_.Now()));
}

/// In the trainer's place. It says that it is not locked down, which this policy allows.
void Site::Say(sandbox::FromTrainer message, worker::Floats weights) {
  auto said =
      std::make_shared<worker::TrainerSaid>(worker::TrainerSaid{std::move(message), std::move(weights)});
  loop_.Post([this, said] { Apply(core_->OnTrainer(*said, clock_.Now())); });
}

void Site::Do(const worker::TellTrainer& tell) {
  std::visit(Cases{[this](const sandbox::Configure&) {
                     sandbox::Ready ready;
                     ready.lockdown = sandbox::Ready::Lockdown::kNone;
                     ready.shape = world_.shape;
                     ready.train_documents = 3;
                     ready.held_out_documents = 1;
                     ready.train_bytes = 100;
                     Say(ready);
                   },
                   [this](const sandbox::Prepare&) { Say(sandbox::Prepared{}); },
                   [this](const sandbox::Train& train) {
                     Say(sandbox::Trained{1.5, 16, 16, 0.1, train.local_steps}, delta_);
                   },
                   [](const auto&) {}},
             tell.message);
}

worker::Upload::OnEvent Site::ToLoop() {
  return [this](worker::UploadEvent event) {
    auto shared = std::make_shared<worker::UploadEvent>(std::move(event));
    loop_.Post([this, shared] { OnUpload(*shared); });
  };
}

void Site::Do(worker::StartUpload& order) {
  encoded_ = Encoded{order.plan, order.delta, order.metrics, order.seed};
  const AttemptId id = order.id;
  auto upload = std::make_unique<worker::Upload>(std::move(order), outbox_, dial_, ToLoop());
  uploads_.insert_or_assign(id, std::move(upload)).first->second->Start();
}

void Site::OnUpload(const worker::UploadEvent& event) {
  if (const auto* progress = std::get_if<worker::UploadProgress>(&event)) {
    // The first acknowledged chunk: the upload is under way.
    if (vanish_ == Step::kInput && progress->sent_bytes > 0) return Vanish();
    return Apply(core_->OnUpload(event, clock_.Now()));
  }
  const AttemptId id = std::visit([](const auto& e) { return e.id; }, event);
  Apply(core_->OnUpload(event, clock_.Now()));
  if (gone_) return;
  if (const auto it = uploads_.find(id); it != uploads_.end()) {
    it->second->Discard();
    uploads_.erase(it);
  }
}

void Site::Do(const worker::ForgetRound& forget) { rounds_->Remove(forget.id); }

void Site::Do(const worker::CancelUpload& cancel) {
  if (const auto it = uploads_.find(cancel.id); it != uploads_.end()) it->second->Cancel();
}

void Site::Do(const worker::Fetch& fetch) { fetcher_->Get(fetch); }

void Site::Do(const worker::KeepAdapter& keep) { Must(fetcher_->Keep(keep)); }

}  // namespace concordat::bench
