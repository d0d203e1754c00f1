#include <unordered_map>

#include "aggregation/strict_json.h"
#include "common/files.h"
#include "worker/model/pretokenizer.h"
#include "worker/model/tokenizer_spec.h"

namespace concordat::model {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxTokenizerBytes = 256 << 20;
constexpr uint64_t kMaxConfigBytes = 16 << 20;
constexpr std::string_view kFile = "tokenizer.json";

/// The member `key`, or null.
const json& Member(const json& object, const char* key) {
  static const json null;
  if (!object.is_object()) return null;
  const auto it = object.find(key);
  return it == object.end() ? null : *it;
}

bool IsTrue(const json& v) { return v.is_boolean() && v.get<bool>(); }
bool IsText(const json& v, std::string_view text) {
  return v.is_string() && v.get_ref<const std::string&>() == text;
}

/// `v` as a token id, or -1.
int64_t TokenId(const json& v) {
  if (!v.is_number_unsigned()) return -1;
  return static_cast<int64_t>(std::min<uint64_t>(v.get<uint64_t>(), INT32_MAX));
}

Status ReadVocabulary(const json& model, const json& added, TokenizerSpec& spec) {
  const json& vocab = Member(model, "vocab");
  if (!vocab.is_object() || vocab.empty()) return InvalidArgument("model.vocab: expected an object of ids");
  // Ids may leave holes, but not so many that a short file makes a long list.
  const size_t limit = 2 * (vocab.size() + added.size()) + 1024;
  for (const auto& [text, v] : vocab.items()) {
    const int64_t id = TokenId(v);
    if (id < 0 || static_cast<size_t>(id) >= limit || text.empty()) {
      return InvalidArgument("model.vocab: an id outside 0 to {}, or an empty token", limit - 1);
    }
    const auto i = static_cast<size_t>(id);
    if (i >= spec.tokens.size()) spec.tokens.resize(i + 1);
    if (!spec.tokens[i].text.empty()) return InvalidArgument("model.vocab: id {} twice", id);
    spec.tokens[i].text = text;
  }
  return OkStatus();
}

Status ReadAddedToken(const json& t, size_t limit, TokenizerSpec& spec) {
  const int64_t id = TokenId(Member(t, "id"));
  const json& content = Member(t, "content");
  if (id < 0 || static_cast<size_t>(id) >= limit || !content.is_string() || content.empty() ||
      content.get_ref<const std::string&>().empty()) {
    return InvalidArgument("added_tokens: expected id and content");
  }
  for (const char* flag : {"lstrip", "rstrip", "single_word"}) {
    if (IsTrue(Member(t, flag))) return InvalidArgument("added_tokens: id {}: {} is not supported", id, flag);
  }
  const auto i = static_cast<size_t>(id);
  if (i >= spec.tokens.size()) spec.tokens.resize(i + 1);
  if (!spec.tokens[i].text.empty() && spec.tokens[i].text != content.get_ref<const std::string&>()) {
    return InvalidArgument("added_tokens: id {} is another token in model.vocab", id);
  }
  if (spec.tokens[i].kind != TokenizerSpec::Kind::kNormal)
    return InvalidArgument("added_tokens: id {} twice", id);
  const bool special = IsTrue(Member(t, "special"));
  spec.tokens[i] = {content.get<std::string>(),
                    special ? TokenizerSpec::Kind::kSpecial : TokenizerSpec::Kind::kAdded};
  return OkStatus();
}

/// A merge is "a b" or ["a", "b"].
StatusOr<std::pair<std::string, std::string>> MergePair(const json& m) {
  if (m.is_array() && m.size() == 2 && m[0].is_string() && m[1].is_string()) {
    return std::pair(m[0].get<std::string>(), m[1].get<std::string>());
  }
  if (m.is_string()) {
    const auto& text = m.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return std::pair(text.substr(0, space), text.substr(space + 1));
    }
  }
  return InvalidArgument("expected two tokens");
}

