#include <gtest/gtest.h>

#include <fstream>

#include "proto/tls.h"
#include "tests/links/taker.h"
#include "tests/support/status_matchers.h"

// A hundred uploads at once over loopback. Needs neither root nor a TUN device.
namespace concordat {
namespace {

using concordat::testing::ChildProcess;
using concordat::testing::Federation;
using concordat::testing::Taker;
using concordat::testing::TempDir;

/// A figure of /proc/self/status, in MiB.
double SelfMiB(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name + ":")) return std::stod(line.substr(name.size() + 1)) / 1024;
  return -1;
}

TEST(ManyUploadsTest, AHundredAtOnceKeepTheReceiverWithinItsMemory) {
  tls::RequireTls13();
  constexpr uint32_t kUploads = 100;
  constexpr uint64_t kElements = 1'000'000;
  const Federation federation;
  Taker taker(federation, "es.example", 4 * kElements, kUploads);
  const TempDir folder;
  const double before = SelfMiB("VmRSS");
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak counts from here
  ChildProcess::Options options;
  options.argv = {CONCORDAT_UPLOAD_PROBE_PATH, fmt::format("127.0.0.1:{}", taker.port()),
                  federation.root().string(),  "es.example",
                  std::to_string(kElements),   folder.path().string(),
                  std::to_string(kUploads)};
  options.error_file = folder / "probe.log";
  options.read_output = true;
  const auto began = std::chrono::steady_clock::now();
  ChildProcess probe(options);
  for (uint32_t i = 0; i < kUploads; ++i) {
    const auto digest = probe.ReadLine(testing::After(std::chrono::seconds(180)));
    ASSERT_EQ(digest, taker.DigestOf(i)) << ReadTextFile(folder / "probe.log").value_or("");
  }
  EXPECT_EQ(probe.Wait(), 0);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  const double grown = SelfMiB("VmHWM") - before;
  fmt::print("{} uploads of {} bytes in {:.1f} s; the receiver grew by {:.0f} MiB at most\n", kUploads,
             4 * kElements, took.count(), grown);
  EXPECT_LT(grown, 300) << "MiB; all that is uploaded is " << 4 * kElements * kUploads / 1048576;
}

}  // namespace
}  // namespace concordat
