#ifndef CONCORDAT_WORKER_MODEL_TOKENIZER_SPEC_H_
#define CONCORDAT_WORKER_MODEL_TOKENIZER_SPEC_H_

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "worker/model/bpe.h"
#include "worker/model/gguf.h"

namespace concordat::model {

/// A byte-level BPE tokenizer as its files state it, whatever their format.
struct TokenizerSpec {
  /// kSpecial tokens are recognised in text only when asked, kAdded ones always, kNormal ones by merging.
  enum class Kind : uint8_t { kNormal, kSpecial, kAdded };
  struct Token {
    std::string text;  // kNormal: in the byte-level alphabet
    Kind kind = Kind::kNormal;
  };
  std::vector<Token> tokens;        // index = id; a hole has an empty text
  std::vector<Bpe::Merge> merges;   // in order of rank
  std::vector<std::string> stages;  // patterns of the pre-tokenizer
  bool nfc = false;
  bool ignore_merges = false;  // a piece that is a token is that token, however it would merge
  bool add_bos = false;
  int32_t unknown = -1;
  int32_t bos = -1;
  int32_t eos = -1;
  std::string chat_template;  // Jinja, as the model's files have it; empty when they have none
};

/// From GGUF metadata: tokenizer.ggml.model "gpt2" with pre-tokenizer "smollm" or "gpt-2". InvalidArgument,
/// naming the key, for another kind and for lists that do not fit together.
StatusOr<TokenizerSpec> TokenizerSpecFromGguf(const GgufFile& file);

/// From the text of tokenizer.json (model BPE; pre-tokenizer ByteLevel, or a Sequence of Digits and Split
/// that ends with it; normalizer none or NFC) and of tokenizer_config.json (may be empty). InvalidArgument,
/// naming the field, for everything else.
StatusOr<TokenizerSpec> TokenizerSpecFromJson(std::string_view tokenizer_json, std::string_view config_json);

/// From a GGUF file, or a folder with tokenizer.json and maybe tokenizer_config.json and chat_template.jinja.
StatusOr<TokenizerSpec> ReadTokenizerSpec(const std::filesystem::path& model);

/// tokenizer.json and tokenizer_config.json that say the same, for a folder that other programs load.
std::string TokenizerJson(const TokenizerSpec& spec);
std::string TokenizerConfigJson(const TokenizerSpec& spec);

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_TOKENIZER_SPEC_H_
