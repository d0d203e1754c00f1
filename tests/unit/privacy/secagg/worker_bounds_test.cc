#include "privacy/secagg/worker_bounds.h"

#include "tests/unit/privacy/secagg/harness.h"

namespace concordat::secagg::testing {
namespace {

using enum RefusalCode;

class WorkerBoundsTest : public ::testing::Test {
 protected:
  World world_{10};
  Offer offer_ = world_.offer;
  WorkerBounds bounds_ = world_.bounds;
  void Expect(RefusalCode code) { ExpectRefused(CheckOffer(offer_, bounds_), code); }
};

TEST_F(WorkerBoundsTest, AcceptsAFairOffer) { EXPECT_TRUE(CheckOffer(offer_, bounds_).ok()); }

TEST_F(WorkerBoundsTest, RefusesAnotherAttempt) {
  offer_.id.attempt = 2;
  Expect(kWrongAttempt);
}

TEST_F(WorkerBoundsTest, RefusesAnotherCharter) {
  offer_.charter = DigestFor("other");
  Expect(kCharter);
}

TEST_F(WorkerBoundsTest, RefusesAnotherBaseModelOrAdapter) {
  offer_.base_model = DigestFor("other");
  Expect(kModel);
  offer_ = world_.offer;
  offer_.adapter = DigestFor("other");
  Expect(kModel);
}

TEST_F(WorkerBoundsTest, RefusesAnotherLength) {
  offer_.elements += 1;
  Expect(kElements);
  bounds_.elements = offer_.elements = 0;
  Expect(kElements);
}

TEST_F(WorkerBoundsTest, RefusesASiteOfAnUnknownJurisdiction) {
  offer_.roster[3].worker = SpiffeId::Make("atlantis", Role::kWorker, "w").value();
  Expect(kRoster);
}

TEST_F(WorkerBoundsTest, RefusesARosterThatRepeatsASiteOrAKey) {
  offer_.roster[3].worker = offer_.roster[4].worker;
  Expect(kRoster);
  offer_ = world_.offer;
  offer_.roster[3].key_hash = offer_.roster[4].key_hash;
  Expect(kRoster);
  offer_ = world_.offer;
  offer_.roster[3].key_hash = {};
  Expect(kRoster);
}

TEST_F(WorkerBoundsTest, RefusesARosterWithAnotherRoleOrNobodyOrTooMany) {
  offer_.roster[3].worker = SpiffeId::Make("law3", Role::kOperator, "w4").value();
  Expect(kRoster);
  offer_.roster.clear();
  Expect(kRoster);
  World large(101);
  ExpectRefused(CheckOffer(large.offer, large.bounds), kRoster);
}

TEST_F(WorkerBoundsTest, RefusesACohortBelowTheRegionsMinimum) {
  bounds_.min_cohort = 11;
  Expect(kCohortTooSmall);
  bounds_ = world_.bounds;
  bounds_.max_sites = 9;
  Expect(kCohortTooSmall);
}

TEST_F(WorkerBoundsTest, CountsTheCohortInJurisdictionsToo) {
  World few(10, 37, 5);
  few.bounds.min_cohort = 6;
  ExpectRefused(CheckOffer(few.offer, few.bounds), kCohortTooSmall);
  few.bounds.min_cohort = 5;
  EXPECT_TRUE(CheckOffer(few.offer, few.bounds).ok());
}

TEST_F(WorkerBoundsTest, RefusesAThresholdBelowTwoThirds) {
  offer_.threshold = 6;
  Expect(kThreshold);
  offer_.threshold = 11;
  Expect(kThreshold);
  offer_.threshold = 0;
  Expect(kThreshold);
}

TEST_F(WorkerBoundsTest, RefusesWhenTwiceTIsNotAboveNPlusColluding) {
  offer_.threshold = 7;  // 14 > 10 + 4 does not hold
  offer_.min_survivors = 10;
  offer_.assumed_colluding = 4;
  Expect(kThreshold);
  offer_.assumed_colluding = 3;
  EXPECT_TRUE(CheckOffer(offer_, bounds_).ok());
}

TEST_F(WorkerBoundsTest, CountsAWholeJurisdictionAsOneCoalition) {
  // One CA with four of ten sites: 2t = 14 is not above 10 + 4, although nC = 1.
  for (size_t i = 0; i < 4; ++i) {
    offer_.roster[i].worker = SpiffeId::Make("law0", Role::kWorker, fmt::format("sybil{}", i)).value();
  }
  Expect(kThreshold);
}

TEST_F(WorkerBoundsTest, RefusesSurvivorsBelowTheThresholdOrTheMinimum) {
  offer_.min_survivors = 6;
  Expect(kSurvivorMinimum);
  offer_.min_survivors = 11;
  Expect(kSurvivorMinimum);
  offer_ = world_.offer;
  bounds_.min_survivors = 8;
  Expect(kSurvivorMinimum);
}

TEST_F(WorkerBoundsTest, CountsSurvivorsInJurisdictionsToo) {
  World few(10, 37, 5);  // seven survivors may come from only four jurisdictions
  few.bounds.min_survivors = 5;
  ExpectRefused(CheckOffer(few.offer, few.bounds), kSurvivorMinimum);
  few.bounds.min_survivors = 4;
  EXPECT_TRUE(CheckOffer(few.offer, few.bounds).ok());
}

TEST_F(WorkerBoundsTest, RefusesNobodyColluding) {
  offer_.assumed_colluding = 0;
  Expect(kColluding);
  offer_.assumed_colluding = 1;
  bounds_.min_colluding = 2;
  Expect(kColluding);
}

TEST_F(WorkerBoundsTest, RefusesFewerHonestSurvivorsThanTheRegionAsks) {
  bounds_.min_honest = 7;  // h = 7 − 1
  Expect(kHonestMinimum);
  bounds_.min_honest = 6;
  EXPECT_TRUE(CheckOffer(offer_, bounds_).ok());
}

TEST_F(WorkerBoundsTest, NeverAcceptsFewerThanTwoHonestJurisdictions) {
  bounds_.min_cohort = bounds_.min_survivors = bounds_.min_honest = 0;
  // Three sites, two of them one jurisdiction's: t = m = 3 survivors, one honest jurisdiction.
  World three(3);
  three.offer.roster[1].worker = SpiffeId::Make("law0", Role::kWorker, "second").value();
  three.bounds.min_cohort = three.bounds.min_survivors = three.bounds.min_honest = 0;
  const CohortCounts c = CountCohort(three.offer);
  EXPECT_EQ(c.honest_jurisdictions, 1);
  EXPECT_EQ(c.colluding_sites, 2u);
  ExpectRefused(CheckOffer(three.offer, three.bounds), kHonestMinimum);
}

TEST_F(WorkerBoundsTest, RefusesTwoSites) {
  World two(2);
  two.bounds.min_cohort = two.bounds.min_survivors = two.bounds.min_honest = 0;
  EXPECT_FALSE(CheckOffer(two.offer, two.bounds).ok());
}

TEST_F(WorkerBoundsTest, RefusesDeadlinesOutsideTheirBounds) {
  for (uint32_t Deadlines::*field : {&Deadlines::advert_ms, &Deadlines::shares_ms, &Deadlines::input_ms,
                                     &Deadlines::agreement_ms, &Deadlines::unmask_ms}) {
    offer_ = world_.offer;
    offer_.deadlines.*field = bounds_.max_deadlines.*field + 1;
    Expect(kDeadlines);
    offer_.deadlines.*field = bounds_.min_deadlines.*field - 1;
    Expect(kDeadlines);
  }
}

TEST_F(WorkerBoundsTest, RefusesMoreAttemptsThanTheRegionAllows) {
  offer_.attempts_allowed = bounds_.max_attempts + 1;
  Expect(kAttempts);
  offer_.attempts_allowed = 1;  // the offer is attempt 1, the second one
  Expect(kAttempts);
}

TEST_F(WorkerBoundsTest, CountsACohortInSitesAndJurisdictions) {
  World few(10, 37, 4);  // 3, 3, 2 and 2 sites
  few.offer.min_survivors = 7;
  few.offer.assumed_colluding = 2;
  const CohortCounts c = CountCohort(few.offer);
  EXPECT_EQ(c.sites, 10u);
  EXPECT_EQ(c.jurisdictions, 4u);
  EXPECT_EQ(c.survivor_jurisdictions, 3u);
  EXPECT_EQ(c.colluding_sites, 6u);
  EXPECT_EQ(c.honest_sites, 1);
  EXPECT_EQ(c.honest_jurisdictions, 1);
}

TEST(ThresholdTest, ToleratesTheLossesThatTheProtocolPromises) {
  const std::pair<uint32_t, uint32_t> promised[] = {{3, 0},  {4, 1},  {5, 1},   {7, 2},
                                                    {10, 3}, {20, 6}, {50, 16}, {100, 33}};
  for (const auto& [n, losses] : promised) EXPECT_EQ(n - ThresholdFor(n), losses) << n;
}

}  // namespace
}  // namespace concordat::secagg::testing
