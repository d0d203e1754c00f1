#ifndef CONCORDAT_PROTO_WIRE_H_
#define CONCORDAT_PROTO_WIRE_H_

#include "common/status.h"
#include "concordat/v1/round.pb.h"
#include "privacy/secagg/messages.h"

// Between generated messages and domain structs. FromProto checks every size, count and range (byte strings
// of exact length, sites 1..kMaxSites, lists no longer than kMaxSites and sorted, SPIFFE IDs well-formed) and
// gives InvalidArgument naming the field; what it returns is safe to hand to a core, which checks meaning.
namespace concordat::wire {

namespace pb = ::concordat::v1;

Digest DigestOrZero(const std::string& bytes);
/// InvalidArgument unless `bytes` has 32 bytes; `field` names it in the message.
StatusOr<Digest> DigestFrom(const std::string& bytes, std::string_view field);
std::string BytesOf(const Digest& digest);

void ToProto(const AttemptId& id, pb::AttemptId* out);
StatusOr<AttemptId> FromProto(const pb::AttemptId& in);

void ToProto(const secagg::Signed<secagg::Offer>& in, pb::Offer* out);
void ToProto(const secagg::Signed<secagg::Advert>& in, pb::Advert* out);
void ToProto(const secagg::Signed<secagg::Keys>& in, pb::Keys* out);
void ToProto(const secagg::Signed<secagg::Shares>& in, pb::Shares* out);
void ToProto(const secagg::Signed<secagg::Delivery>& in, pb::Delivery* out);
void ToProto(const secagg::Signed<secagg::Complaint>& in, pb::Complaint* out);
void ToProto(const secagg::Signed<secagg::InputHeader>& in, pb::InputHeader* out);
void ToProto(const secagg::Signed<secagg::Survivors>& in, pb::Survivors* out);
void ToProto(const secagg::Signed<secagg::Agreement>& in, pb::Agreement* out);
void ToProto(const secagg::Signed<secagg::AgreementBundle>& in, pb::AgreementBundle* out);
void ToProto(const secagg::Signed<secagg::Unmask>& in, pb::Unmask* out);
void ToProto(const secagg::Signed<secagg::Result>& in, pb::Result* out);

StatusOr<secagg::Signed<secagg::Offer>> FromProto(const pb::Offer& in);
StatusOr<secagg::Signed<secagg::Advert>> FromProto(const pb::Advert& in);
StatusOr<secagg::Signed<secagg::Keys>> FromProto(const pb::Keys& in);
StatusOr<secagg::Signed<secagg::Shares>> FromProto(const pb::Shares& in);
StatusOr<secagg::Signed<secagg::Delivery>> FromProto(const pb::Delivery& in);
StatusOr<secagg::Signed<secagg::Complaint>> FromProto(const pb::Complaint& in);
StatusOr<secagg::Signed<secagg::InputHeader>> FromProto(const pb::InputHeader& in);
StatusOr<secagg::Signed<secagg::Survivors>> FromProto(const pb::Survivors& in);
StatusOr<secagg::Signed<secagg::Agreement>> FromProto(const pb::Agreement& in);
StatusOr<secagg::Signed<secagg::AgreementBundle>> FromProto(const pb::AgreementBundle& in);
StatusOr<secagg::Signed<secagg::Unmask>> FromProto(const pb::Unmask& in);
StatusOr<secagg::Signed<secagg::Result>> FromProto(const pb::Result& in);

}  // namespace concordat::wire

#endif  // CONCORDAT_PROTO_WIRE_H_
