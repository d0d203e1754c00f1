#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <numeric>
#include <random>

#include "coordinator/journal/blob_store.h"
#include "coordinator/journal/spool.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::coordinator {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

Bytes Pattern(size_t n) {
  Bytes out(n);
  std::iota(out.begin(), out.end(), uint8_t{0});
  return out;
}

TEST(BlobStoreTest, GivesBackABlobUnderItsHash) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(BlobStore store, BlobStore::Open(dir / "blobs"));
  const Bytes content = Pattern(100'000);
  ASSERT_OK_AND_ASSIGN(const Digest name, store.Put(content));
  EXPECT_EQ(name, crypto::Sha256(content));
  ASSERT_OK_AND_ASSIGN(const auto file, store.Get(name));
  EXPECT_EQ(ToBytes(file->view()), content);
  EXPECT_TRUE(std::filesystem::exists(dir / "blobs" / name.hex().substr(0, 2) / name.hex()));
}

TEST(BlobStoreTest, AnUnknownNameIsNotFound) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(BlobStore store, BlobStore::Open(dir / "blobs"));
  EXPECT_THAT(store.Get(Digest{}), HasStatus(StatusCode::kNotFound, ""));
}

TEST(BlobStoreTest, ADamagedFileIsDataLossAndPutRepairsIt) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(BlobStore store, BlobStore::Open(dir / "blobs"));
  const Bytes content = Pattern(5000);
  ASSERT_OK_AND_ASSIGN(const Digest name, store.Put(content));
  const auto path = dir / "blobs" / name.hex().substr(0, 2) / name.hex();
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(2500);
    file.put('\x7f');
  }
  EXPECT_THAT(store.Get(name), HasStatus(StatusCode::kDataLoss, "the file's hash is"));
  ASSERT_OK(store.Put(content));
  EXPECT_OK(store.Get(name));
}

TEST(BlobStoreTest, ATruncatedFileIsDataLoss) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(BlobStore store, BlobStore::Open(dir / "blobs"));
  ASSERT_OK_AND_ASSIGN(const Digest name, store.Put(Pattern(5000)));
  std::filesystem::resize_file(dir / "blobs" / name.hex().substr(0, 2) / name.hex(), 0);
  EXPECT_THAT(store.Get(name), HasStatus(StatusCode::kDataLoss, ""));
}

TEST(SpoolTest, TakesChunksInOrderAndKnowsTheirDigest) {
  const TempDir dir;
  const Bytes all = Pattern(3000);
  ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", all.size()));
  EXPECT_THAT(spool->Complete(), HasStatus(StatusCode::kFailedPrecondition, "expected 3000 bytes of upload"));
  for (size_t at = 0; at < all.size(); at += 1000) {
    EXPECT_THAT(*spool->Append(at, ByteView(all).subspan(at, 1000)), at + 1000);
  }
  ASSERT_OK_AND_ASSIGN(const Digest digest, spool->Complete());
  EXPECT_EQ(digest, crypto::Sha256(all));
  Bytes part(500);
  ASSERT_OK(spool->Read(1200, part));
  EXPECT_EQ(part, Bytes(all.begin() + 1200, all.begin() + 1700));
}

TEST(SpoolTest, AChunkSentAgainChangesNothing) {
  const TempDir dir;
  const Bytes all = Pattern(2000);
  ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", all.size()));
  ASSERT_OK(spool->Append(0, ByteView(all).first(1000)));
  EXPECT_EQ(*spool->Append(0, Bytes(1000, 9)), 1000u);  // other bytes for a stored prefix are not even read
  EXPECT_EQ(*spool->Append(500, ByteView(all).subspan(500)), 2000u);
  EXPECT_EQ(*spool->Complete(), crypto::Sha256(all));
  EXPECT_EQ(*spool->Append(1000, ByteView(all).subspan(1000)), 2000u);
}

