#include "worker/model/examples.h"

#include <algorithm>

namespace concordat::model {
namespace {

StatusOr<TokenSequence> Tokenize(const Tokenizer& tokenizer, const ChatTemplate* chat,
                                 const Document& document) {
  TokenSequence out;
  if (tokenizer.add_bos() && tokenizer.bos() >= 0) {
    const int32_t bos = tokenizer.bos();
    out.Append({&bos, 1}, false);
  }
  switch (document.kind) {
    case DocumentKind::kText: {
      ASSIGN_OR_RETURN(const std::vector<int32_t> text, tokenizer.Encode(document.text));
      out.Append(text, true);
      break;
    }
    case DocumentKind::kPromptCompletion: {
      ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, tokenizer.Encode(document.prompt));
      ASSIGN_OR_RETURN(const std::vector<int32_t> completion, tokenizer.Encode(document.completion));
      out.Append(prompt, false);
      out.Append(completion, true);
      const int32_t eos = tokenizer.eos();
      if (eos >= 0) out.Append({&eos, 1}, true);
      break;
    }
    case DocumentKind::kMessages: {
      if (chat == nullptr) return InvalidArgument("messages: the model has no chat template");
      ASSIGN_OR_RETURN(const TokenSequence rendered, chat->Render(tokenizer, document.messages));
      out.tokens.insert(out.tokens.end(), rendered.tokens.begin(), rendered.tokens.end());
      out.target.insert(out.target.end(), rendered.target.begin(), rendered.target.end());
      break;
    }
  }
  return out;
}

Example Window(const Tokenizer& tokenizer, const TokenSequence& sequence, size_t begin, size_t end) {
  Example e;
  e.tokens.assign(sequence.tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                  sequence.tokens.begin() + static_cast<std::ptrdiff_t>(end));
  e.target.assign(sequence.target.begin() + static_cast<std::ptrdiff_t>(begin),
                  sequence.target.begin() + static_cast<std::ptrdiff_t>(end));
  e.target[0] = 0;  // nothing before it to predict it from, or counted by the window before
  for (size_t i = 1; i < e.tokens.size(); ++i) {
    if (e.target[i] == 0) continue;
    ++e.targets;
    if (!tokenizer.IsSpecial(e.tokens[i])) e.bytes += tokenizer.TokenBytes(e.tokens[i]).size();
  }
  return e;
}

}  // namespace

StatusOr<ExampleSet> MakeExamples(const Tokenizer& tokenizer, const ChatTemplate* chat,
                                  std::span<const Document> documents, uint32_t sequence_length) {
  if (sequence_length < 2)
    return InvalidArgument("sequence length: expected at least 2, got {}", sequence_length);
  ExampleSet out;
  for (const Document& document : documents) {
    ASSIGN_OR_RETURN(const TokenSequence sequence, Tokenize(tokenizer, chat, document));
    const size_t before = out.examples.size();
    for (size_t begin = 0; begin + 1 < sequence.tokens.size(); begin += sequence_length - 1) {
      const size_t end = std::min<size_t>(sequence.tokens.size(), begin + sequence_length);
      Example e = Window(tokenizer, sequence, begin, end);
      if (e.targets == 0) continue;
      e.document = document.digest;
      e.person = document.person;
      out.tokens += e.tokens.size();
      out.targets += e.targets;
      out.bytes += e.bytes;
      out.examples.push_back(std::move(e));
    }
    if (out.examples.size() == before) ++out.documents_without_target;
  }
  return out;
}

}  // namespace concordat::model
