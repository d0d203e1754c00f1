#ifndef CONCORDAT_TESTS_UNIT_PRIVACY_SECAGG_VECTORS_REPLAY_H_
#define CONCORDAT_TESTS_UNIT_PRIVACY_SECAGG_VECTORS_REPLAY_H_

#include "tests/support/status_matchers.h"
#include "tests/unit/privacy/secagg/vectors.h"

// The cores of an attempt file, with the file's secrets, brought to any step with the file's messages.
namespace concordat::secagg::testing {

/// The sites, keys and offer of an attempt file.
class Scene {
 public:
  explicit Scene(const std::string& name)
      : file(LoadVectors("attempt_" + name + ".json")),
        coordinator_key(crypto::SigningKey::FromSeed(SecretOfJson(file["coordinator_seed"]))),
        offer(MessageOf<Offer>(file["offer"])),
        modulus_bits(file.contains("encoding") ? file["encoding"]["modulus_bits"].get<uint32_t>()
                                               : kPlainBits) {
    for (const json& site : file["sites"]) {
      const auto id = SpiffeId::Parse(site["id"].get<std::string>()).value();
      keys_.push_back(crypto::SigningKey::FromSeed(SecretOfJson(site["identity_seed"])));
      verifier_.Add(site["chain"], id, keys_.back().Public());
      chains_[site["site"].get<SiteIndex>()] = site["chain"];
      bounds_.jurisdictions.insert(id.jurisdiction());
      EXPECT_EQ(offer.body.roster.at(keys_.size() - 1), (RosterEntry{id, keys_.back().Public().KeyHash()}));
    }
    bounds_.id = offer.body.id;
    bounds_.charter = offer.body.charter;
    bounds_.base_model = offer.body.base_model;
    bounds_.adapter = offer.body.adapter;
    bounds_.elements = offer.body.elements;
    if (!file.contains("pairwise_keys")) return;
    pairwise_.resize(keys_.size());
    for (const json& pair : file["pairwise_keys"]) {
      const size_t i = pair["i"].get<size_t>() - 1, j = pair["j"].get<size_t>() - 1;
      pairwise_.at(i)[offer.body.roster.at(j).worker] = SecretOfJson(pair["key"]);
      pairwise_.at(j)[offer.body.roster.at(i).worker] = SecretOfJson(pair["key"]);
    }
  }

  size_t n() const { return keys_.size(); }
  const json& site(SiteIndex i) const { return file["sites"].at(i - 1u); }
  CoordinatorRound NewCoordinator() const {
    return CoordinatorRound(offer.body, coordinator_key, verifier_, chains_, !pairwise_.empty());
  }
  WorkerRound NewWorker(SiteIndex i, ScriptedRandom& random) const {
    const json& s = site(i);
    for (const char* secret : {"channel_secret", "mask_secret", "seed"}) random.Add(s[secret]);
    for (const char* list : {"mask_key_coefficients", "seed_coefficients"}) {
      for (const json& coefficient : s[list]) random.Add(coefficient);
    }
    for (const json& pair : s["salts"]) {
      for (const json& salt : pair) random.Add(salt);
    }
    WorkerBounds bounds = bounds_;
    if (!pairwise_.empty()) bounds.pairwise = &pairwise_[i - 1u];
    return WorkerRound(offer.body.roster[i - 1u].worker, keys_[i - 1u], verifier_, coordinator_key.Public(),
                       random, std::move(bounds), DigestOfJson(s["ledger_head"]));
  }
  /// The record of `site` in the list `step`; null when it has none.
  const json* Find(const std::string& step, SiteIndex i) const {
    for (const json& record : file[step]) {
      if (record["site"] == i) return &record;
    }
    return nullptr;
  }
  std::vector<SiteIndex> LostAt(const std::string& step) const {
    std::vector<SiteIndex> lost;
    for (const json& loss : file["losses"]) {
      if (loss["step"] == step) lost.push_back(loss["site"]);
    }
    return lost;
  }
  /// A site that deals other shares than it should; 0: none.
  SiteIndex convicted() const { return file.value("convicted", SiteIndex{0}); }

  json file;
  crypto::SigningKey coordinator_key;
  Signed<Offer> offer;
  uint32_t modulus_bits;  // of the job

 private:
  std::vector<crypto::SigningKey> keys_;
  TablePeerVerifier verifier_;
  std::map<SiteIndex, std::string> chains_;
  WorkerBounds bounds_;
  std::vector<PairwiseKeys> pairwise_;  // by site; empty in a job without
};

/// A worker of a scene, brought to a step with the file's messages.
class ReplayedWorker {
 public:
  ReplayedWorker(const Scene& scene, SiteIndex site)
      : s_(scene), site_(site), round_(scene.NewWorker(site, random_)) {}

