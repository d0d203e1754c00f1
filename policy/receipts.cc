#include "policy/receipts.h"

#include <array>

#include "aggregation/strict_json.h"
#include "common/canonical_attempt.h"
#include "policy/json_lines.h"
#include "privacy/crypto/hash.h"
#include "privacy/crypto/x509.h"

namespace concordat::policy {
namespace {

constexpr std::array<SandboxState, 3> kSandboxStates = {SandboxState::kEnforced, SandboxState::kAdvisory,
                                                        SandboxState::kNone};

StatusOr<SandboxState> ParseSandboxState(std::string_view text) {
  for (SandboxState state : kSandboxStates) {
    if (SandboxStateName(state) == text) return state;
  }
  return InvalidArgument("expected one of: enforced, advisory, none");
}

StatusOr<SignedReceipt> FromJson(const nlohmann::json& json) {
  JsonFields fields(json);
  SignedReceipt out;
  Receipt& body = out.body;
  body.sequence = fields.Whole("sequence");
  const auto time = ParseInstant(fields.Text("time"));
  const auto worker = SpiffeId::Parse(fields.Text("worker"));
  body.attempt.job = fields.Hash("job");
  body.attempt.round = static_cast<uint32_t>(fields.Whole("round", UINT32_MAX));
  body.attempt.attempt = static_cast<uint32_t>(fields.Whole("attempt", UINT32_MAX));
  const auto kind = ParseArtefactKind(fields.Text("kind"));
  body.bytes = fields.Whole("bytes");
  body.sha256 = fields.Hash("sha256");
  body.rule = static_cast<RuleCode>(fields.Whole("rule", UINT16_MAX));
  // `rule_name` is for people; that it fits the number follows from writing the line again.
  const auto basis = ParseLegalBasis(fields.Text("legal_basis"));
  body.from = fields.Text("from");
  body.to = fields.Text("to");
  body.epsilon_charged = fields.Number("epsilon_charged");
  const auto sandbox = ParseSandboxState(fields.Text("sandbox"));
  body.charter = fields.Hash("charter");
  body.ledger_head = fields.Hash("ledger_head");
  body.previous = fields.Hash("previous");
  const auto signature = SignatureFromHex(fields.Text("signature"));
  if (!fields.ok() || !time.ok() || !worker.ok() || !kind.ok() || !basis.ok() || !sandbox.ok() ||
      !signature.ok()) {
    return DataLoss("a field is missing or malformed");
  }
  body.time = *time;
  body.worker = *worker;
  body.kind = *kind;
  body.basis = *basis;
  body.sandbox = *sandbox;
  out.signature = *signature;
  return out;
}

StatusOr<std::vector<SignedReceipt>> ParseBook(std::string_view text, const std::filesystem::path& path) {
  std::vector<SignedReceipt> receipts;
  const auto split = SplitLines(text, path);
  if (!split.ok())
    return DataLoss(
        "{}. What it speaks of had left: keep a copy of the file, remove the incomplete line, and start "
        "again",
        Message(split.status()));
  const std::vector<std::string_view>& lines = *split;
  Digest previous;
  for (std::string_view line : lines) {
    const auto where = fmt::format("{}: line {}", path.string(), receipts.size() + 1);
    auto receipt = ParseReceiptLine(line);
    if (!receipt.ok()) return Annotate(receipt.status(), where);
    if (receipt->body.sequence != receipts.size() || receipt->body.previous != previous) {
      return DataLoss("{}: it does not follow the receipt before; one was removed, added or changed", where);
    }
    previous = ReceiptHash(receipt->body);
    receipts.push_back(*std::move(receipt));
  }
  return receipts;
}

}  // namespace

std::string_view SandboxStateName(SandboxState state) {
  switch (state) {
    case SandboxState::kEnforced:
      return "enforced";
    case SandboxState::kAdvisory:
      return "advisory";
    case SandboxState::kNone:
      return "none";
  }
  return "unknown";
}

Bytes Canonical(const Receipt& r) {
  CanonicalWriter out;
  out.U64(r.sequence);
  out.I64(r.time.time_since_epoch().count());
  out.Text(r.worker.ToString());
  Put(out, r.attempt);
  out.U8(static_cast<uint8_t>(r.kind));
  out.U64(r.bytes);
  out.Put(r.sha256);
  out.U16(static_cast<uint16_t>(r.rule));
  out.U8(static_cast<uint8_t>(r.basis));
  out.Text(r.from);
  out.Text(r.to);
  out.F64(r.epsilon_charged);
  out.U8(static_cast<uint8_t>(r.sandbox));
  out.Put(r.charter);
  out.Put(r.ledger_head);
  out.Put(r.previous);
  return out.Take();
}

Digest ReceiptHash(const Receipt& receipt) {
  return crypto::TaggedHash("concordat/v1/receipt-hash", Canonical(receipt));
}

std::string FormatReceiptLine(const SignedReceipt& receipt) {
  const Receipt& r = receipt.body;
  const Rule* rule = FindRule(static_cast<uint32_t>(r.rule));
  nlohmann::ordered_json json;
  json["sequence"] = r.sequence;
  json["time"] = FormatInstant(r.time);
  json["worker"] = r.worker.ToString();
  json["job"] = r.attempt.job.hex();
  json["round"] = r.attempt.round;
  json["attempt"] = r.attempt.attempt;
  json["kind"] = ArtefactKindName(r.kind);
  json["bytes"] = r.bytes;
  json["sha256"] = r.sha256.hex();
  json["rule"] = static_cast<uint16_t>(r.rule);
  json["rule_name"] = rule == nullptr ? "" : rule->name;
  json["legal_basis"] = LegalBasisName(r.basis);
  json["from"] = r.from;
  json["to"] = r.to;
  json["epsilon_charged"] = NumberToJson(r.epsilon_charged);
  json["sandbox"] = SandboxStateName(r.sandbox);
  json["charter"] = r.charter.hex();
  json["ledger_head"] = r.ledger_head.hex();
  json["previous"] = r.previous.hex();
  json["signature"] = ToHex(receipt.signature);
  return json.dump();
}

StatusOr<SignedReceipt> ParseReceiptLine(std::string_view line) {
  const auto json = ParseStrictJson(line, "receipt");
  if (!json.ok()) return DataLoss("{}", Message(json.status()));
  ASSIGN_OR_RETURN(SignedReceipt receipt, FromJson(*json));
  if (FormatReceiptLine(receipt) != line) return DataLoss("it is not written as a receipt is written");
  return receipt;
}

Status VerifyReceipt(const SignedReceipt& receipt, const crypto::VerifyKey& key) {
  return key.Verify(Receipt::kDomain, Canonical(receipt.body), receipt.signature);
}

StatusOr<std::vector<SignedReceipt>> ReadReceipts(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, 1u << 30));
  return ParseBook(text, path);
}

