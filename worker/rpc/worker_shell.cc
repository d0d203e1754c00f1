#include "worker/rpc/worker_shell.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <future>

#include "common/logging.h"
#include "common/process.h"
#include "privacy/crypto/hash.h"
#include "proto/wire.h"
#include "worker/rpc/evidence.h"
#include "worker/rpc/ledger_check.h"

namespace concordat::worker {
namespace {

constexpr Millis kGoodbye{2'000};
/// Messages of the coordinator that may wait, of up to 16 MiB each; then its stream is not read.
constexpr size_t kMaxWaiting = 16;
constexpr std::chrono::seconds kOperatorPatience{15};

StatusOr<FileDescriptor> LockFolder(const std::filesystem::path& folder) {
  const auto path = folder / "lock";
  FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot open", path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
    return Unavailable("{}: another worker has this folder", folder.string());
  return fd;
}

void LogLines(const std::vector<LogLine>& lines) {
  for (const LogLine& line : lines) {
    const auto level = line.level == LogLine::Level::kInfo      ? spdlog::level::info
                       : line.level == LogLine::Level::kWarning ? spdlog::level::warn
                                                                : spdlog::level::err;
    spdlog::log(level, "{}", line.text);
  }
}

std::string SandboxText(const CoreStatus& status) {
  if (status.trainer_barred) return "barred: this kernel does not enforce what the policy demands";
  if (!status.trainer) return "trainer not started";
  switch (status.trainer->lockdown) {
    case sandbox::Ready::Lockdown::kFull:
      return "enforced";
    case sandbox::Ready::Lockdown::kSeccompOnly:
      return "advisory: seccomp only";
    default:
      return "advisory: none";
  }
}

}  // namespace

StatusOr<std::unique_ptr<WorkerShell>> WorkerShell::Make(WorkerSetup setup) {
  std::unique_ptr<WorkerShell> shell(new WorkerShell(std::move(setup)));
  RETURN_IF_ERROR(shell->OpenState());
  RETURN_IF_ERROR(shell->MakeCore());
  return shell;
}

WorkerShell::~WorkerShell() {
  // Threads that post come down before the loop that they post to; none of them waits for it any longer.
  loop_.End();
  if (region_) region_->Stop();
  if (session_) session_->Stop(Millis(0));
  if (fetcher_) fetcher_->Stop();
  uploads_.clear();
  trainer_.reset();
}

Status WorkerShell::OpenState() {
  const policy::WorkerConfig& config = setup_.config;
  for (const auto& folder : {config.state, config.state / "evidence", config.state / "outbox",
                             config.state / "adapters", config.scratch})
    RETURN_IF_ERROR(OfOwnFile(MakePrivateFolder(folder)));
  ASSIGN_OR_RETURN(lock_, LockFolder(config.state));
  ASSIGN_OR_RETURN(journal_,
                   WorkerJournal::Open(config.state / "journal.bin", config.anchor, setup_.accept_rollback));
  ASSIGN_OR_RETURN(rounds_, RoundStore::Open(config.state / "rounds", config.seal_key, random_));
  ASSIGN_OR_RETURN(ledger_,
                   policy::Ledger::Open(config.ledger, setup_.card.name, setup_.card.budget(),
                                        setup_.card.privacy.period, policy::LedgerAnchorPath(config.anchor)));
  ASSIGN_OR_RETURN(const size_t restored,
                   CheckLedger(journal_->records(), *ledger_, setup_.accept_rollback, clock_.Now()));
  if (restored > 0)
    spdlog::warn("the ledger was put back from a copy: what it had forgotten was charged again, {} entries",
                 restored);
  ASSIGN_OR_RETURN(receipts_, policy::ReceiptBook::Open(config.receipts));
  ASSIGN_OR_RETURN(key_, crypto::SigningKey::FromPem(AsBytes(setup_.key_pem)));
  peers_ = std::make_unique<policy::CharterPeerVerifier>(setup_.charter.charter);
  return OkStatus();
}

Status WorkerShell::MakeCore() {
  CoreParams params;
  params.self = setup_.self;
  params.key = &*key_;
  params.peers = peers_.get();
  params.random = &random_;
  params.charter = setup_.charter.charter;
  params.charter_hash = setup_.charter.hash;
  params.policy = setup_.policy;
  params.card = setup_.card;
  params.ledger = ledger_.get();
  params.base_model = setup_.base_model;
  params.base_shape = setup_.base_shape;
  params.pairwise = std::move(setup_.pairwise);  // the core has the only copy
  params.desk.configure =
      ConfigureTrainer(setup_.config, setup_.policy, setup_.card, setup_.secrets, setup_.base_model);
  params.desk.configure.scratch = setup_.config.scratch.string();
  std::vector<std::string> broken;
  std::vector<RoundSeal> sealed = rounds_->Load(&broken);
  for (const std::string& name : broken)
    spdlog::error("{}: does not open with this region's seal key: this worker is lost in that attempt", name);
  if (journal_->rolled_back()) {
    // The masks of these rounds may have been used since: nothing of them may be sent again.
    spdlog::warn("the journal was put back from a copy: {} open rounds are dropped", sealed.size());
    for (const RoundSeal& seal : sealed) rounds_->Remove(seal.id);
    sealed.clear();
  }
  ASSIGN_OR_RETURN(core_, WorkerCore::Make(std::move(params), journal_->records(), sealed));
  return OkStatus();
}

void WorkerShell::Connect() {
  SessionOptions options;
  options.address = setup_.address;
  options.proxy = setup_.config.proxy;
  options.identity = {setup_.chain, setup_.key_pem};
  const policy::CharterCoordinator& coordinator = setup_.charter.charter.coordinator;
  options.coordinator = {coordinator.root_pem, coordinator.id, coordinator.key_hash()};
  options.charter = setup_.charter.hash;
  channel_ = OpenChannel(options, clock_);
  dial_ = [options, clock = &clock_] { return OpenBulkChannel(options, *clock); };
  fetcher_ = std::make_unique<Fetcher>(setup_.config.state / "adapters", channel_, [this](Fetched fetched) {
    auto shared = std::make_shared<Fetched>(std::move(fetched));
    loop_.Post([this, shared] { Apply(core_->OnFetched(*shared, clock_.Now())); });
  });
  Session::Handlers handlers;
  handlers.up = [this] {
    loop_.Post([this] {
      connected_ = true;
      trouble_.clear();
      spdlog::info("connected to {}", setup_.address);
      Apply(core_->OnConnected(clock_.Now()));
    });
  };
  handlers.down = [this](const std::string& why) {
    loop_.Post([this, why] {
      connected_ = false;
      trouble_ = why;
      spdlog::warn("connection lost: {}", why);
      Apply(core_->OnDisconnected(clock_.Now()));
    });
  };
  handlers.message = [this](FromCoordinator message) {
    auto shared = std::make_shared<FromCoordinator>(std::move(message));
    loop_.PostWhenShort([this, shared] { Apply(core_->OnMessage(*shared, clock_.Now())); }, kMaxWaiting);
  };
  handlers.trouble = [this](const std::string& text) {
    loop_.Post([this, text] {
      if (text != trouble_) spdlog::warn("{}", text);  // the same again says nothing new
      trouble_ = text;
    });
  };
  session_ = std::make_unique<Session>(std::move(options), channel_, std::move(handlers));
  session_->Start();
}

/// Files in the outbox are uploads of an earlier process. One that an attempt may go on with stays; what the
/// others hold may have left, so it is receipted.
void WorkerShell::Recover() {
  std::error_code error;
  std::vector<std::pair<std::filesystem::path, AttemptId>> files;
  for (const auto& entry : std::filesystem::directory_iterator(setup_.config.state / "outbox", error)) {
    const auto id = ParseOutboxName(entry.path().filename().string());
    if (id.ok() && !core_->WaitsToUpload(*id)) files.emplace_back(entry.path(), *id);
  }
  for (const auto& [file, id] : files) RecoverFile(file, id);
}

void WorkerShell::RecoverFile(const std::filesystem::path& file, const AttemptId& id) {
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(file, error);
  const auto sha = crypto::Sha256File(file);
  if (error || !sha.ok()) return;
  spdlog::warn("{}: lost with an earlier process; {} bytes may have left", id.Brief(), size);
  const size_t receipts = receipts_->receipts().size();
  Apply(core_->OnUpload(UploadEnded{id, FailedPrecondition("the process ended"), size, *sha}, clock_.Now()));
  // What could not be receipted stays until it can be.
  if (size == 0 || receipts_->receipts().size() > receipts) Upload::Delete(file);
}

Status WorkerShell::ServeRegion() {
  RegionServer::Handlers handlers;
  handlers.status = [this] { return Status_(); };
  handlers.decide = [this](const JobId& job, Decision decision) { return Decide(job, decision); };
  ASSIGN_OR_RETURN(region_, RegionServer::Start(setup_.config.socket, std::move(handlers)));
  return OkStatus();
}

Status WorkerShell::Run() {
  trainer_ = std::make_unique<TrainerProcess>(
      setup_.trainer, setup_.config.scratch,
      [this](TrainerEvent event) {
        // Read on the reader's thread, which Stop joins before the number changes.
        const uint64_t generation = trainer_generation_;
        auto shared = std::make_shared<TrainerEvent>(std::move(event));
        loop_.Post([this, generation, shared] {
          if (generation == trainer_generation_) Apply(core_->OnTrainer(*shared, clock_.Now()));
        });
      },
      [](const std::string& line) { spdlog::info("trainer: {}", line); });
  Apply(core_->OnStarted(clock_.Now()));
  Recover();
  Connect();
  RETURN_IF_ERROR(ServeRegion());
  while (!ending_) {
    if (auto event = loop_.Next(wake_)) {
      (*event)();
    } else {
      Wake();
    }
  }
  Apply(core_->OnShutdown(clock_.Now()));
  loop_.End();  // first: the session's reader may wait for room in it
  session_->Stop(kGoodbye);
  for (auto& [id, upload] : uploads_) upload->Cancel();
  return OkStatus();
}

void WorkerShell::Wake() {
  wake_.reset();
  Apply(core_->OnTimer(clock_.Now()));
}

void WorkerShell::End() {
  loop_.Post([this] { ending_ = true; });
}

// ---- Effects, in their order.

Status WorkerShell::Persist(Effects& effects) {
  for (const RoundSeal& seal : effects.seals) RETURN_IF_ERROR(rounds_->Put(seal));
  for (const Evidence& evidence : effects.evidence)
    RETURN_IF_ERROR(KeepEvidence(setup_.config.state / "evidence", evidence));
  if (!effects.records.empty()) RETURN_IF_ERROR(journal_->Append(effects.records));
  return OkStatus();
}

std::vector<ChargeOutcome> WorkerShell::Charge(const std::vector<LedgerCharge>& charges) {
  std::vector<ChargeOutcome> out;
  for (const LedgerCharge& charge : charges) {
    ChargeOutcome outcome;
    outcome.id = charge.attempt;
    outcome.kind = charge.kind;
    const auto entry = ledger_->Charge(clock_.Now(), charge);
    outcome.status = entry.status();
    if (entry.ok()) {
      outcome.epsilon_before = entry->epsilon_before;
      outcome.epsilon_after = entry->epsilon_after;
      outcome.ledger_head = entry->hash;
    }
    out.push_back(std::move(outcome));
  }
  return out;
}

Effects WorkerShell::AfterStorageFailed(Effects failed, const Status& why) {
  spdlog::error("cannot store: {}", ToString(why));
  LogLines(failed.log);
  Effects after = core_->OnStorageFailed(std::move(failed), clock_.Now());
  after.seals.clear();  // there is nowhere to put them
  after.records.clear();
  after.evidence.clear();
  after.receipts.clear();
  return after;
}

void WorkerShell::Apply(Effects effects) {
  Status stored = Persist(effects);
  std::vector<ChargeOutcome> charged;
  if (stored.ok()) {
    charged = Charge(effects.charges);
    for (policy::Receipt& receipt : effects.receipts) {
      const auto written = receipts_->Append(std::move(receipt), *key_);
      if (!written.ok()) stored = written.status();
    }
  }
  if (!stored.ok()) {
    effects = AfterStorageFailed(std::move(effects), stored);
    charged.clear();
  }
  if (session_)
    for (const ToCoordinator& message : effects.send) session_->Send(message);
  for (Command& command : effects.commands) std::visit([this](auto& c) { Do(c); }, command);
  wake_ = effects.wake;
  LogLines(effects.log);
  for (const ChargeOutcome& outcome : charged) Apply(core_->OnCharged(outcome, clock_.Now()));
}

void WorkerShell::Do(const StartTrainer&) {
  trainer_->Stop();
  ++trainer_generation_;
  if (const Status status = trainer_->Start(); !status.ok()) {
    loop_.Post([this, generation = trainer_generation_, why = std::string(Message(status))] {
      if (generation == trainer_generation_) Apply(core_->OnTrainer(TrainerGone{why}, clock_.Now()));
    });
  }
}

void WorkerShell::Do(const StopTrainer&) {
  trainer_->Stop();
  ++trainer_generation_;
}

void WorkerShell::Do(const TellTrainer& tell) {
  // A trainer that is gone says so on its reader's thread; here it is enough not to wait for it.
  if (const Status status = trainer_->Tell(tell); !status.ok()) spdlog::warn("trainer: {}", Message(status));
}

Upload::OnEvent WorkerShell::ToLoop() {
  return [this](UploadEvent event) {
    auto shared = std::make_shared<UploadEvent>(std::move(event));
    loop_.Post([this, shared] { OnUploadEvent(*shared); });
  };
}

void WorkerShell::Run(const AttemptId& id, std::unique_ptr<Upload> upload) {
  Upload& placed = *uploads_.insert_or_assign(id, std::move(upload)).first->second;
  placed.Start();
}

void WorkerShell::Do(StartUpload& order) {
  const AttemptId id = order.id;
  Run(id, std::make_unique<Upload>(std::move(order), setup_.config.state / "outbox", dial_, ToLoop()));
}

void WorkerShell::Do(const ResumeUpload& order) {
  Run(order.id, std::make_unique<Upload>(order, setup_.config.state / "outbox", dial_, ToLoop()));
}

void WorkerShell::Do(const RecoverUpload& order) {
  loop_.Post([this, id = order.id] { RecoverFile(setup_.config.state / "outbox" / OutboxName(id), id); });
}

void WorkerShell::Do(const ForgetRound& forget) { rounds_->Remove(forget.id); }

void WorkerShell::OnUploadEvent(const UploadEvent& event) {
  const size_t receipts = receipts_->receipts().size();
  Apply(core_->OnUpload(event, clock_.Now()));
  const AttemptId id = std::visit([](const auto& e) { return e.id; }, event);
  if (std::holds_alternative<UploadProgress>(event)) return;
  if (const auto it = uploads_.find(id); it != uploads_.end()) {
    const auto* ended = std::get_if<UploadEnded>(&event);
    const bool left = ended == nullptr || ended->left_bytes > 0;
    // Without its receipts (a full disk) the file stays: Recover writes them after the next start.
    if (!left || receipts_->receipts().size() > receipts) it->second->Discard();
    uploads_.erase(it);
  }
}

void WorkerShell::Do(const CancelUpload& cancel) {
  if (const auto it = uploads_.find(cancel.id); it != uploads_.end()) it->second->Cancel();
}

void WorkerShell::Do(const Fetch& fetch) { fetcher_->Get(fetch); }

void WorkerShell::Do(const KeepAdapter& keep) {
  if (const Status status = fetcher_->Keep(keep); !status.ok())
    spdlog::warn("adapter {} is not kept: {}", keep.sha256.brief(), Message(status));
}

// ---- The region's operator.

namespace {

/// Has the loop run `work` and waits for its answer.
template <typename T>
StatusOr<T> OnLoop(EventLoop& loop, std::function<StatusOr<T>()> work) {
  auto promise = std::make_shared<std::promise<StatusOr<T>>>();
  auto future = promise->get_future();
  loop.Post([promise, work = std::move(work)] { promise->set_value(work()); });
  if (future.wait_for(kOperatorPatience) != std::future_status::ready)
    return Unavailable("the worker is busy");
  try {
    return future.get();
  } catch (const std::future_error&) {  // a loop that has ended drops what comes
    return Unavailable("the worker is ending");
  }
}

}  // namespace

StatusOr<pb::RegionStatus> WorkerShell::Status_() {
  return OnLoop<pb::RegionStatus>(loop_, [this]() -> StatusOr<pb::RegionStatus> { return StatusNow(); });
}

pb::RegionStatus WorkerShell::StatusNow() const {
  const CoreStatus status = core_->status();
  pb::RegionStatus out;
  out.set_worker(setup_.self.ToString());
  out.set_connected(connected_);
  out.set_coordinator(setup_.address);
  out.set_phase(static_cast<uint32_t>(status.phase));
  out.set_permille(status.permille);
  if (!status.attempt.job.is_zero()) {
    out.set_job(wire::BytesOf(status.attempt.job));
    out.set_round(status.attempt.round);
    out.set_attempt(status.attempt.attempt);
  }
  out.set_tokens_per_second(status.tokens_per_second);
  out.set_train_loss(status.train_loss);
  for (const JobStatus& job : status.jobs) {
    auto* row = out.add_jobs();
    row->set_job(wire::BytesOf(job.id));
    row->set_name(job.name);
    row->set_verdict(static_cast<uint32_t>(job.answer.verdict));
    for (policy::RuleCode rule : job.answer.rules) row->add_rules(static_cast<uint32_t>(rule));
    row->set_needs_approval(job.needs_approval);
    row->set_submitter(job.submitter.ToString());
    row->set_state(static_cast<pb::RegionJob::State>(job.stage));
  }
  out.set_sandbox(SandboxText(status));
  out.set_epsilon_spent(ledger_->Spent(clock_.Now()));
  out.set_epsilon_budget(ledger_->budget().epsilon);
  out.set_bytes_left(receipts_->bytes_left());
  out.set_last_error(trouble_.empty() ? status.last_error : trouble_);
  return out;
}

StatusOr<std::string> WorkerShell::Decide(const JobId& job, Decision decision) {
  return OnLoop<std::string>(loop_, [this, job, decision]() -> StatusOr<std::string> {
    auto reply = core_->OnDecision(job, decision, clock_.Now());
    if (!reply.ok()) return reply.status();
    // A decision that is not on the disk is none: it would be forgotten with the process.
    if (const Status stored = journal_->Append(reply->effects.records); !stored.ok()) {
      Apply(AfterStorageFailed(std::move(reply->effects), stored));
      return stored;
    }
    reply->effects.records.clear();
    Apply(std::move(reply->effects));
    return std::move(reply->text);
  });
}

}  // namespace concordat::worker
