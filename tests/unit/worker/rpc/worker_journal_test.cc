#include "worker/rpc/worker_journal.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "privacy/crypto/hash.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::worker {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

AttemptId Attempt(uint32_t round, uint32_t attempt) {
  return {crypto::Sha256(AsBytes("job")), round, attempt};
}

std::vector<Record> Sample() {
  const JobId job = crypto::Sha256(AsBytes("job"));
  return {AttemptEntered{Attempt(1, 2)},
          InputBegun{Attempt(1, 2)},
          AdapterVerified{job, 2, crypto::Sha256(AsBytes("adapter"))},
          DecisionTaken{job, Decision::kPause},
          JobHalted{job},
          StepTaken{Attempt(1, 2), 6, crypto::Sha256(AsBytes("state"))},
          AttemptLeft{Attempt(1, 2)}};
}

TEST(WorkerJournalTest, WhatWasAppendedIsThereAfterARestart) {
  const TempDir folder;
  const auto path = folder / "journal.bin";
  {
    ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path));
    EXPECT_TRUE(journal->records().empty());
    ASSERT_OK(journal->Append(Sample()));
    ASSERT_OK(journal->Append(std::vector<Record>{AttemptEntered{Attempt(3, 0)}}));
  }
  ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path));
  ASSERT_EQ(journal->records().size(), 8u);
  EXPECT_EQ(std::get<AttemptEntered>(journal->records()[0]).id, Attempt(1, 2));
  EXPECT_EQ(std::get<InputBegun>(journal->records()[1]).id, Attempt(1, 2));
  EXPECT_EQ(std::get<AdapterVerified>(journal->records()[2]).round, 2u);
  EXPECT_EQ(std::get<DecisionTaken>(journal->records()[3]).decision, Decision::kPause);
  EXPECT_TRUE(std::holds_alternative<JobHalted>(journal->records()[4]));
  EXPECT_EQ(std::get<StepTaken>(journal->records()[5]).phase, 6u);
  EXPECT_EQ(std::get<StepTaken>(journal->records()[5]).state, crypto::Sha256(AsBytes("state")));
  EXPECT_EQ(std::get<AttemptLeft>(journal->records()[6]).id, Attempt(1, 2));
  EXPECT_EQ(std::get<AttemptEntered>(journal->records()[7]).id, Attempt(3, 0));
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(WorkerJournalTest, ARecordCutOffAtTheEndIsRemovedAndTheNextOneFits) {
  const TempDir folder;
  const auto path = folder / "journal.bin";
  {
    ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path));
    ASSERT_OK(journal->Append(Sample()));
  }
  const auto whole = std::filesystem::file_size(path);
  for (uintmax_t cut = 1; cut < 20; ++cut) {
    std::filesystem::resize_file(path, whole - cut);
    ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path));
    EXPECT_EQ(journal->records().size(), 6u);
    ASSERT_OK(journal->Append(std::vector<Record>{Sample().back()}));
    EXPECT_EQ(std::filesystem::file_size(path), whole);
  }
  ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path));
  EXPECT_EQ(journal->records().size(), 7u);
}

TEST(WorkerJournalTest, AnyChangedByteBeforeTheEndIsFound) {
  const TempDir folder;
  const auto path = folder / "journal.bin";
  {
    ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path));
    ASSERT_OK(journal->Append(Sample()));
  }
  ASSERT_OK_AND_ASSIGN(const Bytes good, ReadFile(path));
  size_t lost = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= 0x04;
    ASSERT_OK(WriteFileAtomically(path, ByteView(bad), 0600));
    const auto journal = WorkerJournal::Open(path);
    if (!journal.ok()) {
      EXPECT_THAT(journal.status(), HasStatus(StatusCode::kDataLoss, "journal.bin"));
      continue;
    }
    // A longer length near the end looks like a record that was cut off: then it is gone, never misread.
    EXPECT_LT((*journal)->records().size(), 7u) << "byte " << i;
    ++lost;
  }
  EXPECT_LT(lost, 12u);
}

TEST(WorkerJournalTest, AFileThatIsNoJournalIsRefused) {
  const TempDir folder;
  ASSERT_OK(WriteFileAtomically(folder / "journal.bin", std::string_view("something else entirely")));
  EXPECT_THAT(WorkerJournal::Open(folder / "journal.bin"), HasStatus(StatusCode::kDataLoss, "no journal"));
}

TEST(WorkerJournalTest, AFullDiskIsSaidAndNothingIsHalfWritten) {
  // A limit on the size of files stands for the end of the disk.
  const TempDir folder;
  const auto path = folder / "journal.bin";
  ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path));
  ASSERT_OK(journal->Append(std::vector<Record>{Sample()[0]}));
  const auto before = std::filesystem::file_size(path);
  const rlimit none{before, RLIM_INFINITY};
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
  const Status full = journal->Append(Sample());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_FALSE(full.ok());
  EXPECT_EQ(std::filesystem::file_size(path), before);
  EXPECT_OK(journal->Append(std::vector<Record>{Sample()[1]}));
}

}  // namespace
}  // namespace concordat::worker
