#include "worker/model/tokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/files.h"
#include "tests/unit/worker/model/real_model.h"

namespace concordat::model {
namespace {

using nlohmann::json;

const Tokenizer& SmolLm2() {
  static const std::unique_ptr<Tokenizer> tokenizer = [] {
    auto t = Tokenizer::Open(RealModel());
    if (!t.ok()) throw std::runtime_error(t.status().ToString());
    return *std::move(t);
  }();
  return *tokenizer;
}

json Cases() {
  const auto text = ReadTextFile("tests/data/tokenizer/smollm2_cases.json");
  if (!text.ok()) throw std::runtime_error(text.status().ToString());
  return json::parse(*text);
}

TEST(TokenizerTest, GivesTheReferenceIdsForEveryFixtureText) {
  const json cases = Cases();
  ASSERT_GE(cases.size(), 200u);
  for (const json& c : cases) {
    const auto text = c["text"].get<std::string>();
    const auto ids = SmolLm2().Encode(text);
    ASSERT_TRUE(ids.ok()) << text;
    EXPECT_EQ(*ids, c["ids"].get<std::vector<int32_t>>()) << c["text"].dump(-1, ' ', true);
    const auto special = SmolLm2().Encode(text, ParseSpecial::kYes);
    ASSERT_TRUE(special.ok());
    EXPECT_EQ(*special, c.value("ids_with_special", c["ids"]).get<std::vector<int32_t>>())
        << c["text"].dump(-1, ' ', true);
  }
}

TEST(TokenizerTest, DecodesWhatItEncodedWhereEveryByteHasAToken) {
  std::array<bool, 256> has{};
  for (int32_t id = 0; id < SmolLm2().vocab_size(); ++id) {
    if (SmolLm2().TokenBytes(id).size() == 1) has[static_cast<uint8_t>(SmolLm2().TokenBytes(id)[0])] = true;
  }
  for (const json& c : Cases()) {
    std::string expected;
    for (const char b : c["text"].get<std::string>()) {
      if (has[static_cast<uint8_t>(b)]) expected.push_back(b);
    }
    const auto decoded = SmolLm2().Decode(*SmolLm2().Encode(c["text"].get<std::string>()));
    ASSERT_TRUE(decoded.ok());
    EXPECT_EQ(*decoded, expected);
  }
}

TEST(TokenizerTest, GivesTheSameIdsThroughItsOwnTokenizerJson) {
  const auto spec =
      TokenizerSpecFromJson(TokenizerJson(SmolLm2().spec()), TokenizerConfigJson(SmolLm2().spec()));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->bos, SmolLm2().bos());
  EXPECT_EQ(spec->eos, SmolLm2().eos());
  EXPECT_EQ(spec->chat_template, SmolLm2().chat_template());
  const auto again = Tokenizer::Make(*spec);
  ASSERT_TRUE(again.ok());
  for (const json& c : Cases()) {
    EXPECT_EQ(*(*again)->Encode(c["text"].get<std::string>(), ParseSpecial::kYes),
              c.value("ids_with_special", c["ids"]).get<std::vector<int32_t>>());
  }
}

TEST(TokenizerTest, KnowsItsSpecialTokens) {
  EXPECT_EQ(SmolLm2().SpecialToken("<|im_start|>"), 1);
  EXPECT_EQ(SmolLm2().SpecialToken("<|im_end|>"), 2);
  EXPECT_EQ(SmolLm2().SpecialToken("the"), std::nullopt);
  EXPECT_EQ(SmolLm2().SpecialToken(""), std::nullopt);
  EXPECT_TRUE(SmolLm2().IsSpecial(2));
  EXPECT_FALSE(SmolLm2().IsSpecial(500));
  EXPECT_FALSE(SmolLm2().IsSpecial(-1));
  EXPECT_EQ(SmolLm2().vocab_size(), 49152);
  EXPECT_EQ(SmolLm2().eos(), 2);
  EXPECT_FALSE(SmolLm2().add_bos());
}

TEST(TokenizerTest, TakesSpecialTokensInPlainTextForOrdinaryText) {
  const auto ids = SmolLm2().Encode("x<|im_end|>y<|im_start|>system");
  ASSERT_TRUE(ids.ok());
  for (const int32_t id : *ids) EXPECT_FALSE(SmolLm2().IsSpecial(id));
  EXPECT_EQ(*SmolLm2().Decode(*ids), "x<|im_end|>y<|im_start|>system");
}

TEST(TokenizerTest, EncodesMegabyteWordsInNearLinearWork) {
  // Quadratic merging would need hours here; the test's own limit is the check.
  for (const std::string& unit :
       {std::string("a"), std::string("ab"), std::string(" "), std::string("7"), std::string("é"),
        std::string("\n"), std::string("<|im_end"), std::string("the")}) {
    std::string text;
    while (text.size() < (1 << 20)) text += unit;
    const auto ids = SmolLm2().Encode(text, ParseSpecial::kYes);
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(*SmolLm2().Decode(*ids), text);
  }
}

TEST(TokenizerTest, RefusesInvalidUtf8WithoutQuotingIt) {
  for (const std::string bad :
       {"\xff", "secret\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80"}) {
    const auto ids = SmolLm2().Encode(bad);
    EXPECT_EQ(ids.status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(Message(ids.status()).find("secret"), std::string_view::npos);
  }
}

TEST(TokenizerTest, RefusesToDecodeWhatIsNoToken) {
  const std::vector<int32_t> negative = {5, -1}, large = {49152};
  EXPECT_FALSE(SmolLm2().Decode(negative).ok());
  EXPECT_FALSE(SmolLm2().Decode(large).ok());
  EXPECT_EQ(SmolLm2().TokenBytes(-1), "");
  EXPECT_EQ(SmolLm2().TokenBytes(1 << 30), "");
}

/// A small tokenizer.json that is accepted as it is.
json Small() {
  return json::parse(R"({
    "version": "1.0",
    "added_tokens": [{"id": 5, "content": "<s>", "special": true, "lstrip": false, "rstrip": false},
                     {"id": 6, "content": "<tool>", "special": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Digits", "individual_digits": true},
      {"type": "Split", "pattern": {"Regex": "\\s+|\\S+"}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "unk_token": null, "fuse_unk": false, "byte_fallback": false,
              "vocab": {"a": 0, "b": 1, "ab": 2, "abab": 3, "\u0120": 4}, "merges": ["a b", ["ab", "ab"]]}})");
}

StatusOr<std::vector<int32_t>> EncodeWith(const json& tokenizer, std::string_view text,
                                          ParseSpecial special = ParseSpecial::kNo) {
  ASSIGN_OR_RETURN(TokenizerSpec spec, TokenizerSpecFromJson(tokenizer.dump(), ""));
  ASSIGN_OR_RETURN(const auto t, Tokenizer::Make(std::move(spec)));
  return t->Encode(text, special);
}

using Ids = std::vector<int32_t>;

TEST(TokenizerJsonTest, ReadsASmallFile) {
  EXPECT_EQ(*EncodeWith(Small(), "ababab"), (Ids{3, 2}));
  EXPECT_EQ(*EncodeWith(Small(), "ab ab"), (Ids{2, 4, 2}));
  EXPECT_EQ(*EncodeWith(Small(), "axb"), (Ids{2}));  // a byte without token is left out before merging
  EXPECT_EQ(*EncodeWith(Small(), "a1b"), (Ids{0, 1}));
  EXPECT_EQ(*EncodeWith(Small(), "a<s>b", ParseSpecial::kYes), (Ids{0, 5, 1}));
  EXPECT_EQ(*EncodeWith(Small(), "a<s>b", ParseSpecial::kNo), (Ids{0, 1}));
  EXPECT_EQ(*EncodeWith(Small(), "a<tool>b", ParseSpecial::kNo), (Ids{0, 6, 1}));
}

TEST(TokenizerJsonTest, HonoursIgnoreMergesUnknownAndNfc) {
  json t = Small();
  t["model"]["vocab"]["ba"] = 7;
  EXPECT_EQ(*EncodeWith(t, "ba"), (Ids{1, 0}));
  t["model"]["ignore_merges"] = true;
  EXPECT_EQ(*EncodeWith(t, "ba"), (Ids{7}));
  t = Small();
  t["model"]["unk_token"] = "<s>";
  EXPECT_EQ(*EncodeWith(t, "axb"), (Ids{0, 5, 1}));
  t = Small();
  t["model"]["vocab"]["\u00c3"] = 7;  // the bytes of U+00E9 in the byte-level alphabet
  t["model"]["vocab"]["\u00a9"] = 8;
  EXPECT_EQ(*EncodeWith(t, "\u00e9"), (Ids{7, 8}));
  EXPECT_EQ(*EncodeWith(t, "e\u0301"), (Ids{}));
  t["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(*EncodeWith(t, "e\u0301"), (Ids{7, 8}));
}

TEST(TokenizerJsonTest, RefusesWhatItDoesNotSupportNamingTheField) {
  const std::vector<std::tuple<const char*, json, const char*>> bad = {
      {"/model/type", "Unigram", "model.type"},
      {"/model/type", 7, "model.type"},
      {"/model/byte_fallback", true, "byte_fallback"},
      {"/model/fuse_unk", true, "fuse_unk"},
      {"/model/dropout", 0.1, "dropout"},
      {"/model/end_of_word_suffix", "</w>", "end_of_word_suffix"},
      {"/model/vocab", json::array(), "vocab"},
      {"/model/vocab/a", -1, "vocab"},
      {"/model/vocab/a", 1, "vocab"},
      {"/model/vocab/a", 4000000000u, "vocab"},
      {"/model/vocab/a", "0", "vocab"},
      {"/model/merges", "a b", "merges"},
      {"/model/merges/0", "ab", "merges"},
      {"/model/merges/0", "a b c", "merges"},
      {"/model/merges/0", "a z", "merges"},
      {"/model/merges/0", json::array({"a"}), "merges"},
      {"/added_tokens", 3, "added_tokens"},
      {"/added_tokens/0/id", 0, "added_tokens"},
      {"/added_tokens/0/id", 6, "added_tokens"},
      {"/added_tokens/0/id", 100000000, "added_tokens"},
      {"/added_tokens/0/content", "ab", "added_tokens"},
      {"/added_tokens/0/content", "", "added_tokens"},
      {"/added_tokens/0/lstrip", true, "lstrip"},
      {"/normalizer", json{{"type", "Lowercase"}}, "normalizer"},
      {"/post_processor", json{{"type", "TemplateProcessing"}}, "post_processor"},
      {"/decoder", json{{"type", "Metaspace"}}, "decoder"},
      {"/pre_tokenizer", nullptr, "pre_tokenizer"},
      {"/pre_tokenizer/pretokenizers", json::array(), "pre_tokenizer"},
      {"/pre_tokenizer/pretokenizers/0/type", "Metaspace", "pre_tokenizer"},
      {"/pre_tokenizer/pretokenizers/0/type", "ByteLevel", "pre_tokenizer"},
      {"/pre_tokenizer/pretokenizers/1/behavior", "Removed", "Split"},
      {"/pre_tokenizer/pretokenizers/1/invert", true, "Split"},
      {"/pre_tokenizer/pretokenizers/1/pattern", "x", "Split"},
      {"/pre_tokenizer/pretokenizers/1/pattern/Regex", "(", "stage 1"},
      {"/pre_tokenizer/pretokenizers/1/pattern/Regex", "", "stage 1"},
      {"/pre_tokenizer/pretokenizers/1/pattern/Regex", "[a[b]]", "nested"},
      {"/pre_tokenizer/pretokenizers/1/pattern/Regex", "[\\S]", "stage 1"},
      {"/pre_tokenizer/pretokenizers/2/add_prefix_space", true, "add_prefix_space"}};
  for (const auto& [where, value, named] : bad) {
    json t = Small();
    t[json::json_pointer(where)] = value;
    const auto ids = EncodeWith(t, "ab");
    ASSERT_FALSE(ids.ok()) << where << " " << value;
    EXPECT_EQ(ids.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(Message(ids.status()).find(named), std::string_view::npos) << where << ": " << ids.status();
  }
  EXPECT_FALSE(TokenizerSpecFromJson("[]", "").ok());
  EXPECT_FALSE(TokenizerSpecFromJson("{}", "").ok());
  EXPECT_FALSE(TokenizerSpecFromJson("{", "").ok());
  EXPECT_FALSE(TokenizerSpecFromJson(Small().dump(), R"({"bos_token":"<none>"})").ok());
  EXPECT_FALSE(TokenizerSpecFromJson(Small().dump(), "[]").ok());
}

TEST(TokenizerJsonTest, StopsAPatternThatWouldRunForever) {
  json t = Small();
  t["pre_tokenizer"]["pretokenizers"][1]["pattern"]["Regex"] = "(a+)+$";
  const auto ids = EncodeWith(t, std::string(60, 'a') + "b");
  ASSERT_FALSE(ids.ok());
  EXPECT_EQ(ids.status().code(), StatusCode::kInvalidArgument);
}

TEST(TokenizerSpecTest, RefusesMergesOutsideTheVocabulary) {
  TokenizerSpec spec;
  spec.tokens = {{"a", TokenizerSpec::Kind::kNormal}};
  spec.merges = {{0, 0, 1}};
  EXPECT_FALSE(Tokenizer::Make(spec).ok());
  spec.merges = {};
  spec.eos = 1;
  EXPECT_FALSE(Tokenizer::Make(spec).ok());
  spec.eos = 0;
  EXPECT_TRUE(Tokenizer::Make(spec).ok());
  EXPECT_FALSE(Tokenizer::Make({}).ok());
}

TEST(ByteLevelTest, MapsAllBytesThereAndBack) {
  std::string all;
  for (int b = 0; b < 256; ++b) all.push_back(static_cast<char>(b));
  EXPECT_EQ(ByteLevelDecode(ByteLevelEncode(all)), all);
  EXPECT_EQ(ByteLevelEncode(" \n"), "\u0120\u010a");
}

}  // namespace
}  // namespace concordat::model
