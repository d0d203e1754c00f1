#include "coordinator/journal/journal.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <fstream>

#include "privacy/crypto/hash.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::coordinator {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

Digest H(std::string_view text) { return crypto::Sha256(AsBytes(text)); }
SpiffeId Worker(std::string_view jurisdiction) { return *SpiffeId::Make(jurisdiction, Role::kWorker, "w1"); }

JobRecord SomeJob(std::string_view name = "job") {
  JobRecord r;
  r.id = H(name);
  r.signed_job.file = std::string("name: ") + std::string(name) + '\0' + "\xff";  // bytes, not text
  r.signed_job.signature[3] = 7;
  r.signed_job.submitter_chain = "chain";
  r.submitter = *SpiffeId::Make("de", Role::kOperator, "anna");
  r.initial_adapter = H("initial");
  r.submitted = Instant(Millis(1'790'000'000'123));
  return r;
}

RoundRecord SomeRound(const JobRecord& job, RoundIndex round, Digest parent) {
  RoundRecord r;
  r.id = {job.id, round, 1};
  r.survivors = {Worker("de"), Worker("fr")};
  r.missing = {Worker("es")};
  r.adapter = H(fmt::format("adapter {}", round));
  r.parent = parent;
  r.sum_sha256 = H("sum");
  r.mean_loss = 2.5;
  r.tokens = 1000;
  r.epsilon_local = INFINITY;
  r.epsilon_distributed = 3.25;
  r.bytes_up = uint64_t{1} << 40;
  r.bytes_down = 7;
  r.started = Instant(Millis(5));
  r.ended = Instant(Millis(9));
  return r;
}

std::unique_ptr<Journal> OpenOrDie(const std::filesystem::path& path) {
  auto journal = Journal::Open(path);
  EXPECT_TRUE(journal.ok()) << journal.status().ToString();
  return std::move(journal).value();
}

TEST(JournalTest, GivesBackWhatWasWrittenAfterAnotherStart) {
  const TempDir dir;
  const JobRecord job = SomeJob();
  const RoundRecord round = SomeRound(job, 0, job.initial_adapter);
  {
    auto journal = OpenOrDie(dir / "journal");
    const std::vector<JournalRecord> records = {
        job,
        AttemptRecord{{job.id, 0, 0}, Instant(Millis(1))},
        AttemptRecord{{job.id, 0, 1}, Instant(Millis(2))},
        SurvivorsRecord{{job.id, 0, 1}, round.survivors},
        round,
        AttemptRecord{{job.id, 1, 0}, Instant(Millis(3))},
        JobPhaseRecord{job.id, JobPhase::kFailed, AbortReason::kAttemptsSpent, "because"},
    };
    ASSERT_OK(journal->Apply(records));
  }
  auto journal = OpenOrDie(dir / "journal");
  ASSERT_OK_AND_ASSIGN(const auto jobs, journal->Load());
  ASSERT_EQ(jobs.size(), 1u);
  const StoredJob& stored = jobs[0];
  EXPECT_EQ(stored.job.id, job.id);
  EXPECT_EQ(stored.job.signed_job.file, job.signed_job.file);
  EXPECT_EQ(stored.job.signed_job.signature, job.signed_job.signature);
  EXPECT_EQ(stored.job.signed_job.submitter_chain, "chain");
  EXPECT_EQ(stored.job.submitter, job.submitter);
  EXPECT_EQ(stored.job.submitted, job.submitted);
  EXPECT_EQ(stored.phase.phase, JobPhase::kFailed);
  EXPECT_EQ(stored.phase.failure, AbortReason::kAttemptsSpent);
  EXPECT_EQ(stored.phase.failure_text, "because");
  ASSERT_EQ(stored.rounds.size(), 1u);
  const RoundRecord& r = stored.rounds[0];
  EXPECT_EQ(r.id, round.id);
  EXPECT_EQ(r.survivors, round.survivors);
  EXPECT_EQ(r.missing, round.missing);
  EXPECT_EQ(r.adapter, round.adapter);
  EXPECT_EQ(r.sum_sha256, round.sum_sha256);
  EXPECT_EQ(r.mean_loss, 2.5);
  EXPECT_TRUE(std::isinf(r.epsilon_local));
  EXPECT_EQ(r.bytes_up, uint64_t{1} << 40);
  EXPECT_EQ(r.ended, round.ended);
  ASSERT_TRUE(stored.last_attempt);
  EXPECT_EQ(*stored.last_attempt, (AttemptId{job.id, 1, 0}));
}