Status ReadMerges(const json& model, TokenizerSpec& spec) {
  std::unordered_map<std::string, int32_t> ids;
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    if (spec.tokens[i].text.empty()) continue;
    if (!ids.emplace(spec.tokens[i].text, static_cast<int32_t>(i)).second) {
      return InvalidArgument("added_tokens: the text of id {} appears before", i);
    }
  }
  const json& merges = Member(model, "merges");
  if (!merges.is_array()) return InvalidArgument("model.merges: expected a list");
  for (size_t i = 0; i < merges.size(); ++i) {
    auto pair = MergePair(merges[i]);
    if (!pair.ok()) return Annotate(pair.status(), fmt::format("model.merges: merge {}", i));
    const auto left = ids.find(pair->first), right = ids.find(pair->second),
               whole = ids.find(pair->first + pair->second);
    if (left == ids.end() || right == ids.end() || whole == ids.end()) {
      return InvalidArgument("model.merges: merge {} names a token that is not there", i);
    }
    spec.merges.push_back({left->second, right->second, whole->second});
  }
  return OkStatus();
}

Status ReadModel(const json& root, TokenizerSpec& spec) {
  const json& model = Member(root, "model");
  // Old files have no type; then the merges say that it is BPE.
  if (!model.is_object() || (model.contains("type") && !IsText(model["type"], "BPE"))) {
    return InvalidArgument("model.type: only BPE is supported");
  }
  for (const char* field : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const json& v = Member(model, field);
    if (!v.is_null() && !IsText(v, "") && !(v.is_number() && v == 0)) {
      return InvalidArgument("model.{}: not supported", field);
    }
  }
  for (const char* field : {"byte_fallback", "fuse_unk"}) {
    if (IsTrue(Member(model, field))) return InvalidArgument("model.{}: true is not supported", field);
  }
  spec.ignore_merges = IsTrue(Member(model, "ignore_merges"));
  const json& added = Member(root, "added_tokens");
  if (!added.is_null() && !added.is_array()) return InvalidArgument("added_tokens: expected a list");
  RETURN_IF_ERROR(ReadVocabulary(model, added, spec));
  const size_t limit = 2 * (Member(model, "vocab").size() + added.size()) + 1024;
  for (const json& t : added) RETURN_IF_ERROR(ReadAddedToken(t, limit, spec));
  RETURN_IF_ERROR(ReadMerges(model, spec));
  if (const json& unknown = Member(model, "unk_token"); unknown.is_string()) {
    for (size_t i = 0; i < spec.tokens.size(); ++i) {
      if (spec.tokens[i].text == unknown.get_ref<const std::string&>())
        spec.unknown = static_cast<int32_t>(i);
    }
  }
  return OkStatus();
}

