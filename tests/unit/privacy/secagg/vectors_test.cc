#include "privacy/crypto/hash.h"
#include "privacy/mechanism/encoder.h"
#include "privacy/mechanism/rotation.h"
#include "privacy/secagg/commitment.h"
#include "privacy/secagg/pairwise.h"
#include "tests/unit/privacy/secagg/vectors_replay.h"

// The cores against an independent implementation: tests/vectors/v1, made by experiments/reference from
// docs/SECURE_AGGREGATION.md. Both sides play with the same secrets and must say the same bytes.
namespace concordat::secagg::testing {
namespace {

/// A whole attempt between real cores, each message compared with the file's.
class WholeAttempt {
 public:
  explicit WholeAttempt(const std::string& name) : s_(name), coordinator_(s_.NewCoordinator()) {
    for (size_t i = 1; i <= s_.n(); ++i) {
      randoms_.push_back(std::make_unique<ScriptedRandom>());
      workers_.push_back(s_.NewWorker(static_cast<SiteIndex>(i), *randoms_.back()));
    }
    sum_.assign(s_.offer.body.elements, 0);
  }

  void KeySteps() {
    Absorb(coordinator_.Start(At(0)));
    Lose("advert");
    for (const json& r : s_.file["adverts"]) {
      ExpectSame(Sent<Offer>(r["site"]), s_.file["offer"]);
      const auto advert = Answer<Advert>(Worker(r).OnOffer(Sent<Offer>(r["site"]), At(0)), r);
      Absorb(coordinator_.OnAdvert(advert, At(0)));
    }
    EXPECT_EQ(coordinator_.advertised(), Sites("u1"));
    Lose("shares");
    for (const json& r : s_.file["shares"]) {
      ExpectSame(Sent<Keys>(r["site"]), s_.file["keys"]);
      auto shares = MessageOf<Shares>(r);
      if (r["site"] != s_.convicted())
        shares = Answer<Shares>(Worker(r).OnKeys(Sent<Keys>(r["site"]), At(0)), r);
      Absorb(coordinator_.OnShares(shares, At(0)));
    }
    EXPECT_EQ(coordinator_.dealers(), Sites("u2"));
    EXPECT_EQ(coordinator_.t0().hex(), s_.file["t0"]);
    EXPECT_EQ(coordinator_.t1().hex(), s_.file["t1"]);
    EXPECT_EQ(coordinator_.t2().hex(), s_.file["t2"]);
  }

  void InputSteps() {
    for (const json& r : s_.file["deliveries"]) ExpectSame(Sent<Delivery>(r["site"]), r);
    Lose("input");
    for (const json& r : s_.file["inputs"]) Upload(r);
    EXPECT_EQ(coordinator_.survivors(), Sites("u3"));
    for (SiteIndex i : Sites("u3")) ExpectSame(Sent<Survivors>(i), s_.file["survivors"]);
  }

  void ClosingSteps() {
    Lose("agreement");
    for (const json& r : s_.file["agreements"]) {
      const auto agreement = Answer<Agreement>(Worker(r).OnSurvivors(Sent<Survivors>(r["site"]), At(0)), r);
      Absorb(coordinator_.OnAgreement(agreement, At(0)));
    }
    for (const json& r : s_.file["unmasks"]) {
      ExpectSame(Sent<AgreementBundle>(r["site"]), s_.file["bundle"]);
      const auto unmask =
          Answer<Unmask>(Worker(r).OnAgreementBundle(Sent<AgreementBundle>(r["site"]), At(0)), r);
      Absorb(coordinator_.OnUnmask(unmask, At(0)));
    }
  }

