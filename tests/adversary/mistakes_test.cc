#include <algorithm>
#include <random>

#include "privacy/crypto/hkdf.h"
#include "tests/adversary/stage.h"
#include "tests/unit/privacy/secagg/harness.h"

// Mistakes that other implementations of secure aggregation have made, one test each, with the mistake's
// name. What these are about at the level of a function is in tests/unit/privacy/secagg/regression_test.cc.
namespace concordat::adversary {
namespace {

using secagg::MaskKey;
using secagg::MaskStream;
using secagg::testing::Attempt;
using secagg::testing::DigestFor;
using secagg::testing::ExpectRefused;
using secagg::testing::SeedFor;
using secagg::testing::World;

/// The key of an agreed secret, by way of the two X25519 key pairs that give it.
Secret32 PairKey(std::string_view a, std::string_view b) {
  crypto::CtrRandom random_a(SeedFor(a)), random_b(SeedFor(b));
  const auto mine = crypto::GenerateX25519(random_a), theirs = crypto::GenerateX25519(random_b);
  return *secagg::PairwiseMaskKey(mine.secret, theirs.pub, DigestFor("t2"), 1, 2);
}

TEST(MistakeTest, PairwiseSecretFoldedTo32Bits) {
  // 2^17 keys folded to 32 bits would meet about twice; unfolded, none of their halves meet at all.
  std::set<std::string> left, right;
  for (int i = 0; i < 2000; ++i) {
    const std::string key = ToHex(PairKey("me", fmt::format("peer {}", i)).view());
    left.insert(key.substr(0, 32)), right.insert(key.substr(32));
  }
  EXPECT_EQ(left.size(), 2000u);
  EXPECT_EQ(right.size(), 2000u);
  // All 256 bits of the agreed secret go in: HKDF of one that differs in a single bit, anywhere, differs.
  std::set<std::string> keys;
  for (size_t bit = 0; bit < 256; ++bit) {
    Secret32 secret = SeedFor("agreed");
    secret.mutable_view()[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    keys.insert(ToHex(crypto::HkdfSha256(secret.view(), {}, AsBytes("mask")).view()));
  }
  EXPECT_EQ(keys.size(), 256u);
}

TEST(MistakeTest, MersenneTwisterAsMaskGenerator) {
  // The masks are AES-256-CTR of the key (FIPS 197: AES-256 of the zero block under the zero key) …
  std::vector<uint32_t> words(8, 0);
  MaskStream(std::vector<MaskKey>{{Secret32(), 1}}).Apply(0, words);
  EXPECT_EQ(ToHex({reinterpret_cast<const uint8_t*>(words.data()), 16}), "dc95c078a2408989ad48a21492842087");
  // … and not the library's twister under any 32 bits of the key.
  const Secret32 key = SeedFor("mask");
  std::fill(words.begin(), words.end(), 0);
  MaskStream(std::vector<MaskKey>{{key, 1}}).Apply(0, words);
  for (size_t at = 0; at + 4 <= 32; ++at) {
    uint32_t seed = 0;
    std::memcpy(&seed, key.view().data() + at, 4);
    std::mt19937 twister(seed);
    EXPECT_NE(twister(), words[0]);
  }
}

TEST(MistakeTest, KeyTextUsedAsKeyBytes) {
  // Text in place of bytes leaves 6 bits of each byte (base64) or 4 (hex): over many keys every byte must
  // take every value. 4096 keys of 32 bytes: a value that never comes has probability below 1e-200.
  std::set<uint8_t> values;
  for (int i = 0; i < 500; ++i) {
    const Secret32 key = PairKey("me", fmt::format("p{}", i));
    for (uint8_t byte : key.view()) values.insert(byte);
  }
  EXPECT_EQ(values.size(), 256u);
  // And the key is HKDF over the 32 raw bytes of the agreement.
  crypto::CtrRandom random(SeedFor("pair"));
  const auto a = crypto::GenerateX25519(random), b = crypto::GenerateX25519(random);
  const Secret32 raw = *crypto::X25519Agree(a.secret, b.pub);
  const uint8_t info[] = {'m', 'a', 's', 'k', 1, 2};
  EXPECT_TRUE(*secagg::PairwiseMaskKey(a.secret, b.pub, DigestFor("t2"), 1, 2) ==
              crypto::HkdfSha256(raw.view(), DigestFor("t2").view(), info));
}

TEST(MistakeTest, AliveAndDeadListsNotCheckedForOverlap) {
  // There is one list, U3, and dead is who is not on it; over all that three workers open, no dealer is
  // opened in both ways, and a second list is refused.
  World world(4);
  Attempt attempt(world);
  attempt.LoseAt(4, CoordinatorPhase::kInput);
  attempt.RunUntil(CoordinatorPhase::kUnmask);
  WireTap tap;
  for (SiteIndex s = 1; s <= 3; ++s) {
    AgreementBundle bundle = attempt.Waiting<AgreementBundle>(s).body;
    const auto effects = attempt.AtWorker(s, attempt.ByCoordinator(bundle));
    ASSERT_TRUE(effects.ok());
    tap.Saw(fmt::format("site {}", s), *effects->send);
    bundle.survivors = {1, 2, 4};
    ExpectRefused(attempt.AtWorker(s, attempt.ByCoordinator(bundle)), RefusalCode::kRepeatDiffers);
  }
  EXPECT_EQ(tap.Breaches(world.offer.threshold, 1), std::vector<std::string>{});
  EXPECT_EQ(tap.Count(secagg::Unmask::kDomain), 3u);
}

TEST(MistakeTest, KeyAdvertsUnsigned) {
  // Every bit of every advert is covered: changed on the way, it is refused.
  World world(3);
  Attempt attempt(world);
  attempt.RunUntil(CoordinatorPhase::kShares);
  const Keys honest = attempt.Waiting<Keys>(1).body;
  void (*const changes[])(secagg::Advert&) = {[](secagg::Advert& a) { a.channel_key[0] ^= 1; },
                                              [](secagg::Advert& a) { a.mask_key[31] ^= 64; },
                                              [](secagg::Advert& a) { a.seed_hash.bytes[9] ^= 1; },
                                              [](secagg::Advert& a) { a.ledger_head.bytes[0] ^= 1; }};
  for (auto* change : changes) {
    Keys lie = honest;
    change(lie.adverts[1].body);
    ExpectRefused(attempt.AtWorker(1, attempt.ByCoordinator(lie)), RefusalCode::kBadSignature);
  }
  Keys unsigned_one = honest;
  unsigned_one.adverts[1].signature = {};
  ExpectRefused(attempt.AtWorker(1, attempt.ByCoordinator(unsigned_one)), RefusalCode::kBadSignature);
}

TEST(MistakeTest, SessionIdChosenByTheServer) {
  // A number that was entered before is not entered again, whatever the server calls it, and one that the
  // job does not have is refused: keys and noise of a session are the worker's own.
  Stage s;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kInput);
  const auto first = s.LastOf<secagg::Advert>(1);
  s.Tell(1, worker::AttemptAborted{s.id(), 3});
  s.Tell(1, s.ByCoordinator(s.f.MakeOffer(0, 0)));
  EXPECT_EQ(s.victim().Sent<Signed<secagg::Advert>>().size(), 1u);
  Offer invented = s.f.MakeOffer(0, 1);
  invented.id.job = DigestFor("a session id of the server's own");
  s.Tell(1, s.ByCoordinator(invented));
  EXPECT_EQ(s.victim().Sent<Signed<secagg::Advert>>().size(), 1u);
  s.Tell(1, s.ByCoordinator(s.f.MakeOffer(0, 1)));
  const auto second = s.LastOf<secagg::Advert>(1);
  EXPECT_NE(first.body.mask_key, second.body.mask_key);
  EXPECT_NE(first.body.channel_key, second.body.channel_key);
  EXPECT_NE(first.body.seed_hash, second.body.seed_hash);
}

TEST(MistakeTest, ALossBetweenKeyAndShareExchangeFailsTheRound) {
  for (SiteIndex lost = 1; lost <= 4; ++lost) {
    World world(4);
    Attempt attempt(world);
    attempt.LoseAt(lost, CoordinatorPhase::kShares);
    ASSERT_TRUE(attempt.Run()) << "lost site " << int{lost};
    EXPECT_EQ(attempt.coordinator().dealers().size(), 3u);
    EXPECT_EQ(attempt.sum(), attempt.PlainSum());
  }
}

TEST(MistakeTest, OneScalarMaskReusedForEveryElement) {
  // Of a vector of zeros the masked words differ among themselves: 1e5 draws from 2^32 meet 1.2 times on
  // average; 30 meetings have probability below 1e-25.
  World world(3, 100'000);
  Attempt attempt(world);
  attempt.RunUntil(CoordinatorPhase::kInput);
  ASSERT_TRUE(attempt.AtWorker(1, attempt.Waiting<Delivery>(1)).ok());
  ASSERT_TRUE(attempt.worker(1).BeginInput(attempt.now()).ok());
  std::vector<uint32_t> y(100'000, 0);
  MaskStream(*attempt.worker(1).TakeMasks()).Apply(0, y);
  EXPECT_GT(std::set<uint32_t>(y.begin(), y.end()).size(), y.size() - 30);
}

TEST(MistakeTest, EightBytesPerElementOnTheWire) {
  Stage s;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kAgreement);
  const uint64_t elements = s.round().offer().elements;
  EXPECT_EQ(s.victim().uploads.at(s.id()).size(), 4 * elements);
  EXPECT_EQ(elements, s.f.layout.delta_elements() + 2) << "the delta and two metrics, nothing else";
}

TEST(MistakeTest, SampleCountsAndMetricsInClearBesideTheVector) {
  // Two regions of which one trained ten times worse on a tenth of the tokens send messages of the same
  // sizes; no struct that a worker sends has a place for a figure about its data.
  const auto& [id, site, t2, elements, sha256] = secagg::InputHeader{};
  const auto& [ack_id, ack_adapter] = worker::ResultAck{};
  const auto& [drop_id, drop_code, drop_refusal] = Dropout{};
  const auto& [progress_id, progress_phase, progress_permille] = worker::Progress{};
  EXPECT_EQ(elements + site + progress_permille, 0u);
  EXPECT_EQ(id, ack_id);
  EXPECT_EQ(drop_id, progress_id);
  EXPECT_EQ(t2, ack_adapter);
  EXPECT_TRUE(sha256.is_zero());
  EXPECT_EQ(drop_refusal, RefusalCode::kNone);
  EXPECT_EQ(static_cast<int>(drop_code), 0);
  EXPECT_EQ(progress_phase, worker::Phase::kIdle);

  Stage s;
  s.Open(0, 0), s.Finish();
  // The metrics came through the sum: four regions with the same loss and all their tokens.
  const auto plan = policy::EncodingFor(s.f.job.spec, s.round().offer());
  ASSERT_OK(plan);
  EXPECT_EQ(plan->config().metrics.size(), 2u);
  EXPECT_EQ(plan->total_elements(), s.round().offer().elements) << "inside the masked vector";
}

TEST(MistakeTest, NoiseSeedsOf32BitsOrFromTheClock) {
  // Two regions that differ in nothing but their entropy, at the same instant, draw different noise; and
  // every bit of a seed counts.
  Stage s;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kAgreement);
  EXPECT_NE(s.site(1).encoded.at(0), s.site(2).encoded.at(0)) << "the same delta, the same clock";
  const auto plan = policy::EncodingFor(s.f.job.spec, s.round().offer());
  ASSERT_OK(plan);
  const std::vector<float> delta(s.f.layout.delta_elements(), 0.01f);
  const std::vector<double> metrics = {2.5, 1.0};
  const auto encode = [&](const Secret32& seed) {
    auto encoder = Encoder::Make(*plan, delta, 1, metrics, seed);
    std::vector<uint32_t> words(plan->total_elements());
    EXPECT_OK(encoder);
    EXPECT_OK(encoder->Encode(0, words));
    return words;
  };
  std::set<std::vector<uint32_t>> all;
  for (size_t bit = 0; bit < 256; bit += 5) {
    Secret32 seed = SeedFor("noise");
    seed.mutable_view()[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    all.insert(encode(seed));
  }
  EXPECT_EQ(all.size(), 52u);
}

TEST(MistakeTest, NoiseOfAFailedAttemptUsedAgain) {
  Stage s;
  for (AttemptIndex a = 0; a < 2; ++a) {
    s.Open(0, a), s.RunUntil(CoordinatorPhase::kAgreement);
    for (SiteIndex i = 1; i <= 4; ++i) s.Tell(i, worker::AttemptAborted{s.id(), 4});
  }
  ASSERT_EQ(s.victim().encoded.size(), 2u);
  // The difference of two sums with the same noise would be free of it: here it has the noise of both.
  size_t differ = 0;
  for (size_t e = 0; e < s.victim().encoded[0].size(); ++e)
    differ += s.victim().encoded[0][e] != s.victim().encoded[1][e];
  EXPECT_GT(differ, s.victim().encoded[0].size() / 2);
  EXPECT_EQ(s.victim().ledger->entries().size(), 2u) << "and is paid for";
}

}  // namespace
}  // namespace concordat::adversary