/// A literal text as a pattern.
std::string Quoted(const std::string& literal) {
  std::string out;
  for (const char c : literal) {
    if (std::string_view(R"(\^$.[]|()?*+{}-#&)").find(c) != std::string_view::npos) out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

Status ReadSplit(const json& stage, TokenizerSpec& spec) {
  if (!IsText(Member(stage, "behavior"), "Isolated") || IsTrue(Member(stage, "invert"))) {
    return InvalidArgument("pre_tokenizer: Split: only behavior Isolated without invert is supported");
  }
  const json& regex = Member(Member(stage, "pattern"), "Regex");
  const json& literal = Member(Member(stage, "pattern"), "String");
  if (regex.is_string()) {
    spec.stages.push_back(regex.get<std::string>());
  } else if (literal.is_string()) {
    spec.stages.push_back(Quoted(literal.get<std::string>()));
  } else {
    return InvalidArgument("pre_tokenizer: Split: expected a pattern");
  }
  return OkStatus();
}

Status ReadPreTokenizer(const json& root, TokenizerSpec& spec) {
  const json& pre = Member(root, "pre_tokenizer");
  const json single = json::array({pre});
  const json& sequence = Member(pre, "pretokenizers");
  const json& stages = IsText(Member(pre, "type"), "Sequence") && sequence.is_array() ? sequence : single;
  if (stages.size() > 16) return InvalidArgument("pre_tokenizer: {} stages are too many", stages.size());
  bool byte_level = false;
  for (const json& stage : stages) {
    if (byte_level) return InvalidArgument("pre_tokenizer: ByteLevel: expected as the last stage");
    const json& type = Member(stage, "type");
    if (IsText(type, "ByteLevel")) {
      byte_level = true;
      const json& prefix = Member(stage, "add_prefix_space");
      if (!prefix.is_boolean() || prefix.get<bool>()) {
        return InvalidArgument("pre_tokenizer: ByteLevel: add_prefix_space: only false is supported");
      }
      const json& use_regex = Member(stage, "use_regex");
      if (use_regex.is_null() || IsTrue(use_regex)) spec.stages.emplace_back(kGpt2Pattern);
    } else if (IsText(type, "Digits")) {
      spec.stages.emplace_back(IsTrue(Member(stage, "individual_digits")) ? R"(\p{N})" : R"(\p{N}+)");
    } else if (IsText(type, "Split")) {
      RETURN_IF_ERROR(ReadSplit(stage, spec));
    } else {
      return InvalidArgument("pre_tokenizer: only ByteLevel, Digits, Split and their Sequence are supported");
    }
  }
  if (!byte_level) return InvalidArgument("pre_tokenizer: expected ByteLevel as the last stage");
  return OkStatus();
}

Status ReadPipeline(const json& root, TokenizerSpec& spec) {
  const json& normalizer = Member(root, "normalizer");
  spec.nfc = IsText(Member(normalizer, "type"), "NFC");
  if (!normalizer.is_null() && !spec.nfc) return InvalidArgument("normalizer: only NFC is supported");
  const json& post = Member(root, "post_processor");
  if (!post.is_null() && !IsText(Member(post, "type"), "ByteLevel")) {
    return InvalidArgument("post_processor: only ByteLevel is supported");
  }
  const json& decoder = Member(root, "decoder");
  if (!decoder.is_null() && !IsText(Member(decoder, "type"), "ByteLevel")) {
    return InvalidArgument("decoder: only ByteLevel is supported");
  }
  return ReadPreTokenizer(root, spec);
}

/// "<s>" or {"content": "<s>", …}.
StatusOr<int32_t> NamedToken(const json& config, const char* field, const TokenizerSpec& spec) {
  const json& v = Member(config, field);
  if (v.is_null()) return -1;
  const json& text = v.is_object() ? Member(v, "content") : v;
  if (text.is_string()) {
    for (size_t i = 0; i < spec.tokens.size(); ++i) {
      if (spec.tokens[i].text == text.get_ref<const std::string&>()) return static_cast<int32_t>(i);
    }
  }
  return InvalidArgument("tokenizer_config.json: {}: not a token of the vocabulary", field);
}

Status ReadConfig(std::string_view text, TokenizerSpec& spec) {
  ASSIGN_OR_RETURN(const json config, ParseStrictJson(text, "tokenizer_config.json"));
  if (!config.is_object()) return InvalidArgument("tokenizer_config.json: expected an object");
  ASSIGN_OR_RETURN(spec.bos, NamedToken(config, "bos_token", spec));
  ASSIGN_OR_RETURN(spec.eos, NamedToken(config, "eos_token", spec));
  spec.add_bos = IsTrue(Member(config, "add_bos_token"));
  if (IsTrue(Member(config, "add_prefix_space"))) {
    return InvalidArgument("tokenizer_config.json: add_prefix_space: only false is supported");
  }
  const json& chat = Member(config, "chat_template");
  if (chat.is_string()) spec.chat_template = chat.get<std::string>();
  return OkStatus();
}

}  // namespace

StatusOr<TokenizerSpec> TokenizerSpecFromJson(std::string_view tokenizer_json, std::string_view config_json) {
  ASSIGN_OR_RETURN(const json root, ParseStrictJson(tokenizer_json, kFile));
  if (!root.is_object()) return InvalidArgument("{}: expected an object", kFile);
  TokenizerSpec spec;
  if (const Status s = ReadPipeline(root, spec); !s.ok()) return Annotate(s, kFile);
  if (const Status s = ReadModel(root, spec); !s.ok()) return Annotate(s, kFile);
  if (!config_json.empty()) RETURN_IF_ERROR(ReadConfig(config_json, spec));
  return spec;
}

namespace {

StatusOr<TokenizerSpec> ReadFolder(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(folder / "tokenizer.json", kMaxTokenizerBytes));
  auto config = ReadTextFile(folder / "tokenizer_config.json", kMaxConfigBytes);
  if (!config.ok() && config.status().code() != StatusCode::kNotFound) return config.status();
  ASSIGN_OR_RETURN(TokenizerSpec spec, TokenizerSpecFromJson(text, config.ok() ? *config : std::string()));
  auto chat = ReadTextFile(folder / "chat_template.jinja", kMaxConfigBytes);
  if (!chat.ok() && chat.status().code() != StatusCode::kNotFound) return chat.status();
  if (chat.ok()) spec.chat_template = *std::move(chat);
  return spec;
}

StatusOr<TokenizerSpec> ReadGguf(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const auto mapped, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(mapped->view()));
  return TokenizerSpecFromGguf(file);
}

