#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>

#include "policy/job_privacy.h"
#include "privacy/mechanism/encoder.h"
#include "tests/integration/planted_delta.h"
#include "tests/support/federation.h"
#include "tests/support/status_matchers.h"

// What the coordinator holds of one region: nothing that can be told from noise. Each region's trainer gives
// a delta that is known here; noise is off and rounding is to nearest, so that its integers are known as
// well. They are looked for on the coordinator's disk and in its memory, at every byte.
namespace concordat {
namespace {

using concordat::testing::Federation;
using concordat::testing::FederationOptions;
using concordat::testing::JobOptions;
using concordat::testing::RegionOf;
using nlohmann::json;

/// Elements in a row that are looked for: 24 bytes of values that hardly repeat.
constexpr size_t kWindow = 6;
constexpr size_t kWindows = 16;

struct Needle {
  std::string what;
  std::string bytes;
};

template <typename T>
void AddWindows(const std::vector<T>& values, const std::string& what, std::vector<Needle>* out) {
  for (size_t w = 0; w < kWindows; ++w) {
    const size_t first = (values.size() - kWindow) * w / (kWindows - 1);
    std::string bytes(kWindow * sizeof(T), '\0');
    std::memcpy(bytes.data(), values.data() + first, bytes.size());
    out->push_back({fmt::format("{} from element {}", what, first), std::move(bytes)});
  }
}

/// One region's delta as integers of the wire, as floats and as doubles.
std::vector<Needle> NeedlesOf(const Federation& federation, const policy::JobSpec& job,
                              const std::string& region) {
  std::vector<Needle> out;
  const auto split_key = Digest::From(*ReadFile(federation.Region(region) / "split.key"));
  const auto plan = policy::EncodingFor(job, static_cast<uint32_t>(federation.jurisdictions().size()));
  EXPECT_OK(plan);
  const auto delta = concordat::testing::PlantedDelta(*split_key, plan->config().elements);
  const std::vector<double> metrics = {0, 0};
  const auto encoder = Encoder::Make(*plan, delta, 1, metrics, Secret32());
  EXPECT_OK(encoder);
  EXPECT_FALSE(encoder->clipped());
  std::vector<uint32_t> words(plan->total_elements());
  EXPECT_OK(encoder->Encode(0, words));
  words.resize(delta.size());
  AddWindows(words, region + "'s integers", &out);
  AddWindows(delta, region + "'s floats", &out);
  AddWindows(std::vector<double>(delta.begin(), delta.end()), region + "'s doubles", &out);
  return out;
}

void Look(std::string_view hay, const std::string& where, const std::vector<Needle>& needles,
          std::vector<std::string>* found) {
  for (const Needle& needle : needles) {
    if (::memmem(hay.data(), hay.size(), needle.bytes.data(), needle.bytes.size()) != nullptr)
      found->push_back(where + ": " + needle.what);
  }
}

void LookInFiles(const std::filesystem::path& folder, const std::vector<Needle>& needles,
                 std::vector<std::string>* found, uint64_t* bytes) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const auto content = ReadTextFile(entry.path(), uint64_t{1} << 32);
    if (!content.ok()) continue;
    *bytes += content->size();
    Look(*content, entry.path().string(), needles, found);
  }
}

/// Everything that can be read of the process's memory. Only root may: the coordinator is not dumpable.
void LookInMemory(pid_t pid, const std::vector<Needle>& needles, std::vector<std::string>* found,
                  uint64_t* bytes) {
  std::ifstream maps(fmt::format("/proc/{}/maps", pid));
  std::FILE* memory = std::fopen(fmt::format("/proc/{}/mem", pid).c_str(), "rb");
  ASSERT_NE(memory, nullptr) << "cannot read the coordinator's memory";
  std::string line;
  while (std::getline(maps, line)) {
    unsigned long begin = 0, end = 0;
    char readable = '-';
    if (std::sscanf(line.c_str(), "%lx-%lx %c", &begin, &end, &readable) != 3 || readable != 'r') continue;
    // Mapped in one piece: a needle may lie across pages.
    std::string region(end - begin, '\0');
    size_t have = 0;
    if (::fseeko(memory, static_cast<off_t>(begin), SEEK_SET) != 0) continue;
    have = std::fread(region.data(), 1, region.size(), memory);
    std::clearerr(memory);
    *bytes += have;
    Look(std::string_view(region).substr(0, have), line, needles, found);
  }
  std::fclose(memory);
}

struct Search {
  std::vector<std::string> found;
  uint64_t disk_bytes = 0, memory_bytes = 0;
};

