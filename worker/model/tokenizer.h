#ifndef CONCORDAT_WORKER_MODEL_TOKENIZER_H_
#define CONCORDAT_WORKER_MODEL_TOKENIZER_H_

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "worker/model/bpe.h"
#include "worker/model/pretokenizer.h"
#include "worker/model/tokenizer_spec.h"

namespace concordat::model {

/// Whether special tokens ("<|im_start|>") are recognised in a text. Text from a record is kNo always: what
/// looks like a special token in it is ordinary text.
enum class ParseSpecial : uint8_t { kNo, kYes };

/// A byte-level BPE tokenizer; token ids as of the `tokenizers` package. Any thread once made.
class Tokenizer {
 public:
  /// InvalidArgument when the specification does not fit together.
  static StatusOr<std::unique_ptr<Tokenizer>> Make(TokenizerSpec spec);
  /// The tokenizer of a GGUF file or of a Hugging Face folder.
  static StatusOr<std::unique_ptr<Tokenizer>> Open(const std::filesystem::path& model);

  /// Token ids of `text`, no begin-of-sequence token added. Near-linear in the length of the text. A byte
  /// that has no token is left out, as the `tokenizers` package does. InvalidArgument when `text` is not
  /// UTF-8 or longer than 1 GiB; the message does not quote it.
  StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                        ParseSpecial special = ParseSpecial::kNo) const;

  /// The bytes of `tokens`, special ones by their text. May end within a character. InvalidArgument for an id
  /// that is not in the vocabulary.
  StatusOr<std::string> Decode(std::span<const int32_t> tokens) const;

  /// The bytes that `token` stands for; empty for an id that is not in the vocabulary.
  std::string_view TokenBytes(int32_t token) const;
  bool IsSpecial(int32_t token) const;
  /// Id of the special or added token with this text.
  std::optional<int32_t> SpecialToken(std::string_view text) const;

  int32_t vocab_size() const { return static_cast<int32_t>(bytes_.size()); }
  int32_t bos() const { return spec_.bos; }
  int32_t eos() const { return spec_.eos; }
  bool add_bos() const { return spec_.add_bos; }
  const std::string& chat_template() const { return spec_.chat_template; }
  const TokenizerSpec& spec() const { return spec_; }

 private:
  Tokenizer(TokenizerSpec spec, PreTokenizer pre, Bpe bpe);
  Status EncodePlain(std::string_view text, std::vector<int32_t>& out) const;
  /// The token recognised at the start of `text`, the longest of several; -1 when none is.
  int32_t SpecialAt(std::string_view text, ParseSpecial special) const;

  TokenizerSpec spec_;
  PreTokenizer pre_;
  Bpe bpe_;
  std::vector<std::string> bytes_;
  std::unordered_map<std::string_view, int32_t> whole_pieces_;    // with ignore_merges, by byte-level text
  std::unordered_map<uint8_t, std::vector<int32_t>> recognised_;  // by first byte, longest first
};

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_TOKENIZER_H_