nlohmann::ordered_json AddedToken(size_t id, const TokenizerSpec::Token& t) {
  const bool special = t.kind == TokenizerSpec::Kind::kSpecial;
  return {{"id", id},        {"content", t.text},   {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

nlohmann::ordered_json Model(const TokenizerSpec& spec) {
  nlohmann::ordered_json merges = nlohmann::ordered_json::array();
  const auto text = [&](int32_t id) { return spec.tokens[static_cast<size_t>(id)].text; };
  for (const Bpe::Merge& m : spec.merges) merges.push_back(text(m.left) + " " + text(m.right));
  // A plain object here: the ordered one looks every key up linearly.
  json vocab = json::object();
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    if (!spec.tokens[i].text.empty()) vocab[spec.tokens[i].text] = i;
  }
  nlohmann::ordered_json unknown = nullptr;
  if (spec.unknown >= 0) unknown = text(spec.unknown);
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", unknown},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", spec.ignore_merges},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

}  // namespace

StatusOr<TokenizerSpec> ReadTokenizerSpec(const std::filesystem::path& model) {
  std::error_code error;
  auto spec = std::filesystem::is_directory(model, error) ? ReadFolder(model) : ReadGguf(model);
  if (spec.ok()) return spec;
  return Annotate(spec.status(), model.string());
}

std::string TokenizerJson(const TokenizerSpec& spec) {
  using nlohmann::ordered_json;
  ordered_json added = ordered_json::array();
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    if (spec.tokens[i].kind != TokenizerSpec::Kind::kNormal) added.push_back(AddedToken(i, spec.tokens[i]));
  }
  ordered_json stages = ordered_json::array();
  for (const std::string& pattern : spec.stages) {
    ordered_json split;
    split["type"] = "Split";
    split["pattern"]["Regex"] = pattern;
    split["behavior"] = "Isolated";
    split["invert"] = false;
    stages.push_back(std::move(split));
  }
  ordered_json byte_level;
  byte_level["type"] = "ByteLevel";
  byte_level["add_prefix_space"] = false;
  byte_level["trim_offsets"] = true;
  byte_level["use_regex"] = false;
  stages.push_back(byte_level);
  byte_level["use_regex"] = true;
  ordered_json root;
  root["version"] = "1.0";
  root["truncation"] = nullptr;
  root["padding"] = nullptr;
  root["added_tokens"] = std::move(added);
  root["normalizer"] = nullptr;
  if (spec.nfc) root["normalizer"]["type"] = "NFC";
  root["pre_tokenizer"]["type"] = "Sequence";
  root["pre_tokenizer"]["pretokenizers"] = std::move(stages);
  root["post_processor"] = nullptr;
  root["decoder"] = byte_level;
  root["model"] = Model(spec);
  return root.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string TokenizerConfigJson(const TokenizerSpec& spec) {
  nlohmann::ordered_json c;
  c["tokenizer_class"] = "PreTrainedTokenizerFast";
  c["add_bos_token"] = spec.add_bos;
  c["add_prefix_space"] = false;
  c["clean_up_tokenization_spaces"] = false;
  if (spec.bos >= 0) c["bos_token"] = spec.tokens[static_cast<size_t>(spec.bos)].text;
  if (spec.eos >= 0) c["eos_token"] = spec.tokens[static_cast<size_t>(spec.eos)].text;
  if (spec.unknown >= 0) c["unk_token"] = spec.tokens[static_cast<size_t>(spec.unknown)].text;
  if (!spec.chat_template.empty()) c["chat_template"] = spec.chat_template;
  return c.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace concordat::model
