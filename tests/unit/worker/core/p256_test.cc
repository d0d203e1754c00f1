#include <set>

#include "tests/unit/worker/core/federation.h"
#include "worker/core/worker_core.h"

// Rounds of a federation whose identities are P-256 keys, between real cores: keys and shares are agreed on
// P-256.
namespace concordat::worker {
namespace {

using testing::Federation;
using testing::Region;

class P256RoundTest : public ::testing::Test {
 protected:
  void ExpectPlainSum() { EXPECT_EQ(f_.Decoded().mean_delta, f_.PlainSum().mean_delta); }

  Federation f_{"noise_multiplier: 0.05", "", crypto::SignatureProfile::kP256};
};

TEST_F(P256RoundTest, SumsExactlyRoundAfterRound) { testing::PlayExactRounds(f_, 2); }

TEST_F(P256RoundTest, ALostSitesMaskKeyIsRebuiltFromItsShares) {
  f_.regions[2]->hold_uploaded = true;
  f_.PlayFirstAttempt();
  ASSERT_EQ(f_.round().phase(), secagg::CoordinatorPhase::kInput);
  f_.Timeout();
  f_.Run();
  ASSERT_EQ(f_.round().phase(), secagg::CoordinatorPhase::kDone);
  EXPECT_EQ(f_.round().survivors(), (std::vector<SiteIndex>{1, 2, 4}));
  ExpectPlainSum();
}

// The curve is in no snapshot: it follows from the coordinator's key.
TEST_F(P256RoundTest, AWorkerThatWasKilledWhileTrainingGoesOn) {
  f_.regions[1]->hold_training = true;
  f_.PlayFirstAttempt();
  ASSERT_EQ(f_.round().phase(), secagg::CoordinatorPhase::kInput);
  f_.regions[1]->hold_training = false;
  f_.Restart(2);
  f_.Run();
  ASSERT_EQ(f_.round().phase(), secagg::CoordinatorPhase::kDone);
  EXPECT_EQ(f_.round().survivors().size(), 4u);
  ExpectPlainSum();
}

TEST_F(P256RoundTest, AMaskKeyThatIsNoPointIsRefused) {
  f_.StartAll();
  f_.Notify();
  for (auto& region : f_.regions) region->Receive(f_.SignedOffer(0, 0));
  secagg::Keys keys{{f_.job.id, 0, 0}, {}, {}};
  for (auto& region : f_.regions) {
    keys.adverts.push_back(region->Sent<secagg::Signed<secagg::Advert>>().back());
    keys.chains.push_back(region->party().chain);
  }
  keys.adverts[1].body.mask_key = {};
  keys.adverts[1].body.mask_key[31] = 1;  // x = 1: the curve has no such point
  keys.adverts[1] = secagg::Sign(f_.regions[1]->party().key, keys.adverts[1].body);
  Region& region = *f_.regions[0];
  region.Receive(secagg::Sign(f_.coordinator.key, keys));
  EXPECT_TRUE(region.Sent<secagg::Signed<secagg::Shares>>().empty());
  EXPECT_EQ(region.Sent<Dropout>().back().refusal, secagg::RefusalCode::kDuplicateKey);
}

}  // namespace
}  // namespace concordat::worker
