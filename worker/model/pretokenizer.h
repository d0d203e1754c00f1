#ifndef CONCORDAT_WORKER_MODEL_PRETOKENIZER_H_
#define CONCORDAT_WORKER_MODEL_PRETOKENIZER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace concordat::model {

/// GPT-2's pattern (Radford et al. 2019, encoder.py).
extern const std::string_view kGpt2Pattern;
/// One numeric character: what `Digits(individual_digits)` and llama.cpp's "smollm" split off first.
inline constexpr std::string_view kDigitPattern = R"(\p{N})";

/// Cuts text into the pieces that byte-pair encoding never merges across. Each stage isolates the matches of
/// its pattern within every piece of the stage before; what lies between matches is a piece too. Patterns see
/// only their own piece, nothing before or after it, as in the `tokenizers` package.
///
/// \s means Unicode's White_Space exactly, \p{…} Unicode's categories. Any thread once made.
class PreTokenizer {
 public:
  /// InvalidArgument, naming the stage: a pattern that does not compile or uses what cannot be translated.
  static StatusOr<PreTokenizer> Make(const std::vector<std::string>& patterns);
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  /// The pieces of `text` (valid UTF-8), in order; together they are all of it. InvalidArgument when a
  /// pattern needs more than its limit of steps.
  StatusOr<std::vector<std::string_view>> Split(std::string_view text) const;

 private:
  struct Stage;
  PreTokenizer();
  std::vector<std::unique_ptr<Stage>> stages_;
};

/// `pattern` with \s and \S written out as Unicode's White_Space. PCRE2's own \s differs from it (U+180E).
/// InvalidArgument for nested classes and \S within a class.
StatusOr<std::string> TranslatePattern(std::string_view pattern);

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_PRETOKENIZER_H_
