#include <unordered_map>

#include "worker/model/pretokenizer.h"
#include "worker/model/tokenizer_spec.h"
#include "worker/model/utf8.h"

namespace concordat::model {
namespace {

constexpr size_t kMaxTokens = 1 << 24;

/// llama.cpp's token types.
enum GgufTokenType : int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

StatusOr<TokenizerSpec::Kind> KindOf(int64_t type) {
  switch (type) {
    case kNormal:
    case kUnused:
    case kByte:
      return TokenizerSpec::Kind::kNormal;
    case kUnknown:
    case kControl:
      return TokenizerSpec::Kind::kSpecial;
    case kUserDefined:
      return TokenizerSpec::Kind::kAdded;
    default:
      return InvalidArgument("unknown type {}", type);
  }
}

Status ReadPreTokenizer(const GgufFile& file, TokenizerSpec& spec) {
  ASSIGN_OR_RETURN(const std::string_view model, file.Text("tokenizer.ggml.model"));
  if (model != "gpt2") return InvalidArgument("key 'tokenizer.ggml.model': only 'gpt2' is supported");
  ASSIGN_OR_RETURN(const std::string_view pre, file.Text("tokenizer.ggml.pre"));
  if (pre == "smollm") {
    spec.stages.emplace_back(kDigitPattern);
  } else if (pre != "gpt-2") {
    return InvalidArgument("key 'tokenizer.ggml.pre': only 'smollm' and 'gpt-2' are supported");
  }
  spec.stages.emplace_back(kGpt2Pattern);
  if (file.Has("tokenizer.ggml.add_space_prefix")) {
    ASSIGN_OR_RETURN(const bool prefix, file.Bool("tokenizer.ggml.add_space_prefix"));
    if (prefix) return InvalidArgument("key 'tokenizer.ggml.add_space_prefix': true is not supported");
  }
  return OkStatus();
}

Status ReadTokens(const GgufFile& file, TokenizerSpec& spec) {
  ASSIGN_OR_RETURN(const auto texts, file.Texts("tokenizer.ggml.tokens"));
  ASSIGN_OR_RETURN(const auto types, file.Integers("tokenizer.ggml.token_type"));
  if (texts.empty() || texts.size() > kMaxTokens) {
    return InvalidArgument("key 'tokenizer.ggml.tokens': {} tokens", texts.size());
  }
  if (types.size() != texts.size()) {
    return InvalidArgument("key 'tokenizer.ggml.token_type': {} types for {} tokens", types.size(),
                           texts.size());
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].empty() || !IsValidUtf8(texts[i])) {
      return InvalidArgument("key 'tokenizer.ggml.tokens': token {} is empty or not UTF-8", i);
    }
    auto kind = KindOf(types[i]);
    if (!kind.ok())
      return Annotate(kind.status(), fmt::format("key 'tokenizer.ggml.token_type': token {}", i));
    spec.tokens.push_back({std::string(texts[i]), *kind});
  }
  return OkStatus();
}

Status ReadMerges(const GgufFile& file, TokenizerSpec& spec) {
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    if (!ids.emplace(spec.tokens[i].text, static_cast<int32_t>(i)).second) {
      return InvalidArgument("key 'tokenizer.ggml.tokens': token {} appears before", i);
    }
  }
  ASSIGN_OR_RETURN(const auto merges, file.Texts("tokenizer.ggml.merges"));
  for (size_t i = 0; i < merges.size(); ++i) {
    const size_t space = merges[i].find(' ', 1);
    if (space == std::string_view::npos || merges[i].find(' ', space + 1) != std::string_view::npos) {
      return InvalidArgument("key 'tokenizer.ggml.merges': merge {}: expected two tokens", i);
    }
    const auto left = ids.find(merges[i].substr(0, space)), right = ids.find(merges[i].substr(space + 1));
    const auto whole = ids.find(std::string(merges[i].substr(0, space)).append(merges[i].substr(space + 1)));
    if (left == ids.end() || right == ids.end() || whole == ids.end()) {
      return InvalidArgument("key 'tokenizer.ggml.merges': merge {} names a token that is not there", i);
    }
    spec.merges.push_back({left->second, right->second, whole->second});
  }
  return OkStatus();
}

Status ReadTokenId(const GgufFile& file, std::string_view key, const TokenizerSpec& spec, int32_t& out) {
  if (!file.Has(key)) return OkStatus();
  ASSIGN_OR_RETURN(const uint32_t id, file.U32(key));
  if (id >= spec.tokens.size()) return InvalidArgument("key '{}': {} is not a token", key, id);
  out = static_cast<int32_t>(id);
  return OkStatus();
}

}  // namespace

StatusOr<TokenizerSpec> TokenizerSpecFromGguf(const GgufFile& file) {
  TokenizerSpec spec;
  RETURN_IF_ERROR(ReadPreTokenizer(file, spec));
  RETURN_IF_ERROR(ReadTokens(file, spec));
  RETURN_IF_ERROR(ReadMerges(file, spec));
  RETURN_IF_ERROR(ReadTokenId(file, "tokenizer.ggml.bos_token_id", spec, spec.bos));
  RETURN_IF_ERROR(ReadTokenId(file, "tokenizer.ggml.eos_token_id", spec, spec.eos));
  if (file.Has("tokenizer.ggml.add_bos_token")) {
    ASSIGN_OR_RETURN(spec.add_bos, file.Bool("tokenizer.ggml.add_bos_token"));
  }
  if (file.Has("tokenizer.chat_template")) {
    ASSIGN_OR_RETURN(spec.chat_template, file.Text("tokenizer.chat_template"));
  }
  return spec;
}

}  // namespace concordat::model
