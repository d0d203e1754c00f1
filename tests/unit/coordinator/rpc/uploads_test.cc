#include "coordinator/rpc/uploads.h"

#include <gtest/gtest.h>

#include <thread>

#include "privacy/crypto/hash.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::coordinator {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

constexpr uint64_t kBytes = 4000;

class UploadsTest : public ::testing::Test {
 protected:
  UploadSlot Slot(const char* jurisdiction) const {
    UploadSlot slot;
    slot.id = id_;
    slot.worker = *SpiffeId::Make(jurisdiction, Role::kWorker, "w");
    slot.bytes = kBytes;
    slot.sha256 = crypto::Sha256(all_);
    return slot;
  }
  std::unique_ptr<Uploads> Start() const { return Uploads::Make(dir_ / "spool").value(); }
  StatusOr<uint64_t> Put(Uploads& uploads, const UploadSlot& slot, uint64_t begin, uint64_t end) const {
    const ByteView data = ByteView(all_).subspan(begin, end - begin);
    return uploads.Put(slot.id, slot.worker, begin, kBytes, data, crypto::Sha256(data));
  }
  size_t Files() const {
    size_t n = 0;
    for (const auto& entry : std::filesystem::directory_iterator(dir_ / "spool")) n += entry.exists();
    return n;
  }

  TempDir dir_;
  AttemptId id_{crypto::Sha256(AsBytes("job")), 1, 2};
  Bytes all_ = Bytes(kBytes, 3);
};

TEST_F(UploadsTest, AnUploadThatWasUnderWayGoesOnInTheNextProcessAndTheOthersFilesGo) {
  const UploadSlot mine = Slot("de"), others = Slot("es");
  {
    auto uploads = Start();
    uploads->Retain({}, {});
    uploads->Open(mine);
    uploads->Open(others);
    EXPECT_EQ(*Put(*uploads, mine, 0, 1000), 1000u);
    EXPECT_EQ(*Put(*uploads, mine, 2000, 3000), 1000u);
    ASSERT_OK(Put(*uploads, others, 0, 1000));
  }
  EXPECT_EQ(Files(), 4u) << "two uploads and their parts";
  auto uploads = Start();
  uploads->Retain({}, {mine});
  EXPECT_EQ(Files(), 2u);
  EXPECT_THAT(uploads->Stored(mine.id, mine.worker), HasStatus(StatusCode::kFailedPrecondition, "no upload"));
  uploads->Open(mine);
  EXPECT_EQ(*uploads->Stored(mine.id, mine.worker), 1000u);
  EXPECT_EQ(*Put(*uploads, mine, 1000, 2000), 3000u);
  EXPECT_EQ(*Put(*uploads, mine, 3000, 4000), kBytes);
  ASSERT_OK_AND_ASSIGN(const auto spool, uploads->Accept(mine));
  EXPECT_EQ(*spool->Complete(), mine.sha256);
}

TEST_F(UploadsTest, AHeaderThatComesFirstFindsTheWholeUploadOfTheEarlierProcess) {
  const UploadSlot mine = Slot("de");
  {
    auto uploads = Start();
    uploads->Open(mine);
    ASSERT_OK(Put(*uploads, mine, 0, 4000));
    // Kept as if the process were killed: parts and all.
    std::filesystem::copy(dir_ / "spool", dir_ / "copy");
  }
  std::filesystem::remove_all(dir_ / "spool");
  std::filesystem::copy(dir_ / "copy", dir_ / "spool");
  auto uploads = Start();
  uploads->Retain({}, {mine});
  uploads->Open(mine);
  const auto spool = uploads->Find(mine.id, mine.worker);
  ASSERT_NE(spool, nullptr);
  EXPECT_EQ(*spool->Complete(), mine.sha256);
}

TEST_F(UploadsTest, WhatIsClosedOrDiscardedAfterARestartGoesWithItsParts) {
  for (const int kind : {0, 1, 2, 3}) {
    const bool close = kind % 2 == 0, touched = kind < 2;
    const UploadSlot mine = Slot("de");
    {
      auto uploads = Start();
      uploads->Open(mine);
      ASSERT_OK(Put(*uploads, mine, 0, 1000));
    }
    auto uploads = Start();
    uploads->Retain({}, {mine});
    uploads->Open(mine);
    if (touched) {
      ASSERT_OK(uploads->Stored(mine.id, mine.worker));
    }
    close ? uploads->Close(mine.id) : uploads->Discard(mine.id, mine.worker);
    EXPECT_EQ(Files(), 0u) << kind;
  }
}

TEST_F(UploadsTest, ManyConnectionsAtOnceMakeOneFileAfterARestart) {
  const UploadSlot mine = Slot("de");
  {
    auto uploads = Start();
    uploads->Open(mine);
    ASSERT_OK(Put(*uploads, mine, 0, 1000));
  }
  auto uploads = Start();
  uploads->Retain({}, {mine});
  uploads->Open(mine);
  std::vector<std::thread> connections;
  for (uint64_t begin = 0; begin < kBytes; begin += 500)
    connections.emplace_back([&, begin] { EXPECT_OK(Put(*uploads, mine, begin, begin + 500)); });
  for (std::thread& connection : connections) connection.join();
  EXPECT_EQ(*uploads->Find(mine.id, mine.worker)->Complete(), mine.sha256);
}

}  // namespace
}  // namespace concordat::coordinator
