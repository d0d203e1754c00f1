#include "coordinator/journal/journal.h"

#include <algorithm>

#include "coordinator/journal/sqlite.h"

namespace concordat::coordinator {
namespace {

constexpr int kApplicationId = 0x434e4344;  // "CNCD"

constexpr const char* kSchema = R"sql(
CREATE TABLE jobs (
  id BLOB PRIMARY KEY, ordinal INTEGER NOT NULL UNIQUE, file BLOB NOT NULL, signature BLOB NOT NULL,
  chain TEXT NOT NULL, submitter TEXT NOT NULL, initial_adapter BLOB NOT NULL, submitted_ms INTEGER NOT NULL,
  phase INTEGER NOT NULL, failure INTEGER NOT NULL, failure_text TEXT NOT NULL) STRICT;
CREATE TABLE attempts (
  job BLOB NOT NULL REFERENCES jobs(id), round INTEGER NOT NULL, attempt INTEGER NOT NULL,
  offered_ms INTEGER NOT NULL, PRIMARY KEY (job, round, attempt)) STRICT;
CREATE TABLE survivors (
  job BLOB NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, worker TEXT NOT NULL,
  PRIMARY KEY (job, round, attempt, worker),
  FOREIGN KEY (job, round, attempt) REFERENCES attempts(job, round, attempt)) STRICT;
CREATE TABLE rounds (
  job BLOB NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, adapter BLOB NOT NULL,
  parent BLOB NOT NULL, sum_sha256 BLOB NOT NULL, mean_loss REAL, tokens REAL,
  epsilon_local REAL NOT NULL, epsilon_distributed REAL NOT NULL, bytes_up INTEGER NOT NULL,
  bytes_down INTEGER NOT NULL, started_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL,
  PRIMARY KEY (job, round),
  FOREIGN KEY (job, round, attempt) REFERENCES attempts(job, round, attempt)) STRICT;
CREATE TABLE round_sites (
  job BLOB NOT NULL, round INTEGER NOT NULL, worker TEXT NOT NULL, survived INTEGER NOT NULL,
  PRIMARY KEY (job, round, worker), FOREIGN KEY (job, round) REFERENCES rounds(job, round)) STRICT;
)sql";

// Since version 2.
constexpr const char* kLogSchema = R"sql(
CREATE TABLE attempt_log (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, job BLOB NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL,
  record BLOB NOT NULL,
  FOREIGN KEY (job, round, attempt) REFERENCES attempts(job, round, attempt)) STRICT;
CREATE INDEX attempt_log_of ON attempt_log (job, round, attempt, seq);
)sql";

// Since version 3.
constexpr const char* kBlameSchema = R"sql(
CREATE TABLE blames (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, job BLOB NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL,
  worker TEXT NOT NULL, blame INTEGER NOT NULL,
  FOREIGN KEY (job, round, attempt) REFERENCES attempts(job, round, attempt)) STRICT;
CREATE INDEX blames_of ON blames (job, round, seq);
)sql";

// What makes a file of version i + 1 out of one of version i.
constexpr const char* kSchemas[Journal::kSchemaVersion] = {kSchema, kLogSchema, kBlameSchema};

int64_t Ms(Instant t) { return t.time_since_epoch().count(); }
Instant FromMs(int64_t ms) { return Instant(Millis(ms)); }

StatusOr<int64_t> Pragma(sqlite3* db, const char* sql) {
  ASSIGN_OR_RETURN(Statement s, Statement::Prepare(db, sql));
  ASSIGN_OR_RETURN(const bool row, s.Step());
  const int64_t value = row ? s.Integer(0) : 0;
  s.Reset();
  return value;
}

}  // namespace

struct Journal::Database {
  SqliteHandle db;
  Statement add_job, set_phase, add_attempt, add_log, drop_log, add_survivor, add_round, add_site, add_blame;
  Statement jobs, rounds, sites, last_attempt, log, blames;

