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
  ResultSaid said;
  said.message.body = {Attempt(1, 2),
                       crypto::Sha256(AsBytes("t2")),
                       {1, 2, 4},
                       crypto::Sha256(AsBytes("sum")),
                       crypto::Sha256(AsBytes("adapter"))};
  said.message.signature[63] = 9;
  LedgerWitness countersigned{Attempt(1, 2), crypto::Sha256(AsBytes("bundle")), {}, {}};
  for (SiteIndex site : {1, 2, 4}) countersigned.signatures.emplace_back(site, said.message.signature);
  countersigned.mark = {"manuals", 3, 0, crypto::Sha256(AsBytes("head")), 2.5, {}};
  LedgerCharge charge;
  EXPECT_OK(charge.price.Add({1, 1, 4, 1, 1, 3}));
  policy::AddToTotals(countersigned.mark.totals, charge);
  return {AttemptEntered{Attempt(1, 2)},
          InputBegun{Attempt(1, 2)},
          AdapterVerified{job, 2, crypto::Sha256(AsBytes("adapter"))},
          DecisionTaken{job, Decision::kPause},
          JobHalted{job},
          StepTaken{Attempt(1, 2), 6, crypto::Sha256(AsBytes("state"))},
          said,
          countersigned,
          AttemptLeft{Attempt(1, 2)}};
}

TEST(WorkerJournalTest, WhatWasAppendedIsThereAfterARestart) {
  const TempDir folder;
  const auto path = folder / "journal.bin";
  {
    ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path, folder / "anchor"));
    EXPECT_TRUE(journal->records().empty());
    ASSERT_OK(journal->Append(Sample()));
    ASSERT_OK(journal->Append(std::vector<Record>{AttemptEntered{Attempt(3, 0)}}));
  }
  ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path, folder / "anchor"));
  ASSERT_EQ(journal->records().size(), Sample().size() + 1);
  EXPECT_EQ(std::get<AttemptEntered>(journal->records()[0]).id, Attempt(1, 2));
  EXPECT_EQ(std::get<InputBegun>(journal->records()[1]).id, Attempt(1, 2));
  EXPECT_EQ(std::get<AdapterVerified>(journal->records()[2]).round, 2u);
  EXPECT_EQ(std::get<DecisionTaken>(journal->records()[3]).decision, Decision::kPause);
  EXPECT_TRUE(std::holds_alternative<JobHalted>(journal->records()[4]));
  EXPECT_EQ(std::get<StepTaken>(journal->records()[5]).phase, 6u);
  EXPECT_EQ(std::get<StepTaken>(journal->records()[5]).state, crypto::Sha256(AsBytes("state")));
  const ResultSaid said = std::get<ResultSaid>(journal->records()[6]),
                   sample = std::get<ResultSaid>(Sample()[6]);
  EXPECT_EQ(secagg::Canonical(said.message.body), secagg::Canonical(sample.message.body));
  EXPECT_EQ(said.message.signature, sample.message.signature);
  const auto& countersigned = std::get<LedgerWitness>(journal->records()[7]);
  EXPECT_EQ(countersigned.bundle, crypto::Sha256(AsBytes("bundle")));
  EXPECT_EQ(countersigned.signatures, std::get<LedgerWitness>(Sample()[7]).signatures);
  EXPECT_EQ(countersigned.mark.dataset, "manuals");
  EXPECT_EQ(countersigned.mark.count, 3u);
  EXPECT_EQ(countersigned.mark.head, crypto::Sha256(AsBytes("head")));
  EXPECT_EQ(countersigned.mark.totals.at(0).price.curve().terms().at(0), (RdpTerm{1, 1, 4, 1, 1, 3}));
  EXPECT_EQ(std::get<AttemptLeft>(journal->records()[8]).id, Attempt(1, 2));
  EXPECT_EQ(std::get<AttemptEntered>(journal->records()[9]).id, Attempt(3, 0));
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(WorkerJournalTest, ARecordCutOffAtTheEndIsRemovedAndTheNextOneFits) {
  const TempDir folder;
  const auto path = folder / "journal.bin";
  const std::vector<Record> last{Sample().back()};
  std::vector<Record> before = Sample();
  before.pop_back();
  Bytes anchor;  // as it is while the last record is being written
  {
    ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path, folder / "anchor"));
    ASSERT_OK(journal->Append(before));
    anchor = *ReadFile(folder / "anchor");
    ASSERT_OK(journal->Append(last));
  }
  const auto whole = std::filesystem::file_size(path);
  for (uintmax_t cut = 1; cut < 20; ++cut) {
    std::filesystem::resize_file(path, whole - cut);
    ASSERT_OK(WriteFileAtomically(folder / "anchor", ByteView(anchor), 0600));
    ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path, folder / "anchor"));
    EXPECT_EQ(journal->records().size(), Sample().size() - 1);
    ASSERT_OK(journal->Append(last));
    EXPECT_EQ(std::filesystem::file_size(path), whole);
  }
  ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path, folder / "anchor"));
  EXPECT_EQ(journal->records().size(), Sample().size());
}

