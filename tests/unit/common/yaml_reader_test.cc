#include "common/yaml_reader.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/status_matchers.h"

namespace concordat {
namespace {

using testing::HasStatus;

/// What `read` and Finish say about `text`.
template <typename Read>
Status Reading(std::string_view text, Read read) {
  auto file = YamlFile::Parse(text, "f.yaml");
  if (!file.ok()) return file.status();
  YamlMap root = file->root();
  read(root);
  return file->Finish();
}

TEST(YamlReaderTest, ReadsEveryKindOfValue) {
  const Status status = Reading(
      "text: hello\nnumber: 2.5\nwhole: -3\nflag: true\nchoice: b\nlist: [x, y]\ntime: 5m\n"
      "map:\n  inner: 1\nmaps:\n  - {a: 1}\n  - {a: 2}\n",
      [](YamlMap& m) {
        EXPECT_EQ(m.Text("text"), "hello");
        EXPECT_EQ(m.Number("number", 0, 9), 2.5);
        EXPECT_EQ(m.Integer("whole", -9, 9), -3);
        EXPECT_TRUE(m.Flag("flag"));
        EXPECT_EQ(m.Choice("choice", {"a", "b"}), 1u);
        EXPECT_EQ(m.Texts("list", 1, 2), (std::vector<std::string>{"x", "y"}));
        EXPECT_EQ(m.DurationMillis("time", 0, 1 << 30), 300000);
        EXPECT_EQ(m.Map("map").Integer("inner", 0, 9), 1);
        auto maps = m.Maps("maps", 1, 3);
        ASSERT_EQ(maps.size(), 2u);
        EXPECT_EQ(maps[0].Integer("a", 0, 9) + maps[1].Integer("a", 0, 9), 3);
      });
  EXPECT_OK(status);
}

TEST(YamlReaderTest, AStrayCommaEndsInsteadOfGivingDocumentsForever) {
  EXPECT_THAT(YamlFile::Parse(",", "f"), HasStatus(StatusCode::kInvalidArgument, "f"));
  EXPECT_THAT(YamlFile::Parse("a: 1\n,", "f"), HasStatus(StatusCode::kInvalidArgument, "f"));
}

TEST(YamlReaderTest, AbsentOptionalKeysGiveTheirFallback) {
  EXPECT_OK(Reading("a: 1\n", [](YamlMap& m) {
    EXPECT_EQ(m.Integer("a", 0, 9), 1);
    EXPECT_EQ(m.TextOr("t", "x"), "x");
    EXPECT_EQ(m.NumberOr("n", 1.5, 0, 9), 1.5);
    EXPECT_EQ(m.IntegerOr("i", 7, 0, 9), 7);
    EXPECT_TRUE(m.FlagOr("f", true));
    EXPECT_EQ(m.ChoiceOr("c", 1, {"a", "b"}), 1u);
    EXPECT_TRUE(m.TextsOr("l", 1, 3).empty());
    EXPECT_EQ(m.DurationMillisOr("d", 5, 0, 9), 5);
    YamlMap absent = m.MapOr("map");
    EXPECT_FALSE(absent.present());
    EXPECT_EQ(absent.Integer("x", 3, 9), 3);
    EXPECT_EQ(absent.Text("y"), "");
  }));
}

TEST(YamlReaderTest, MistakesHaveLineColumnAndPathInFileOrder) {
  const Status status = Reading("a: x\nmap:\n  b: 99\n  typo: 1\n", [](YamlMap& m) {
    YamlMap map = m.Map("map");
    map.Integer("b", 0, 9);
    map.Text("c");
    m.Integer("a", 0, 9);
  });
  EXPECT_EQ(Message(status),
            "f.yaml:1:4: a: expected a whole number from 0 to 9, got 'x'\n"
            "f.yaml:3:3: map.c: missing; expected text\n"
            "f.yaml:3:6: map.b: expected a whole number from 0 to 9, got '99'\n"
            "f.yaml:4:3: map.typo: unknown key; expected one of: b, c");
}

TEST(YamlReaderTest, DuplicateKeysAreNamedWithTheFirstOne) {
  EXPECT_THAT(Reading("a: 1\na: 2\n", [](YamlMap& m) { m.Integer("a", 0, 9); }),
              HasStatus(StatusCode::kInvalidArgument, "f.yaml:2:1: a: duplicate key, first given in line 1"));
}

TEST(YamlReaderTest, UnreadKeysOfListEntriesAreMistakesToo) {
  EXPECT_THAT(Reading("l:\n  - {a: 1, b: 2}\n", [](YamlMap& m) { m.Maps("l", 0, 2)[0].Integer("a", 0, 9); }),
              HasStatus(StatusCode::kInvalidArgument, "l[0].b: unknown key"));
  EXPECT_THAT(Reading("l:\n  - 5\n", [](YamlMap& m) { m.Maps("l", 0, 2); }),
              HasStatus(StatusCode::kInvalidArgument, "l[0]: expected a mapping, got '5'"));
}

TEST(YamlReaderTest, NumbersAreStrict) {
  for (const char* wrong :
       {"1.5", "1e3", "0x1", "+1", " ", "1 2", "١", "true", "99999999999999999999", "~", "[1]"}) {
    EXPECT_EQ(Reading(fmt::format("a: {}\n", wrong), [](YamlMap& m) { m.Integer("a", 0, 2000); }).code(),
              StatusCode::kInvalidArgument)
        << wrong;
  }
  for (const char* wrong : {"nan", ".nan", "inf", ".inf", "1,5", "0x1p3", "1e999", "--1", ""}) {
    EXPECT_EQ(Reading(fmt::format("a: {}\n", wrong), [](YamlMap& m) { m.Number("a", -1e300, 1e300); }).code(),
              StatusCode::kInvalidArgument)
        << wrong;
  }
  EXPECT_OK(Reading("a: 1e-5\n", [](YamlMap& m) { EXPECT_EQ(m.Number("a", 0, 1), 1e-5); }));
}

TEST(YamlReaderTest, DurationsNeedTheirUnit) {
  const auto read = [](const char* text, int64_t expected) {
    return Reading(fmt::format("d: {}\n", text),
                   [&](YamlMap& m) { EXPECT_EQ(m.DurationMillis("d", 0, INT64_MAX), expected); });
  };
  EXPECT_OK(read("250ms", 250));
  EXPECT_OK(read("30s", 30000));
  EXPECT_OK(read("2h", 7200000));
  EXPECT_OK(read("7d", 604800000));
  for (const char* wrong : {"5", "5 s", "-5s", "1.5h", "s", "5w", "5S", "9223372036854775807d"}) {
    EXPECT_THAT(read(wrong, 0), HasStatus(StatusCode::kInvalidArgument, "expected a duration")) << wrong;
  }
}

TEST(YamlReaderTest, BoundsOfADurationAreInTheLargestWholeUnit) {
  EXPECT_THAT(Reading("d: 5\n", [](YamlMap& m) { m.DurationMillis("d", 1'000, 604'800'000); }),
              HasStatus(StatusCode::kInvalidArgument, "expected a duration from 1s to 7d, like"));
  EXPECT_THAT(Reading("d: 5\n", [](YamlMap& m) { m.DurationMillis("d", 0, 5'400'000); }),
              HasStatus(StatusCode::kInvalidArgument, "expected a duration from 0ms to 90m, like"));
}

TEST(YamlReaderTest, OnlyTrueAndFalseAreFlags) {
  for (const char* wrong : {"yes", "no", "on", "True", "1", "~"}) {
    EXPECT_THAT(Reading(fmt::format("f: {}\n", wrong), [](YamlMap& m) { m.Flag("f"); }),
                HasStatus(StatusCode::kInvalidArgument, "expected true or false"))
        << wrong;
  }
}

TEST(YamlReaderTest, LongValuesAreNotRepeatedWhole) {
  const std::string secret(200, 'k');
  const Status status = Reading("a: " + secret + "\n", [](YamlMap& m) { m.Integer("a", 0, 9); });
  EXPECT_EQ(std::string(Message(status)).find(std::string(41, 'k')), std::string::npos);
  EXPECT_THAT(Reading("a: " + secret + "\n", [](YamlMap& m) { m.Text("a", 199); }),
              HasStatus(StatusCode::kInvalidArgument, "text of 1 to 199 bytes"));
}

TEST(YamlReaderTest, AFileNamedByMistakeIsNotRepeated) {
  const Status names = Reading("secret patient: 1\nsecret patient: 2\nJane|Doe: x\nplain: 1\n",
                               [](YamlMap& m) { m.TextOr("known", ""); });
  EXPECT_EQ(Message(names),
            "f.yaml:1:1: no key that this file knows; expected one of: known\n"
            "f.yaml:2:1: duplicate key, first given in line 1\n"
            "f.yaml:3:1: no key that this file knows; expected one of: known\n"
            "f.yaml:4:1: plain: unknown key; expected one of: known");
  EXPECT_EQ(Message(Reading("a: Jane Doe\n", [](YamlMap& m) { m.Integer("a", 0, 9); })),
            "f.yaml:1:4: a: expected a whole number from 0 to 9, got text of 8 bytes");
  const Status alias = YamlFile::Parse("a: *secret\n", "f.yaml").status();
  EXPECT_EQ(alias.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(alias).find("secret"), std::string_view::npos) << Message(alias);
}

TEST(YamlReaderTest, ManyMistakesAreCountedNotListed) {
  std::string text;
  for (int i = 0; i < 5'000; ++i) text += fmt::format("key{}: 1\n", i);
  const Status status = Reading(text, [](YamlMap& m) { m.TextOr("known", ""); });
  EXPECT_THAT(status, HasStatus(StatusCode::kInvalidArgument, "\nand 4980 more"));
  EXPECT_EQ(std::ranges::count(std::string(Message(status)), '\n'), 20);
}

TEST(YamlReaderTest, TwentyMistakesAreAllListed) {
  std::string text;
  for (int i = 0; i < 20; ++i) text += fmt::format("key{}: 1\n", i);
  const std::string all(Message(Reading(text, [](YamlMap&) {})));
  EXPECT_EQ(std::ranges::count(all, '\n'), 19);
  EXPECT_EQ(all.find("more"), std::string::npos);
}

TEST(YamlReaderTest, LongKeysAreNotRepeatedWhole) {
  // Each key is named in the path of what lies below it too.
  const std::string key = std::string(99, 'k') + "ü" + std::string(50'000, 'k');
  const Status status = Reading("? " + key + "\n: {inner: 1}\n", [](YamlMap& m) {
    for (const std::string& name : m.Keys()) {
      YamlMap inner = m.Map(name);
      inner.Integer("inner", 5, 9);
      inner.Mistake("other", std::string(100'000, 'w'));
    }
  });
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_LT(Message(status).size(), 3'000u);
  EXPECT_EQ(Message(status).find(std::string(41, 'k')), std::string::npos);
  EXPECT_NE(Message(status).find("(a name).inner: expected"), std::string::npos);
}

TEST(YamlReaderTest, ParsedValuesReportTheParsersWords) {
  EXPECT_THAT(Reading("a: x\n",
                      [](YamlMap& m) {
                        EXPECT_EQ(m.Parsed("a", 5,
                                           [](const std::string&) -> StatusOr<int> {
                                             return InvalidArgument("expected a better one");
                                           }),
                                  5);
                      }),
              HasStatus(StatusCode::kInvalidArgument, "f.yaml:1:4: a: expected a better one"));
}

TEST(YamlReaderTest, FilesThatMeanWhatTheyDoNotShowAreRefused) {
  const auto none = [](YamlMap& m) { m.Keys(); };
  EXPECT_THAT(Reading("a: &x 1\n", none),
              HasStatus(StatusCode::kInvalidArgument, "f.yaml:1:4: expected no anchor"));
  EXPECT_THAT(Reading("a: &x {b: 1}\nc: *x\n", none),
              HasStatus(StatusCode::kInvalidArgument, "no anchor or alias"));
  EXPECT_THAT(Reading("a: !!int 1\n", none), HasStatus(StatusCode::kInvalidArgument, "expected no tag"));
  EXPECT_THAT(Reading("a: 1\n---\nb: 2\n", none),
              HasStatus(StatusCode::kInvalidArgument, "one YAML document, got more"));
  EXPECT_THAT(Reading("[1, 2]\n", none), HasStatus(StatusCode::kInvalidArgument, "expected a mapping"));
  EXPECT_THAT(Reading("just text\n", none), HasStatus(StatusCode::kInvalidArgument, "expected a mapping"));
  EXPECT_THAT(Reading("a: [1\n", none), HasStatus(StatusCode::kInvalidArgument, "not YAML"));
  EXPECT_THAT(Reading("a: b: c\n", none), HasStatus(StatusCode::kInvalidArgument, "f.yaml:1:"));
  EXPECT_THAT(Reading("{a: 1}: 2\n", none), HasStatus(StatusCode::kInvalidArgument, "plain key"));
  EXPECT_THAT(Reading("a: \xff\xfe\n", none), HasStatus(StatusCode::kInvalidArgument, "UTF-8"));
  EXPECT_THAT(Reading("a: \xc0\xaf\n", none), HasStatus(StatusCode::kInvalidArgument, "UTF-8")) << "overlong";
  EXPECT_THAT(Reading("a: \xed\xa0\x80\n", none), HasStatus(StatusCode::kInvalidArgument, "UTF-8"))
      << "surrogate";
  EXPECT_THAT(Reading(std::string((1u << 20) + 1, '#'), none),
              HasStatus(StatusCode::kInvalidArgument, "1 MiB"));
}

TEST(YamlReaderTest, DeepNestingIsRefusedNotFollowed) {
  for (size_t depth : {40u, 5000u, 200000u}) {
    const std::string text = "a: " + std::string(depth, '[') + std::string(depth, ']') + "\n";
    EXPECT_EQ(Reading(text, [](YamlMap& m) { m.Keys(); }).code(), StatusCode::kInvalidArgument) << depth;
  }
}

TEST(YamlReaderTest, KeysGivesNamesInFileOrder) {
  EXPECT_OK(Reading("z: 1\na: 2\n", [](YamlMap& m) {
    EXPECT_EQ(m.Keys(), (std::vector<std::string>{"z", "a"}));
  }));
}

TEST(YamlReaderTest, CleanTurnsFalseWithTheFirstMistake) {
  ASSERT_OK_AND_ASSIGN(YamlFile file, YamlFile::Parse("a: x\n", "f"));
  EXPECT_TRUE(file.clean());
  file.root().Integer("a", 0, 1);
  EXPECT_FALSE(file.clean());
}

}  // namespace
}  // namespace concordat