  Status Configure();
  Status MakeSchema();
  Status Upgrade(int64_t version);
  Status Prepare();
  Status Write(const JobRecord& r);
  Status Write(const JobPhaseRecord& r);
  Status Write(const AttemptRecord& r);
  Status Write(const AttemptLogRecord& r);
  Status Write(const AttemptClosedRecord& r);
  Status Write(const SurvivorsRecord& r);
  Status Write(const RoundRecord& r);
  Status Write(const BlameRecord& r);
  StatusOr<std::vector<RoundRecord>> LoadRounds(const JobRecord& job);
  Status LoadSites(RoundRecord* round);
  StatusOr<std::optional<AttemptId>> LastAttempt(const JobId& job);
  StatusOr<std::vector<Bytes>> LoadLog(const AttemptId& id);
  StatusOr<std::vector<BlameRecord>> LoadBlames(const JobId& job);
};

Status Journal::Database::Configure() {
  // The lock is held for as long as the file is open: two coordinators on one state folder would both hand
  // out attempt numbers.
  RETURN_IF_ERROR(Execute(db.get(), "PRAGMA locking_mode=EXCLUSIVE"));
  RETURN_IF_ERROR(Execute(db.get(), "PRAGMA journal_mode=WAL"));
  RETURN_IF_ERROR(Execute(db.get(), "PRAGMA synchronous=FULL"));
  RETURN_IF_ERROR(Execute(db.get(), "PRAGMA foreign_keys=ON"));
  RETURN_IF_ERROR(Execute(db.get(), "PRAGMA trusted_schema=OFF"));
  RETURN_IF_ERROR(Execute(db.get(), "PRAGMA secure_delete=ON"));
  ASSIGN_OR_RETURN(Statement check, Statement::Prepare(db.get(), "PRAGMA quick_check(1)"));
  ASSIGN_OR_RETURN(const bool row, check.Step());
  if (!row || check.Text(0) != "ok") {
    return DataLoss("journal: SQLite finds the file damaged: {}", row ? check.Text(0) : "no answer");
  }
  return OkStatus();
}

Status Journal::Database::MakeSchema() {
  ASSIGN_OR_RETURN(const int64_t version, Pragma(db.get(), "PRAGMA user_version"));
  ASSIGN_OR_RETURN(const int64_t application, Pragma(db.get(), "PRAGMA application_id"));
  ASSIGN_OR_RETURN(const int64_t tables, Pragma(db.get(), "SELECT count(*) FROM sqlite_schema"));
  if (tables == 0) return Upgrade(0);
  if (application != kApplicationId) return DataLoss("journal: the file is no coordinator's journal");
  if (version < 1 || version > kSchemaVersion) {
    return FailedPrecondition("journal: expected schema version {}, the file has {}", kSchemaVersion,
                              version);
  }
  return version == kSchemaVersion ? OkStatus() : Upgrade(version);
}

/// All at once or not at all.
Status Journal::Database::Upgrade(int64_t version) {
  RETURN_IF_ERROR(Execute(db.get(), "BEGIN IMMEDIATE"));
  for (int64_t v = version; v < kSchemaVersion; ++v) RETURN_IF_ERROR(Execute(db.get(), kSchemas[v]));
  RETURN_IF_ERROR(Execute(db.get(), fmt::format("PRAGMA application_id={}", kApplicationId).c_str()));
  RETURN_IF_ERROR(Execute(db.get(), fmt::format("PRAGMA user_version={}", kSchemaVersion).c_str()));
  return Execute(db.get(), "COMMIT");
}

