#include <gtest/gtest.h>

#include <functional>
#include <regex>
#include <set>

#include "policy/charter.h"
#include "policy/node_config.h"
#include "tests/unit/policy/policy_fixture.h"

// The examples of configs/ are complete and read; whatever is done to a single key of them is refused with
// the place where it was done.
namespace concordat::policy {
namespace {

struct Example {
  std::string file;
  std::function<Status(std::string_view text)> parse;
  std::set<std::string> optional;  // keys that may be left out, by name
};

std::set<std::string> JobOptional() {
  return {"seed",
          "weight_decay",
          "beta2",
          "gradient_clip",
          "jurisdictions",
          "assumed_colluding",
          "attempts_per_round",
          "wait",
          "deadlines",
          "advert",
          "shares",
          "input",
          "agreement",
          "unmask",
          "rounding",
          "modulus_bits",
          "secure_aggregation",
          "metrics",
          "loss_bound",
          "metrics.noise_multiplier",
          "server",
          "server.learning_rate"};
}

std::vector<Example> Examples() {
  return {
      {"job.yaml", [](std::string_view t) { return ParseJob(t, "job.yaml").status(); }, JobOptional()},
      {"job-record.yaml", [](std::string_view t) { return ParseJob(t, "job-record.yaml").status(); },
       JobOptional()},
      {"job-record-shared-noise.yaml",
       [](std::string_view t) { return ParseJob(t, "job-record-shared-noise.yaml").status(); },
       JobOptional()},
      {"worker.yaml",
       [](std::string_view t) { return ParseWorkerConfig(t, "worker.yaml", "/r").status(); },
       {"device", "threads"}},
      {"operator.yaml",
       [](std::string_view t) { return ParseOperatorConfig(t, "operator.yaml", "/r").status(); },
       {}},
      {"coordinator.yaml",
       [](std::string_view t) { return ParseCoordinatorConfig(t, "coordinator.yaml", "/r").status(); },
       {"limits", "max_jobs", "max_workers", "max_vector_elements", "max_state_bytes", "idle_timeout",
        "reconnect_grace"}},
      {"region-policy.yaml",
       [](std::string_view t) { return ParseRegionPolicy(t, "region-policy.yaml").status(); },
       {"min_colluding", "min_metrics_noise_multiplier", "modulus_bits", "max_batch_sequences",
        "secure_aggregation", "unit_noise_multiplier", "unit_bytes"}},
      {"dataset-card.yaml",
       [](std::string_view t) { return ParseDatasetCard(t, "dataset-card.yaml", "/d").status(); },
       {}},
      {"charter.yaml",
       [](std::string_view t) { return ParseSignedCharter(t, "charter.yaml").status(); },
       {"signatures"}},
  };
}

/// One key of a file: where it stands, and where its value does.
struct Key {
  std::string name;
  std::string section;                   // the top-level key above it; empty at the top
  size_t line = 0;                       // from 1
  size_t begin = 0, value = 0, end = 0;  // offsets in the file
  bool flow = false;
  bool block = false;  // its value is on the lines below
};

/// Keys of the simple YAML that the examples are: block mappings, flow mappings on one line, literal blocks.
std::vector<Key> KeysOf(const std::string& text) {
  static const std::regex kBlockKey(R"(^( *)(- )?([a-z_0-9]+):( +|$)(.*)$)");
  static const std::regex kFlowKey(R"(([{,] *)([a-z_0-9]+): *([^,}]+))");
  std::vector<Key> keys;
  std::string section;
  size_t begin = 0, number = 0;
  size_t literal = std::string::npos;  // indent of the key whose literal block we are in
  while (begin < text.size()) {
    const size_t end = text.find('\n', begin);
    std::string line = text.substr(begin, end - begin);
    ++number;
    const size_t indent = line.find_first_not_of(' ');
    const bool in_literal = literal != std::string::npos && (indent == std::string::npos || indent > literal);
    if (!in_literal) literal = std::string::npos;
    if (!in_literal && indent != std::string::npos && line[indent] != '#') {
      const size_t comment = line.find("  #");
      if (comment != std::string::npos) line.resize(comment);
      while (line.ends_with(' ')) line.pop_back();
      std::smatch match;
      if (std::regex_match(line, match, kBlockKey)) {
        Key key;
        key.name = match[3];
        if (match[1].length() == 0 && match[2].length() == 0) section = key.name;
        key.section = section == key.name ? "" : section;
        key.line = number;
        key.begin = begin + static_cast<size_t>(match.position(3));
        key.value = begin + static_cast<size_t>(match.position(5));
        key.end = begin + line.size();
        const std::string value = match[5];
        key.block = value.empty() || value.starts_with("#") || value.starts_with("|");
        if (value.starts_with("|")) literal = indent + (match[2].length() > 0 ? 2 : 0);
        keys.push_back(key);
      }
      for (auto it = std::sregex_iterator(line.begin(), line.end(), kFlowKey); it != std::sregex_iterator();
           ++it) {
        Key key;
        key.name = (*it)[2];
        key.section = section;
        key.line = number;
        key.begin = begin + static_cast<size_t>(it->position(2));
        key.value = begin + static_cast<size_t>(it->position(3));
        key.end = key.value + static_cast<size_t>(it->length(3));
        key.flow = true;
        keys.push_back(key);
      }
    }
    begin = end + 1;
  }
  return keys;
}

bool IsOptional(const Example& example, const Key& key) {
  return example.optional.contains(key.name) && !key.section.empty()
             ? !(key.section == "training" && key.name == "learning_rate") &&
                   !(key.section == "deadlines" && example.file == "region-policy.yaml")
             : example.optional.contains(key.name) || example.optional.contains(key.section + "." + key.name);
}

std::string Mutated(std::string text, size_t begin, size_t end, std::string_view with) {
  return text.replace(begin, end - begin, with);
}

/// A refusal of malformed input that says file, line and column.
void ExpectRefused(const Example& example, const std::string& text, size_t line, const std::string& what) {
  const Status status = example.parse(text);
  ASSERT_EQ(status.code(), StatusCode::kInvalidArgument)
      << example.file << ":" << line << ": " << what << ": " << status.ToString();
  const std::regex place(example.file + R"(:[1-9][0-9]*:[1-9][0-9]*: )");
  EXPECT_TRUE(std::regex_search(std::string(Message(status)), place)) << status.ToString();
}

class ConfigsTest : public ::testing::TestWithParam<size_t> {
 protected:
  Example example_ = Examples()[GetParam()];
  std::string text_ = ReadExample(example_.file);
  std::vector<Key> keys_ = KeysOf(text_);
};

TEST_P(ConfigsTest, ExampleIsReadAsItStands) {
  EXPECT_OK(example_.parse(text_));
  EXPECT_GE(keys_.size(), 5u);
}

TEST_P(ConfigsTest, EveryKeyWithATypoIsRefusedWithItsPlace) {
  for (const Key& key : keys_) {
    const std::string text = Mutated(text_, key.begin, key.begin + key.name.size(), key.name + "x");
    // A charter whose `signatures:` line has a typo has a key of that name in its signed text.
    const Status status = example_.parse(text);
    ExpectRefused(example_, text, key.line, "typo in " + key.name);
    EXPECT_NE(std::string(Message(status)).find(key.name + "x: unknown key"), std::string::npos)
        << status.ToString();
    EXPECT_NE(std::string(Message(status)).find(fmt::format("{}:{}:", example_.file, key.line)),
              std::string::npos)
        << status.ToString();
  }
}

TEST_P(ConfigsTest, EveryRequiredKeyThatIsMissingIsNamed) {
  for (const Key& key : keys_) {
    // `server` has one key: without it nothing is left that could be a mapping.
    if (key.section == "server") continue;
    if (key.block || key.flow || key.section == "members" || key.section == "signatures") continue;
    const size_t line_begin =
        text_.rfind('\n', key.begin) == std::string::npos ? 0 : text_.rfind('\n', key.begin) + 1;
    if (text_[line_begin + (key.begin - line_begin) - 1] == ' ' && key.begin - line_begin >= 2 &&
        text_.substr(key.begin - 2, 2) == "- ") {
      continue;  // the first key of a list entry: its line carries the dash
    }
    const std::string text = Mutated(text_, line_begin, text_.find('\n', key.begin) + 1, "");
    if (IsOptional(example_, key)) {
      EXPECT_OK(example_.parse(text)) << key.name;
      continue;
    }
    ExpectRefused(example_, text, key.line, "without " + key.name);
    const std::string message(Message(example_.parse(text)));
    EXPECT_NE(message.find(key.name + ": missing; expected"), std::string::npos) << message;
  }
}

TEST_P(ConfigsTest, EveryValueOfAWrongTypeIsRefused) {
  for (const Key& key : keys_) {
    if (key.block) continue;
    for (std::string_view wrong : {"{zzz: 1}", "[[1, 2]]", "~"}) {
      ExpectRefused(example_, Mutated(text_, key.value, key.end, wrong), key.line,
                    fmt::format("{}: {}", key.name, wrong));
    }
  }
}

TEST_P(ConfigsTest, EveryNumberOutOfRangeIsRefused) {
  for (const Key& key : keys_) {
    const std::string value = text_.substr(key.value, key.end - key.value);
    if (key.block || value.empty() || value.find_first_not_of("0123456789.") != std::string::npos) continue;
    for (std::string_view wrong : {"-1", "1e300", "nan", ".inf", "0x10", "1,5", "99999999999999999999"}) {
      if (key.flow && wrong == "1,5") continue;
      ExpectRefused(example_, Mutated(text_, key.value, key.end, wrong), key.line,
                    fmt::format("{}: {}", key.name, wrong));
    }
  }
}

TEST_P(ConfigsTest, EveryDurationOutOfRangeIsRefused) {
  static const std::regex kDuration("[0-9]+(ms|s|m|h|d)");
  for (const Key& key : keys_) {
    if (!std::regex_match(text_.substr(key.value, key.end - key.value), kDuration)) continue;
    for (std::string_view wrong : {"-1s", "10", "5 m", "1000d", "1y", "999999999999999999s"}) {
      ExpectRefused(example_, Mutated(text_, key.value, key.end, wrong), key.line,
                    fmt::format("{}: {}", key.name, wrong));
    }
  }
}

TEST_P(ConfigsTest, EveryKeyGivenTwiceIsRefused) {
  for (const Key& key : keys_) {
    std::string text;
    if (key.flow) {
      text = Mutated(text_, key.end, key.end, ", " + key.name + ": 1");
    } else {
      const size_t line_begin =
          text_.rfind('\n', key.begin) == std::string::npos ? 0 : text_.rfind('\n', key.begin) + 1;
      const std::string indent(key.begin - line_begin, ' ');
      if (example_.file == "charter.yaml" && key.name == "signatures") continue;
      text = Mutated(text_, key.begin, key.begin, key.name + ": 1\n" + indent);
    }
    ExpectRefused(example_, text, key.line, key.name + " twice");
    const std::string message(Message(example_.parse(text)));
    EXPECT_NE(message.find(key.name + ": duplicate key"), std::string::npos) << message;
  }
}

TEST_P(ConfigsTest, TricksOfYamlAreRefused) {
  EXPECT_THAT(example_.parse("a: &x 1\nb: *x\n"), testing::HasStatus(StatusCode::kInvalidArgument, "anchor"));
  EXPECT_THAT(example_.parse("{"), testing::HasStatus(StatusCode::kInvalidArgument, "not YAML"));
  EXPECT_THAT(example_.parse(""), testing::HasStatus(StatusCode::kInvalidArgument, "expected a mapping"));
  EXPECT_THAT(example_.parse("\xff"), testing::HasStatus(StatusCode::kInvalidArgument, "UTF-8"));
  EXPECT_THAT(example_.parse("--- \na: 1\n--- \nb: 1\n"),
              testing::HasStatus(StatusCode::kInvalidArgument, "one YAML document"));
}

INSTANTIATE_TEST_SUITE_P(All, ConfigsTest, ::testing::Range<size_t>(0, Examples().size()),
                         [](const auto& info) {
                           std::string name = Examples()[info.param].file;
                           name.resize(name.find('.'));
                           std::erase(name, '-');
                           return name;
                         });

TEST(ConfigsTest, ExamplesPinTheExampleCharter) {
  ASSERT_OK_AND_ASSIGN(const auto charter, LoadSignedCharter("configs/charter.yaml"));
  ASSERT_OK_AND_ASSIGN(const auto worker, LoadWorkerConfig("configs/worker.yaml"));
  ASSERT_OK_AND_ASSIGN(const auto person, LoadOperatorConfig("configs/operator.yaml"));
  ASSERT_OK_AND_ASSIGN(const auto coordinator, LoadCoordinatorConfig("configs/coordinator.yaml"));
  EXPECT_EQ(worker.charter.hash, charter.hash);
  EXPECT_EQ(person.charter.hash, charter.hash);
  EXPECT_EQ(coordinator.charter.hash, charter.hash);
  EXPECT_EQ(ExampleJob().charter, charter.hash);
  EXPECT_OK(VerifyCharter(charter));
  EXPECT_OK(LoadPinnedCharter(worker.charter.file.string(), worker.charter.hash));
}

}  // namespace
}  // namespace concordat::policy
