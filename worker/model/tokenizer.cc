#include "worker/model/tokenizer.h"

#include <algorithm>

#include "worker/model/utf8.h"

namespace concordat::model {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;

bool IsToken(const TokenizerSpec& spec, int32_t id) {
  return id >= 0 && static_cast<size_t>(id) < spec.tokens.size();
}

std::array<int32_t, 256> ByteIds(const TokenizerSpec& spec) {
  std::unordered_map<std::string, uint8_t> symbols;
  for (uint32_t b = 0; b < 256; ++b) {
    std::string text;
    AppendUtf8(ByteSymbol(static_cast<uint8_t>(b)), text);
    symbols.emplace(std::move(text), static_cast<uint8_t>(b));
  }
  std::array<int32_t, 256> out;
  out.fill(-1);
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const auto it = symbols.find(spec.tokens[i].text);
    if (it != symbols.end()) out[it->second] = static_cast<int32_t>(i);
  }
  return out;
}

}  // namespace

Tokenizer::Tokenizer(TokenizerSpec spec, PreTokenizer pre, Bpe bpe)
    : spec_(std::move(spec)), pre_(std::move(pre)), bpe_(std::move(bpe)) {
  using Kind = TokenizerSpec::Kind;
  for (size_t i = 0; i < spec_.tokens.size(); ++i) {
    const TokenizerSpec::Token& t = spec_.tokens[i];
    bytes_.push_back(t.kind == Kind::kNormal ? ByteLevelDecode(t.text) : t.text);
    if (t.text.empty()) continue;
    if (spec_.ignore_merges) whole_pieces_.emplace(t.text, static_cast<int32_t>(i));
    if (t.kind != Kind::kNormal)
      recognised_[static_cast<uint8_t>(t.text[0])].push_back(static_cast<int32_t>(i));
  }
  for (auto& [first, ids] : recognised_) {
    std::sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
      return spec_.tokens[static_cast<size_t>(a)].text.size() >
             spec_.tokens[static_cast<size_t>(b)].text.size();
    });
  }
}

StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Make(TokenizerSpec spec) {
  if (spec.tokens.empty() || spec.tokens.size() > (1 << 24)) {
    return InvalidArgument("tokenizer: a vocabulary of {}", spec.tokens.size());
  }
  for (const Bpe::Merge& m : spec.merges) {
    if (!IsToken(spec, m.left) || !IsToken(spec, m.right) || !IsToken(spec, m.result)) {
      return InvalidArgument("tokenizer: a merge names a token that is not there");
    }
  }
  for (const int32_t id : {spec.bos, spec.eos, spec.unknown}) {
    if (id != -1 && !IsToken(spec, id)) return InvalidArgument("tokenizer: {} is not a token", id);
  }
  ASSIGN_OR_RETURN(PreTokenizer pre, PreTokenizer::Make(spec.stages));
  Bpe bpe(ByteIds(spec), spec.unknown, spec.merges);
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(spec), std::move(pre), std::move(bpe)));
}

StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Open(const std::filesystem::path& model) {
  ASSIGN_OR_RETURN(TokenizerSpec spec, ReadTokenizerSpec(model));
  auto out = Make(std::move(spec));
  if (!out.ok()) return Annotate(out.status(), model.string());
  return out;
}

int32_t Tokenizer::SpecialAt(std::string_view text, ParseSpecial special) const {
  const auto it = recognised_.find(static_cast<uint8_t>(text[0]));
  if (it == recognised_.end()) return -1;
  for (const int32_t id : it->second) {
    if (special == ParseSpecial::kNo && IsSpecial(id)) continue;
    if (text.starts_with(spec_.tokens[static_cast<size_t>(id)].text)) return id;
  }
  return -1;
}

Status Tokenizer::EncodePlain(std::string_view text, std::vector<int32_t>& out) const {
  std::string normalized;
  if (spec_.nfc) {
    ASSIGN_OR_RETURN(normalized, NormalizeNfc(text));
    text = normalized;
  }
  ASSIGN_OR_RETURN(const std::vector<std::string_view> pieces, pre_.Split(text));
  for (const std::string_view piece : pieces) {
    if (spec_.ignore_merges) {
      const auto it = whole_pieces_.find(ByteLevelEncode(piece));
      if (it != whole_pieces_.end()) {
        out.push_back(it->second);
        continue;
      }
    }
    bpe_.Encode(piece, out);
  }
  return OkStatus();
}

StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text, ParseSpecial special) const {
  if (text.size() > kMaxTextBytes) return InvalidArgument("text of {} bytes is too long", text.size());
  if (!IsValidUtf8(text)) return InvalidArgument("text is not valid UTF-8");
  std::vector<int32_t> out;
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    const int32_t id = SpecialAt(text.substr(i), special);
    if (id < 0) {
      ++i;
      continue;
    }
    RETURN_IF_ERROR(EncodePlain(text.substr(start, i - start), out));
    out.push_back(id);
    i += spec_.tokens[static_cast<size_t>(id)].text.size();
    start = i;
  }
  RETURN_IF_ERROR(EncodePlain(text.substr(start), out));
  return out;
}

StatusOr<std::string> Tokenizer::Decode(std::span<const int32_t> tokens) const {
  std::string out;
  for (const int32_t id : tokens) {
    if (!IsToken(spec_, id)) return InvalidArgument("{} is not a token", id);
    out += bytes_[static_cast<size_t>(id)];
  }
  return out;
}

std::string_view Tokenizer::TokenBytes(int32_t token) const {
  return IsToken(spec_, token) ? std::string_view(bytes_[static_cast<size_t>(token)]) : std::string_view();
}

bool Tokenizer::IsSpecial(int32_t token) const {
  return IsToken(spec_, token) &&
         spec_.tokens[static_cast<size_t>(token)].kind == TokenizerSpec::Kind::kSpecial;
}

std::optional<int32_t> Tokenizer::SpecialToken(std::string_view text) const {
  if (text.empty()) return std::nullopt;
  const auto it = recognised_.find(static_cast<uint8_t>(text[0]));
  if (it == recognised_.end()) return std::nullopt;
  for (const int32_t id : it->second) {
    if (spec_.tokens[static_cast<size_t>(id)].text == text) return id;
  }
  return std::nullopt;
}

}  // namespace concordat::model
