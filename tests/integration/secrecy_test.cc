#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <set>
#include <unordered_map>

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

using concordat::testing::Await;
using concordat::testing::Federation;
using concordat::testing::FederationOptions;
using concordat::testing::JobOptions;
using nlohmann::json;

/// Elements in a row that are looked for. An integer of the wire has some 4 bits that cannot be guessed here:
/// 24 of them do not come by chance.
constexpr size_t kWindow = 24;
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

/// Looks for all needles at every byte in one pass: a bit for each hash of a needle's first 8 bytes says
/// where a closer look is due.
class Finder {
 public:
  explicit Finder(std::vector<Needle> needles) : needles_(std::move(needles)), marks_(1 << kBits, false) {
    for (size_t i = 0; i < needles_.size(); ++i) {
      const uint64_t word = Word(needles_[i].bytes.data());
      marks_[Hash(word)] = true;
      by_word_.emplace(word, i);
    }
  }
  void Look(std::string_view hay, const std::string& where, std::vector<std::string>* found) const {
    for (size_t at = 0; at + sizeof(uint64_t) <= hay.size(); ++at) {
      const uint64_t word = Word(hay.data() + at);
      if (!marks_[Hash(word)]) continue;
      const auto [first, last] = by_word_.equal_range(word);
      for (auto it = first; it != last; ++it) {
        const Needle& needle = needles_[it->second];
        if (hay.substr(at).starts_with(needle.bytes)) found->push_back(where + ": " + needle.what);
      }
    }
  }

 private:
  static constexpr unsigned kBits = 16;
  static uint64_t Word(const char* bytes) {
    uint64_t word = 0;
    std::memcpy(&word, bytes, sizeof word);
    return word;
  }
  static size_t Hash(uint64_t word) { return (word * 0x9E3779B97F4A7C15ULL) >> (64 - kBits); }

  std::vector<Needle> needles_;
  std::vector<char> marks_;
  std::unordered_multimap<uint64_t, size_t> by_word_;
};

void LookInFiles(const std::filesystem::path& folder, const Finder& finder, std::vector<std::string>* found,
                 uint64_t* bytes) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const auto content = ReadTextFile(entry.path(), uint64_t{1} << 32);
    if (!content.ok()) continue;
    *bytes += content->size();
    finder.Look(*content, entry.path().string(), found);
  }
}

/// Everything that can be read of the process's memory. Only root may: the coordinator is not dumpable.
void LookInMemory(pid_t pid, const Finder& finder, std::vector<std::string>* found, uint64_t* bytes) {
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
    finder.Look(std::string_view(region).substr(0, have), line, found);
  }
  std::fclose(memory);
}

struct Search {
  std::vector<std::string> found;
  uint64_t disk_bytes = 0, memory_bytes = 0;
};

Search SearchCoordinator(Federation& federation, const std::vector<Needle>& needles) {
  const Finder finder(needles);
  Search search;
  LookInFiles(federation.coordinator_folder(), finder, &search.found, &search.disk_bytes);
  LookInMemory(federation.coordinator().pid(), finder, &search.found, &search.memory_bytes);
  return search;
}

class SecrecyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root may read another process's memory";
  }

  /// Runs the first round until the first region's upload is taken and the others still train. The running
  /// sum is then that one vector, as it came: no other moment is as bad.
  void HoldFirstRound(Federation& federation) {
    for (size_t i = 1; i < federation.jurisdictions().size(); ++i) Close(federation, i, "gate-0");
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
    const std::string& first = federation.jurisdictions().front();
    ASSERT_TRUE(Federation::AwaitText(federation.WorkerLog(first), "uploaded"));
    // The masked upload stays on the disk until its attempt is over: it is searched with the rest.
    ASSERT_TRUE(
        Await([&] { return !std::filesystem::is_empty(federation.coordinator_folder() / "state/spool"); }));
  }

  static std::filesystem::path Gate(const Federation& federation, size_t region, const std::string& name) {
    return federation.Region(federation.jurisdictions()[region]) / "state/scratch" / name;
  }
  static void Close(const Federation& federation, size_t region, const std::string& name) {
    const auto gate = Gate(federation, region, name);
    std::filesystem::create_directories(gate.parent_path());
    ASSERT_OK(WriteFileAtomically(gate, std::string_view("closed")));
  }
  static void Open(const Federation& federation, size_t region, const std::string& name) {
    std::filesystem::remove(Gate(federation, region, name));
  }

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
  const Search one = SearchCoordinator(federation, needles_);
  EXPECT_THAT(one.found, ::testing::IsEmpty()) << "with one region's upload";
  EXPECT_GT(one.memory_bytes, 1u << 20);

  Open(federation, 1, "gate-0");
  ASSERT_TRUE(Federation::AwaitText(federation.WorkerLog(federation.jurisdictions()[1]), "uploaded"));
  EXPECT_THAT(SearchCoordinator(federation, needles_).found, ::testing::IsEmpty()) << "with two";

  Close(federation, 2, "gate-1");
  Open(federation, 2, "gate-0");
  watch_->Until([](const json& state) { return state.at("rounds_done") == 1; });
  EXPECT_THAT(SearchCoordinator(federation, needles_).found, ::testing::IsEmpty()) << "after the sum";

  Open(federation, 2, "gate-1");
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
  const Search one = SearchCoordinator(federation, needles_);
  for (size_t i = 0; i < federation.jurisdictions().size(); ++i) {
    std::set<std::string> windows;
    for (const std::string& found : one.found) {
      const size_t at = found.find(federation.jurisdictions()[i] + "'s integers");
      if (at != std::string::npos) windows.insert(found.substr(at));
    }
    EXPECT_EQ(windows.size(), i == 0 ? kWindows : 0u) << federation.jurisdictions()[i];
  }
}

TEST_F(SecrecyTest, TheSearchFindsANeedleAtAnyByteOfAFileAndInMemory) {
  const concordat::testing::TempDir folder;
  // Put together here, so that this process's memory holds it.
  const Needle needle = {"needle", std::string("\x01\x02\x03\xfe\xff needle", 12)};
  const Finder finder({needle});
  for (size_t shift = 0; shift < 4; ++shift) {
    ASSERT_OK(WriteFileAtomically(folder / "hay", std::string(4096 + shift, 'x') + needle.bytes + "x"));
    std::vector<std::string> found;
    uint64_t bytes = 0;
    LookInFiles(folder.path(), finder, &found, &bytes);
    EXPECT_EQ(found.size(), 1u) << shift;
  }
  std::vector<std::string> found;
  uint64_t bytes = 0;
  LookInMemory(::getpid(), finder, &found, &bytes);
  EXPECT_FALSE(found.empty());
}

}  // namespace
}  // namespace concordat
