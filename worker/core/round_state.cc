#include "worker/core/round_state.h"

#include <algorithm>

#include "common/canonical_attempt.h"
#include "privacy/crypto/hash.h"

namespace concordat::worker {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kMaxName = 64;
constexpr size_t kMaxAccepted = 16;
constexpr size_t kMaxBytes = 64u << 20;

crypto::Signature SignatureFrom(CanonicalReader& in) {
  crypto::Signature out{};
  const ByteView bytes = in.Raw(out.size());
  if (bytes.size() == out.size()) std::ranges::copy(bytes, out.begin());
  return out;
}

}  // namespace

crypto::SecretText EncodeRoundState(const AttemptId& id, secagg::WorkerPhase phase,
                                    const crypto::Signature& offer,
                                    const std::map<std::string, Evidence>& accepted, ByteView snapshot) {
  size_t room = snapshot.size() + 1024;
  for (const auto& [name, evidence] : accepted) room += name.size() + evidence.body.size() + 128;
  CanonicalWriter out;
  out.Reserve(room);
  out.U8(kVersion);
  out.U8(static_cast<uint8_t>(phase));
  Put(out, id);
  out.Raw(offer);
  out.Count(accepted.size());
  for (const auto& [name, evidence] : accepted) {
    out.Text(name);
    out.Blob(evidence.body);
    out.Raw(evidence.signature);
  }
  out.Blob(snapshot);
  Bytes bytes = out.Take();
  crypto::SecretText text(bytes);
  Wipe(bytes);
  return text;
}

StatusOr<RoundState> DecodeRoundState(const AttemptId& id, ByteView state) {
  CanonicalReader in(state);
  if (const uint8_t version = in.U8(); version != kVersion)
    return DataLoss("a round's state of version {}, expected {}", version, kVersion);
  RoundState out;
  out.phase = static_cast<secagg::WorkerPhase>(in.U8());
  if (out.phase > secagg::WorkerPhase::kErased) in.Fail("a phase that does not exist");
  const AttemptId own = GetAttempt(in);
  out.offer.signature = SignatureFrom(in);
  const size_t count = in.Count(kMaxAccepted);
  for (size_t i = 0; i < count && in.status().ok(); ++i) {
    const std::string name = in.Text(kMaxName);
    if (!out.accepted.empty() && name <= out.accepted.rbegin()->first) in.Fail("names that do not ascend");
    const ByteView body = in.Blob(kMaxBytes);
    out.accepted[name] = {id, name, Bytes(body.begin(), body.end()), SignatureFrom(in)};
  }
  const ByteView snapshot = in.Blob(kMaxBytes);
  if (const Status status = in.Finish(); !status.ok())
    return DataLoss("a round's state: {}", Message(status));
  if (own != id) return DataLoss("a round's state is of {}, expected {}", own.Brief(), id.Brief());
  ASSIGN_OR_RETURN(out.offer.body, secagg::WorkerRound::OfferIn(snapshot));
  if (out.offer.body.id != id) return DataLoss("a round's state holds another attempt's offer");
  out.snapshot = crypto::SecretText(snapshot);
  return out;
}

Digest DigestOfState(ByteView state) { return crypto::TaggedHash("concordat/v1/round-state", state); }

}  // namespace concordat::worker
