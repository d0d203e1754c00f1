#include "common/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat {
namespace {

using testing::HasStatus;
using testing::TempDir;

unsigned ModeOf(const std::filesystem::path& path) {
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  return info.st_mode & 0777;
}

TEST(FilesTest, WritesReadsAndReplaces) {
  const TempDir dir;
  const auto path = dir / "f";
  ASSERT_OK(WriteFileAtomically(path, "one"));
  EXPECT_EQ(ReadTextFile(path).value(), "one");
  ASSERT_OK(WriteFileAtomically(path, std::string_view("two\0x", 5), 0600));
  EXPECT_EQ(ReadTextFile(path).value(), std::string("two\0x", 5));
  EXPECT_EQ(ModeOf(path), 0600u);
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir.path())) ++files;
  EXPECT_EQ(files, 1u) << "no temporary file stays behind";
}

TEST(FilesTest, AFailedReplacementLeavesTheOldFileAndNothingElse) {
  const TempDir dir;
  ASSERT_OK(MakeFolder(dir / "target"));
  ASSERT_OK(WriteFileAtomically(dir / "target" / "inside", "x"));
  EXPECT_FALSE(WriteFileAtomically(dir / "target", "y").ok()) << "a folder is not replaced by a file";
  EXPECT_EQ(ReadTextFile(dir / "target" / "inside").value(), "x");
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir.path())) ++files;
  EXPECT_EQ(files, 1u);
}

TEST(FilesTest, ANewFileReplacesNothing) {
  const TempDir dir;
  ASSERT_OK(WriteNewFile(dir / "key", "first", 0600));
  EXPECT_THAT(WriteNewFile(dir / "key", "second"), HasStatus(StatusCode::kAlreadyExists, "is there already"));
  EXPECT_EQ(*ReadTextFile(dir / "key"), "first");
  std::filesystem::create_symlink(dir / "nowhere", dir / "link");
  EXPECT_EQ(WriteNewFile(dir / "link", "second").code(), StatusCode::kAlreadyExists);
  const auto files = std::filesystem::directory_iterator(dir.path());
  EXPECT_EQ(std::distance(begin(files), end(files)), 2) << "a temporary file was left";
}

TEST(FilesTest, RefusalsHaveTheirCodes) {
  const TempDir dir;
  EXPECT_THAT(ReadFile(dir / "none"), HasStatus(StatusCode::kNotFound, "none"));
  EXPECT_THAT(WriteFileAtomically(dir / "no" / "folder", "x"), HasStatus(StatusCode::kNotFound, "folder"));
  ASSERT_OK(WriteFileAtomically(dir / "f", "12345"));
  EXPECT_THAT(ReadFile(dir / "f", 4), HasStatus(StatusCode::kInvalidArgument, "at most 4 bytes"));
  EXPECT_OK(ReadFile(dir / "f", 5));
  EXPECT_EQ(ErrnoStatus(ENOSPC, "x", "p").code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrnoStatus(EDQUOT, "x", "p").code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrnoStatus(EACCES, "x", "p").code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(ErrnoStatus(EIO, "x", "p").code(), StatusCode::kInternal);
}

TEST(FilesTest, AFullDiskIsResourceExhausted) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  EXPECT_THAT(AppendFile("/dev/full", AsBytes("x")), HasStatus(StatusCode::kResourceExhausted, "/dev/full"));
}

TEST(FilesTest, AppendsWithTheModeOfAPrivateFile) {
  const TempDir dir;
  ASSERT_OK(AppendFile(dir / "a", AsBytes("one\n")));
  ASSERT_OK(AppendFile(dir / "a", AsBytes("two\n")));
  EXPECT_EQ(ReadTextFile(dir / "a").value(), "one\ntwo\n");
  EXPECT_EQ(ModeOf(dir / "a"), 0600u);
}

TEST(FilesTest, MakesParentsAndKeepsWhatIsThere) {
  const TempDir dir;
  ASSERT_OK(MakeFolder(dir / "a" / "b" / "c", 0700));
  EXPECT_EQ(ModeOf(dir / "a" / "b" / "c"), 0700u);
  EXPECT_OK(MakeFolder(dir / "a" / "b" / "c", 0700));
  ASSERT_OK(WriteFileAtomically(dir / "f", "x"));
  EXPECT_THAT(MakeFolder(dir / "f"), HasStatus(StatusCode::kFailedPrecondition, "expected a folder"));
}

TEST(FilesTest, APrivateFolderIsOnlyItsOwners) {
  const TempDir dir;
  ASSERT_OK(MakePrivateFolder(dir / "state"));
  EXPECT_EQ(std::filesystem::status(dir / "state").permissions(), std::filesystem::perms::owner_all);
  for (const unsigned open : {0777u, 0720u, 0702u}) {
    std::filesystem::permissions(dir / "state", static_cast<std::filesystem::perms>(open));
    EXPECT_THAT(
        MakePrivateFolder(dir / "state"),
        HasStatus(StatusCode::kPermissionDenied, fmt::format("its mode is {:04o}, others may", open)));
  }
  std::filesystem::permissions(dir / "state", static_cast<std::filesystem::perms>(0755));
  EXPECT_OK(MakePrivateFolder(dir / "state")) << "others may look";
}

TEST(FilesTest, APrivateFolderIsNotSomebodyElses) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  const TempDir dir;
  ASSERT_OK(MakePrivateFolder(dir / "state"));
  ASSERT_EQ(::chown((dir / "state").c_str(), 12345, 12345), 0);
  EXPECT_THAT(MakePrivateFolder(dir / "state"),
              HasStatus(StatusCode::kPermissionDenied, "belongs to user 12345"));
}

TEST(FilesTest, MapsFilesTheEmptyOneToo) {
  const TempDir dir;
  ASSERT_OK(WriteFileAtomically(dir / "f", "mapped"));
  ASSERT_OK(WriteFileAtomically(dir / "empty", ""));
  ASSERT_OK_AND_ASSIGN(const auto file, MappedFile::Open(dir / "f"));
  EXPECT_EQ(AsText(file->view()), "mapped");
  ASSERT_OK_AND_ASSIGN(const auto empty, MappedFile::Open(dir / "empty"));
  EXPECT_TRUE(empty->view().empty());
  EXPECT_THAT(MappedFile::Open(dir.path()), HasStatus(StatusCode::kInvalidArgument, "regular file"));
  EXPECT_THAT(MappedFile::Open(dir / "none"), HasStatus(StatusCode::kNotFound, ""));
}

TEST(FileDescriptorTest, MovesOwnership) {
  const TempDir dir;
  FileDescriptor a(::open(dir.path().c_str(), O_RDONLY));
  ASSERT_TRUE(a.valid());
  const int fd = a.get();
  FileDescriptor b = std::move(a);
  EXPECT_FALSE(a.valid());  // NOLINT(bugprone-use-after-move): that is the test
  EXPECT_EQ(b.get(), fd);
  b = FileDescriptor();
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1) << "assigning closes what was held";
}

}  // namespace
}  // namespace concordat
