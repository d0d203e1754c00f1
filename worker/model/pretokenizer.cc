#include "worker/model/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace concordat::model {

const std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr std::string_view kWhiteSpace =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr size_t kMaxPatternBytes = 4096;
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr size_t kJitStackBytes = 8 << 20;

struct CodeDeleter {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
struct MatchDataDeleter {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct ContextDeleter {
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};
struct JitStackDeleter {
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
using Code = std::unique_ptr<pcre2_code, CodeDeleter>;

/// What one call of Split needs and may not share with other threads.
struct Matcher {
  std::unique_ptr<pcre2_match_data, MatchDataDeleter> data{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, ContextDeleter> context{pcre2_match_context_create(nullptr)};
  std::unique_ptr<pcre2_jit_stack, JitStackDeleter> stack{
      pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr)};

  bool Prepare() {
    if (!data || !context) return false;
    pcre2_set_match_limit(context.get(), kMatchLimit);
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
    return true;
  }
};

Status SplitPiece(const pcre2_code* code, const Matcher& m, std::string_view piece,
                  std::vector<std::string_view>& out) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(piece.data());
  size_t done = 0, from = 0;
  while (from < piece.size()) {
    const int rc = pcre2_match(code, subject, piece.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                               m.data.get(), m.context.get());
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0)
      return InvalidArgument("pre-tokenizer: the pattern does not come to an end (PCRE2 error {})", rc);
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(m.data.get());
    // A pattern with \K could report a start behind what is done or past its end.
    if (span[0] < done || span[1] <= span[0])
      return InvalidArgument("pre-tokenizer: the pattern moves backwards");
    if (span[0] > done) out.push_back(piece.substr(done, span[0] - done));
    out.push_back(piece.substr(span[0], span[1] - span[0]));
    done = from = span[1];
  }
  if (done < piece.size()) out.push_back(piece.substr(done));
  return OkStatus();
}

}  // namespace

struct PreTokenizer::Stage {
  Code code;
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

StatusOr<std::string> TranslatePattern(std::string_view pattern) {
  if (pattern.empty() || pattern.size() > kMaxPatternBytes) {
    return InvalidArgument("pattern: expected 1 to {} bytes, got {}", kMaxPatternBytes, pattern.size());
  }
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 's') {
        out += in_class ? std::string(kWhiteSpace) : fmt::format("[{}]", kWhiteSpace);
      } else if (next == 'S') {
        if (in_class) return InvalidArgument("pattern: \\S within a class is not supported");
        out += fmt::format("[^{}]", kWhiteSpace);
      } else {
        out += {c, next};
      }
      continue;
    }
    if (in_class && (c == '[' || (c == '&' && pattern.substr(i).starts_with("&&")))) {
      return InvalidArgument("pattern: nested classes are not supported");
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out.push_back(c);
  }
  return out;
}

StatusOr<PreTokenizer> PreTokenizer::Make(const std::vector<std::string>& patterns) {
  PreTokenizer out;
  for (size_t i = 0; i < patterns.size(); ++i) {
    auto translated = TranslatePattern(patterns[i]);
    if (!translated.ok()) return Annotate(translated.status(), fmt::format("pre-tokenizer stage {}", i));
    int error = 0;
    PCRE2_SIZE where = 0;
    Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated->data()), translated->size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY, &error,
                            &where, nullptr));
    if (!code) {
      return InvalidArgument("pre-tokenizer stage {}: the pattern does not compile (PCRE2 error {} at {})", i,
                             error, where);
    }
    // Without executable memory (a sandbox) the interpreter does the same, slower.
    (void)pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
    out.stages_.push_back(std::make_unique<Stage>(Stage{std::move(code)}));
  }
  return out;
}

StatusOr<std::vector<std::string_view>> PreTokenizer::Split(std::string_view text) const {
  std::vector<std::string_view> pieces;
  if (text.empty()) return pieces;
  pieces.push_back(text);
  Matcher matcher;
  if (!matcher.Prepare()) return ResourceExhausted("pre-tokenizer: no memory");
  for (const auto& stage : stages_) {
    std::vector<std::string_view> next;
    next.reserve(pieces.size());
    for (const std::string_view piece : pieces) {
      RETURN_IF_ERROR(SplitPiece(stage->code.get(), matcher, piece, next));
    }
    pieces = std::move(next);
  }
  return pieces;
}

}  // namespace concordat::model
