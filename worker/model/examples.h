#ifndef CONCORDAT_WORKER_MODEL_EXAMPLES_H_
#define CONCORDAT_WORKER_MODEL_EXAMPLES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "worker/model/dataset.h"

namespace concordat::model {

/// One sequence that a model reads. `target[i]`: the loss counts how well token i is predicted from the
/// tokens before it. target[0] is always 0.
struct Example {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> target;
  uint32_t targets = 0;  // how many tokens the loss counts
  uint64_t bytes = 0;    // of the text that those tokens stand for (special tokens stand for none)
  Digest document;       // keyed digest of the record it was cut from
  Digest person;         // keyed digest of whom it is about; zero: the dataset names no persons
};

struct ExampleSet {
  std::vector<Example> examples;
  uint64_t tokens = 0;
  uint64_t targets = 0;
  uint64_t bytes = 0;
  uint64_t documents_without_target = 0;  // too short, or the completion has no token
};

/// Turns documents into examples of at most `sequence_length` tokens.
///
/// Text: every token is a target but the document's first. Prompt and completion: the completion's tokens and
/// the end-of-sequence token after it, when the model has one. Messages: see ChatTemplate. A model that wants
/// a begin-of-sequence token gets it first. A longer document is cut into windows that overlap by one token,
/// so that each of its targets is counted exactly once; windows without a target are left out.
///
/// `chat` may be nullptr for datasets without messages. InvalidArgument: sequence_length under 2, messages
/// without a template, text that is not UTF-8; never quotes a document.
StatusOr<ExampleSet> MakeExamples(const Tokenizer& tokenizer, const ChatTemplate* chat,
                                  std::span<const Document> documents, uint32_t sequence_length);

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_EXAMPLES_H_