TEST(JournalTest, TheLogOfTheLastAttemptIsThereInOrderUntilTheAttemptIsClosed) {
  const TempDir dir;
  const JobRecord job = SomeJob();
  const AttemptId first{job.id, 0, 0}, second{job.id, 0, 1};
  const auto log = [&](const AttemptId& id, std::string_view text) {
    return AttemptLogRecord{id, ToBytes(AsBytes(text))};
  };
  const auto loaded = [&] { return OpenOrDie(dir / "journal")->Load().value().at(0).log; };
  ASSERT_OK(OpenOrDie(dir / "journal")
                ->Apply(std::vector<JournalRecord>{
                    job, AttemptRecord{first, Instant()}, log(first, "a"), AttemptClosedRecord{first},
                    AttemptRecord{second, Instant()}, log(second, "b"), log(second, "c")}));
  EXPECT_EQ(loaded(), (std::vector<Bytes>{ToBytes(AsBytes("b")), ToBytes(AsBytes("c"))}));
  ASSERT_OK(OpenOrDie(dir / "journal")->Apply(std::vector<JournalRecord>{AttemptClosedRecord{second}}));
  EXPECT_TRUE(loaded().empty());
}

TEST(JournalTest, AFileOfTheFirstVersionIsTakenOver) {
  const TempDir dir;
  ASSERT_OK(OpenOrDie(dir / "journal")->Apply(std::vector<JournalRecord>{SomeJob()}));
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir / "journal").c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "DROP TABLE attempt_log; DROP TABLE blames; PRAGMA user_version=1", nullptr,
                         nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(db);
  const auto jobs = OpenOrDie(dir / "journal")->Load();
  ASSERT_OK(jobs);
  EXPECT_EQ(jobs->at(0).job.id, SomeJob().id);
  const AttemptId id{SomeJob().id, 0, 0};
  EXPECT_OK(OpenOrDie(dir / "journal")
                ->Apply(std::vector<JournalRecord>{AttemptRecord{id, Instant()}, AttemptLogRecord{id, {1}}}));
}

TEST(JournalTest, AFileOfTheSecondVersionIsTakenOver) {
  const TempDir dir;
  ASSERT_OK(OpenOrDie(dir / "journal")->Apply(std::vector<JournalRecord>{SomeJob()}));
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir / "journal").c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "DROP TABLE blames; PRAGMA user_version=2", nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(db);
  const auto jobs = OpenOrDie(dir / "journal")->Load();
  ASSERT_OK(jobs);
  EXPECT_TRUE(jobs->at(0).blames.empty());
}

TEST(JournalTest, GivesBackWhoIsLeftOutOfTheRoundThatIsNotFinished) {
  const TempDir dir;
  const JobRecord job = SomeJob();
  const AttemptId first{job.id, 0, 0}, second{job.id, 0, 1}, third{job.id, 1, 0};
  const auto blames = [&] { return OpenOrDie(dir / "journal")->Load().value().at(0).blames; };
  ASSERT_OK(OpenOrDie(dir / "journal")
                ->Apply(std::vector<JournalRecord>{job, AttemptRecord{first, {}},
                                                   BlameRecord{first, Worker("es"), Blame::kExcluded},
                                                   BlameRecord{first, Worker("de"), Blame::kAccuser}}));
  ASSERT_EQ(blames().size(), 2u);
  EXPECT_EQ(blames()[0].worker, Worker("es"));
  EXPECT_EQ(blames()[0].blame, Blame::kExcluded);
  EXPECT_EQ(blames()[0].id, first);
  EXPECT_EQ(blames()[1].worker, Worker("de"));
  EXPECT_EQ(blames()[1].blame, Blame::kAccuser);
  ASSERT_OK(OpenOrDie(dir / "journal")
                ->Apply(std::vector<JournalRecord>{AttemptRecord{second, {}},
                                                   SomeRound(job, 0, job.initial_adapter)}));
  EXPECT_EQ(blames().size(), 2u) << "complaints are remembered for the whole job";
  EXPECT_FALSE(OpenOrDie(dir / "journal")
                   ->Apply(std::vector<JournalRecord>{BlameRecord{third, Worker("es"), Blame::kExcluded}})
                   .ok())
      << "an attempt that was never offered";
}

