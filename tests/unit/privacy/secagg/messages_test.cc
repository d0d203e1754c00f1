#include "privacy/secagg/messages.h"

#include <set>

#include "privacy/secagg/refusal.h"
#include "tests/unit/privacy/secagg/harness.h"

namespace concordat::secagg::testing {
namespace {

TEST(MessagesTest, EveryFieldOfAnOfferChangesT0) {
  const Offer offer = World(4).offer;
  std::vector<Offer> changed(18, offer);
  changed[0].id.job = DigestFor("x");
  changed[1].id.round += 1;
  changed[2].id.attempt += 1;
  changed[3].charter = DigestFor("x");
  changed[4].base_model = DigestFor("x");
  changed[5].adapter = DigestFor("x");
  changed[6].elements += 1;
  changed[7].threshold += 1;
  changed[8].min_survivors += 1;
  changed[9].assumed_colluding += 1;
  changed[10].attempts_allowed += 1;
  changed[11].deadlines.advert_ms += 1;
  changed[12].deadlines.shares_ms += 1;
  changed[13].deadlines.input_ms += 1;
  changed[14].deadlines.agreement_ms += 1;
  changed[15].deadlines.unmask_ms += 1;
  changed[16].roster[1].key_hash = DigestFor("x");
  std::swap(changed[17].roster[0], changed[17].roster[1]);
  std::set<Digest> seen = {TranscriptT0(offer)};
  for (const Offer& c : changed) EXPECT_TRUE(seen.insert(TranscriptT0(c)).second);
}

TEST(MessagesTest, TranscriptsChainAndCoverBodiesNotSignatures) {
  World world(4);
  Attempt attempt(world);
  attempt.RunUntil(CoordinatorPhase::kShares);
  auto adverts = attempt.Waiting<Keys>(1).body.adverts;
  const Digest t1 = TranscriptT1(attempt.coordinator().t0(), adverts);
  EXPECT_EQ(t1, attempt.coordinator().t1());
  EXPECT_NE(t1, TranscriptT1(DigestFor("another offer"), adverts));
  adverts[0].signature[0] ^= 1;
  EXPECT_EQ(t1, TranscriptT1(attempt.coordinator().t0(), adverts));
  adverts[0].body.ledger_head = DigestFor("x");
  EXPECT_NE(t1, TranscriptT1(attempt.coordinator().t0(), adverts));
}

TEST(MessagesTest, T2CoversWhoDealtAndEveryCommitment) {
  const Digest t1 = DigestFor("t1");
  std::vector<std::pair<SiteIndex, std::vector<ShareCommitment>>> dealers = {
      {1, {{1, DigestFor("a"), DigestFor("b")}, {2, DigestFor("c"), DigestFor("d")}}},
      {2, {{1, DigestFor("e"), DigestFor("f")}, {2, DigestFor("g"), DigestFor("h")}}}};
  std::set<Digest> seen = {TranscriptT2(t1, dealers), TranscriptT2(DigestFor("other"), dealers)};
  auto changed = dealers;
  changed[1].first = 3;
  EXPECT_TRUE(seen.insert(TranscriptT2(t1, changed)).second);
  changed = dealers;
  std::swap(changed[0].second[0].mask_key_share, changed[0].second[0].seed_share);
  EXPECT_TRUE(seen.insert(TranscriptT2(t1, changed)).second);
  changed = dealers;
  changed.pop_back();
  EXPECT_TRUE(seen.insert(TranscriptT2(t1, changed)).second);
}

TEST(MessagesTest, ASignatureForOneKindOfMessageIsNoneForAnother) {
  const auto key = crypto::SigningKey::FromSeed(SeedFor("k"));
  const Agreement agreement{{DigestFor("j"), 1, 2}, 3, DigestFor("t2"), {1, 2, 3}};
  const auto message = Sign(key, agreement);
  EXPECT_TRUE(CheckSignature(key.Public(), message).ok());
  EXPECT_FALSE(key.Public().Verify(Result::kDomain, Canonical(agreement), message.signature).ok());
  const std::set<std::string_view> domains = {
      Offer::kDomain,     Advert::kDomain,          Keys::kDomain,        Shares::kDomain,
      Delivery::kDomain,  Complaint::kDomain,       InputHeader::kDomain, Survivors::kDomain,
      Agreement::kDomain, AgreementBundle::kDomain, Unmask::kDomain,      Result::kDomain};
  EXPECT_EQ(domains.size(), 12u);
}

TEST(RefusalTest, ARefusalKeepsItsCodeAndAFittingStatus) {
  const Status status = Refuse(RefusalCode::kBothKinds, "site {}", 3);
  EXPECT_EQ(RefusalCodeOf(status), RefusalCode::kBothKinds);
  EXPECT_EQ(status.code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(Message(status), "both-kinds: site 3");
  EXPECT_EQ(RefusalCodeOf(OkStatus()), RefusalCode::kNone);
  EXPECT_EQ(RefusalCodeOf(InvalidArgument("other")), RefusalCode::kNone);
  EXPECT_FALSE(MakeRefusal(RefusalCode::kNone, "").ok());
}

}  // namespace
}  // namespace concordat::secagg::testing
