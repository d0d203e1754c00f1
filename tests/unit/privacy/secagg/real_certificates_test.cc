#include "privacy/crypto/x509.h"
#include "privacy/secagg/coordinator_checks.h"
#include "tests/unit/privacy/secagg/harness.h"

// One attempt with real X.509 chains: each site's certificate from its own jurisdiction's root.
namespace concordat::secagg::testing {
namespace {

class CharterVerifier final : public PeerVerifier {
 public:
  std::map<std::string, std::string> roots;
  StatusOr<crypto::PeerIdentity> Verify(std::string_view chain, Instant now) const override {
    return crypto::VerifyPeerChain(
        chain,
        [this](const std::string& jurisdiction) -> StatusOr<std::string> {
          const auto it = roots.find(jurisdiction);
          if (it == roots.end()) return NotFound("no root for {}", jurisdiction);
          return it->second;
        },
        now);
  }
};

class RealCertificatesTest : public ::testing::Test {
 protected:
  RealCertificatesTest() {
    for (size_t i = 0; i < world_.sites.size(); ++i) {
      World::Site& site = world_.sites[i];
      verifier_.roots[site.id.jurisdiction()] = Root(i, At(9'000'000));
      site.chain = Leaf(i, At(-600'000), At(8'000'000), verifier_.roots[site.id.jurisdiction()]);
    }
  }
  crypto::SigningKey RootKey(size_t i) const {
    return crypto::SigningKey::FromSeed(SeedFor(fmt::format("root {}", i)));
  }
  std::string Root(size_t i, Instant until) {
    return crypto::MakeRootCertificate(RootKey(i), world_.sites[i].id.jurisdiction(), At(-600'000), until,
                                       random_)
        .value();
  }
  std::string Leaf(size_t i, Instant from, Instant until, const std::string& root) {
    const World::Site& site = world_.sites[i];
    const crypto::CertificateProfile profile{site.id, site.key.PublicSpki(), {}, {}, from, until};
    return crypto::IssueLeaf(RootKey(i), root, profile, random_).value();
  }
  CoordinatorRound Round() { return {world_.offer, world_.coordinator, verifier_, world_.Chains()}; }
  /// Starts at `begin`; each site adverts at its instant, by its own clock. Of the last one's effects.
  CoordinatorEffects Adverts(CoordinatorRound& round, Instant begin, const std::vector<Instant>& at) {
    workers_.clear();
    for (const World::Site& site : world_.sites) {
      workers_.emplace_back(site.id, site.key, verifier_, world_.coordinator.Public(), random_, world_.bounds,
                            Digest{});
    }
    const auto start = round.Start(begin);
    EXPECT_TRUE(start.ok()) << start.status();
    CoordinatorEffects last;
    for (size_t i = 0; start.ok() && i < at.size(); ++i) {
      const auto advert = workers_[i].OnOffer(std::get<Signed<Offer>>(*start->send[i].message), at[i]);
      EXPECT_TRUE(advert.ok()) << advert.status();
      auto effects = round.OnAdvert(std::get<Signed<Advert>>(*advert->send), at[i]);
      EXPECT_TRUE(effects.ok()) << effects.status();
      last = *std::move(effects);
    }
    return last;
  }
  // How long an attempt of this offer can last, and the clocks' difference, after which a start is too late.
  static constexpr int64_t kLongest = 400'000, kSkew = 240'000, kEnd = 8'000'000;
  std::vector<WorkerRound> workers_;
  crypto::CtrRandom random_{SeedFor("serials")};
  World world_{3};
  CharterVerifier verifier_;
};

static_assert(kClockSkew == Millis(240'000), "the instants below count on it");

TEST_F(RealCertificatesTest, TheCoordinatorStartsWithThemAndAWorkerAcceptsThem) {
  CoordinatorRound coordinator(world_.offer, world_.coordinator, verifier_, world_.Chains());
  const auto start = coordinator.Start(At(0));
  ASSERT_TRUE(start.ok()) << start.status();
  std::vector<WorkerRound> workers;
  for (const World::Site& site : world_.sites) {
    workers.emplace_back(site.id, site.key, verifier_, world_.coordinator.Public(), random_, world_.bounds,
                         Digest{});
  }
  std::vector<Outgoing> keys;
  for (const Outgoing& o : start->send) {
    const auto advert = workers[o.to - 1].OnOffer(std::get<Signed<Offer>>(*o.message), At(1));
    ASSERT_TRUE(advert.ok());
    auto effects = coordinator.OnAdvert(std::get<Signed<Advert>>(*advert->send), At(2));
    ASSERT_TRUE(effects.ok());
    for (Outgoing& next : effects->send) keys.push_back(next);
  }
  ASSERT_EQ(keys.size(), 3u);
  for (const Outgoing& o : keys) {
    const auto shares = workers[o.to - 1].OnKeys(std::get<Signed<Keys>>(*o.message), At(3));
    EXPECT_TRUE(shares.ok()) << shares.status();
  }
}

TEST_F(RealCertificatesTest, AChainOfAnotherJurisdictionsRootIsRefused) {
  const auto other_root = crypto::SigningKey::FromSeed(SeedFor("root 1"));
  crypto::CertificateProfile profile{world_.sites[0].id, world_.sites[0].key.PublicSpki(), {}, {}, At(-1000),
                                     At(8'000'000)};
  // law1's CA issues a certificate in law0's name: IssueLeaf refuses, so a forged root of law0's name is
  // used.
  const auto forged_root = crypto::MakeRootCertificate(other_root, world_.sites[0].id.jurisdiction(),
                                                       At(-1000), At(9'000'000), random_)
                               .value();
  auto chains = world_.Chains();
  chains[1] = crypto::IssueLeaf(other_root, forged_root, profile, random_).value();
  CoordinatorRound coordinator(world_.offer, world_.coordinator, verifier_, chains);
  ExpectRefused(coordinator.Start(At(0)), RefusalCode::kUntrustedPeer);
}

TEST_F(RealCertificatesTest, AChainThatRunsOutBeforeTheLastDeadlineIsRefusedAtTheOffer) {
  CoordinatorRound late = Round();
  const auto refused = late.Start(At(kEnd - kLongest - kSkew));
  ExpectRefused(refused, RefusalCode::kUntrustedPeer);
  EXPECT_NE(Message(refused.status()).find(world_.sites[0].id.Brief()), std::string::npos)
      << refused.status();
  EXPECT_EQ(late.phase(), CoordinatorPhase::kIdle);
  CoordinatorRound in_time = Round();
  EXPECT_TRUE(in_time.Start(At(kEnd - kLongest - kSkew - 1000)).ok());
}

TEST_F(RealCertificatesTest, OneSiteThatRunsOutBetweenTheOfferAndTheAdvertsCannotBeInTheRoster) {
  // Its own authority made it so. The others would refuse the coordinator's honest keys, and be the ones
  // named.
  world_.sites[2].chain =
      Leaf(2, At(-600'000), At(5'000), verifier_.roots[world_.sites[2].id.jurisdiction()]);
  CoordinatorRound round = Round();
  const auto refused = round.Start(At(0));
  ExpectRefused(refused, RefusalCode::kUntrustedPeer);
  EXPECT_NE(Message(refused.status()).find(world_.sites[2].id.Brief()), std::string::npos)
      << refused.status();
}

TEST_F(RealCertificatesTest, ALeafThatOutlivesItsRootEndsWithIt) {
  const std::string longer =
      Root(1, At(90'000'000));  // the same key and name; the charter pins the other one
  world_.sites[1].chain = Leaf(1, At(-600'000), At(80'000'000), longer);
  world_.sites[0].chain =
      Leaf(0, At(-600'000), At(9'000'000), verifier_.roots[world_.sites[0].id.jurisdiction()]);
  world_.sites[2].chain =
      Leaf(2, At(-600'000), At(9'000'000), verifier_.roots[world_.sites[2].id.jurisdiction()]);
  const int64_t end = 9'000'000 - kLongest - kSkew;
  CoordinatorRound in_time = Round();
  EXPECT_TRUE(in_time.Start(At(end - 1000)).ok());
  verifier_.roots[world_.sites[0].id.jurisdiction()] = Root(0, At(90'000'000));
  verifier_.roots[world_.sites[2].id.jurisdiction()] = Root(2, At(90'000'000));
  for (const size_t i : {0u, 2u})
    world_.sites[i].chain =
        Leaf(i, At(-600'000), At(80'000'000), verifier_.roots[world_.sites[i].id.jurisdiction()]);
  CoordinatorRound late = Round();
  const auto refused = late.Start(At(end));
  ExpectRefused(refused, RefusalCode::kUntrustedPeer);
  EXPECT_NE(Message(refused.status()).find(world_.sites[1].id.Brief()), std::string::npos)
      << refused.status();
}

TEST_F(RealCertificatesTest, ACertificateThatASlowClockWouldNotTakeYetIsRefused) {
  world_.sites[1].chain = Leaf(1, At(0), At(kEnd), verifier_.roots[world_.sites[1].id.jurisdiction()]);
  CoordinatorRound early = Round();
  ExpectRefused(early.Start(At(kSkew - 1000)), RefusalCode::kUntrustedPeer);
  CoordinatorRound in_time = Round();
  EXPECT_TRUE(in_time.Start(At(kSkew)).ok());
}

TEST_F(RealCertificatesTest,
       AWorkerWhoseClockIsOffBySomeMinutesTakesTheAdvertsOfTheLatestAndTheEarliestOffer) {
  for (const bool fast : {false, true}) {
    // Everyone's certificate is as new as may be, or as old; everyone's clock is as slow as may be, or as
    // fast.
    for (size_t i = 0; i < 3; ++i) {
      world_.sites[i].chain = Leaf(i, At(0), At(kEnd), verifier_.roots[world_.sites[i].id.jurisdiction()]);
    }
    const Instant begin = fast ? At(kEnd - kLongest - kSkew - 1000) : At(kSkew);
    const Millis off(fast ? kSkew : -kSkew), step(fast ? 10'000 : 0);
    CoordinatorRound round = Round();
    const auto keys = Adverts(round, begin, {begin, begin, begin + step});
    ASSERT_EQ(keys.send.size(), 3u);
    for (const Outgoing& o : keys.send) {
      const auto shares = workers_[o.to - 1].OnKeys(std::get<Signed<Keys>>(*o.message), begin + step + off);
      EXPECT_TRUE(shares.ok()) << shares.status();
    }
  }
}

TEST_F(RealCertificatesTest, WhoseCertificateRanOutWhileTheCoordinatorWasAwayIsDroppedByNameBeforeTheKeys) {
  CoordinatorRound round = Round();
  const auto effects = Adverts(round, At(0), {At(1), At(2), At(kEnd - kSkew)});
  ASSERT_TRUE(effects.aborted.has_value()) << "three are all or nothing";
  EXPECT_EQ(effects.aborted->code, Aborted::Code::kTooFewAdverts);
  EXPECT_TRUE(effects.send.empty()) << "keys that everyone would refuse";
  ASSERT_EQ(effects.dropped.size(), 3u);
  for (const DroppedSite& dropped : effects.dropped) EXPECT_EQ(dropped.code, RefusalCode::kUntrustedPeer);
}

TEST_F(RealCertificatesTest, AnExpiredChainIsRefused) {
  CoordinatorRound coordinator(world_.offer, world_.coordinator, verifier_, world_.Chains());
  ExpectRefused(coordinator.Start(At(8'500'000)), RefusalCode::kUntrustedPeer);
}

}  // namespace
}  // namespace concordat::secagg::testing
