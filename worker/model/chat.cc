#include "worker/model/chat.h"

#include <algorithm>

namespace concordat::model {
namespace {

constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kEnd = "<|im_end|>";

// A template is a Jinja program and is not run here: it must be, letter for letter, one whose meaning is
// known.
constexpr std::string_view kLoop = "{% for message in messages %}";
constexpr std::string_view kDefaultSystemStart =
    "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n";
constexpr std::string_view kDefaultSystemEnd = "<|im_end|>\n' }}{% endif %}";
constexpr std::string_view kTurn =
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}";
constexpr std::string_view kGeneration =
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Newlines written as \n within Jinja strings are newlines.
std::string Unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i).starts_with("\\n")) {
      out.push_back('\n');
      ++i;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

/// The default system turn of a ChatML template; empty when it has none.
StatusOr<std::string> DefaultSystem(std::string_view jinja) {
  const Status unknown = InvalidArgument("chat template: not one of the ChatML templates that are supported");
  if (jinja.empty()) return std::string();
  const std::string text = Unescaped(jinja);
  std::string_view rest = text;
  const auto take = [&](std::string_view expected) {
    if (!rest.starts_with(expected)) return false;
    rest.remove_prefix(expected.size());
    return true;
  };
  std::string system;
  if (!take(kLoop)) return unknown;
  if (take(kDefaultSystemStart)) {
    const size_t end = rest.find(kDefaultSystemEnd);
    // A quote or a backslash within the text would need Jinja's rules to read.
    if (end == std::string_view::npos || rest.substr(0, end).find_first_of("'\\") != std::string_view::npos) {
      return unknown;
    }
    system = rest.substr(0, end);
    rest.remove_prefix(end + kDefaultSystemEnd.size());
  }
  if (!take(kTurn)) return unknown;
  take(kGeneration);
  if (rest.find_first_not_of(" \n") != std::string_view::npos) return unknown;
  return system;
}

bool IsKnownRole(std::string_view role) {
  return role == "system" || role == "user" || role == "assistant" || role == "tool";
}

}  // namespace

void TokenSequence::Append(std::span<const int32_t> more, bool is_target) {
  tokens.insert(tokens.end(), more.begin(), more.end());
  target.resize(tokens.size(), is_target ? 1 : 0);
}

StatusOr<ChatTemplate> ChatTemplate::Make(const Tokenizer& tokenizer) {
  ChatTemplate out;
  const auto start = tokenizer.SpecialToken(kStart), end = tokenizer.SpecialToken(kEnd);
  if (!start || !end) {
    return InvalidArgument("chat template: the vocabulary has no tokens {} and {}", kStart, kEnd);
  }
  out.start_ = *start;
  out.end_ = *end;
  ASSIGN_OR_RETURN(out.default_system_, DefaultSystem(tokenizer.chat_template()));
  return out;
}

Status ChatTemplate::RenderTurn(const Tokenizer& tokenizer, std::string_view role, std::string_view content,
                                TokenSequence& out) const {
  const bool is_target = role == "assistant";
  out.Append({&start_, 1}, false);
  std::string header = std::string(role) + "\n";
  if (!is_target) header += content;
  ASSIGN_OR_RETURN(const std::vector<int32_t> head, tokenizer.Encode(header));
  out.Append(head, false);
  if (is_target) {
    ASSIGN_OR_RETURN(const std::vector<int32_t> body, tokenizer.Encode(content));
    out.Append(body, true);
  }
  out.Append({&end_, 1}, is_target);
  ASSIGN_OR_RETURN(const std::vector<int32_t> newline, tokenizer.Encode("\n"));
  out.Append(newline, false);
  return OkStatus();
}

StatusOr<TokenSequence> ChatTemplate::Render(const Tokenizer& tokenizer,
                                             std::span<const Message> messages) const {
  if (messages.empty()) return InvalidArgument("messages: expected at least one");
  TokenSequence out;
  if (messages[0].role != "system" && !default_system_.empty()) {
    RETURN_IF_ERROR(RenderTurn(tokenizer, "system", default_system_, out));
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!IsKnownRole(messages[i].role)) {
      return InvalidArgument("messages: turn {}: role: expected system, user, assistant or tool", i);
    }
    if (messages[i].role == "system" && i > 0) {
      return InvalidArgument("messages: turn {}: role: system is expected first only", i);
    }
    RETURN_IF_ERROR(RenderTurn(tokenizer, messages[i].role, messages[i].content, out));
  }
  return out;
}

}  // namespace concordat::model
