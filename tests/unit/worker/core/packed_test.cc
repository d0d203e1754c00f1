#include "tests/unit/worker/core/federation.h"
#include "worker/core/worker_core.h"

// A round whose words have 24 bits, between real cores.
namespace concordat::worker {
namespace {

using testing::Federation;
using testing::Region;

constexpr std::string_view kPackedJob = "noise_multiplier: 0.05\n  modulus_bits: 24";

class PackedRoundTest : public ::testing::Test {
 protected:
  PackedRoundTest() {
    for (auto& region : f_.regions) region->policy.privacy.modulus_bits = {kPlainBits, kPackedBits};
  }
  void ExpectPlainSum() {
    const auto plan = policy::EncodingFor(f_.job.spec, f_.round().offer());
    ASSERT_OK(plan);
    ASSERT_TRUE(plan->rotated());
    const DecodedSum expected = f_.PlainSum();
    EXPECT_EQ(f_.Decoded().mean_delta, expected.mean_delta);
    EXPECT_EQ(f_.Decoded().metric_sums, expected.metric_sums);
    // Every site's delta is 0.01 everywhere: its mean comes back but for noise and rounding.
    double mean = 0;
    for (const float v : f_.Decoded().mean_delta) mean += v / static_cast<double>(expected.mean_delta.size());
    EXPECT_NEAR(mean, 0.01, 0.01);
  }

  Federation f_{kPackedJob};
};

TEST_F(PackedRoundTest, AWholeJobSumsExactlyAndEveryRegionMakesTheSameAdapters) {
  testing::PlayExactRounds(f_, 3);
}

TEST_F(PackedRoundTest, ALostSiteIsTakenOutOfTheSum) {
  f_.regions[2]->hold_uploaded = true;
  f_.PlayFirstAttempt();
  ASSERT_EQ(f_.round().phase(), secagg::CoordinatorPhase::kInput);
  f_.Timeout();
  f_.Run();
  ASSERT_EQ(f_.round().phase(), secagg::CoordinatorPhase::kDone);
  EXPECT_EQ(f_.round().survivors(), (std::vector<SiteIndex>{1, 2, 4}));
  ExpectPlainSum();
}

TEST_F(PackedRoundTest, ReceiptsAndHeadersCountThreeBytesAnElement) {
  f_.PlayFirstAttempt();
  const uint64_t elements = *policy::MaskedElements(f_.job.spec);
  Region& region = *f_.regions[1];
  const Bytes& y = region.uploads.at({f_.job.id, 0, 0});
  EXPECT_EQ(y.size(), 3 * elements);
  ASSERT_EQ(region.receipts.size(), 2u);
  EXPECT_EQ(region.receipts[0].bytes, 3 * (elements - policy::kMetricCount));
  EXPECT_EQ(region.receipts[1].bytes, 3 * policy::kMetricCount);
  EXPECT_EQ(region.receipts[0].sha256, crypto::Sha256(y));
  const auto header = region.Sent<secagg::Signed<secagg::InputHeader>>().back().body;
  EXPECT_EQ(header.elements, elements);
  EXPECT_EQ(header.sha256, crypto::Sha256(y));
}

TEST_F(PackedRoundTest, AStoredVectorIsSentByTheNextProcess) {
  f_.regions[0]->hold_uploaded = true;
  f_.PlayFirstAttempt();
  f_.regions[0]->hold_uploaded = false;
  f_.Restart(1);
  f_.Run();
  ASSERT_EQ(f_.round().phase(), secagg::CoordinatorPhase::kDone);
  EXPECT_EQ(f_.round().survivors().size(), 4u);
  ExpectPlainSum();
}

TEST_F(PackedRoundTest, ASumInWordsOf32BitsIsNoResult) {
  f_.wide_sum = true;
  f_.PlayFirstAttempt();
  for (auto& region : f_.regions) {
    EXPECT_TRUE(region->Sent<ResultAck>().empty());
    EXPECT_EQ(region->Sent<Dropout>().back().code, DropoutCode::kResultMismatch);
    EXPECT_EQ(region->JournalCount<JobHalted>(), 1u);
  }
}

// The number of bits is in the job file alone. Who would have one site send other words must show it another
// job, and jobs never meet: their names are in every offer, and so in T0.
TEST_F(PackedRoundTest, WordsOfAnotherSizeAreAnotherJob) {
  const policy::SignedJob plain = f_.JobWith("noise_multiplier: 0.05");
  const auto opened = policy::OpenJob(plain, f_.charter, f_.now);
  ASSERT_OK(opened);
  ASSERT_EQ(opened->spec.privacy.modulus_bits, kPlainBits);
  EXPECT_NE(opened->id, f_.job.id);
  secagg::Offer offer = f_.MakeOffer(0, 0), lie = offer;
  lie.id.job = opened->id;
  EXPECT_NE(secagg::TranscriptT0(lie), secagg::TranscriptT0(offer));
  f_.StartAll();
  f_.Notify();
  Region& region = *f_.regions[0];
  region.Receive(secagg::Sign(f_.coordinator.key, lie));
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kPolicyRefused) << "never announced";
  EXPECT_TRUE(region.Sent<secagg::Signed<secagg::Advert>>().empty());
  // Its file with the other number under the submitter's signature is refused as well.
  policy::SignedJob forged = f_.signed_job;
  forged.file.replace(forged.file.find("modulus_bits: 24"), 16, "modulus_bits: 32");
  region.Receive(JobNotice{forged, true, 0});
  EXPECT_EQ(region.Sent<JobAnswer>().back().rules, std::vector{policy::RuleCode::kSubmitterSignature});
}

TEST_F(PackedRoundTest, ARegionThatDoesNotAllowPackedWordsRefusesTheJob) {
  f_.regions[3]->policy.privacy.modulus_bits = {kPlainBits};
  f_.StartAll();
  f_.Notify();
  const JobAnswer answer = f_.regions[3]->Sent<JobAnswer>().back();
  EXPECT_EQ(answer.verdict, Verdict::kRefused);
  EXPECT_EQ(answer.rules, std::vector{policy::RuleCode::kPrivacyModulusBits});
  const JobAnswer other = f_.regions[0]->Sent<JobAnswer>().back();
  EXPECT_EQ(other.verdict, Verdict::kEligible);
  EXPECT_EQ(other.bytes_per_round, 3 * *policy::MaskedElements(f_.job.spec));
}

}  // namespace
}  // namespace concordat::worker