Status Journal::Database::Prepare() {
  const std::pair<Statement*, const char*> all[] = {
      {&add_job,
       "INSERT INTO jobs VALUES (?1,(SELECT coalesce(max(ordinal),0)+1 FROM jobs),?2,?3,?4,?5,?6,?7,1,0,'')"},
      {&set_phase, "UPDATE jobs SET phase=?2, failure=?3, failure_text=?4 WHERE id=?1"},
      {&add_attempt, "INSERT INTO attempts VALUES (?1,?2,?3,?4)"},
      {&add_log, "INSERT INTO attempt_log (job,round,attempt,record) VALUES (?1,?2,?3,?4)"},
      {&drop_log, "DELETE FROM attempt_log WHERE job=?1 AND round=?2 AND attempt=?3"},
      {&add_survivor, "INSERT INTO survivors VALUES (?1,?2,?3,?4)"},
      {&add_round, "INSERT INTO rounds VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)"},
      {&add_site, "INSERT INTO round_sites VALUES (?1,?2,?3,?4)"},
      {&add_blame, "INSERT INTO blames (job,round,attempt,worker,blame) VALUES (?1,?2,?3,?4,?5)"},
      {&jobs,
       "SELECT id,file,signature,chain,submitter,initial_adapter,submitted_ms,phase,failure,failure_text "
       "FROM jobs ORDER BY ordinal"},
      {&rounds,
       "SELECT round,attempt,adapter,parent,sum_sha256,mean_loss,tokens,epsilon_local,epsilon_distributed,"
       "bytes_up,bytes_down,started_ms,ended_ms FROM rounds WHERE job=?1 ORDER BY round"},
      {&log, "SELECT record FROM attempt_log WHERE job=?1 AND round=?2 AND attempt=?3 ORDER BY seq"},
      {&blames, "SELECT round,attempt,worker,blame FROM blames WHERE job=?1 ORDER BY seq"},
      {&sites, "SELECT worker,survived FROM round_sites WHERE job=?1 AND round=?2"},
      {&last_attempt,
       "SELECT round,attempt FROM attempts WHERE job=?1 ORDER BY round DESC, attempt DESC LIMIT 1"},
  };
  for (const auto& [statement, sql] : all) {
    ASSIGN_OR_RETURN(*statement, Statement::Prepare(db.get(), sql));
  }
  return OkStatus();
}

Status Journal::Database::Write(const JobRecord& r) {
  return add_job.Bind(1, r.id)
      .BindBlob(2, AsBytes(r.signed_job.file))
      .BindBlob(3, r.signed_job.signature)
      .Bind(4, r.signed_job.submitter_chain)
      .Bind(5, r.submitter.ToString())
      .Bind(6, r.initial_adapter)
      .Bind(7, Ms(r.submitted))
      .Run();
}

Status Journal::Database::Write(const JobPhaseRecord& r) {
  RETURN_IF_ERROR(set_phase.Bind(1, r.id)
                      .Bind(2, int64_t{static_cast<uint8_t>(r.phase)})
                      .Bind(3, int64_t{static_cast<uint8_t>(r.failure)})
                      .Bind(4, r.failure_text)
                      .Run());
  if (sqlite3_changes(db.get()) != 1) return NotFound("journal: no job {}", r.id.brief());
  return OkStatus();
}

Status Journal::Database::Write(const AttemptRecord& r) {
  return add_attempt.Bind(1, r.id.job)
      .Bind(2, int64_t{r.id.round})
      .Bind(3, int64_t{r.id.attempt})
      .Bind(4, Ms(r.offered))
      .Run();
}

Status Journal::Database::Write(const AttemptLogRecord& r) {
  return add_log.Bind(1, r.id.job)
      .Bind(2, int64_t{r.id.round})
      .Bind(3, int64_t{r.id.attempt})
      .BindBlob(4, r.record)
      .Run();
}

Status Journal::Database::Write(const AttemptClosedRecord& r) {
  return drop_log.Bind(1, r.id.job).Bind(2, int64_t{r.id.round}).Bind(3, int64_t{r.id.attempt}).Run();
}

Status Journal::Database::Write(const SurvivorsRecord& r) {
  for (const SpiffeId& worker : r.survivors) {
    RETURN_IF_ERROR(add_survivor.Bind(1, r.id.job)
                        .Bind(2, int64_t{r.id.round})
                        .Bind(3, int64_t{r.id.attempt})
                        .Bind(4, worker.ToString())
                        .Run());
  }
  return OkStatus();
}

Status Journal::Database::Write(const RoundRecord& r) {
  RETURN_IF_ERROR(add_round.Bind(1, r.id.job)
                      .Bind(2, int64_t{r.id.round})
                      .Bind(3, int64_t{r.id.attempt})
                      .Bind(4, r.adapter)
                      .Bind(5, r.parent)
                      .Bind(6, r.sum_sha256)
                      .Bind(7, r.mean_loss)
                      .Bind(8, r.tokens)
                      .Bind(9, r.epsilon_local)
                      .Bind(10, r.epsilon_distributed)
                      .Bind(11, static_cast<int64_t>(r.bytes_up))
                      .Bind(12, static_cast<int64_t>(r.bytes_down))
                      .Bind(13, Ms(r.started))
                      .Bind(14, Ms(r.ended))
                      .Run());
  for (const bool survived : {true, false}) {
    for (const SpiffeId& worker : survived ? r.survivors : r.missing) {
      RETURN_IF_ERROR(add_site.Bind(1, r.id.job)
                          .Bind(2, int64_t{r.id.round})
                          .Bind(3, worker.ToString())
                          .Bind(4, int64_t{survived})
                          .Run());
    }
  }
  return OkStatus();
}

