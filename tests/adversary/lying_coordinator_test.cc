#include "tests/adversary/stage.h"

// The catalogue: what a coordinator may try within one attempt, with its real key and one colluding region,
// against a real worker core. Each row says what it plays, what must not leave the victim, the code it is
// refused with; every row's evidence must verify under the coordinator's key and hold both messages.
namespace concordat::adversary {
namespace {

using enum RefusalCode;
using secagg::Complaint;

/// What a worker sends, in the order of the steps.
enum Answer : size_t { kAdvert, kShares, kVector, kAgreement, kUnmask, kAnswers };

std::array<size_t, kAnswers> Left(Stage& s) {
  WireTap tap;  // repeats of the same bytes are no new answer
  for (const worker::ToCoordinator& m : s.victim().sent) {
    std::visit(
        [&](const auto& message) {
          using M = std::decay_t<decltype(message)>;
          if constexpr (std::is_constructible_v<secagg::WorkerMessage, M>) tap.Saw("victim", message);
        },
        m);
  }
  return {tap.Count(secagg::Advert::kDomain), tap.Count(secagg::Shares::kDomain),
          std::max(tap.Count(secagg::InputHeader::kDomain), s.victim().encoded.size()),
          tap.Count(secagg::Agreement::kDomain), tap.Count(secagg::Unmask::kDomain)};
}

/// Each kept message is signed by the coordinator; with `both`, two different ones of one step are there.
void ExpectEvidence(Stage& s, size_t since, const std::string& last, bool both) {
  const auto& kept = s.victim().evidence;
  ASSERT_GT(kept.size(), since) << "nothing kept";
  for (size_t i = since; i < kept.size(); ++i) {
    std::string step = kept[i].name;
    if (const size_t end = step.find("-refused"); end != std::string::npos) step.resize(end);
    EXPECT_OK(s.f.coordinator.key.Public().Verify("concordat/v1/" + step, kept[i].body, kept[i].signature))
        << kept[i].name;
  }
  const auto find = [&](const std::string& name) {
    return std::find_if(kept.begin() + static_cast<ptrdiff_t>(since), kept.end(),
                        [&](const worker::Evidence& e) { return e.name == name; });
  };
  const auto lie = find(last);
  ASSERT_NE(lie, kept.end()) << last << " is not kept";
  EXPECT_NE(find("offer"), kept.end()) << "what the lie is measured by is not kept";
  if (!both) return;
  const auto accepted = find(last.substr(0, last.find("-refused")));
  ASSERT_NE(accepted, kept.end()) << "the message that the lie contradicts is not kept";
  EXPECT_NE(accepted->body, lie->body);
}

// ---- Step 0: offers. Nothing is made before all of an offer holds.

struct BadOffer {
  const char* name;
  RefusalCode refusal;
  void (*spoil)(Stage&, Offer&);
};

SpiffeId Sybil(std::string_view jurisdiction, int i) {
  return *SpiffeId::Make(jurisdiction, Role::kWorker, fmt::format("sybil{}", i));
}
Digest SybilKey(int i) { return crypto::Sha256(AsBytes(fmt::format("sybil {}", i))); }

const BadOffer kBadOffers[] = {
    {"AnotherBaseModel", kModel, [](Stage&, Offer& o) { o.base_model.bytes[0] ^= 1; }},
    {"AnotherAdapter", kModel, [](Stage&, Offer& o) { o.adapter.bytes[0] ^= 1; }},
    {"AnotherCharter", kCharter, [](Stage&, Offer& o) { o.charter.bytes[0] ^= 1; }},
    {"ALongerVector", kElements, [](Stage&, Offer& o) { o.elements += 1; }},
    {"AShorterVector", kElements, [](Stage&, Offer& o) { o.elements -= 1; }},
    {"AThresholdThatTheCoalitionReaches", kThreshold, [](Stage&, Offer& o) { o.threshold = 2; }},
    {"AThresholdAboveAll", kThreshold, [](Stage&, Offer& o) { o.threshold = 5; }},
    {"AnotherThresholdThanTheJobs", kThreshold, [](Stage&, Offer& o) { o.threshold = o.min_survivors = 4; }},
    {"FewerSurvivorsThanTheThreshold", kSurvivorMinimum, [](Stage&, Offer& o) { o.min_survivors = 2; }},
    {"MoreSurvivorsThanSites", kSurvivorMinimum, [](Stage&, Offer& o) { o.min_survivors = 5; }},
    {"NobodyColludes", kColluding, [](Stage&, Offer& o) { o.assumed_colluding = 0; }},
    {"TooManyCollude", kThreshold, [](Stage&, Offer& o) { o.assumed_colluding = 2; }},
    {"ACohortBelowTheRegionsMinimum", kCohortTooSmall, [](Stage&, Offer& o) { o.roster.resize(2); }},
    {"ACohortBelowTheJobsMinimum", kCohortTooSmall,
     [](Stage&, Offer& o) { o.roster.resize(3), o.threshold = o.min_survivors = 3; }},
    {"NoRoster", kRoster, [](Stage&, Offer& o) { o.roster.clear(); }},
    {"TooShortADeadline", kDeadlines, [](Stage&, Offer& o) { o.deadlines.agreement_ms = 1; }},
    {"TooLongADeadline", kDeadlines, [](Stage&, Offer& o) { o.deadlines.input_ms = 4'000'000'000; }},
    {"AnotherDeadlineThanTheJobs", kDeadlines, [](Stage&, Offer& o) { o.deadlines.unmask_ms += 1; }},
    {"MoreAttemptsThanTheRegionAllows", kAttempts, [](Stage&, Offer& o) { o.attempts_allowed = 6; }},
    {"AnAttemptBeyondTheLast", kAttempts, [](Stage&, Offer& o) { o.id.attempt = 3; }},
    {"ARoundBeyondTheLast", kWrongAttempt, [](Stage&, Offer& o) { o.id.round = 3; }},
    {"SybilsBesideTheOthers", kThreshold,
     [](Stage&, Offer& o) {
       for (int i = 0; i < 3; ++i) o.roster.push_back({Sybil("d.example", i), SybilKey(i)});
       o.threshold = o.min_survivors = secagg::ThresholdFor(7);
     }},
    {"SybilsInsteadOfTheOthers", kCohortTooSmall,
     [](Stage&, Offer& o) {
       for (int i = 1; i < 4; ++i) o.roster[static_cast<size_t>(i)] = {Sybil("d.example", i), SybilKey(i)};
     }},
    {"ASiteOfAnUninvitedJurisdiction", kRoster,
     [](Stage&, Offer& o) {
       o.roster[2] = {Sybil("atlantis.example", 1), SybilKey(1)};
     }},
    {"ASiteTwice", kRoster, [](Stage&, Offer& o) { o.roster[2].worker = o.roster[3].worker; }},
    {"AKeyTwice", kRoster, [](Stage&, Offer& o) { o.roster[2].key_hash = o.roster[3].key_hash; }},
    {"AnOperatorAmongTheSites", kRoster,
     [](Stage&, Offer& o) { o.roster[2].worker = *SpiffeId::Make("c.example", Role::kOperator, "x"); }},
    {"TheVictimUnderAnotherKey", kRoster, [](Stage&, Offer& o) { o.roster[0].key_hash.bytes[0] ^= 1; }},
    {"TheVictimLeftOut", kRoster,
     [](Stage&, Offer& o) {
       o.roster[0] = {Sybil("a.example", 1), SybilKey(1)};
     }},
};

class LyingOfferTest : public ::testing::TestWithParam<BadOffer> {};

TEST_P(LyingOfferTest, IsRefusedBeforeAnythingIsMade) {
  Stage s;
  Offer offer = s.f.MakeOffer(0, 0);
  GetParam().spoil(s, offer);
  s.Tell(Stage::kVictim, s.ByCoordinator(offer));
  EXPECT_EQ(Left(s), (std::array<size_t, kAnswers>{}));
  const auto drops = s.victim().Sent<Dropout>();
  ASSERT_EQ(drops.size(), 1u);
  EXPECT_EQ(drops[0].code, DropoutCode::kProtocolViolation);
  EXPECT_EQ(RefusalName(drops[0].refusal), RefusalName(GetParam().refusal));
  ExpectEvidence(s, 0, "offer", /*both=*/false);
  EXPECT_EQ(s.victim().JournalCount<worker::AttemptEntered>(), 0u);
  // Nothing changed: the offer that keeps to job, charter and policy is still welcome.
  s.Tell(Stage::kVictim, s.ByCoordinator(s.f.MakeOffer(0, 0)));
  EXPECT_EQ(Left(s)[kAdvert], 1u);
}

INSTANTIATE_TEST_SUITE_P(Catalogue, LyingOfferTest, ::testing::ValuesIn(kBadOffers),
                         [](const auto& info) { return info.param.name; });

// ---- Steps 2 to 9.

struct Deviation {
  const char* name;
  Answer withheld;  // it and everything after it must not leave
  DropoutCode code;
  RefusalCode refusal;
  const char* evidence;  // the last message kept
  void (*set_up)(Stage&);
  void (*play)(Stage&);
};
constexpr auto kViolation = DropoutCode::kProtocolViolation;

template <typename T>
using Change = void (*)(Stage&, T&);
/// Tells the victim the honest message of this step after `change`.
template <typename T>
void Lie(Stage& s, Change<T> change) {
  T body = s.Waiting<T>(Stage::kVictim).body;
  change(s, body);
  s.Tell(Stage::kVictim, s.ByCoordinator(std::move(body)));
}

void UntilKeys(Stage& s) { s.Open(0, 0), s.RunUntil(CoordinatorPhase::kShares); }
void UntilDelivery(Stage& s) { s.Open(0, 0), s.RunUntil(CoordinatorPhase::kInput); }
/// Attempt 0 came as far as the deliveries; now attempt 1 is there.
void UntilSecond(Stage& s, CoordinatorPhase phase) {
  UntilDelivery(s);
  s.old_keys = s.honest_keys;
  s.old_delivery = s.Waiting<Delivery>(Stage::kVictim);
  for (SiteIndex i = 1; i <= 4; ++i) s.Tell(i, worker::AttemptAborted{s.id(), 3});
  s.Open(0, 1), s.RunUntil(phase);
}
void UntilSecondKeys(Stage& s) { UntilSecond(s, CoordinatorPhase::kShares); }
void UntilSecondDelivery(Stage& s) { UntilSecond(s, CoordinatorPhase::kInput); }
/// Round 0 is done; round 1 came as far as the deliveries.
void UntilNextRoundsDelivery(Stage& s) {
  UntilDelivery(s);
  s.old_delivery = s.Waiting<Delivery>(Stage::kVictim);
  s.Finish();
  s.Open(1, 0), s.RunUntil(CoordinatorPhase::kInput);
}
/// U2 is everyone, U3 is 1, 2, 3: the upload of the colluder never ends.
void UntilSurvivors(Stage& s) {
  s.site(4).hold_upload = true;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kAgreement);
}
/// U2 is 1, 2, 3: the colluder dealt no shares.
void UntilSurvivorsOfThree(Stage& s) {
  UntilKeys(s);
  s.Mute(4), s.RunUntil(CoordinatorPhase::kAgreement);
}
/// The coordinator shows the victim a U2 without the colluder, everyone else the whole one.
void UntilSurvivorsOfAnotherU2(Stage& s) {
  UntilDelivery(s);
  Lie<Delivery>(s, [](Stage&, Delivery& d) { d.rows.pop_back(); });
  s.Mute(1);
  s.RunUntil(CoordinatorPhase::kAgreement);
}
void UntilBundle(Stage& s) {
  s.site(4).hold_upload = true;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kUnmask);
}
void UntilResult(Stage& s) { s.Open(0, 0), s.RunUntil(CoordinatorPhase::kDone); }

/// Site `i`'s entry of a list that is sorted by site.
Signed<secagg::Advert>& AdvertOf(Keys& k, SiteIndex i) { return k.adverts.at(i - 1u); }

const Deviation kDeviations[] = {
    // Step 2: the adverts, U1.
    {"AnAdvertWithTheCoordinatorsKey", kShares, kViolation, kBadSignature, "keys-refused", UntilKeys,
     [](Stage& s) { Lie<Keys>(s, [](Stage&, Keys& k) { AdvertOf(k, 2).body.mask_key[0] ^= 1; }); }},
    {"AnAdvertResignedByTheCoordinator", kShares, kViolation, kBadSignature, "keys-refused", UntilKeys,
     [](Stage& s) {
       Lie<Keys>(s, [](Stage& st, Keys& k) { AdvertOf(k, 2) = st.ByCoordinator(AdvertOf(k, 2).body); });
     }},
    {"AnAdvertResignedByTheColluder", kShares, kViolation, kBadSignature, "keys-refused", UntilKeys,
     [](Stage& s) {
       Lie<Keys>(s, [](Stage& st, Keys& k) { AdvertOf(k, 2) = st.BySite(4, AdvertOf(k, 2).body); });
     }},
    {"AnAdvertAndChainOfTheColluderInAnothersPlace", kShares, kViolation, kUntrustedPeer, "keys-refused",
     UntilKeys,
     [](Stage& s) {
       Lie<Keys>(s, [](Stage& st, Keys& k) {
         secagg::Advert mine = AdvertOf(k, 2).body;
         mine.mask_key = {9};
         AdvertOf(k, 2) = st.BySite(4, mine);
         k.chains[1] = k.chains[3];
       });
     }},
    {"AChainUnderARootOfTheCoordinatorsOwnMaking", kShares, kViolation, kUntrustedPeer, "keys-refused",
     UntilKeys,
     [](Stage& s) {
       Lie<Keys>(s, [](Stage&, Keys& k) {
         crypto::CtrRandom random{Secret32()};
         const auto root = worker::testing::Root::Make("b.example", random);
         const auto fake = root.Issue(Role::kWorker, "site", random);
         AdvertOf(k, 2) = secagg::Sign(fake.key, AdvertOf(k, 2).body);
         k.chains[1] = fake.chain;
       });
     }},
    {"TwoAdvertsChangedPlaces", kShares, kViolation, kMalformed, "keys-refused", UntilKeys,
     [](Stage& s) { Lie<Keys>(s, [](Stage&, Keys& k) { std::swap(k.adverts[1], k.adverts[2]); }); }},
    {"AnAdvertTwice", kShares, kViolation, kMalformed, "keys-refused", UntilKeys,
     [](Stage& s) { Lie<Keys>(s, [](Stage&, Keys& k) { k.adverts[2] = k.adverts[1]; }); }},
    {"AnAdvertTwiceUnderTwoNames", kShares, kViolation, kDuplicateKey, "keys-refused", UntilKeys,
     [](Stage& s) {
       Lie<Keys>(s, [](Stage& st, Keys& k) {
         secagg::Advert copy = AdvertOf(k, 2).body;
         copy.site = 4;
         AdvertOf(k, 4) = st.BySite(4, copy);
       });
     }},
    {"AnothersMaskKeyUnderTheColludersName", kShares, kViolation, kDuplicateKey, "keys-refused", UntilKeys,
     [](Stage& s) {
       Lie<Keys>(s, [](Stage& st, Keys& k) {
         secagg::Advert copy = AdvertOf(k, 4).body;
         copy.mask_key = AdvertOf(k, 2).body.mask_key;
         AdvertOf(k, 4) = st.BySite(4, copy);
       });
     }},
    {"AnothersSeedHashUnderTheColludersName", kShares, kViolation, kDuplicateKey, "keys-refused", UntilKeys,
     [](Stage& s) {
       Lie<Keys>(s, [](Stage& st, Keys& k) {
         secagg::Advert copy = AdvertOf(k, 4).body;
         copy.seed_hash = AdvertOf(k, 2).body.seed_hash;
         AdvertOf(k, 4) = st.BySite(4, copy);
       });
     }},
    {"AMaskKeyThatEverybodyKnows", kShares, kViolation, kDuplicateKey, "keys-refused", UntilKeys,
     [](Stage& s) {
       Lie<Keys>(s, [](Stage& st, Keys& k) {
         secagg::Advert weak = AdvertOf(k, 4).body;
         weak.mask_key = {};
         AdvertOf(k, 4) = st.BySite(4, weak);
       });
     }},
    {"FewerAdvertsThanM", kShares, kViolation, kTooFewAdverts, "keys-refused", UntilKeys,
     [](Stage& s) { Lie<Keys>(s, [](Stage&, Keys& k) { k.adverts.resize(2), k.chains.resize(2); }); }},
    {"TheVictimsAdvertLeftOut", kShares, kViolation, kSelfMissing, "keys-refused", UntilKeys,
     [](Stage& s) {
       Lie<Keys>(
           s, [](Stage&, Keys& k) { k.adverts.erase(k.adverts.begin()), k.chains.erase(k.chains.begin()); });
     }},
    {"TheVictimsAdvertAltered", kShares, kViolation, kOwnMessageChanged, "keys-refused", UntilKeys,
     [](Stage& s) { Lie<Keys>(s, [](Stage&, Keys& k) { AdvertOf(k, 1).body.channel_key[5] ^= 1; }); }},
    {"AnAdvertOfAnOldAttempt", kShares, kViolation, kWrongAttempt, "keys-refused", UntilSecondKeys,
     [](Stage& s) {
       Lie<Keys>(s, [](Stage& st, Keys& k) { AdvertOf(k, 2) = AdvertOf(st.old_keys->body, 2); });
     }},
    {"TheVictimsAdvertOfAnOldAttempt", kShares, kViolation, kOwnMessageChanged, "keys-refused",
     UntilSecondKeys,
     [](Stage& s) {
       Lie<Keys>(s, [](Stage& st, Keys& k) { AdvertOf(k, 1) = AdvertOf(st.old_keys->body, 1); });
     }},
    {"TwoRostersToTwoHalves", kShares, kViolation, kTranscript, "keys-refused",
     [](Stage& s) {
       // Sites 3 and 4 are offered another roster under the same number: another key for site 2.
       Offer other = s.f.MakeOffer(0, 0);
       other.roster[1].key_hash = SybilKey(1);
       s.Open(0, 0);
       s.Tell(3, s.ByCoordinator(other));
       s.DeliverTo(1), s.DeliverTo(2), s.DeliverTo(4);
     },
     [](Stage& s) { s.Tell(1, s.ByCoordinator(s.KeysFromWire())); }},
    {"OtherKeysThanBefore", kVector, kViolation, kRepeatDiffers, "keys-refused", UntilDelivery,
     [](Stage& s) {
       Keys k = s.honest_keys->body;
       k.adverts.pop_back(), k.chains.pop_back();
       s.Tell(1, s.ByCoordinator(k));
     }},
    {"AnOtherOfferUnderTheSameNumber", kShares, kViolation, kRepeatDiffers, "offer-refused", UntilKeys,
     [](Stage& s) {
       Offer o = s.f.MakeOffer(0, 0);
       o.deadlines.input_ms += 1;
       s.Tell(1, s.ByCoordinator(o));
     }},

    // Step 4: the shares, U2.
    {"AnAdvertDroppedForTheVictimOnly", kVector, kViolation, kMalformed, "delivery-refused",
     [](Stage& s) {
       UntilKeys(s);
       Lie<Keys>(s, [](Stage&, Keys& k) { k.adverts.pop_back(), k.chains.pop_back(); });
     },
     [](Stage& s) {
       // The others dealt to four, the victim to three: no delivery can be right for both.
       const auto own = s.LastOf<secagg::Shares>(1).body;
       Delivery d{s.id(), 1, own.t1, {}};
       s.DeliverTo(2), s.DeliverTo(3);
       for (SiteIndex i = 1; i <= 3; ++i) {
         const auto dealt = s.LastOf<secagg::Shares>(i);
         d.rows.push_back({i, dealt.body.commitments, dealt.signature, dealt.body.ciphertexts[0]});
       }
       s.Tell(1, s.ByCoordinator(d));
     }},
    {"AnotherT1", kVector, kViolation, kTranscript, "delivery-refused", UntilDelivery,
     [](Stage& s) { Lie<Delivery>(s, [](Stage&, Delivery& d) { d.t1.bytes[0] ^= 1; }); }},
    {"FewerDealersThanM", kVector, kViolation, kTooFewDealers, "delivery-refused", UntilDelivery,
     [](Stage& s) { Lie<Delivery>(s, [](Stage&, Delivery& d) { d.rows.resize(2); }); }},
    {"ADealerOutsideU1", kVector, kViolation, kOutsideSet, "delivery-refused", UntilDelivery,
     [](Stage& s) { Lie<Delivery>(s, [](Stage&, Delivery& d) { d.rows[3].dealer = 5; }); }},
    {"ADealerTwice", kVector, kViolation, kMalformed, "delivery-refused", UntilDelivery,
     [](Stage& s) { Lie<Delivery>(s, [](Stage&, Delivery& d) { d.rows[2] = d.rows[1]; }); }},
    {"TheVictimsOwnRowLeftOut", kVector, kViolation, kSelfMissing, "delivery-refused", UntilDelivery,
     [](Stage& s) { Lie<Delivery>(s, [](Stage&, Delivery& d) { d.rows.erase(d.rows.begin()); }); }},
    {"TheVictimsOwnRowAltered", kVector, kViolation, kOwnMessageChanged, "delivery-refused", UntilDelivery,
     [](Stage& s) {
       Lie<Delivery>(s,
                     [](Stage&, Delivery& d) { d.rows[0].commitments.Change()[2].seed_share.bytes[0] ^= 1; });
     }},
    {"AnotherCiphertextInTheVictimsOwnRow", kVector, kViolation, kOwnMessageChanged, "delivery-refused",
     UntilDelivery,
     [](Stage& s) { Lie<Delivery>(s, [](Stage&, Delivery& d) { d.rows[0].ciphertext[0] ^= 1; }); }},
    {"AnothersDelivery", kVector, kViolation, kMalformed, "delivery-refused", UntilDelivery,
     [](Stage& s) { s.Tell(1, s.Waiting<Delivery>(2)); }},
    {"ADealerWhoCommittedToFewerShares", kVector, kViolation, kMalformed, "delivery-refused", UntilDelivery,
     [](Stage& s) {
       Lie<Delivery>(s, [](Stage&, Delivery& d) { d.rows[3].commitments.Change().pop_back(); });
     }},
    {"AnotherU2ThanBefore", kAgreement, kViolation, kRepeatDiffers, "delivery-refused",
     [](Stage& s) {
       UntilDelivery(s);
       s.old_delivery = s.Waiting<Delivery>(1);
       s.DeliverTo(1);
     },
     [](Stage& s) {
       Delivery d = s.old_delivery->body;
       d.rows.pop_back();
       s.Tell(1, s.ByCoordinator(d));
     }},

    // Step 6: the survivors, U3.
    {"SurvivorsBeforeTheVictimHasSent", kAgreement, kViolation, kWrongPhase, "survivors-refused",
     [](Stage& s) { s.site(1).hold_upload = true, UntilDelivery(s), s.DeliverTo(1); },
     [](Stage& s) {
       s.Tell(1, s.ByCoordinator(Survivors{s.id(), s.round().t2(), {}}));
     }},
    {"SurvivorsUnderAnotherT2", kAgreement, kViolation, kTranscript, "survivors-refused", UntilSurvivors,
     [](Stage& s) { Lie<Survivors>(s, [](Stage&, Survivors& v) { v.t2.bytes[0] ^= 1; }); }},
    {"SurvivorsWithoutTheVictim", kAgreement, kViolation, kSelfMissing, "survivors-refused", UntilSurvivors,
     [](Stage& s) {
       Lie<Survivors>(s, [](Stage& st, Survivors& v) {
         v.headers.erase(v.headers.begin());
         v.headers.push_back(st.BySite(4, st.HeaderOf(4)));
       });
     }},
    {"FewerSurvivorsThanM", kAgreement, kViolation, kTooFewSurvivors, "survivors-refused", UntilSurvivors,
     [](Stage& s) { Lie<Survivors>(s, [](Stage&, Survivors& v) { v.headers.resize(2); }); }},
    {"ASurvivorOutsideU2", kAgreement, kViolation, kOutsideSet, "survivors-refused", UntilSurvivorsOfThree,
     [](Stage& s) {
       Lie<Survivors>(s, [](Stage& st, Survivors& v) { v.headers.push_back(st.BySite(4, st.HeaderOf(4))); });
     }},
    {"ASurvivorTwice", kAgreement, kViolation, kMalformed, "survivors-refused", UntilSurvivors,
     [](Stage& s) { Lie<Survivors>(s, [](Stage&, Survivors& v) { v.headers[2] = v.headers[1]; }); }},
    {"AHeaderThatItsSiteHasNotSigned", kAgreement, kViolation, kBadSignature, "survivors-refused",
     UntilSurvivors,
     [](Stage& s) {
       Lie<Survivors>(s, [](Stage& st, Survivors& v) { v.headers[1] = st.BySite(4, v.headers[1].body); });
     }},
    {"TheVictimsHeaderAltered", kAgreement, kViolation, kBadSignature, "survivors-refused", UntilSurvivors,
     [](Stage& s) {
       Lie<Survivors>(s, [](Stage&, Survivors& v) { v.headers[0].body.sha256.bytes[0] ^= 1; });
     }},
    {"AHeaderOfAnotherLength", kAgreement, kViolation, kElements, "survivors-refused", UntilSurvivors,
     [](Stage& s) {
       Lie<Survivors>(s, [](Stage& st, Survivors& v) {
         auto header = st.HeaderOf(4);
         header.elements -= 1;
         v.headers.push_back(st.BySite(4, header));
       });
     }},
    {"AHeaderOfAnotherAttempt", kAgreement, kViolation, kWrongAttempt, "survivors-refused", UntilSurvivors,
     [](Stage& s) {
       Lie<Survivors>(s, [](Stage& st, Survivors& v) {
         auto header = st.HeaderOf(4);
         header.id.attempt += 1;
         v.headers.push_back(st.BySite(4, header));
       });
     }},
    {"TwoU2ToTwoHalves", kAgreement, kViolation, kTranscript, "survivors-refused", UntilSurvivorsOfAnotherU2,
     [](Stage& s) {
       // The victim masked towards 2 and 3 only; the others' headers carry the T2 of four.
       const auto own = s.LastOf<secagg::InputHeader>(1);
       Survivors v{s.id(), own.body.t2, {own}};
       for (SiteIndex i = 2; i <= 3; ++i) v.headers.push_back(s.LastOf<secagg::InputHeader>(i));
       s.Tell(1, s.ByCoordinator(v));
     }},
    {"AnotherU3ThanBefore", kUnmask, kViolation, kRepeatDiffers, "survivors-refused",
     [](Stage& s) {
       UntilSurvivors(s);
       s.old_survivors = s.Waiting<Survivors>(1);
       s.DeliverTo(1);
     },
     [](Stage& s) {
       Survivors v = s.old_survivors->body;
       v.headers.push_back(s.BySite(4, s.HeaderOf(4)));
       s.Tell(1, s.ByCoordinator(v));
     }},

    // Step 7: the signatures over U3.
    {"ABundleWithoutSurvivors", kUnmask, kViolation, kWrongPhase, "agreement-bundle-refused", UntilSurvivors,
     [](Stage& s) {
       s.Tell(1, s.ByCoordinator(AgreementBundle{s.id(), s.round().t2(), {1, 2, 3}, {}}));
     }},
    {"ABundleForAnotherU3", kUnmask, kViolation, kTranscript, "agreement-bundle-refused", UntilBundle,
     [](Stage& s) { Lie<AgreementBundle>(s, [](Stage&, AgreementBundle& b) { b.survivors[2] = 4; }); }},
    {"ABundleUnderAnotherT2", kUnmask, kViolation, kTranscript, "agreement-bundle-refused", UntilBundle,
     [](Stage& s) { Lie<AgreementBundle>(s, [](Stage&, AgreementBundle& b) { b.t2.bytes[0] ^= 1; }); }},
    {"FewerSignaturesThanT", kUnmask, kViolation, kTooFewAgreements, "agreement-bundle-refused", UntilBundle,
     [](Stage& s) { Lie<AgreementBundle>(s, [](Stage&, AgreementBundle& b) { b.signatures.pop_back(); }); }},
    {"ASignatureTwice", kUnmask, kViolation, kMalformed, "agreement-bundle-refused", UntilBundle,
     [](Stage& s) {
       Lie<AgreementBundle>(s, [](Stage&, AgreementBundle& b) { b.signatures[2] = b.signatures[1]; });
     }},
    {"ASignatureOfTheColluderWhoIsNotInU3", kUnmask, kViolation, kOutsideSet, "agreement-bundle-refused",
     UntilBundle,
     [](Stage& s) {
       Lie<AgreementBundle>(s, [](Stage& st, AgreementBundle& b) {
         const secagg::Agreement mine{b.id, 4, b.t2, b.survivors};
         b.signatures[2] = {4, st.BySite(4, mine).signature};
       });
     }},
    {"ASignatureOverAnotherU3", kUnmask, kViolation, kBadSignature, "agreement-bundle-refused", UntilBundle,
     [](Stage& s) {
       Lie<AgreementBundle>(s, [](Stage& st, AgreementBundle& b) {
         const secagg::Agreement other{b.id, 3, b.t2, {1, 2, 3, 4}};
         b.signatures[2].second = st.BySite(3, other).signature;
       });
     }},

    // Step 9: the result, of which the next round begins.
    {"AResultForAnotherU3", kAnswers, kViolation, kTranscript, "result-refused", UntilResult,
     [](Stage& s) { Lie<Result>(s, [](Stage&, Result& r) { r.survivors.pop_back(); }); }},
    {"AResultUnderAnotherT2", kAnswers, kViolation, kTranscript, "result-refused", UntilResult,
     [](Stage& s) { Lie<Result>(s, [](Stage&, Result& r) { r.t2.bytes[0] ^= 1; }); }},
    {"AnAdapterThatDoesNotFollowFromTheSum", kAnswers, DropoutCode::kResultMismatch, kNone, "result",
     UntilResult, [](Stage& s) { Lie<Result>(s, [](Stage&, Result& r) { r.new_adapter.bytes[0] ^= 1; }); }},
    {"AnotherSumUnderTheSameAdapter", kAnswers, DropoutCode::kResultMismatch, kNone, "result", UntilResult,
     [](Stage& s) {
       Lie<Result>(s, [](Stage& st, Result& r) {
         Bytes other = st.f.blobs.at(r.sum_sha256);
         other[3] ^= 0x40;  // one element by 2^30
         r.sum_sha256 = crypto::Sha256(other);
         st.f.blobs[r.sum_sha256] = other;
       });
     }},
    {"ASumThatIsNotWhatItsDigestSays", kAnswers, DropoutCode::kResultMismatch, kNone, "result", UntilResult,
     [](Stage& s) { Lie<Result>(s, [](Stage& st, Result& r) { st.f.blobs.at(r.sum_sha256)[0] ^= 1; }); }},
    {"ASumOfAnotherLength", kAnswers, DropoutCode::kResultMismatch, kNone, "result", UntilResult,
     [](Stage& s) {
       Lie<Result>(s, [](Stage& st, Result& r) {
         const Bytes shorter(8, 0);
         r.sum_sha256 = crypto::Sha256(shorter);
         st.f.blobs[r.sum_sha256] = shorter;
       });
     }},
};

class LyingCoordinatorTest : public ::testing::TestWithParam<Deviation> {};

/// Whatever else the coordinator says now, over this connection, another one or after a restart: the answer
/// that was withheld does not come.
void ExpectWithheld(Stage& s, Answer withheld, const std::array<size_t, kAnswers>& before) {
  const auto expect_same = [&](const char* when) {
    const auto after = Left(s);
    for (size_t a = withheld; a < kAnswers; ++a) EXPECT_EQ(after[a], before[a]) << "answer " << a << when;
  };
  expect_same("");
  const auto honest = s.WaitingFor(Stage::kVictim);
  const auto again = [&] {
    for (const auto& m : honest) std::visit([&](const auto& signed_m) { s.Tell(1, signed_m); }, *m);
  };
  again();
  expect_same(", after the honest message");
  s.Reconnect(1), again();
  expect_same(", over another connection");
  s.Restart(1), again();
  expect_same(", after a restart");
}

TEST_P(LyingCoordinatorTest, IsRefusedBeforeTheNextAnswerLeaves) {
  const Deviation& d = GetParam();
  Stage s;
  d.set_up(s);
  const auto before = Left(s);
  const size_t kept = s.victim().evidence.size();
  const size_t drops = s.victim().Sent<Dropout>().size();
  d.play(s);
  const auto said = s.victim().Sent<Dropout>();
  ASSERT_EQ(said.size(), drops + 1);
  EXPECT_EQ(DropoutName(said.back().code), DropoutName(d.code));
  EXPECT_EQ(RefusalName(said.back().refusal), RefusalName(d.refusal));
  ExpectEvidence(s, kept, d.evidence, d.refusal == kRepeatDiffers);
  ExpectWithheld(s, d.withheld, before);
  if (d.code == DropoutCode::kResultMismatch) {
    s.Tell(1, s.ByCoordinator(s.f.MakeOffer(1, 0)));
    EXPECT_EQ(Left(s)[kAdvert], before[kAdvert]) << "entered the round that begins with the lie";
  }
  s.ExpectLawful();
}

// Shares that do not open or do not match: the worker cannot tell whether coordinator or dealer lies, says
// which row does not hold, and the attempt is over for it before anything of its vector leaves.
struct BadShares {
  const char* name;
  SiteIndex accused;
  Complaint::Code code;
  void (*set_up)(Stage&);
  Change<Delivery> change;
};
constexpr auto kCannotDecrypt = Complaint::Code::kCannotDecrypt;
constexpr auto kCommitmentMismatch = Complaint::Code::kCommitmentMismatch;
Delivery::Row& Row(Delivery& d, SiteIndex dealer) { return d.rows.at(dealer - 1u); }

const BadShares kBadShares[] = {
    {"ACiphertextForAnotherRecipient", 3, kCannotDecrypt, UntilDelivery,
     [](Stage& s, Delivery& d) { Row(d, 3).ciphertext = Row(s.honest_delivery.at(2).body, 3).ciphertext; }},
    {"ACiphertextOfAnotherDealer", 3, kCannotDecrypt, UntilDelivery,
     [](Stage&, Delivery& d) { Row(d, 3).ciphertext = Row(d, 2).ciphertext; }},
    {"ACiphertextOfAnotherAttempt", 3, kCannotDecrypt, UntilSecondDelivery,
     [](Stage& s, Delivery& d) { Row(d, 3).ciphertext = Row(s.old_delivery->body, 3).ciphertext; }},
    {"ACiphertextOfAnotherRound", 3, kCannotDecrypt, UntilNextRoundsDelivery,
     [](Stage& s, Delivery& d) { Row(d, 3).ciphertext = Row(s.old_delivery->body, 3).ciphertext; }},
    {"ARowOfAnotherAttempt", 3, Complaint::Code::kBadSignature, UntilSecondDelivery,
     [](Stage& s, Delivery& d) { Row(d, 3) = Row(s.old_delivery->body, 3); }},
    {"ACiphertextWithOneBitChanged", 2, kCannotDecrypt, UntilDelivery,
     [](Stage&, Delivery& d) { Row(d, 2).ciphertext[100] ^= 1; }},
    {"CommitmentsThatTheirDealerHasNotSigned", 2, Complaint::Code::kBadSignature, UntilDelivery,
     [](Stage&, Delivery& d) { Row(d, 2).commitments.Change()[0].mask_key_share.bytes[0] ^= 1; }},
    {"CommitmentsOfTheColluderToOtherShares", 4, kCommitmentMismatch, UntilDelivery,
     [](Stage& s, Delivery& d) {
       Row(d, 4).commitments.Change()[0].mask_key_share.bytes[0] ^= 1;
       const secagg::Shares dealt{d.id, 4, d.t1, *Row(d, 4).commitments, {}};
       Row(d, 4).signature = s.BySite(4, dealt).signature;
     }},
};

class BadSharesTest : public ::testing::TestWithParam<BadShares> {};

TEST_P(BadSharesTest, AreComplainedAboutBeforeTheVectorLeaves) {
  const BadShares& d = GetParam();
  Stage s;
  d.set_up(s);
  const auto before = Left(s);
  const size_t kept = s.victim().evidence.size();
  Lie<Delivery>(s, d.change);
  const auto complaints = s.victim().Sent<Signed<Complaint>>();
  ASSERT_EQ(complaints.size(), 1u);
  EXPECT_EQ(complaints[0].body.accused, d.accused);
  EXPECT_EQ(complaints[0].body.code, d.code);
  ExpectEvidence(s, kept, "delivery", /*both=*/false);
  ExpectWithheld(s, kVector, before);
  s.ExpectLawful();
}

INSTANTIATE_TEST_SUITE_P(Catalogue, BadSharesTest, ::testing::ValuesIn(kBadShares),
                         [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(Catalogue, LyingCoordinatorTest, ::testing::ValuesIn(kDeviations),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace concordat::adversary