  void ExpectSum() {
    ASSERT_TRUE(unmask_.has_value());
    MaskStream(unmask_->keys).Apply(0, sum_);
    EXPECT_EQ(Packed(sum_), s_.file["sum"]);
    std::vector<uint32_t> plain(sum_.size(), 0);
    for (SiteIndex i : Sites("u3")) {
      const auto x = Words(s_.site(i)["x"]);
      for (size_t e = 0; e < x.size(); ++e) plain[e] += x[e];
    }
    EXPECT_EQ(Packed(plain), s_.file["sum"]);
    const Digest digest = DigestOfWords(sum_, s_.modulus_bits);
    Absorb(coordinator_.Finish(DigestOfJson(s_.file["new_adapter"]), digest, At(0)));
    for (const json& r : s_.file["unmasks"]) {
      ExpectSame(Sent<Result>(r["site"]), s_.file["result"]);
      ASSERT_OK(Worker(r).OnResult(Sent<Result>(r["site"]), At(0)));
      EXPECT_EQ(Worker(r).phase(), WorkerPhase::kDone);
    }
  }

  void ExpectConviction() {
    EXPECT_FALSE(unmask_.has_value());
    ASSERT_TRUE(aborted_.has_value());
    EXPECT_EQ(aborted_->code, Aborted::Code::kConvicted);
    EXPECT_EQ(aborted_->accused, s_.convicted());
  }

  /// Every secret of the file was drawn: the files' order of draws is the workers'.
  void ExpectAllDrawn() {
    for (const json& r : s_.file["shares"]) {
      if (r["site"] == s_.convicted()) continue;
      EXPECT_EQ(randoms_[r["site"].get<size_t>() - 1]->left(), 0u);
    }
  }
  const Scene& scene() const { return s_; }
  const std::vector<uint32_t>& sum() const { return sum_; }

 private:
  WorkerRound& Worker(const json& record) { return workers_[record["site"].get<size_t>() - 1]; }
  std::vector<SiteIndex> Sites(const char* set) const { return s_.file[set].get<std::vector<SiteIndex>>(); }
  std::vector<uint32_t> Words(const json& j) const { return WordsOfJson(j, s_.modulus_bits); }
  std::string Packed(const std::vector<uint32_t>& words) const {
    Bytes scratch;
    return Hex(WireBytes(words, s_.modulus_bits, scratch));
  }
  void Lose(const std::string& step) {
    for (SiteIndex i : s_.LostAt(step)) Absorb(coordinator_.OnLost(i, At(0)));
  }
  void Absorb(const StatusOr<CoordinatorEffects>& effects) {
    if (!effects.ok()) throw std::runtime_error(effects.status().ToString());
    for (const Outgoing& o : effects->send) sent_.push_back(o);
    if (effects->unmask.has_value()) unmask_ = effects->unmask;
    if (effects->aborted.has_value()) aborted_ = effects->aborted;
    for (SiteIndex i : effects->accept) {
      const auto y = Words((*s_.Find("inputs", i))["y"]);
      for (size_t e = 0; e < y.size(); ++e) sum_[e] += y[e];
    }
  }
  /// What the coordinator sent to `site` of this kind.
  template <typename T>
  Signed<T> Sent(SiteIndex site) const {
    for (const Outgoing& o : sent_) {
      if (o.to != site) continue;
      if (const auto* m = std::get_if<Signed<T>>(o.message.get())) return *m;
    }
    throw std::runtime_error(fmt::format("no {} for site {}", T::kDomain, site));
  }
  template <typename T>
  Signed<T> Answer(const StatusOr<WorkerEffects>& effects, const json& record) const {
    if (!effects.ok()) throw std::runtime_error(effects.status().ToString());
    auto message = std::get<Signed<T>>(effects->send.value());
    ExpectSame(message, record);
    return message;
  }
  void Upload(const json& r) {
    const SiteIndex site = r["site"];
    ASSERT_OK(Worker(r).OnDelivery(Sent<Delivery>(site), At(0)));
    EXPECT_EQ(Worker(r).t2().hex(), s_.file["t2"]);
    ASSERT_OK(Worker(r).BeginInput(At(0)));
    ASSERT_OK_AND_ASSIGN(const auto masks, Worker(r).TakeMasks());
    ASSERT_EQ(masks.size(), 1 + r["pair_mask_keys"].size());
    EXPECT_EQ(Hex(masks[0].key.view()), r["self_mask_key"]);
    for (size_t k = 1; k < masks.size(); ++k) {
      const json& pair = r["pair_mask_keys"][k - 1];
      EXPECT_EQ(Hex(masks[k].key.view()), pair["key"]);
      EXPECT_EQ(masks[k].sign, pair["site"].get<int>() < int{site} ? 1 : -1);
    }
    auto y = Words(s_.site(site)["x"]);
    MaskStream(masks).Apply(0, y);
    EXPECT_EQ(Packed(y), r["y"]);
    const Digest digest = DigestOfWords(y, s_.modulus_bits);
    const auto header = Answer<InputHeader>(Worker(r).OnInput(y.size(), digest, At(0)), r);
    Absorb(coordinator_.OnUploaded(site, y.size(), digest, header, At(0)));
  }