TEST(JournalTest, GivesBackEveryKindOfBlame) {
  const TempDir dir;
  const JobRecord job = SomeJob();
  const AttemptId first{job.id, 0, 0};
  std::vector<JournalRecord> records{job, AttemptRecord{first, {}}};
  const std::vector<Blame> kinds{Blame::kExcluded, Blame::kAccuser, Blame::kLeftOut, Blame::kSilent,
                                 Blame::kLate};
  for (const Blame kind : kinds) records.push_back(BlameRecord{first, Worker("es"), kind});
  ASSERT_OK(OpenOrDie(dir / "journal")->Apply(records));
  const auto loaded = OpenOrDie(dir / "journal")->Load();
  ASSERT_OK(loaded.status());
  std::vector<Blame> back;
  for (const BlameRecord& blame : loaded->at(0).blames) back.push_back(blame.blame);
  EXPECT_EQ(back, kinds);
}

TEST(JournalTest, RefusesABlameThatDoesNotParse) {
  const TempDir dir;
  const AttemptId first{SomeJob().id, 0, 0};
  ASSERT_OK(OpenOrDie(dir / "journal")
                ->Apply(std::vector<JournalRecord>{SomeJob(), AttemptRecord{first, {}},
                                                   BlameRecord{first, Worker("es"), Blame::kExcluded}}));
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir / "journal").c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "UPDATE blames SET blame=9", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  EXPECT_THAT(OpenOrDie(dir / "journal")->Load(), HasStatus(StatusCode::kDataLoss, "left out"));
}

TEST(JournalTest, KeepsANaNAsNaN) {
  const TempDir dir;
  auto journal = OpenOrDie(dir / "journal");
  const JobRecord job = SomeJob();
  RoundRecord round = SomeRound(job, 0, job.initial_adapter);
  round.mean_loss = NAN;
  const std::vector<JournalRecord> records = {job, AttemptRecord{round.id, {}}, round};
  ASSERT_OK(journal->Apply(records));
  ASSERT_OK_AND_ASSIGN(const auto jobs, journal->Load());
  EXPECT_TRUE(std::isnan(jobs[0].rounds[0].mean_loss));
}

TEST(JournalTest, WritesAllRecordsOfACallOrNone) {
  const TempDir dir;
  auto journal = OpenOrDie(dir / "journal");
  const JobRecord job = SomeJob();
  // The second record names an attempt that was never offered.
  const std::vector<JournalRecord> records = {job, SurvivorsRecord{{job.id, 0, 5}, {Worker("de")}}};
  EXPECT_FALSE(journal->Apply(records).ok());
  ASSERT_OK_AND_ASSIGN(const auto jobs, journal->Load());
  EXPECT_TRUE(jobs.empty());
  ASSERT_OK(journal->Apply(std::vector<JournalRecord>{job}));
}

TEST(JournalTest, RefusesTheSameAttemptTwice) {
  const TempDir dir;
  auto journal = OpenOrDie(dir / "journal");
  const JobRecord job = SomeJob();
  const AttemptRecord attempt{{job.id, 0, 0}, {}};
  ASSERT_OK(journal->Apply(std::vector<JournalRecord>{job, attempt}));
  EXPECT_THAT(journal->Apply(std::vector<JournalRecord>{attempt}), HasStatus(StatusCode::kAlreadyExists, ""));
}

TEST(JournalTest, RefusesARoundThatDoesNotFollowTheOneBefore) {
  const TempDir dir;
  auto journal = OpenOrDie(dir / "journal");
  const JobRecord job = SomeJob();
  const RoundRecord round = SomeRound(job, 0, H("another parent"));
  ASSERT_OK(journal->Apply(std::vector<JournalRecord>{job, AttemptRecord{round.id, {}}, round}));
  EXPECT_THAT(journal->Load(), HasStatus(StatusCode::kDataLoss, "does not follow"));
}

TEST(JournalTest, RefusesAFileOfAnotherSchemaVersionNamingBoth) {
  const TempDir dir;
  OpenOrDie(dir / "journal").reset();
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir / "journal").c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "PRAGMA user_version=7", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  EXPECT_THAT(Journal::Open(dir / "journal"),
              HasStatus(StatusCode::kFailedPrecondition, "expected schema version 3, the file has 7"));
}

TEST(JournalTest, RefusesAFileThatIsNoJournal) {
  const TempDir dir;
  std::ofstream(dir / "journal") << std::string(8192, 'x');
  EXPECT_THAT(Journal::Open(dir / "journal"), HasStatus(StatusCode::kDataLoss, ""));
}