Status Journal::Database::Write(const BlameRecord& r) {
  return add_blame.Bind(1, r.id.job)
      .Bind(2, int64_t{r.id.round})
      .Bind(3, int64_t{r.id.attempt})
      .Bind(4, r.worker.ToString())
      .Bind(5, int64_t{static_cast<uint8_t>(r.blame)})
      .Run();
}

Status Journal::Database::LoadSites(RoundRecord* round) {
  sites.Bind(1, round->id.job).Bind(2, int64_t{round->id.round});
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, sites.Step());
    if (!row) break;
    auto worker = SpiffeId::Parse(sites.Text(0));
    if (!worker.ok()) {
      sites.Reset();
      return DataLoss("journal: round {} names no worker: {}", round->id.round, Message(worker.status()));
    }
    (sites.Integer(1) != 0 ? round->survivors : round->missing).push_back(*worker);
  }
  std::sort(round->survivors.begin(), round->survivors.end());
  std::sort(round->missing.begin(), round->missing.end());
  return OkStatus();
}

StatusOr<std::vector<RoundRecord>> Journal::Database::LoadRounds(const JobRecord& job) {
  std::vector<RoundRecord> out;
  rounds.Bind(1, job.id);
  Digest parent = job.initial_adapter;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, rounds.Step());
    if (!row) break;
    RoundRecord r;
    r.id = {job.id, static_cast<RoundIndex>(rounds.Integer(0)), static_cast<AttemptIndex>(rounds.Integer(1))};
    ASSIGN_OR_RETURN(r.adapter, rounds.Hash(2));
    ASSIGN_OR_RETURN(r.parent, rounds.Hash(3));
    ASSIGN_OR_RETURN(r.sum_sha256, rounds.Hash(4));
    r.mean_loss = rounds.Real(5);
    r.tokens = rounds.Real(6);
    r.epsilon_local = rounds.Real(7);
    r.epsilon_distributed = rounds.Real(8);
    r.bytes_up = static_cast<uint64_t>(rounds.Integer(9));
    r.bytes_down = static_cast<uint64_t>(rounds.Integer(10));
    r.started = FromMs(rounds.Integer(11));
    r.ended = FromMs(rounds.Integer(12));
    if (r.id.round != out.size() || r.parent != parent) {
      rounds.Reset();
      return DataLoss("journal: round {} of job {} does not follow the one before it", r.id.round,
                      job.id.brief());
    }
    parent = r.adapter;
    out.push_back(std::move(r));
  }
  for (RoundRecord& r : out) RETURN_IF_ERROR(LoadSites(&r));
  return out;
}

StatusOr<std::optional<AttemptId>> Journal::Database::LastAttempt(const JobId& job) {
  last_attempt.Bind(1, job);
  ASSIGN_OR_RETURN(const bool row, last_attempt.Step());
  if (!row) return std::optional<AttemptId>();
  const AttemptId id{job, static_cast<RoundIndex>(last_attempt.Integer(0)),
                     static_cast<AttemptIndex>(last_attempt.Integer(1))};
  last_attempt.Reset();
  return std::optional<AttemptId>(id);
}

StatusOr<std::vector<Bytes>> Journal::Database::LoadLog(const AttemptId& id) {
  std::vector<Bytes> out;
  log.Bind(1, id.job).Bind(2, int64_t{id.round}).Bind(3, int64_t{id.attempt});
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, log.Step());
    if (!row) return out;
    out.push_back(log.Blob(0));
  }
}