  void Reach(const std::string& state) {
    for (const char* step : {"offer", "keys", "delivery", "survivors", "bundle", "result"}) {
      if (step == state) return;
      GiveRight(step);
    }
  }
  void GiveRight(const std::string& step) {
    const auto effects = Give(step, Right(step));
    ASSERT_TRUE(effects.ok()) << step << ": " << effects.status();
    if (effects->send.has_value()) {
      std::visit([&](const auto& m) { ExpectSame(m, RightAnswer(step)); }, *effects->send);
    } else {
      EXPECT_TRUE(step == "delivery" || step == "result");
    }
    if (step != "delivery") return;
    ASSERT_OK(round_.BeginInput(At(0)));
    ASSERT_OK(round_.TakeMasks());
    const auto y = WordsOfJson((*s_.Find("inputs", site_))["y"], s_.modulus_bits);
    ASSERT_OK(round_.OnInput(y.size(), DigestOfWords(y, s_.modulus_bits), At(0)));
  }
  StatusOr<WorkerEffects> Give(const std::string& step, const json& record) {
    if (step == "offer") return round_.OnOffer(MessageOf<Offer>(record), At(0));
    if (step == "keys") return round_.OnKeys(MessageOf<Keys>(record), At(0));
    if (step == "delivery") return round_.OnDelivery(MessageOf<Delivery>(record), At(0));
    if (step == "survivors") return round_.OnSurvivors(MessageOf<Survivors>(record), At(0));
    if (step == "bundle") return round_.OnAgreementBundle(MessageOf<AgreementBundle>(record), At(0));
    if (step == "result") return round_.OnResult(MessageOf<Result>(record), At(0));
    throw std::runtime_error("no step " + step);
  }
  WorkerPhase phase() const { return round_.phase(); }

 private:
  const json& Right(const std::string& step) const {
    return step == "delivery" ? *s_.Find("deliveries", site_) : s_.file[step];
  }
  const json& RightAnswer(const std::string& step) const {
    static const std::map<std::string, std::string> kAnswers = {
        {"offer", "adverts"}, {"keys", "shares"}, {"survivors", "agreements"}, {"bundle", "unmasks"}};
    return *s_.Find(kAnswers.at(step), site_);
  }

  const Scene& s_;
  SiteIndex site_;
  ScriptedRandom random_;
  WorkerRound round_;
};

/// A coordinator of a scene, brought to a step with the file's messages.
class ReplayedCoordinator {
 public:
  explicit ReplayedCoordinator(const Scene& scene) : s_(scene), round_(scene.NewCoordinator()) {
    EXPECT_TRUE(round_.Start(At(0)).ok());
  }
  void Reach(const std::string& state) {
    for (const char* step : {"advert", "shares", "input", "agreement", "unmask"}) {
      if (step == state) return;
      for (SiteIndex i : s_.LostAt(step)) ASSERT_OK(round_.OnLost(i, At(0)));
      for (const json& record : s_.file[ListOf(step)]) GiveRight(step, record["site"]);
    }
  }
  void GiveRight(const std::string& step, SiteIndex site) {
    const json& record = *s_.Find(ListOf(step), site);
    json upload;
    if (step == "input") {
      const auto y = WordsOfJson(record["y"], s_.modulus_bits);
      upload = {{"elements", y.size()}, {"sha256", DigestOfWords(y, s_.modulus_bits).hex()}};
    }
    const auto effects = Give(step, record, upload);
    ASSERT_TRUE(effects.ok()) << step << ": " << effects.status();
  }
  StatusOr<CoordinatorEffects> Give(const std::string& step, const json& record, const json& upload) {
    if (step == "advert") return round_.OnAdvert(MessageOf<Advert>(record), At(0));
    if (step == "shares") return round_.OnShares(MessageOf<Shares>(record), At(0));
    if (step == "agreement") return round_.OnAgreement(MessageOf<Agreement>(record), At(0));
    if (step == "unmask") return round_.OnUnmask(MessageOf<Unmask>(record), At(0));
    if (step == "complaint") return round_.OnComplaint(MessageOf<Complaint>(record), At(0));
    if (step != "input") throw std::runtime_error("no step " + step);
    const auto header = MessageOf<InputHeader>(record);
    return round_.OnUploaded(header.body.site, upload["elements"], DigestOfJson(upload["sha256"]), header,
                             At(0));
  }
  CoordinatorPhase phase() const { return round_.phase(); }
  static std::string ListOf(const std::string& step) { return step == "shares" ? step : step + "s"; }

 private:
  const Scene& s_;
  CoordinatorRound round_;
};

}  // namespace concordat::secagg::testing

#endif  // CONCORDAT_TESTS_UNIT_PRIVACY_SECAGG_VECTORS_REPLAY_H_
