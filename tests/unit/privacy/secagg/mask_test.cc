#include "privacy/secagg/mask.h"

#include <cstdlib>
#include <random>
#include <thread>

#include "common/bytes.h"
#include "privacy/secagg/mask_vaes.h"
#include "tests/unit/privacy/secagg/harness.h"

namespace concordat::secagg::testing {
namespace {

std::vector<MaskKey> SomeKeys(size_t n) {
  std::vector<MaskKey> keys;
  for (size_t k = 0; k < n; ++k) keys.push_back({SeedFor(fmt::format("mask {}", k)), k % 2 == 0 ? 1 : -1});
  return keys;
}

// Every law of the masks holds for every kernel that this CPU can run.
struct Kernel {
  const char* name;
  MaskKernel make;
};
std::vector<Kernel> Kernels() {
  std::vector<Kernel> kernels = {{"OpenSsl", OpenSslMaskKernel}};
  if (VaesMaskKernel() != nullptr) kernels.push_back({"Vaes", VaesMaskKernel()});
  return kernels;
}

class MaskKernelTest : public ::testing::TestWithParam<Kernel> {
 protected:
  static MaskStream Stream(std::span<const MaskKey> keys) { return MaskStream(keys, GetParam().make); }
};
INSTANTIATE_TEST_SUITE_P(Each, MaskKernelTest, ::testing::ValuesIn(Kernels()),
                         [](const auto& info) { return info.param.name; });

TEST_P(MaskKernelTest, ElementEIsTheKeystreamWordAtByte4E) {
  const Secret32 key = SeedFor("key");
  std::vector<uint8_t> stream(4 * 100);
  crypto::CtrStream(key).Keystream(0, stream);
  std::vector<uint32_t> v(50, 1000);
  Stream(std::vector<MaskKey>{{key, 1}}).Apply(50, v);
  for (size_t e = 0; e < 50; ++e) {
    const uint8_t* b = stream.data() + 4 * (50 + e);
    const uint32_t word = b[0] | b[1] << 8 | b[2] << 16 | static_cast<uint32_t>(b[3]) << 24;
    ASSERT_EQ(v[e], 1000 + word) << e;
  }
}

// NIST's AES known answers (AESAVS, appendices B and E: ECBKeySbox256 and ECBVarKey256) encrypt a block of
// zeros, which is our counter 0. The zero key is GCM's test case 14, whose blocks 1 and 2 are our counters 1
// and 2.
TEST_P(MaskKernelTest, GivesThePublishedAnswersOfAes256) {
  const struct {
    const char *key, *stream;
  } answers[] = {
      {"c47b0294dbbbee0fec4757f22ffeee3587ca4730c3d33b691df38bab076bc558",
       "46f2fb342d6f0ab477476fc501242c5f"},
      {"28d46cffa158533194214a91e712fc2b45b518076675affd910edeca5f41ac64",
       "4bf3b0a69aeb6657794f2901b1440ad4"},
      {"8000000000000000000000000000000000000000000000000000000000000000",
       "e35a6dcb19b201a01ebcfa8aa22b5759"},
      {"0000000000000000000000000000000000000000000000000000000000000000",
       "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3baf39d18"},
  };
  for (const auto& answer : answers) {
    const Secret32 key = Secret32::From(FromHex(answer.key).value()).value();
    const Bytes expected = FromHex(answer.stream).value();
    std::vector<uint32_t> v(expected.size() / 4, 0);
    Stream(std::vector<MaskKey>{{key, 1}}).Apply(0, v);
    EXPECT_EQ(ToHex(ByteView(reinterpret_cast<const uint8_t*>(v.data()), expected.size())), answer.stream);
  }
}

TEST_P(MaskKernelTest, AnyCutGivesTheSameVector) {
  const auto keys = SomeKeys(3);
  std::vector<uint32_t> whole(20'011, 7);
  Stream(keys).Apply(0, whole);
  for (size_t cut : {1u, 3u, 4u, 127u, 128u, 129u, 1024u, 4095u, 4096u, 4097u, 9999u}) {
    std::vector<uint32_t> parts(whole.size(), 7);
    MaskStream stream = Stream(keys);  // one object, last part first
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

TEST_P(MaskKernelTest, ThreadsOnDisjointRangesGiveTheSameVector) {
  const auto keys = SomeKeys(4);
  std::vector<uint32_t> whole(100'003, 1), parts(whole.size(), 1);
  Stream(keys).Apply(0, whole);
  std::vector<std::thread> threads;
  for (size_t k = 0; k < 4; ++k) {
    threads.emplace_back([&, k] {
      const size_t from = k * parts.size() / 4, to = (k + 1) * parts.size() / 4;
      Stream(keys).Apply(from, std::span(parts).subspan(from, to - from));
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(parts, whole);
}

TEST_P(MaskKernelTest, RemoveUndoesApply) {
  const auto keys = SomeKeys(5);
  std::vector<uint32_t> v(5000, 42);
  Stream(keys).Apply(123, v);
  EXPECT_NE(v, std::vector<uint32_t>(5000, 42));
  Stream(keys).Apply(123, v, MaskDirection::kRemove);
  EXPECT_EQ(v, std::vector<uint32_t>(5000, 42));
}

TEST_P(MaskKernelTest, ManyKeysInOneStreamAreTheSumOfEachAlone) {
  const auto keys = SomeKeys(19);
  std::vector<uint32_t> together(3000, 9), alone(3000, 9);
  Stream(keys).Apply(777, together);
  for (const MaskKey& key : keys) Stream(std::span(&key, 1)).Apply(777, alone);
  EXPECT_EQ(together, alone);
}

TEST_P(MaskKernelTest, WorksBeyondFourGigabytesOfKeystream) {
  const auto keys = SomeKeys(1);
  const uint64_t far = (uint64_t{1} << 33) + 5;
  std::vector<uint32_t> a(8, 0), b(4, 0);
  Stream(keys).Apply(far, a);
  Stream(keys).Apply(far + 4, b);
  EXPECT_TRUE(std::equal(b.begin(), b.end(), a.begin() + 4));
  std::vector<uint32_t> start(8, 0);
  Stream(keys).Apply(5, start);
  EXPECT_NE(a, start);  // the counter does not wrap at 32 bits
}

TEST_P(MaskKernelTest, NothingChangesWithoutElementsOrKeys) {
  std::vector<uint32_t> v(10, 3);
  Stream({}).Apply(0, v);
  Stream(SomeKeys(2)).Apply(0, std::span(v).first(0));
  EXPECT_EQ(v, std::vector<uint32_t>(10, 3));
}

TEST_P(MaskKernelTest, NothingChangesOutsideTheGivenPart) {
  for (size_t from : {1u, 5u, 64u, 127u, 128u}) {
    for (size_t size : {1u, 2u, 127u, 128u, 129u, 1500u}) {
      std::vector<uint32_t> v(2000, 3);
      Stream(SomeKeys(2)).Apply(from, std::span(v).subspan(from, size));
      EXPECT_TRUE(std::all_of(v.begin(), v.begin() + from, [](uint32_t w) { return w == 3; })) << from;
      EXPECT_TRUE(std::all_of(v.begin() + from + size, v.end(), [](uint32_t w) { return w == 3; })) << size;
    }
  }
}

// The fast kernel against OpenSSL, where its own structure has seams: strips of 128 elements, pages of 1024,
// pieces of 65,536, and counters (four elements each) that carry into byte 14, beyond 2^32 and beyond 2^40.
class VaesMaskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (VaesMaskKernel() == nullptr) GTEST_SKIP() << "this CPU has no VAES with AVX-512";
  }

  static void ExpectSameAsOpenSsl(const std::vector<MaskKey>& keys, uint64_t first, size_t size,
                                  size_t shift) {
    std::vector<uint32_t> fast(shift + size, 0x01020304), slow = fast;
    for (size_t e = 0; e < fast.size(); ++e) fast[e] = slow[e] = static_cast<uint32_t>(e * 0x9e3779b9u);
    MaskStream(keys, VaesMaskKernel()).Apply(first, std::span(fast).subspan(shift));
    MaskStream(keys, OpenSslMaskKernel).Apply(first, std::span(slow).subspan(shift));
    ASSERT_EQ(fast, slow) << keys.size() << " keys, " << size << " elements from " << first;
  }
};

TEST_F(VaesMaskTest, EqualsOpenSslAtEverySeam) {
  const auto keys = SomeKeys(5);
  const uint64_t seams[] = {128,
                            1024,
                            1 << 16,
                            1 << 18,
                            uint64_t{1} << 26,
                            uint64_t{1} << 34,
                            uint64_t{1} << 35,
                            uint64_t{1} << 42,
                            uint64_t{3} << 42,
                            uint64_t{1} << 50,
                            uint64_t{1} << 58};
  for (const uint64_t seam : seams) {
    for (const uint64_t before : {0u, 1u, 3u, 4u, 127u, 128u}) {
      for (const size_t size : {1u, 2u, 5u, 127u, 128u, 129u, 1030u})
        ExpectSameAsOpenSsl(keys, seam - before, size, before % 3);
    }
  }
}

TEST_F(VaesMaskTest, EqualsOpenSslForEverySmallOffsetAndLength) {
  const auto keys = SomeKeys(2);
  for (uint64_t first = 0; first < 20; ++first) {
    for (size_t size = 0; size < 40; ++size) ExpectSameAsOpenSsl(keys, first, size, first % 2);
  }
}

TEST_F(VaesMaskTest, EqualsOpenSslForRandomKeysSignsOffsetsAndLengths) {
  constexpr uint32_t kSeed = 20261122;
  SCOPED_TRACE(kSeed);
  std::mt19937_64 draw(kSeed);
  for (int i = 0; i < 300; ++i) {
    std::vector<MaskKey> keys(draw() % 14);
    for (MaskKey& key : keys) {
      for (uint8_t& byte : key.key.mutable_view()) byte = static_cast<uint8_t>(draw());
      key.sign = draw() % 2 == 0 ? 1 : -1;
    }
    const uint64_t first = draw() >> (3 + draw() % 60);
    ExpectSameAsOpenSsl(keys, first, draw() % (i % 10 == 0 ? 200'000 : 3000), draw() % 16);
  }
}

// Two pieces and a carry out of the table's range, as one long call.
TEST_F(VaesMaskTest, EqualsOpenSslInOneCallOverManyPieces) {
  ExpectSameAsOpenSsl(SomeKeys(9), (uint64_t{1} << 42) - 100'001, 300'007, 1);
}

TEST_F(VaesMaskTest, OneObjectMayJumpBackAndForth) {
  const auto keys = SomeKeys(6);
  MaskStream fast(keys, VaesMaskKernel()), slow(keys, OpenSslMaskKernel);
  std::vector<uint32_t> a(5000, 1), b = a;
  for (const uint64_t first :
       {uint64_t{0}, (uint64_t{1} << 42) - 3, uint64_t{7}, uint64_t{1} << 43, uint64_t{8}}) {
    fast.Apply(first, a);
    slow.Apply(first, b);
    ASSERT_EQ(a, b) << first;
  }
}

TEST_F(VaesMaskTest, BlockCipherGivesTheAnswerOfFips197) {
  const Secret32 key =
      Secret32::From(FromHex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f").value())
          .value();
  std::array<uint8_t, 16> block;
  for (size_t i = 0; i < 16; ++i) block[i] = static_cast<uint8_t>(0x11 * i);
  EXPECT_EQ(ToHex(VaesEncryptBlock(key, block)), "8ea2b7ca516745bfeafc49904b496089");  // appendix C.3
}

TEST_F(VaesMaskTest, BlockCipherGivesTheAnswersOfSp80038a) {
  const Secret32 key =
      Secret32::From(FromHex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").value())
          .value();
  // F.5.5, CTR-AES256.Encrypt: counters f0f1...fe followed by ff, then with a carry.
  const Bytes plain = FromHex(
                          "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
                          "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
                          .value();
  std::array<uint8_t, 16> counter;
  for (size_t i = 0; i < 16; ++i) counter[i] = static_cast<uint8_t>(0xf0 + i);
  Bytes cipher;
  for (size_t block = 0; block < 4; ++block) {
    const std::array<uint8_t, 16> pad = VaesEncryptBlock(key, counter);
    for (size_t i = 0; i < 16; ++i) cipher.push_back(plain[16 * block + i] ^ pad[i]);
    for (size_t i = 16; i-- > 0 && ++counter[i] == 0;) {
    }
  }
  EXPECT_EQ(ToHex(cipher),
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
            "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6");
}

class PortableMasks {
 public:
  explicit PortableMasks(const char* value) { ::setenv("CONCORDAT_PORTABLE_MASKS", value, 1); }
  ~PortableMasks() { ::unsetenv("CONCORDAT_PORTABLE_MASKS"); }
};

TEST(MaskDispatchTest, TakesTheFastKernelWhereThereIsOne) {
  ::unsetenv("CONCORDAT_PORTABLE_MASKS");
  EXPECT_EQ(BestMaskKernel(), VaesMaskKernel() != nullptr ? VaesMaskKernel() : OpenSslMaskKernel);
}

TEST(MaskDispatchTest, TheEnvironmentCanAskForOpenSslOnEveryCpu) {
  {
    const PortableMasks portable("1");
    EXPECT_EQ(BestMaskKernel(), OpenSslMaskKernel);
  }
  const PortableMasks empty("");
  EXPECT_EQ(BestMaskKernel(), VaesMaskKernel() != nullptr ? VaesMaskKernel() : OpenSslMaskKernel);
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
TEST_P(MaskKernelTest, PairwiseMasksCancelForEverySetOfSurvivorsOfUpToEightSites) {
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
      Stream(masks).Apply(0, masked[i]);
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
      Stream(left).Apply(0, sum);
      ASSERT_EQ(sum, std::vector<uint32_t>(9, plain)) << n << " " << set;
    }
  }
}

}  // namespace
}  // namespace concordat::secagg::testing