TEST(WorkerJournalTest, AnyChangedByteIsFound) {
  const TempDir folder;
  const auto path = folder / "journal.bin";
  {
    ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path, folder / "anchor"));
    ASSERT_OK(journal->Append(Sample()));
  }
  ASSERT_OK_AND_ASSIGN(const Bytes good, ReadFile(path));
  for (size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= 0x04;
    ASSERT_OK(WriteFileAtomically(path, ByteView(bad), 0600));
    // A longer length near the end looks like a record that was cut off: the anchor knows better.
    const Status status = WorkerJournal::Open(path, folder / "anchor").status();
    EXPECT_TRUE(status.code() == StatusCode::kDataLoss || status.code() == StatusCode::kFailedPrecondition)
        << "byte " << i << ": " << status;
    EXPECT_NE(Message(status).find("journal.bin"), std::string_view::npos) << "byte " << i;
  }
}

TEST(WorkerJournalTest, AJournalThatWasPutBackFromACopyIsRefusedUntilThatIsAccepted) {
  const TempDir folder;
  const auto path = folder / "journal.bin", anchor = folder / "anchor";
  ASSERT_OK(WorkerJournal::Open(path, anchor).value()->Append(Sample()));
  const Bytes copy = *ReadFile(path);
  ASSERT_OK(WorkerJournal::Open(path, anchor).value()->Append(Sample()));
  const Bytes newest = *ReadFile(path);
  const auto refused = HasStatus(StatusCode::kFailedPrecondition, "--accept-rollback");
  // Shorter, gone, or as long and different.
  ASSERT_OK(WriteFileAtomically(path, ByteView(copy), 0600));
  EXPECT_THAT(WorkerJournal::Open(path, anchor).status(), refused);
  std::filesystem::remove(path);
  EXPECT_THAT(WorkerJournal::Open(path, anchor).status(), refused);
  std::filesystem::remove(path);
  const auto elsewhere = folder / "other-anchor";
  for (int i = 0; i < 3; ++i)
    ASSERT_OK(WorkerJournal::Open(path, elsewhere)
                  .value()
                  ->Append(std::vector<Record>(Sample().size(), AttemptEntered{Attempt(9, 9)})));
  EXPECT_THAT(WorkerJournal::Open(path, anchor).status(), refused);
  // The newest is taken as it is; so is one that is ahead of its anchor, by a crash between the two.
  ASSERT_OK(WriteFileAtomically(path, ByteView(newest), 0600));
  EXPECT_FALSE(WorkerJournal::Open(path, anchor).value()->rolled_back());
  ASSERT_OK(WorkerJournal::Open(path, elsewhere, true).value()->Append(Sample()));
  EXPECT_OK(WorkerJournal::Open(path, anchor));

  ASSERT_OK(WriteFileAtomically(path, ByteView(copy), 0600));
  {
    const auto journal = WorkerJournal::Open(path, anchor, true);
    ASSERT_OK(journal);
    EXPECT_TRUE((*journal)->rolled_back());
    ASSERT_OK((*journal)->Append(Sample()));
  }
  EXPECT_FALSE(WorkerJournal::Open(path, anchor).value()->rolled_back());
}

TEST(WorkerJournalTest, AJournalWithRecordsAndWithoutItsAnchorIsRefusedUntilThatIsAccepted) {
  const TempDir folder;
  const auto path = folder / "journal.bin", anchor = folder / "anchor";
  ASSERT_OK(WorkerJournal::Open(path, anchor));
  EXPECT_TRUE(std::filesystem::exists(anchor)) << "it is there before the first record";
  std::filesystem::remove(anchor);  // nothing was recorded: nothing can have been forgotten
  ASSERT_OK(WorkerJournal::Open(path, anchor).value()->Append(Sample()));
  std::filesystem::remove(anchor);
  EXPECT_THAT(WorkerJournal::Open(path, anchor).status(),
              HasStatus(StatusCode::kFailedPrecondition, "--accept-rollback"));
  EXPECT_FALSE(std::filesystem::exists(anchor)) << "asking twice changes nothing";
  EXPECT_TRUE(WorkerJournal::Open(path, anchor, true).value()->rolled_back());
  EXPECT_FALSE(WorkerJournal::Open(path, anchor).value()->rolled_back());
}

TEST(WorkerJournalTest, KilledBetweenTheFirstRecordAndItsAnchorItOpensAsUsual) {
  const TempDir folder;
  const auto path = folder / "journal.bin", anchor = folder / "anchor";
  ASSERT_OK(WorkerJournal::Open(path, anchor));
  const Bytes before = *ReadFile(anchor);
  ASSERT_OK(WorkerJournal::Open(path, anchor).value()->Append(Sample()));
  ASSERT_OK(WriteFileAtomically(anchor, ByteView(before), 0600));
  const auto journal = WorkerJournal::Open(path, anchor);
  ASSERT_OK(journal);
  EXPECT_FALSE((*journal)->rolled_back());
  EXPECT_EQ((*journal)->records().size(), Sample().size());
}

TEST(WorkerJournalTest, AFileThatIsNoJournalIsRefused) {
  const TempDir folder;
  ASSERT_OK(WriteFileAtomically(folder / "journal.bin", std::string_view("something else entirely")));
  EXPECT_THAT(WorkerJournal::Open(folder / "journal.bin", folder / "anchor"),
              HasStatus(StatusCode::kDataLoss, "no journal"));
}

TEST(WorkerJournalTest, AFullDiskIsSaidAndNothingIsHalfWritten) {
  // A limit on the size of files stands for the end of the disk.
  const TempDir folder;
  const auto path = folder / "journal.bin";
  ASSERT_OK_AND_ASSIGN(auto journal, WorkerJournal::Open(path, folder / "anchor"));
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
