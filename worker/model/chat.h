#ifndef CONCORDAT_WORKER_MODEL_CHAT_H_
#define CONCORDAT_WORKER_MODEL_CHAT_H_

#include <span>
#include <string>
#include <vector>

#include "worker/model/tokenizer.h"

namespace concordat::model {

/// One turn of a conversation.
struct Message {
  std::string role;  // "system", "user", "assistant" or "tool"
  std::string content;
};

/// Tokens, and for each whether the loss counts it. Both lists have the same length.
struct TokenSequence {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> target;

  void Append(std::span<const int32_t> more, bool is_target);
};

/// The ChatML template: <|im_start|>role\ncontent<|im_end|>\n for each turn, with the model's default system
/// turn first when the conversation brings none.
class ChatTemplate {
 public:
  /// From the tokenizer's own template. InvalidArgument unless it is one of the ChatML templates known here
  /// (none at all counts as plain ChatML) and the vocabulary has both marker tokens.
  static StatusOr<ChatTemplate> Make(const Tokenizer& tokenizer);

  /// Targets are the assistant's content and the <|im_end|> after it. Content is never parsed for special
  /// tokens. The assistant's content is encoded apart from its header, as a model generates it.
  /// InvalidArgument, not quoting anything: no turn, an unknown role, a system turn that is not the first,
  /// content that is not UTF-8.
  StatusOr<TokenSequence> Render(const Tokenizer& tokenizer, std::span<const Message> messages) const;

  const std::string& default_system() const { return default_system_; }

 private:
  Status RenderTurn(const Tokenizer& tokenizer, std::string_view role, std::string_view content,
                    TokenSequence& out) const;

  int32_t start_ = -1;
  int32_t end_ = -1;
  std::string default_system_;  // empty: none
};

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_CHAT_H_