Search SearchCoordinator(Federation& federation, const std::vector<Needle>& needles) {
  Search search;
  LookInFiles(federation.coordinator_folder(), needles, &search.found, &search.disk_bytes);
  LookInMemory(federation.coordinator().pid(), needles, &search.found, &search.memory_bytes);
  return search;
}

class SecrecyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root may read another process's memory";
  }

  /// Runs the first round until two of three uploads are spooled, with the third region held back.
  void HoldFirstRound(Federation& federation) {
    const std::string late = federation.jurisdictions().back();
    gate_ = federation.Region(late) / "state/scratch/gate";
    std::filesystem::create_directories(gate_.parent_path());
    ASSERT_OK(WriteFileAtomically(gate_, std::string_view("closed")));
    federation.Start();
    JobOptions options;
    options.noise = false;
    const std::string text = federation.JobText(options);
    const auto spec = policy::ParseJob(text, "job.yaml");
    ASSERT_OK(spec);
    for (const auto& region : federation.jurisdictions()) {
      for (Needle& needle : NeedlesOf(federation, *spec, region)) needles_.push_back(std::move(needle));
    }
    job_ = federation.Submit(federation.WriteJob(options));
    watch_ = std::make_unique<concordat::testing::Watch>(federation.WatchJob(job_));
    watch_->Until([&](const json& state) {
      int uploaded = 0;
      for (const auto& region : federation.jurisdictions()) {
        const json entry = RegionOf(state, region);
        uploaded += !entry.is_null() && entry.at("phase") == "waiting";
      }
      return uploaded == 2;
    });
  }

  std::filesystem::path gate_;
  std::vector<Needle> needles_;
  std::string job_;
  std::unique_ptr<concordat::testing::Watch> watch_;
};

FederationOptions Planted() {
  FederationOptions options;
  options.trainer = CONCORDAT_PLANTED_TRAINER_PATH;
  return options;
}

TEST_F(SecrecyTest, NoRegionsDeltaIsOnTheCoordinatorsDiskOrInItsMemory) {
  Federation federation(Planted());
  HoldFirstRound(federation);
  if (HasFatalFailure()) return;
  const Search spooled = SearchCoordinator(federation, needles_);
  EXPECT_THAT(spooled.found, ::testing::IsEmpty()) << "while uploads are spooled";
  EXPECT_GT(spooled.disk_bytes, 2u * 4 * 1000);
  EXPECT_GT(spooled.memory_bytes, 1u << 20);

  const std::filesystem::path second = gate_.parent_path() / "gate-1";
  ASSERT_OK(WriteFileAtomically(second, std::string_view("closed")));
  std::filesystem::remove(gate_);
  watch_->Until([](const json& state) { return state.at("rounds_done") == 1; });
  EXPECT_THAT(SearchCoordinator(federation, needles_).found, ::testing::IsEmpty()) << "after the sum";

  std::filesystem::remove(second);
  ASSERT_EQ(watch_->End(), 0);
  EXPECT_THAT(SearchCoordinator(federation, needles_).found, ::testing::IsEmpty()) << "at the end";
  federation.StopAll();
}

TEST_F(SecrecyTest, TheSearchFindsADeltaWhenAWorkerIsBuiltWithoutMasks) {
  FederationOptions options = Planted();
  options.worker = CONCORDAT_WORKER_WITHOUT_MASKS_PATH;
  Federation federation(options);
  HoldFirstRound(federation);
  if (HasFatalFailure()) return;
  const Search spooled = SearchCoordinator(federation, needles_);
  size_t regions = 0;
  for (const auto& region : federation.jurisdictions()) {
    size_t windows = 0;
    for (const std::string& found : spooled.found)
      windows += found.find(region + "'s integers") != std::string::npos &&
                 found.find("/state/") != std::string::npos;
    regions += windows == kWindows;
  }
  EXPECT_EQ(regions, 2u) << "both uploads lie there in the clear";
}

TEST_F(SecrecyTest, TheSearchFindsANeedleAtAnyByteOfAFileAndInMemory) {
  const concordat::testing::TempDir folder;
  const std::vector<Needle> needles = {{"needle", std::string("\x01\x02\x03\xfe\xff needle", 12)}};
  for (size_t shift = 0; shift < 4; ++shift) {
    ASSERT_OK(WriteFileAtomically(folder / "hay", std::string(4096 + shift, 'x') + needles[0].bytes + "x"));
    std::vector<std::string> found;
    uint64_t bytes = 0;
    LookInFiles(folder.path(), needles, &found, &bytes);
    EXPECT_EQ(found.size(), 1u) << shift;
  }
  std::vector<std::string> found;
  uint64_t bytes = 0;
  LookInMemory(::getpid(), needles, &found, &bytes);
  EXPECT_FALSE(found.empty());
}

}  // namespace
}  // namespace concordat
