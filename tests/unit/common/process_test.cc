#include "common/process.h"

#include <gtest/gtest.h>

namespace concordat {
namespace {

TEST(DaemonExitCodeTest, FilesAreTwoRefusalsAreThreeAllElseIsOne) {
  EXPECT_EQ(DaemonExitCode(OkStatus()), 0);
  EXPECT_EQ(DaemonExitCode(InvalidArgument("a key of the file")), 2);
  EXPECT_EQ(DaemonExitCode(NotFound("a state folder")), 2);
  EXPECT_EQ(DaemonExitCode(PermissionDenied("a certificate of nobody's")), 3);
  EXPECT_EQ(DaemonExitCode(DataLoss("a journal")), 1);
  EXPECT_EQ(DaemonExitCode(Unavailable("an address in use")), 1);
}

TEST(DaemonExitCodeTest, AFileThatTheSystemWithholdsIsNoRefusalOfTheCharters) {
  const Status own = OfOwnFile(PermissionDenied("key.pem: others may read this key"));
  EXPECT_EQ(DaemonExitCode(own), 2);
  EXPECT_EQ(Message(own), "key.pem: others may read this key");
  EXPECT_EQ(OfOwnFile(DataLoss("x")).code(), StatusCode::kDataLoss);
  EXPECT_TRUE(OfOwnFile(OkStatus()).ok());
}

}  // namespace
}  // namespace concordat
