#include "proto/wire.h"

#include <gtest/gtest.h>

#include "common/random.h"
#include "tests/support/status_matchers.h"

namespace concordat::wire {
namespace {

using concordat::testing::HasStatus;
using secagg::Signed;

template <size_t N>
std::array<uint8_t, N> Filled(uint8_t v) {
  std::array<uint8_t, N> out;
  out.fill(v);
  return out;
}
Digest DigestOf(uint8_t v) { return Digest{Filled<32>(v)}; }
AttemptId Id() { return {DigestOf(1), 2, 3}; }
Secret32 SecretOf(uint8_t v) { return Secret32(std::span<const uint8_t, 32>(Filled<32>(v))); }
SpiffeId Worker(std::string_view jurisdiction) {
  return *SpiffeId::Make(jurisdiction, Role::kWorker, "site");
}

Signed<secagg::Offer> AnOffer() {
  secagg::Offer o;
  o.id = Id();
  o.charter = DigestOf(4);
  o.base_model = DigestOf(5);
  o.adapter = DigestOf(6);
  o.elements = 1234567890123;
  o.threshold = 3;
  o.min_survivors = 3;
  o.assumed_colluding = 1;
  o.attempts_allowed = 4;
  o.deadlines = {1, 2, 3, 4, 5};
  o.roster = {{Worker("de.example"), DigestOf(7)}, {Worker("fr.example"), DigestOf(8)}};
  return {o, Filled<64>(9)};
}
Signed<secagg::Advert> AnAdvert(SiteIndex site) {
  secagg::Advert a;
  a.id = Id();
  a.site = site;
  a.channel_key = Filled<32>(10);
  a.mask_key = Filled<32>(11);
  a.seed_hash = DigestOf(12);
  a.t0 = DigestOf(13);
  a.ledger_head = DigestOf(14);
  return {a, Filled<64>(15)};
}
Signed<secagg::InputHeader> AHeader(SiteIndex site) {
  secagg::InputHeader h;
  h.id = Id();
  h.site = site;
  h.t2 = DigestOf(16);
  h.elements = 77;
  h.sha256 = DigestOf(17);
  return {h, Filled<64>(18)};
}

/// What a message becomes on the wire and back has the same canonical body and signature.
template <typename P, typename T>
void ExpectRoundTrip(const Signed<T>& message) {
  P proto;
  ToProto(message, &proto);
  P parsed;
  ASSERT_TRUE(parsed.ParseFromString(proto.SerializeAsString()));
  ASSERT_OK_AND_ASSIGN(const Signed<T> back, FromProto(parsed));
  EXPECT_EQ(Canonical(back.body), Canonical(message.body));
  EXPECT_EQ(back.signature, message.signature);
}

TEST(WireTest, EveryMessageComesBackAsItWent) {
  ExpectRoundTrip<pb::Offer>(AnOffer());
  ExpectRoundTrip<pb::Advert>(AnAdvert(1));
  ExpectRoundTrip<pb::Keys>(
      Signed<secagg::Keys>{{Id(), {AnAdvert(1), AnAdvert(3)}, {"chain one", "chain three"}}, Filled<64>(1)});
  secagg::Shares shares;
  shares.id = Id();
  shares.dealer = 2;
  shares.t1 = DigestOf(20);
  shares.commitments = {{1, DigestOf(21), DigestOf(22)}, {2, DigestOf(23), DigestOf(24)}};
  shares.ciphertexts = {Filled<secagg::kShareCipherBytes>(25), Filled<secagg::kShareCipherBytes>(26)};
  ExpectRoundTrip<pb::Shares>(Signed<secagg::Shares>{shares, Filled<64>(2)});
  secagg::Delivery delivery;
  delivery.id = Id();
  delivery.to = 1;
  delivery.t1 = DigestOf(20);
  delivery.rows = {{2, shares.commitments, Filled<64>(3), shares.ciphertexts[0]}};
  ExpectRoundTrip<pb::Delivery>(Signed<secagg::Delivery>{delivery, Filled<64>(4)});
  delivery.pair_tags = {DigestOf(30)};
  ExpectRoundTrip<pb::Delivery>(Signed<secagg::Delivery>{delivery, Filled<64>(4)});
  ExpectRoundTrip<pb::Complaint>(Signed<secagg::Complaint>{
      {Id(), 1, 2, DigestOf(5), secagg::Complaint::Code::kCommitmentMismatch}, Filled<64>(5)});
  ExpectRoundTrip<pb::InputHeader>(AHeader(4));
  ExpectRoundTrip<pb::Survivors>(
      Signed<secagg::Survivors>{{Id(), DigestOf(6), {AHeader(1), AHeader(2)}}, Filled<64>(6)});
  ExpectRoundTrip<pb::Agreement>(Signed<secagg::Agreement>{{Id(), 1, DigestOf(7), {1, 2, 5}}, Filled<64>(7)});
  ExpectRoundTrip<pb::AgreementBundle>(Signed<secagg::AgreementBundle>{
      {Id(), DigestOf(8), {1, 2}, {{1, Filled<64>(1)}, {2, Filled<64>(2)}}}, Filled<64>(8)});
  secagg::Unmask unmask;
  unmask.id = Id();
  unmask.site = 1;
  unmask.t2 = DigestOf(9);
  unmask.seed_shares = {{1, SecretOf(1), SecretOf(2)}, {2, SecretOf(3), SecretOf(4)}};
  unmask.mask_key_shares = {{3, SecretOf(5), SecretOf(6)}};
  ExpectRoundTrip<pb::Unmask>(Signed<secagg::Unmask>{unmask, Filled<64>(9)});
  ExpectRoundTrip<pb::Result>(
      Signed<secagg::Result>{{Id(), DigestOf(1), {1, 2, 3}, DigestOf(2), DigestOf(3)}, Filled<64>(10)});
}

TEST(WireTest, RefusesADigestOfAnotherLength) {
  pb::Advert proto;
  ToProto(AnAdvert(1), &proto);
  proto.set_t0(std::string(31, 'x'));
  EXPECT_THAT(FromProto(proto), HasStatus(StatusCode::kInvalidArgument, "t0: expected 32 bytes, got 31"));
}

TEST(WireTest, RefusesAMissingSignature) {
  pb::Result proto;
  ToProto(Signed<secagg::Result>{{Id(), DigestOf(1), {1}, DigestOf(2), DigestOf(3)}, {}}, &proto);
  proto.clear_signature();
  EXPECT_THAT(FromProto(proto),
              HasStatus(StatusCode::kInvalidArgument, "signature: expected 64 bytes, got 0"));
}

TEST(WireTest, RefusesSiteZeroAndSitesBeyondTheLargestRoster) {
  for (uint32_t site : {0u, 101u, 256u, 4294967295u}) {
    pb::Advert proto;
    ToProto(AnAdvert(1), &proto);
    proto.set_site(site);
    EXPECT_THAT(FromProto(proto),
                HasStatus(StatusCode::kInvalidArgument, "site: expected a site from 1 to 100"));
  }
}

TEST(WireTest, RefusesListsThatRepeatOrGoDown) {
  pb::Agreement proto;
  ToProto(Signed<secagg::Agreement>{{Id(), 1, DigestOf(7), {1, 2}}, Filled<64>(7)}, &proto);
  proto.add_survivors(2);
  EXPECT_THAT(FromProto(proto), HasStatus(StatusCode::kInvalidArgument, "ascending order without repeats"));
  pb::Keys keys;
  ToProto(Signed<secagg::Keys>{{Id(), {AnAdvert(2), AnAdvert(1)}, {"a", "b"}}, Filled<64>(1)}, &keys);
  EXPECT_THAT(FromProto(keys), HasStatus(StatusCode::kInvalidArgument, "ascending order without repeats"));
}

TEST(WireTest, RefusesMoreThanTheLargestRoster) {
  pb::Offer proto;
  ToProto(AnOffer(), &proto);
  while (proto.roster_size() <= static_cast<int>(kMaxSites)) *proto.add_roster() = proto.roster(0);
  EXPECT_THAT(FromProto(proto),
              HasStatus(StatusCode::kInvalidArgument, "roster: expected at most 100, got 101"));
}

TEST(WireTest, RefusesARosterEntryThatIsNoSpiffeId) {
  pb::Offer proto;
  ToProto(AnOffer(), &proto);
  proto.mutable_roster(0)->set_worker("https://de.example/worker/site");
  EXPECT_THAT(FromProto(proto), HasStatus(StatusCode::kInvalidArgument, "spiffe://"));
}

TEST(WireTest, RefusesAChainTooManyOrTooLong) {
  pb::Keys keys;
  ToProto(Signed<secagg::Keys>{{Id(), {AnAdvert(1)}, {"a", "b"}}, Filled<64>(1)}, &keys);
  EXPECT_THAT(FromProto(keys), HasStatus(StatusCode::kInvalidArgument, "chains: expected one for each"));
  ToProto(Signed<secagg::Keys>{{Id(), {}, {}}, Filled<64>(1)}, &keys);
  keys.mutable_chains(0)->assign(1 << 20, 'x');
  keys.mutable_chains()->RemoveLast();
  EXPECT_THAT(FromProto(keys), HasStatus(StatusCode::kInvalidArgument, "chains: expected at most"));
}

TEST(WireTest, PairSealsComeBackAsTheyWentOneForEachCiphertextOrNone) {
  secagg::Shares shares;
  shares.id = Id();
  shares.dealer = 2;
  shares.commitments = {{1, DigestOf(21), DigestOf(22)}, {2, DigestOf(23), DigestOf(24)}};
  shares.ciphertexts = {Filled<secagg::kShareCipherBytes>(25), Filled<secagg::kShareCipherBytes>(26)};
  shares.pair_seals = {Filled<secagg::kPairSealBytes>(27), Filled<secagg::kPairSealBytes>(28)};
  pb::Shares proto;
  ToProto(Signed<secagg::Shares>{shares, Filled<64>(2)}, &proto);
  ASSERT_OK_AND_ASSIGN(const auto back, FromProto(proto));
  EXPECT_EQ(back.body.pair_seals, shares.pair_seals);
  proto.mutable_pair_seals()->RemoveLast();
  EXPECT_THAT(FromProto(proto),
              HasStatus(StatusCode::kInvalidArgument, "pair_seals: expected none or 2, got 1"));
  proto.add_pair_seals("short");
  EXPECT_THAT(FromProto(proto),
              HasStatus(StatusCode::kInvalidArgument, "pair_seals: expected 80 bytes, got 5"));
  proto.clear_pair_seals();
  EXPECT_OK(FromProto(proto).status());
}

TEST(WireTest, RefusesPairTagsThatAreNotOneForEachRow) {
  secagg::Delivery delivery;
  delivery.id = Id();
  delivery.to = 1;
  const std::vector<secagg::ShareCommitment> commitments = {{1, DigestOf(21), DigestOf(22)}};
  delivery.rows = {{2, commitments, Filled<64>(3), Filled<secagg::kShareCipherBytes>(4)}};
  delivery.pair_tags = {DigestOf(30), DigestOf(31)};
  pb::Delivery proto;
  ToProto(Signed<secagg::Delivery>{delivery, Filled<64>(4)}, &proto);
  EXPECT_THAT(FromProto(proto),
              HasStatus(StatusCode::kInvalidArgument, "pair_tags: expected none or 1, got 2"));
}

TEST(WireTest, RefusesACiphertextOfAnotherLength) {
  secagg::Shares shares;
  shares.commitments = {{1, DigestOf(21), DigestOf(22)}};
  shares.ciphertexts = {Filled<secagg::kShareCipherBytes>(25)};
  shares.dealer = 1;
  pb::Shares proto;
  ToProto(Signed<secagg::Shares>{shares, {}}, &proto);
  proto.mutable_ciphertexts(0)->push_back('x');
  EXPECT_THAT(FromProto(proto),
              HasStatus(StatusCode::kInvalidArgument, "ciphertexts: expected 144 bytes, got 145"));
}

TEST(WireTest, AnEmptyMessageIsRefusedEverywhere) {
  EXPECT_FALSE(FromProto(pb::Offer()).ok());
  EXPECT_FALSE(FromProto(pb::Advert()).ok());
  EXPECT_FALSE(FromProto(pb::Keys()).ok());
  EXPECT_FALSE(FromProto(pb::Shares()).ok());
  EXPECT_FALSE(FromProto(pb::Delivery()).ok());
  EXPECT_FALSE(FromProto(pb::Complaint()).ok());
  EXPECT_FALSE(FromProto(pb::InputHeader()).ok());
  EXPECT_FALSE(FromProto(pb::Survivors()).ok());
  EXPECT_FALSE(FromProto(pb::Agreement()).ok());
  EXPECT_FALSE(FromProto(pb::AgreementBundle()).ok());
  EXPECT_FALSE(FromProto(pb::Unmask()).ok());
  EXPECT_FALSE(FromProto(pb::Result()).ok());
}

}  // namespace
}  // namespace concordat::wire