StatusOr<std::vector<BlameRecord>> Journal::Database::LoadBlames(const JobId& job) {
  std::vector<BlameRecord> out;
  blames.Bind(1, job);
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, blames.Step());
    if (!row) return out;
    auto worker = SpiffeId::Parse(blames.Text(2));
    const int64_t blame = blames.Integer(3);
    if (!worker.ok() || blame < 1 || blame > int64_t{static_cast<uint8_t>(Blame::kLate)}) {
      blames.Reset();
      return DataLoss("journal: job {}: who is left out does not parse", job.brief());
    }
    const AttemptId id{job, static_cast<RoundIndex>(blames.Integer(0)),
                       static_cast<AttemptIndex>(blames.Integer(1))};
    out.push_back({id, *worker, static_cast<Blame>(blame)});
  }
}

Journal::Journal(std::unique_ptr<Database> database) : database_(std::move(database)) {}
Journal::~Journal() = default;

StatusOr<std::unique_ptr<Journal>> Journal::Open(const std::filesystem::path& path) {
  sqlite3* raw = nullptr;
  const int result = sqlite3_open_v2(
      path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  auto database = std::make_unique<Database>();
  database->db.reset(raw);
  if (raw == nullptr) return Internal("journal: SQLite has no memory");
  if (result != SQLITE_OK) return SqliteStatus(raw, path.string());
  sqlite3_extended_result_codes(raw, 1);
  RETURN_IF_ERROR(database->Configure());
  RETURN_IF_ERROR(database->MakeSchema());
  RETURN_IF_ERROR(database->Prepare());
  return std::unique_ptr<Journal>(new Journal(std::move(database)));
}

Status Journal::Apply(std::span<const JournalRecord> records) {
  if (records.empty()) return OkStatus();
  sqlite3* db = database_->db.get();
  RETURN_IF_ERROR(Execute(db, "BEGIN IMMEDIATE"));
  Status status = OkStatus();
  for (const JournalRecord& record : records) {
    status = std::visit([&](const auto& r) { return database_->Write(r); }, record);
    if (!status.ok()) break;
  }
  if (status.ok()) status = Execute(db, "COMMIT");
  // SQLite has rolled back by itself after some errors; then there is no transaction left.
  if (!status.ok() && sqlite3_get_autocommit(db) == 0) {
    sqlite3_exec(db, "ROLLBACK", nullptr, nullptr, nullptr);
  }
  return status;
}

StatusOr<std::vector<StoredJob>> Journal::Load() {
  std::vector<StoredJob> out;
  Statement& jobs = database_->jobs;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, jobs.Step());
    if (!row) break;
    StoredJob stored;
    JobRecord& job = stored.job;
    ASSIGN_OR_RETURN(job.id, jobs.Hash(0));
    job.signed_job.file = ToStringBytes(jobs.Blob(1));
    const Bytes signature = jobs.Blob(2);
    job.signed_job.submitter_chain = jobs.Text(3);
    auto submitter = SpiffeId::Parse(jobs.Text(4));
    ASSIGN_OR_RETURN(job.initial_adapter, jobs.Hash(5));
    job.submitted = FromMs(jobs.Integer(6));
    const int64_t phase = jobs.Integer(7);
    if (signature.size() != job.signed_job.signature.size() || !submitter.ok() || phase < 1 || phase > 5) {
      jobs.Reset();
      return DataLoss("journal: job {} does not parse", job.id.brief());
    }
    std::copy(signature.begin(), signature.end(), job.signed_job.signature.begin());
    job.submitter = *submitter;
    stored.phase = {job.id, static_cast<JobPhase>(phase), static_cast<AbortReason>(jobs.Integer(8)),
                    jobs.Text(9)};
    out.push_back(std::move(stored));
  }
  for (StoredJob& stored : out) {
    ASSIGN_OR_RETURN(stored.rounds, database_->LoadRounds(stored.job));
    ASSIGN_OR_RETURN(stored.blames, database_->LoadBlames(stored.job.id));
    ASSIGN_OR_RETURN(stored.last_attempt, database_->LastAttempt(stored.job.id));
    if (!stored.last_attempt) continue;
    ASSIGN_OR_RETURN(stored.log, database_->LoadLog(*stored.last_attempt));
  }
  return out;
}

}  // namespace concordat::coordinator