TEST(SpoolTest, ChunksThatOvertookEachOtherCountOnceTheGapIsClosed) {
  const TempDir dir;
  const Bytes all = Pattern(5000);
  ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", all.size()));
  const auto put = [&](size_t begin, size_t end) {
    return *spool->Append(begin, ByteView(all).subspan(begin, end - begin));
  };
  EXPECT_EQ(put(3000, 4000), 0u);
  EXPECT_EQ(put(1000, 2000), 0u);
  EXPECT_THAT(spool->Complete(), HasStatus(StatusCode::kFailedPrecondition, "have 0"));
  EXPECT_EQ(put(0, 500), 500u);
  EXPECT_EQ(put(400, 1100), 2000u);  // closes the first gap, overlapping both sides
  EXPECT_EQ(put(4500, 5000), 2000u);
  EXPECT_EQ(put(2000, 4800), 5000u);  // spans a stored piece and two gaps
  EXPECT_EQ(*spool->Complete(), crypto::Sha256(all));
}

TEST(SpoolTest, AnyOrderAndAnyOverlapGiveTheSameFileAndItsDigest) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  const TempDir dir;
  const Bytes all = Pattern(20'000);
  for (int run = 0; run < 20; ++run) {
    ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", all.size()));
    uint64_t stored = 0;
    while (stored < all.size()) {
      const size_t begin = random() % all.size();
      const size_t size = 1 + random() % std::min<size_t>(3000, all.size() - begin);
      ASSERT_OK_AND_ASSIGN(const uint64_t now, spool->Append(begin, ByteView(all).subspan(begin, size)));
      ASSERT_GE(now, stored);
      stored = now;
    }
    ASSERT_EQ(*spool->Complete(), crypto::Sha256(all));
    Bytes read(all.size());
    ASSERT_OK(spool->Read(0, read));
    ASSERT_EQ(read, all);
  }
}

TEST(SpoolTest, WhatIsStoredPastAGapIsNeverReplaced) {
  const TempDir dir;
  const Bytes all = Pattern(3000);
  ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", all.size()));
  ASSERT_OK(spool->Append(1000, ByteView(all).subspan(1000, 1000)));
  Bytes other(all);
  std::fill(other.begin() + 1000, other.begin() + 2000, uint8_t{9});
  EXPECT_EQ(*spool->Append(0, other), 3000u);
  EXPECT_EQ(*spool->Complete(), crypto::Sha256(all));
}

TEST(SpoolTest, RefusesAChunkFarPastTheGapNamingWhatIsStored) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", 2 * Spool::kWindowBytes));
  ASSERT_OK(spool->Append(0, Bytes(100)));
  EXPECT_OK(spool->Append(Spool::kWindowBytes + 90, Bytes(10)));
  EXPECT_THAT(spool->Append(Spool::kWindowBytes + 91, Bytes(10)),
              HasStatus(StatusCode::kFailedPrecondition, "bytes past 100, got one at"));
  EXPECT_EQ(spool->stored(), 100u);
}

TEST(SpoolTest, RefusesMoreGapsThanItWouldRemember) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", 10 * Spool::kMaxPieces));
  for (size_t i = 0; i < Spool::kMaxPieces; ++i) ASSERT_OK(spool->Append(2 * i + 1, Bytes(1)));
  EXPECT_THAT(spool->Append(2 * Spool::kMaxPieces + 1, Bytes(1)),
              HasStatus(StatusCode::kFailedPrecondition, "pieces lie past it"));
  EXPECT_EQ(*spool->Append(0, Bytes(2)), 2u);  // the prefix always grows
}

TEST(SpoolTest, RefusesBytesPastTheEnd) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", 100));
  EXPECT_THAT(spool->Append(0, Bytes(101)), HasStatus(StatusCode::kInvalidArgument, "at most 100 bytes"));
  ASSERT_OK(spool->Append(0, Bytes(100)));
  EXPECT_THAT(spool->Append(100, Bytes(1)), HasStatus(StatusCode::kInvalidArgument, ""));
  EXPECT_THAT(spool->Append(UINT64_MAX, Bytes(2)), HasStatus(StatusCode::kFailedPrecondition, ""));
}

