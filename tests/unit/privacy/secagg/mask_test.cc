#include "privacy/secagg/mask.h"

#include <thread>

#include "tests/unit/privacy/secagg/harness.h"

namespace concordat::secagg::testing {
namespace {

std::vector<MaskKey> SomeKeys(size_t n) {
  std::vector<MaskKey> keys;
  for (size_t k = 0; k < n; ++k) keys.push_back({SeedFor(fmt::format("mask {}", k)), k % 2 == 0 ? 1 : -1});
  return keys;
}

TEST(MaskTest, ElementEIsTheKeystreamWordAtByte4E) {
  const Secret32 key = SeedFor("key");
  std::vector<uint8_t> stream(4 * 100);
  crypto::CtrStream(key).Keystream(0, stream);
  std::vector<uint32_t> v(50, 1000);
  MaskStream(std::vector<MaskKey>{{key, 1}}).Apply(50, v);
  for (size_t e = 0; e < 50; ++e) {
    const uint8_t* b = stream.data() + 4 * (50 + e);
    const uint32_t word = b[0] | b[1] << 8 | b[2] << 16 | static_cast<uint32_t>(b[3]) << 24;
    ASSERT_EQ(v[e], 1000 + word) << e;
  }
}

TEST(MaskTest, AnyCutGivesTheSameVector) {
  const auto keys = SomeKeys(3);
  std::vector<uint32_t> whole(20'011, 7);
  MaskStream(keys).Apply(0, whole);
  for (size_t cut : {1u, 3u, 4u, 4095u, 4096u, 4097u, 9999u}) {
    std::vector<uint32_t> parts(whole.size(), 7);
    MaskStream stream(keys);  // one object, last part first
    for (size_t at = (parts.size() - 1) / cut * cut;; at -= cut) {
      stream.Apply(at, std::span(parts).subspan(at, std::min(cut, parts.size() - at)));
      if (at == 0) break;
      if (cut == 1 &&
          at < parts.size() - 500) {  // the rest in one go: a million tiny calls show nothing more
        stream.Apply(0, std::span(parts).first(at));
        break;
      }
    }
    ASSERT_EQ(parts, whole) << cut;
  }
}

TEST(MaskTest, ThreadsOnDisjointRangesGiveTheSameVector) {
  const auto keys = SomeKeys(4);
  std::vector<uint32_t> whole(100'003, 1), parts(whole.size(), 1);
  MaskStream(keys).Apply(0, whole);
  std::vector<std::thread> threads;
  for (size_t k = 0; k < 4; ++k) {
    threads.emplace_back([&, k] {
      const size_t from = k * parts.size() / 4, to = (k + 1) * parts.size() / 4;
      MaskStream(keys).Apply(from, std::span(parts).subspan(from, to - from));
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(parts, whole);
}

TEST(MaskTest, RemoveUndoesApply) {
  const auto keys = SomeKeys(5);
  std::vector<uint32_t> v(5000, 42);
  MaskStream(keys).Apply(123, v);
  EXPECT_NE(v, std::vector<uint32_t>(5000, 42));
  MaskStream(keys).Apply(123, v, MaskDirection::kRemove);
  EXPECT_EQ(v, std::vector<uint32_t>(5000, 42));
}

TEST(MaskTest, WorksBeyondFourGigabytesOfKeystream) {
  const auto keys = SomeKeys(1);
  const uint64_t far = (uint64_t{1} << 33) + 5;
  std::vector<uint32_t> a(8, 0), b(4, 0);
  MaskStream(keys).Apply(far, a);
  MaskStream(keys).Apply(far + 4, b);
  EXPECT_TRUE(std::equal(b.begin(), b.end(), a.begin() + 4));
  std::vector<uint32_t> start(8, 0);
  MaskStream(keys).Apply(5, start);
  EXPECT_NE(a, start);  // the counter does not wrap at 32 bits
}

TEST(MaskTest, NothingChangesWithoutElementsOrKeys) {
  std::vector<uint32_t> v(10, 3);
  MaskStream({}).Apply(0, v);
  MaskStream(SomeKeys(2)).Apply(0, std::span(v).first(0));
  EXPECT_EQ(v, std::vector<uint32_t>(10, 3));
}

TEST(MaskTest, BothEndsOfAPairDeriveTheSameKeyAndNoOtherPairDoes) {
  crypto::CtrRandom random(SeedFor("pairs"));
  const auto a = crypto::GenerateX25519(random), b = crypto::GenerateX25519(random),
             c = crypto::GenerateX25519(random);
  const Digest t2 = DigestFor("t2");
  const Secret32 ab = PairwiseMaskKey(a.secret, b.pub, t2, 1, 2).value();
  EXPECT_TRUE(ab == PairwiseMaskKey(b.secret, a.pub, t2, 2, 1).value());
  EXPECT_FALSE(ab == PairwiseMaskKey(a.secret, c.pub, t2, 1, 2).value());
  EXPECT_FALSE(ab == PairwiseMaskKey(a.secret, b.pub, t2, 1, 3).value());
  EXPECT_FALSE(ab == PairwiseMaskKey(a.secret, b.pub, DigestFor("another model"), 1, 2).value());
  EXPECT_FALSE(PairwiseMaskKey(a.secret, {}, t2, 1, 2).ok());
}

TEST(MaskTest, SelfMaskDependsOnSeedTranscriptAndSite) {
  const Secret32 s = SelfMaskKey(SeedFor("b"), DigestFor("t2"), 1);
  EXPECT_FALSE(s == SeedFor("b"));
  EXPECT_FALSE(s == SelfMaskKey(SeedFor("b"), DigestFor("t2"), 2));
  EXPECT_FALSE(s == SelfMaskKey(SeedFor("b"), DigestFor("other"), 1));
  EXPECT_FALSE(s == SelfMaskKey(SeedFor("c"), DigestFor("t2"), 1));
}

// The law behind the protocol, for every set of survivors of up to eight sites: what is left of all pairwise
// masks in the survivors' sum is exactly what the rebuilt keys of the others give.
TEST(MaskTest, PairwiseMasksCancelForEverySetOfSurvivorsOfUpToEightSites) {
  for (uint32_t n = 3; n <= 8; ++n) {
    crypto::CtrRandom random(SeedFor(fmt::format("cancel {}", n)));
    std::map<std::pair<SiteIndex, SiteIndex>, Secret32> keys;
    for (SiteIndex i = 1; i <= n; ++i) {
      for (SiteIndex j = 1; j < i; ++j) keys[{j, i}] = random.Seed();
    }
    const auto key_of = [&](SiteIndex i, SiteIndex j) { return keys[{std::min(i, j), std::max(i, j)}]; };
    std::map<SiteIndex, std::vector<uint32_t>> masked;
    for (SiteIndex i = 1; i <= n; ++i) {
      std::vector<MaskKey> masks;
      for (SiteIndex j = 1; j <= n; ++j) {
        if (j != i) masks.push_back({key_of(i, j), PairwiseSign(i, j)});
      }
      masked[i].assign(9, i);  // x_i is i everywhere
      MaskStream(masks).Apply(0, masked[i]);
    }
    for (uint32_t set = 1; set < (1u << n); ++set) {
      std::vector<uint32_t> sum(9, 0);
      std::vector<MaskKey> left;
      uint32_t plain = 0;
      for (SiteIndex i = 1; i <= n; ++i) {
        if (!((set >> (i - 1)) & 1)) continue;
        plain += i;
        for (size_t e = 0; e < sum.size(); ++e) sum[e] += masked[i][e];
        for (SiteIndex j = 1; j <= n; ++j) {
          if (!((set >> (j - 1)) & 1)) left.push_back({key_of(i, j), -PairwiseSign(i, j)});
        }
      }
      MaskStream(left).Apply(0, sum);
      ASSERT_EQ(sum, std::vector<uint32_t>(9, plain)) << n << " " << set;
    }
  }
}

}  // namespace
}  // namespace concordat::secagg::testing
