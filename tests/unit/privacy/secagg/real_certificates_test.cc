#include "privacy/crypto/x509.h"
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
      const auto root_key = crypto::SigningKey::FromSeed(SeedFor(fmt::format("root {}", i)));
      const auto root =
          crypto::MakeRootCertificate(root_key, site.id.jurisdiction(), At(-1000), At(9'000'000), random_);
      verifier_.roots[site.id.jurisdiction()] = root.value();
      crypto::CertificateProfile profile{site.id, site.key.PublicSpki(), {}, {}, At(-1000), At(8'000'000)};
      site.chain = crypto::IssueLeaf(root_key, *root, profile, random_).value();
    }
  }
  crypto::CtrRandom random_{SeedFor("serials")};
  World world_{3};
  CharterVerifier verifier_;
};

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

TEST_F(RealCertificatesTest, AnExpiredChainIsRefused) {
  CoordinatorRound coordinator(world_.offer, world_.coordinator, verifier_, world_.Chains());
  ExpectRefused(coordinator.Start(At(8'500'000)), RefusalCode::kUntrustedPeer);
}

}  // namespace
}  // namespace concordat::secagg::testing
