#include "coordinator/journal/blob_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "privacy/crypto/hash.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::coordinator {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

class BlobStoreOnDiskTest : public ::testing::Test {
 protected:
  Digest Put(std::string_view content) {
    const auto name = store_.Put(AsBytes(content));
    EXPECT_OK(name);
    return *name;
  }
  std::filesystem::path PathOf(const Digest& name) const {
    return dir_ / "blobs" / name.hex().substr(0, 2) / name.hex();
  }
  /// Writes into the file that is there, so that its inode stays.
  void Overwrite(const Digest& name, std::string_view content) {
    std::fstream(PathOf(name), std::ios::in | std::ios::out) << content;
  }

  TempDir dir_;
  BlobStore store_ = *BlobStore::Open(dir_ / "blobs");
};

TEST_F(BlobStoreOnDiskTest, DoesNotHashAgainWhatItHasStoredUnlessTheFileChanged) {
  const Digest name = Put("adapter");
  struct stat before {};
  ASSERT_EQ(::stat(PathOf(name).c_str(), &before), 0);
  Overwrite(name, "ADAPTER");
  // As nobody could do by accident: it shows that reading alone does not hash.
  const timespec as_before[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, PathOf(name).c_str(), as_before, 0), 0);
  EXPECT_OK(store_.Get(name));
  const timespec later[2] = {before.st_atim, {before.st_mtim.tv_sec + 1, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, PathOf(name).c_str(), later, 0), 0);
  EXPECT_THAT(store_.Get(name), HasStatus(StatusCode::kDataLoss, "hash"));
}

TEST_F(BlobStoreOnDiskTest, AnotherProcessHashesOnce) {
  const Digest name = Put("adapter");
  Overwrite(name, "ADAPTER");
  EXPECT_THAT(BlobStore::Open(dir_ / "blobs")->Get(name), HasStatus(StatusCode::kDataLoss, "hash"));
}

TEST_F(BlobStoreOnDiskTest, ErrorsNameBlobsAndNoPaths) {
  const Digest name = crypto::Sha256(AsBytes("never stored"));
  const auto got = store_.Get(name);
  EXPECT_THAT(got, HasStatus(StatusCode::kNotFound, name.brief()));
  EXPECT_EQ(std::string(Message(got.status())).find('/'), std::string::npos);
}

TEST_F(BlobStoreOnDiskTest, RemovesWhatNothingRefersTo) {
  const Digest kept = Put("kept"), gone = Put("gone");
  store_.Remove(gone);
  EXPECT_THAT(store_.Get(gone), HasStatus(StatusCode::kNotFound, ""));
  EXPECT_OK(store_.Get(kept));
  EXPECT_EQ(Put("gone"), gone);
  EXPECT_OK(store_.Get(gone)) << "stored again";
}

TEST_F(BlobStoreOnDiskTest, RetainDeletesAllButWhatIsKept) {
  const Digest kept = Put("kept"), gone = Put("gone");
  std::ofstream(dir_ / "blobs/half.tmp") << "left by a crash";
  store_.Retain({kept});
  EXPECT_FALSE(store_.Has(gone));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "blobs/half.tmp"));
  EXPECT_OK(store_.Get(kept));
}

}  // namespace
}  // namespace concordat::coordinator