Status VerifyReceipts(const std::vector<SignedReceipt>& receipts, std::string_view worker_certificate_pem) {
  ASSIGN_OR_RETURN(const auto chain, crypto::SplitPemChain(worker_certificate_pem));
  ASSIGN_OR_RETURN(const auto certificate, crypto::Certificate::FromPem(chain.front()));
  ASSIGN_OR_RETURN(const SpiffeId worker, certificate.spiffe_id());
  ASSIGN_OR_RETURN(const auto key, crypto::VerifyKey::FromSpki(certificate.spki()));
  for (size_t i = 0; i < receipts.size(); ++i) {
    if (receipts[i].body.worker != worker) {
      return PermissionDenied("receipt {}: it is of {}, the certificate of {}", i + 1,
                              receipts[i].body.worker.ToString(), worker.ToString());
    }
    const Status verified = VerifyReceipt(receipts[i], key);
    if (!verified.ok()) return Annotate(verified, fmt::format("receipt {}", i + 1));
  }
  return OkStatus();
}

StatusOr<std::unique_ptr<ReceiptBook>> ReceiptBook::Open(const std::filesystem::path& path) {
  std::unique_ptr<ReceiptBook> book(new ReceiptBook());
  ASSIGN_OR_RETURN(book->file_, OpenLockedForAppend(path));
  ASSIGN_OR_RETURN(const std::string text, ReadAll(book->file_.get(), path));
  ASSIGN_OR_RETURN(book->receipts_, ParseBook(text, path));
  book->path_ = path;
  return book;
}

StatusOr<SignedReceipt> ReceiptBook::Append(Receipt receipt, const crypto::SigningKey& key) {
  if (broken_) {
    return DataLoss("{}: an earlier write failed, so what is on the disk is not known; restart the worker",
                    path_.string());
  }
  receipt.sequence = receipts_.size();
  receipt.previous = receipts_.empty() ? Digest{} : ReceiptHash(receipts_.back().body);
  const auto signature = key.Sign(Receipt::kDomain, Canonical(receipt));
  SignedReceipt entry{std::move(receipt), signature};
  if (const Status written = AppendLine(file_.get(), FormatReceiptLine(entry), path_); !written.ok()) {
    broken_ = written.code() != StatusCode::kResourceExhausted;
    return written;
  }
  receipts_.push_back(entry);
  return entry;
}

uint64_t ReceiptBook::bytes_left() const {
  uint64_t bytes = 0;
  for (const SignedReceipt& receipt : receipts_) bytes += receipt.body.bytes;
  return bytes;
}

}  // namespace concordat::policy