  Scene s_;
  CoordinatorRound coordinator_;
  std::vector<std::unique_ptr<ScriptedRandom>> randoms_;
  std::vector<WorkerRound> workers_;
  std::vector<Outgoing> sent_;
  std::vector<uint32_t> sum_;
  std::optional<UnmaskWork> unmask_;
  std::optional<Aborted> aborted_;
};

class VectorAttemptTest : public ::testing::TestWithParam<const char*> {};
TEST_P(VectorAttemptTest, SaysTheReferencesBytesAtEveryStep) {
  WholeAttempt attempt(GetParam());
  attempt.KeySteps();
  attempt.InputSteps();
  attempt.ClosingSteps();
  attempt.ExpectAllDrawn();
  if (attempt.scene().convicted() != 0) {
    attempt.ExpectConviction();
  } else {
    attempt.ExpectSum();
  }
}
INSTANTIATE_TEST_SUITE_P(Version1, VectorAttemptTest,
                         ::testing::Values("n4_one_lost", "n4_lost_after_upload", "n5_full",
                                           "n7_two_lost_early", "n4_convicted", "n4_packed_one_lost",
                                           "n5_pairwise_one_lost"),
                         [](const auto& info) { return std::string(info.param); });

std::vector<uint32_t> Bits(std::span<const float> values) {
  std::vector<uint32_t> out;
  for (const float v : values) out.push_back(std::bit_cast<uint32_t>(v));
  return out;
}

/// The encoding of a packed attempt: nearest rounding, no noise, one metric.
EncodingPlan PlanOf(const Scene& scene) {
  const json& e = scene.file["encoding"];
  EncodingConfig config;
  config.elements = scene.offer.body.elements - 1;
  config.clip = e["clip"];
  config.scale = e["scale"];
  config.modulus_bits = scene.modulus_bits;
  config.rotation = RotationSeed(scene.offer.body.id);
  config.rounding = Rounding::kNearest;
  config.sites = static_cast<uint32_t>(scene.n());
  config.metrics = {
      {.name = MetricName::kTrainLossSum, .bound = e["metric_bound"], .scale = e["metric_scale"]}};
  return EncodingPlan::Make(config).value();
}

TEST(VectorPackedTest, TheEncodedDeltasAndTheDecodedSumOfAPackedAttemptAreTheReferences) {
  WholeAttempt attempt("n4_packed_one_lost");
  const Scene& scene = attempt.scene();
  const EncodingPlan plan = PlanOf(scene);
  EXPECT_EQ(plan.config().rotation.hex(), scene.file["encoding"]["rotation_seed"]);
  for (const json& site : scene.file["sites"]) {
    const auto delta = FloatsOfJson(site["delta"]);
    const std::vector<double> metrics = {site["metric"]};
    ASSERT_OK_AND_ASSIGN(const Encoder encoder, Encoder::Make(plan, delta, 1, metrics, Secret32()));
    std::vector<uint32_t> words(plan.total_elements());
    ASSERT_OK(encoder.Encode(0, words));
    Bytes scratch;
    EXPECT_EQ(Hex(WireBytes(words, kPackedBits, scratch)), site["x"]);
  }
  attempt.KeySteps();
  attempt.InputSteps();
  attempt.ClosingSteps();
  attempt.ExpectSum();
  const size_t survivors = scene.file["u3"].size();
  ASSERT_OK_AND_ASSIGN(const DecodedSum decoded, Decode(plan, attempt.sum(), survivors));
  EXPECT_EQ(Bits(decoded.mean_delta), Bits(FloatsOfJson(scene.file["mean_delta"])));
  EXPECT_EQ(decoded.metric_sums.at(0), scene.file["metric_sum"].get<double>());
}

TEST(VectorPackedTest, RotationsAndTheirSeedsAreTheReferencesForAnyNumberOfThreads) {
  const json file = LoadVectors("packed.json");
  for (const json& v : file["rotation_seeds"])
    EXPECT_EQ(RotationSeed({DigestOfJson(v["job"]), v["round"], v["attempt"]}).hex(), v["seed"]);
  const auto digest = [](std::span<const float> x) {
    return crypto::Sha256({reinterpret_cast<const uint8_t*>(x.data()), x.size_bytes()}).hex();
  };
  for (const json& v : file["rotations"]) {
    const size_t d = v["elements"];
    SCOPED_TRACE(d);
    std::vector<uint32_t> words(d);
    const std::vector<MaskKey> keys{{SecretOfJson(v["numbers_key"]), 1}};
    MaskStream(keys).Apply(0, words);
    std::vector<float> x(d);
    for (size_t i = 0; i < d; ++i) x[i] = static_cast<float>(static_cast<int32_t>(words[i])) * 0x1p-31F;
    if (v.contains("numbers")) {
      EXPECT_EQ(Bits(x), Bits(FloatsOfJson(v["numbers"])));
    }
    const Rotation rotation(DigestOfJson(v["seed"]), d);
    for (const unsigned threads : {1U, 3U}) {
      auto there = x, back = x;
      rotation.Apply(there, threads);
      rotation.Undo(back, threads);
      if (v.contains("rotated")) {
        EXPECT_EQ(Bits(there), Bits(FloatsOfJson(v["rotated"])));
        EXPECT_EQ(Bits(back), Bits(FloatsOfJson(v["unrotated"])));
      }
      EXPECT_EQ(digest(there), v["rotated_sha256"]);
      EXPECT_EQ(digest(back), v["unrotated_sha256"]);
    }
  }
}

TEST(VectorPackedTest, PackedWordsAreTheReferences) {
  const json file = LoadVectors("packed.json");
  for (const json& v : file["packings"]) {
    const auto words = WordsOfJson(v["words"]);
    Bytes scratch;
    EXPECT_EQ(Hex(WireBytes(words, kPackedBits, scratch)), v["packed"]);
    auto low = words;
    for (uint32_t& word : low) word &= 0xffffff;
    EXPECT_EQ(WordsOfJson(v["packed"], kPackedBits), low);
  }
}

const Scene& SceneOf(const json& bad) {
  static std::map<std::string, Scene> scenes;
  const std::string name = bad["attempt"];
  return scenes.try_emplace(name, name).first->second;
}

// The site complains with the reference's bytes, and the coordinator ends the attempt and names both.
void ExpectComplaint(const json& bad, const StatusOr<WorkerEffects>& effects) {
  ASSERT_OK(effects);
  ASSERT_TRUE(effects->complaint.has_value());
  ExpectSame(std::get<Signed<Complaint>>(effects->send.value()), bad["complaint"]);
  EXPECT_EQ(effects->phase, WorkerPhase::kComplained);
  ReplayedCoordinator coordinator(SceneOf(bad));
  coordinator.Reach("input");
  ASSERT_OK_AND_ASSIGN(const auto ended, coordinator.Give("complaint", bad["complaint"], {}));
  ASSERT_TRUE(ended.aborted.has_value());
  EXPECT_EQ(ended.aborted->code, Aborted::Code::kComplaint);
  EXPECT_EQ(ended.aborted->accuser, bad["to"].get<int>());
  EXPECT_EQ(ended.aborted->accused, effects->complaint->accused);
}

void PlayToWorker(const json& bad) {
  ReplayedWorker worker(SceneOf(bad), bad["to"]);
  worker.Reach(bad["state"]);
  if (bad["after_right_message"]) worker.GiveRight(bad["step"]);
  const WorkerPhase before = worker.phase();
  const auto effects = worker.Give(bad["step"], bad["message"]);
  if (bad.contains("complaint")) return ExpectComplaint(bad, effects);
  ASSERT_FALSE(effects.ok()) << "expected " << bad["refused"];
  EXPECT_EQ(RefusalName(RefusalCodeOf(effects.status())), bad["refused"]) << effects.status();
  EXPECT_EQ(worker.phase(), before);
  // As it was: the right message still gets the right answer.
  if (!bad["after_right_message"]) worker.GiveRight(bad["state"]);
}

void PlayToCoordinator(const json& bad) {
  const Scene& scene = SceneOf(bad);
  ReplayedCoordinator coordinator(scene);
  coordinator.Reach(bad["state"]);
  const std::string step = bad["step"];
  const Bytes body = HexOf(bad["message"]["body"]);
  const SiteIndex site = body.at(40);  // after the attempt's name, in every body of a site
  if (bad["after_right_message"]) coordinator.GiveRight(step, site);
  const CoordinatorPhase before = coordinator.phase();
  const auto effects = coordinator.Give(step, bad["message"], bad.value("upload", json()));
  ASSERT_FALSE(effects.ok()) << "expected " << bad["refused"];
  EXPECT_EQ(RefusalName(RefusalCodeOf(effects.status())), bad["refused"]) << effects.status();
  EXPECT_EQ(coordinator.phase(), before);
  const bool has_right = scene.Find(ReplayedCoordinator::ListOf(step), site) != nullptr;
  if (has_right && step == bad["state"]) coordinator.GiveRight(step, site);
}

TEST(VectorBadCasesTest, AWorkerRefusesEachAtItsStepWithItsCodeAndGoesOn) {
  const json file = LoadVectors("bad_for_worker.json");
  ASSERT_GE(file["cases"].size(), 100u);
  for (const json& bad : file["cases"]) {
    SCOPED_TRACE(bad["name"].get<std::string>());
    PlayToWorker(bad);
  }
}

TEST(VectorBadCasesTest, TheCoordinatorRefusesEachAtItsStepWithItsCodeAndGoesOn) {
  const json file = LoadVectors("bad_for_coordinator.json");
  ASSERT_GE(file["cases"].size(), 35u);
  for (const json& bad : file["cases"]) {
    SCOPED_TRACE(bad["name"].get<std::string>());
    PlayToCoordinator(bad);
  }
}

TEST(VectorBadCasesTest, WithPairwiseKeysEachIsRefusedOrComplainedOf) {
  const json worker = LoadVectors("bad_for_worker_pairwise.json");
  const json coordinator = LoadVectors("bad_for_coordinator_pairwise.json");
  ASSERT_GE(worker["cases"].size() + coordinator["cases"].size(), 7u);
  for (const json& bad : worker["cases"]) {
    SCOPED_TRACE(bad["name"].get<std::string>());
    PlayToWorker(bad);
  }
  for (const json& bad : coordinator["cases"]) {
    SCOPED_TRACE(bad["name"].get<std::string>());
    PlayToCoordinator(bad);
  }
}

TEST(VectorPairwiseTest, EveryDerivationIsTheReferences) {
  const json file = LoadVectors("pairwise.json");
  ASSERT_GE(file["derivations"].size(), 4u);
  for (const json& v : file["derivations"]) {
    const SiteIndex i = v["i"], j = v["j"];
    const Secret32 key = SecretOfJson(v["key"]), root = SecretOfJson(v["root"]),
                   secret = SecretOfJson(v["secret_i"]);
    const Digest t1 = DigestOfJson(v["t1"]), t2 = DigestOfJson(v["t2"]);
    const auto peer = Fixed<32>(HexOf(v["public_j"]));
    EXPECT_EQ(Hex(MaskSecretOf(root).view()), v["mask_secret"]);
    EXPECT_EQ(Hex(OwnPairwiseKey(root, SecretOfJson(v["seed"])).view()), v["own_key"]);
    const Secret32 share_part = PairSharePart(key, t1, i, j), mask_part = PairMaskPart(key, t1, i, j);
    EXPECT_EQ(Hex(share_part.view()), v["share_part_i_to_j"]);
    EXPECT_EQ(Hex(mask_part.view()), v["mask_part"]);
    EXPECT_EQ(PairTag(mask_part, t1, i, j).hex(), v["tag"]);
    EXPECT_EQ(Hex(ShareKey(secret, peer, t1, i, j, &share_part).value().view()), v["share_key_i_to_j"]);
    EXPECT_EQ(Hex(PairwiseMaskKey(secret, peer, t2, i, j, &mask_part).value().view()), v["pair_mask_key"]);
    EXPECT_EQ(Hex(SealPairPart(root, mask_part, t1, i, j)), v["seal_i_for_j"]);
  }
}

class VectorComponentsTest : public ::testing::Test {
 protected:
  json file_ = LoadVectors("components.json");
};

TEST_F(VectorComponentsTest, TaggedHashesAndSignaturesAreTheReferences) {
  for (const json& v : file_["tagged_hashes"]) {
    EXPECT_EQ(crypto::TaggedHash(v["tag"].get<std::string>(), HexOf(v["body"])).hex(), v["digest"]);
  }
  for (const json& v : file_["signatures"]) {
    const auto key = crypto::SigningKey::FromSeed(SecretOfJson(v["seed"]));
    EXPECT_EQ(key.Public().KeyHash().hex(), v["key_hash"]);
    EXPECT_EQ(Hex(key.Sign(v["domain"].get<std::string>(), HexOf(v["body"]))), v["signature"]);
  }
}

TEST_F(VectorComponentsTest, DerivedKeysAreTheReferencesFromBothSides) {
  for (const json& v : file_["keys"]) {
    const SiteIndex i = v["i"], j = v["j"];
    const Secret32 a = SecretOfJson(v["secret_i"]), b = SecretOfJson(v["secret_j"]);
    const auto pub_a = Fixed<32>(HexOf(v["public_i"])), pub_b = Fixed<32>(HexOf(v["public_j"]));
    const Digest salt = DigestOfJson(v["salt"]);
    const auto hex = [](const StatusOr<Secret32>& key) { return Hex(key.value().view()); };
    EXPECT_EQ(Hex(crypto::X25519PublicOf(a).value()), v["public_i"]);
    EXPECT_EQ(hex(crypto::X25519Agree(b, pub_a)), v["agreed"]);
    EXPECT_EQ(hex(ShareKey(a, pub_b, salt, i, j)), v["share_key_i_to_j"]);
    EXPECT_EQ(hex(ShareKey(b, pub_a, salt, i, j)), v["share_key_i_to_j"]);
    EXPECT_EQ(hex(ShareKey(a, pub_b, salt, j, i)), v["share_key_j_to_i"]);
    EXPECT_EQ(hex(PairwiseMaskKey(a, pub_b, salt, i, j)), v["pair_mask_key"]);
    EXPECT_EQ(hex(PairwiseMaskKey(b, pub_a, salt, j, i)), v["pair_mask_key"]);
    EXPECT_EQ(hex(SelfMaskKey(SecretOfJson(v["seed_i"]), salt, i)), v["self_mask_key_i"]);
  }
}

TEST(VectorP256Test, AgreementsAndDerivedKeysAreTheReferencesFromBothSides) {
  constexpr auto kCurve = crypto::AgreementCurve::kP256;
  const json file = LoadVectors("p256.json");
  const auto hex = [](const StatusOr<Secret32>& key) { return Hex(key.value().view()); };
  size_t odd = 0;
  for (const json& v : file["keys"]) {
    const SiteIndex i = v["i"], j = v["j"];
    const Secret32 a = SecretOfJson(v["secret_i"]), b = SecretOfJson(v["secret_j"]);
    const auto pub_a = Fixed<32>(HexOf(v["public_i"])), pub_b = Fixed<32>(HexOf(v["public_j"]));
    const Digest salt = DigestOfJson(v["salt"]);
    odd += v["odd_y_j"].get<bool>();
    EXPECT_EQ(Hex(crypto::PublicOf(a, kCurve).value()), v["public_i"]);
    EXPECT_EQ(hex(crypto::Agree(a, pub_b, kCurve)), v["agreed"]);
    EXPECT_EQ(hex(crypto::Agree(b, pub_a, kCurve)), v["agreed"]);
    EXPECT_EQ(hex(ShareKey(a, pub_b, salt, i, j, nullptr, kCurve)), v["share_key_i_to_j"]);
    EXPECT_EQ(hex(PairwiseMaskKey(a, pub_b, salt, i, j, nullptr, kCurve)), v["pair_mask_key"]);
    EXPECT_EQ(hex(PairwiseMaskKey(b, pub_a, salt, j, i, nullptr, kCurve)), v["pair_mask_key"]);
  }
  EXPECT_GT(odd, 0u) << "a coordinate whose point has an odd y";
  ASSERT_GT(file["no_points"].size(), 8u);
  const Secret32 secret = SecretOfJson(file["keys"][0]["secret_i"]);
  for (const json& x : file["no_points"])
    EXPECT_FALSE(crypto::Agree(secret, Fixed<32>(HexOf(x)), kCurve).ok()) << x;
}

TEST_F(VectorComponentsTest, FieldAndSharesAreTheReferences) {
  for (const json& v : file_["gf256"]) {
    EXPECT_EQ(Gf256Multiply(v["a"], v["b"]), v["product"].get<int>());
    EXPECT_EQ(Gf256Invert(v["b"]), v["inverse_b"].get<int>());
  }
  for (const json& v : file_["shamir"]) {
    ScriptedRandom random;
    for (const json& c : v["coefficients"]) random.Add(c);
    std::vector<SiteIndex> holders;
    for (const json& share : v["shares"]) holders.push_back(share["x"]);
    const uint32_t t = v["threshold"];
    ASSERT_OK_AND_ASSIGN(auto shares, SplitSecret(SecretOfJson(v["secret"]), t, holders, random));
    ASSERT_EQ(shares.size(), v["shares"].size());
    for (size_t k = 0; k < shares.size(); ++k) EXPECT_EQ(Hex(shares[k].y.view()), v["shares"][k]["y"]);
    std::ranges::reverse(shares);
    ASSERT_OK_AND_ASSIGN(const auto back, ReconstructSecret(shares, t));
    EXPECT_EQ(Hex(back.view()), v["secret"]);
  }
}

TEST_F(VectorComponentsTest, CommitmentsAndCiphertextsAreTheReferences) {
  for (const json& v : file_["commitments"]) {
    const auto kind = static_cast<ShareKind>(v["kind"].get<int>());
    const auto digest =
        CommitShare(kind, v["dealer"], v["holder"], SecretOfJson(v["share"]), SecretOfJson(v["salt"]));
    EXPECT_EQ(digest.hex(), v["commitment"]);
  }
  for (const json& v : file_["share_ciphertexts"]) {
    const HeldShares held{SecretOfJson(v["mask_key_share"]), SecretOfJson(v["mask_key_salt"]),
                          SecretOfJson(v["seed_share"]), SecretOfJson(v["seed_salt"])};
    const auto sealed =
        SealShares(SecretOfJson(v["key"]), DigestOfJson(v["t1"]), v["dealer"], v["holder"], held);
    EXPECT_EQ(Hex(sealed), v["ciphertext"]);
  }
}

TEST_F(VectorComponentsTest, MasksAreTheReferencesAlsoFromTheMiddleAndFarOut) {
  for (const json& v : file_["masks"]) {
    const auto expected = WordsOfJson(v["words"]);
    for (const MaskKernel kernel : {&OpenSslMaskKernel, BestMaskKernel()}) {
      std::vector<uint32_t> words(expected.size(), 0);
      const std::vector<MaskKey> keys{{SecretOfJson(v["key"]), 1}};
      MaskStream(keys, kernel).Apply(v["first"], words);
      EXPECT_EQ(words, expected) << v["first"];
    }
  }
}

}  // namespace
}  // namespace concordat::secagg::testing