TEST(SpoolTest, AKeptUploadIsOpenedAgainOnlyIfItIsWholeAndWhatWasAccepted) {
  const TempDir dir;
  const Bytes data(3'000'000, 7);
  const Digest digest = crypto::Sha256(data);
  {
    auto spool = Spool::Create(dir / "a", data.size());
    ASSERT_OK(spool);
    ASSERT_OK((*spool)->Append(0, data));
    (*spool)->Keep();
  }
  {
    const auto again = Spool::Reopen(dir / "a", data.size(), digest);
    ASSERT_OK(again);
    EXPECT_EQ(*(*again)->Complete(), digest);
    Bytes part(10);
    ASSERT_OK((*again)->Read(2'999'990, part));
    EXPECT_EQ(part, Bytes(10, 7));
  }
  EXPECT_OK(Spool::Reopen(dir / "a", data.size(), digest)) << "it stays";
  EXPECT_EQ(Spool::Reopen(dir / "a", data.size(), crypto::Sha256(AsBytes("x"))).status().code(),
            StatusCode::kDataLoss);
  EXPECT_EQ(Spool::Reopen(dir / "a", data.size() + 1, digest).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(Spool::Reopen(dir / "b", data.size(), digest).status().code(), StatusCode::kDataLoss);
}

/// What a process that was killed leaves: files, and no destructor.
void LeaveBehind(std::unique_ptr<Spool> spool) { spool->Keep(); }

TEST(SpoolTest, APartOfAnUploadIsGoneOnWithAfterAKillWhereItWas) {
  const TempDir dir;
  Bytes all(5000);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint8_t>(i * 7 + i / 256);
  const auto put = [&](Spool& spool, size_t begin, size_t end) {
    return *spool.Append(begin, ByteView(all).subspan(begin, end - begin));
  };
  {
    ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", all.size()));
    EXPECT_EQ(put(*spool, 0, 1000), 1000u);
    EXPECT_EQ(put(*spool, 3000, 4000), 1000u);  // it overtook the others
    EXPECT_EQ(put(*spool, 1000, 2000), 2000u);
    LeaveBehind(std::move(spool));
  }
  {
    ASSERT_OK_AND_ASSIGN(auto spool, Spool::Resume(dir / "s", all.size()));
    EXPECT_EQ(spool->stored(), 2000u);
    EXPECT_EQ(put(*spool, 2000, 3000), 4000u) << "what had overtaken is still there";
    LeaveBehind(std::move(spool));
  }
  ASSERT_OK_AND_ASSIGN(auto spool, Spool::Resume(dir / "s", all.size()));
  EXPECT_EQ(spool->stored(), 4000u);
  EXPECT_EQ(put(*spool, 4000, 5000), 5000u);
  EXPECT_EQ(*spool->Complete(), crypto::Sha256(all));
  LeaveBehind(std::move(spool));
  EXPECT_FALSE(std::filesystem::exists(Spool::PartsOf(dir / "s"))) << "it is whole";
  EXPECT_OK(Spool::Reopen(dir / "s", all.size(), crypto::Sha256(all)));
}

TEST(SpoolTest, AWholeUploadWhoseHeaderWasNotTakenIsWholeAfterAKill) {
  const TempDir dir;
  const Bytes all(3000, 7);
  std::filesystem::path parts = Spool::PartsOf(dir / "s");
  {
    ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", all.size()));
    ASSERT_OK(spool->Append(0, all));
    std::filesystem::copy(parts, dir / "copy");
    LeaveBehind(std::move(spool));
  }
  std::filesystem::copy(dir / "copy", parts);  // killed before the destructor that removes them
  ASSERT_OK_AND_ASSIGN(auto spool, Spool::Resume(dir / "s", all.size()));
  EXPECT_EQ(*spool->Complete(), crypto::Sha256(all));
}

TEST(SpoolTest, WhatThePowerTookIsNotBelieved) {
  const TempDir dir;
  const Bytes all(4000, 5);
  const auto parts = Spool::PartsOf(dir / "s");
  const auto begin = [&] {
    auto spool = Spool::Create(dir / "s", all.size()).value();
    for (size_t at = 0; at < 3000; at += 1000) EXPECT_OK(spool->Append(at, ByteView(all).subspan(at, 1000)));
    LeaveBehind(std::move(spool));
  };
  const auto stored = [&] {
    auto spool = Spool::Resume(dir / "s", all.size());
    EXPECT_OK(spool);
    return (*spool)->stored();  // and deleted with the object
  };
  begin();
  EXPECT_EQ(stored(), 3000u);
  begin();  // zeros where the second chunk was
  {
    std::fstream file(dir / "s", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(1500);
    file.put('\0');
  }
  EXPECT_EQ(stored(), 1000u);
  begin();  // the file is shorter than its parts say
  std::filesystem::resize_file(dir / "s", 2500);
  EXPECT_EQ(stored(), 2000u);
  begin();  // half a note
  std::filesystem::resize_file(parts, std::filesystem::file_size(parts) - 1);
  EXPECT_EQ(stored(), 2000u);
  begin();  // no notes at all
  std::filesystem::remove(parts);
  EXPECT_EQ(stored(), 0u);
  begin();  // notes of nonsense
  std::ofstream(parts, std::ios::binary) << std::string(480, '\xff');
  EXPECT_EQ(stored(), 0u);
  EXPECT_EQ(stored(), 0u) << "where there is no file, an empty one is begun";
}

TEST(SpoolTest, ASiteThatSendsBytesOneByOneDoesNotFillTheDiskWithNotes) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", 10'000));
  for (size_t at = 0; at < 10'000; ++at) ASSERT_OK(spool->Append(at, Bytes(1)));
  EXPECT_LE(std::filesystem::file_size(Spool::PartsOf(dir / "s")), 48u * 4097);
}

TEST(SpoolTest, DeletesItsFileWithItself) {
  const TempDir dir;
  {
    ASSERT_OK_AND_ASSIGN(auto spool, Spool::Create(dir / "s", 100));
    EXPECT_TRUE(std::filesystem::exists(dir / "s"));
    EXPECT_THAT(Spool::Create(dir / "s", 100), HasStatus(StatusCode::kAlreadyExists, ""));
    ASSERT_OK(spool->Append(0, Bytes(10)));
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "s"));
}

TEST(SpoolTest, AFullDiskCountsNothingOfTheChunkAndTheChunkCanBeSentAgain) {
  const TempDir dir;
  const pid_t pid = fork();
  if (pid == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const Bytes all = Pattern(4000);
    auto spool = Spool::Create(dir / "s", all.size());
    rlimit limit{};
    getrlimit(RLIMIT_FSIZE, &limit);
    const rlimit tight{1500, limit.rlim_max};
    setrlimit(RLIMIT_FSIZE, &tight);
    if (!spool.ok() || !(*spool)->Append(0, ByteView(all).first(1000)).ok()) _exit(1);
    const auto full = (*spool)->Append(1000, ByteView(all).subspan(1000, 1000));
    if (full.status().code() != StatusCode::kResourceExhausted || (*spool)->stored() != 1000) _exit(2);
    setrlimit(RLIMIT_FSIZE, &limit);
    if (!(*spool)->Append(1000, ByteView(all).subspan(1000)).ok()) _exit(3);
    _exit(*(*spool)->Complete() == crypto::Sha256(all) ? 0 : 4);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace concordat::coordinator