TEST(JournalTest, RefusesADamagedFile) {
  const TempDir dir;
  {
    auto journal = OpenOrDie(dir / "journal");
    for (int i = 0; i < 50; ++i) {
      ASSERT_OK(journal->Apply(std::vector<JournalRecord>{SomeJob(fmt::format("job {}", i))}));
    }
  }
  {
    std::fstream file(dir / "journal", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096);  // from the second page on: tables
    file << std::string(12'000, '\x5a');
  }
  auto journal = Journal::Open(dir / "journal");
  if (journal.ok()) {
    EXPECT_THAT((*journal)->Load(), HasStatus(StatusCode::kDataLoss, ""));
  } else {
    EXPECT_THAT(journal, HasStatus(StatusCode::kDataLoss, ""));
  }
}

TEST(JournalTest, IsOpenedByOneProcessAtATime) {
  const TempDir dir;
  auto journal = OpenOrDie(dir / "journal");
  ASSERT_OK(journal->Apply(std::vector<JournalRecord>{SomeJob()}));
  EXPECT_THAT(Journal::Open(dir / "journal"), HasStatus(StatusCode::kFailedPrecondition, "another process"));
}

// Runs `child` in a process of its own, which must not return.
int RunChild(const std::function<void()>& child) {
  const pid_t pid = fork();
  if (pid == 0) {
    child();
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

TEST(JournalTest, KilledBetweenTransactionsLosesNothingThatWasWritten) {
  const TempDir dir;
  const int status = RunChild([&] {
    auto journal = Journal::Open(dir / "journal");
    for (uint32_t i = 0; journal.ok() && i < 20; ++i) {
      if (!(*journal)->Apply(std::vector<JournalRecord>{SomeJob(fmt::format("job {}", i))}).ok()) _exit(1);
    }
    kill(getpid(), SIGKILL);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  auto journal = OpenOrDie(dir / "journal");
  ASSERT_OK_AND_ASSIGN(const auto jobs, journal->Load());
  EXPECT_EQ(jobs.size(), 20u);
}

TEST(JournalTest, ALogCutOffInTheMiddleOfATransactionLosesThatTransactionOnly) {
  const TempDir dir;
  RunChild([&] {
    auto journal = Journal::Open(dir / "journal");
    for (uint32_t i = 0; journal.ok() && i < 5; ++i) {
      (void)(*journal)->Apply(std::vector<JournalRecord>{SomeJob(fmt::format("job {}", i))});
    }
    kill(getpid(), SIGKILL);
  });
  const auto wal = dir / "journal-wal";
  ASSERT_TRUE(std::filesystem::exists(wal));
  std::filesystem::resize_file(wal, std::filesystem::file_size(wal) - 100);
  auto journal = OpenOrDie(dir / "journal");
  ASSERT_OK_AND_ASSIGN(const auto jobs, journal->Load());
  EXPECT_EQ(jobs.size(), 4u);
}

TEST(JournalTest, AFullDiskIsResourceExhaustedAndTheSameCallWorksLater) {
  const TempDir dir;
  const int status = RunChild([&] {
    signal(SIGXFSZ, SIG_IGN);
    auto journal = Journal::Open(dir / "journal");
    if (!journal.ok()) _exit(1);
    JobRecord big = SomeJob("big");
    big.signed_job.file = std::string(200'000, 'j');
    if (!(*journal)->Apply(std::vector<JournalRecord>{SomeJob("small")}).ok()) _exit(2);
    rlimit limit{};
    getrlimit(RLIMIT_FSIZE, &limit);
    const rlimit tight{100'000, limit.rlim_max};
    setrlimit(RLIMIT_FSIZE, &tight);
    const Status full = (*journal)->Apply(std::vector<JournalRecord>{big});
    if (full.code() != StatusCode::kResourceExhausted) {
      fprintf(stderr, "%s\n", full.ToString().c_str());
      _exit(3);
    }
    const auto before = (*journal)->Load();
    if (!before.ok() || before->size() != 1) _exit(4);
    setrlimit(RLIMIT_FSIZE, &limit);
    if (!(*journal)->Apply(std::vector<JournalRecord>{big}).ok()) _exit(5);
    const auto after = (*journal)->Load();
    _exit(after.ok() && after->size() == 2 ? 0 : 6);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace concordat::coordinator
