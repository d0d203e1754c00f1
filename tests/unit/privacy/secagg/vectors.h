#ifndef CONCORDAT_TESTS_UNIT_PRIVACY_SECAGG_VECTORS_H_
#define CONCORDAT_TESTS_UNIT_PRIVACY_SECAGG_VECTORS_H_

#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/files.h"
#include "privacy/mechanism/words.h"
#include "tests/unit/privacy/secagg/harness.h"

// Reads tests/vectors/v1, which experiments/reference makes: bodies come as bytes and are decoded here, by
// the page's table of formats. A body that does not decode throws; one that the project's own Canonical()
// would write otherwise fails the test.
namespace concordat::secagg::testing {

using nlohmann::json;

inline json LoadVectors(const std::string& file) {
  const auto text = ReadTextFile("tests/vectors/v1/" + file);
  if (!text.ok()) throw std::runtime_error(text.status().ToString());
  return json::parse(*text);
}
inline Bytes HexOf(const json& j) { return FromHex(j.get<std::string>()).value(); }
inline Digest DigestOfJson(const json& j) { return Digest::From(HexOf(j)).value(); }
inline Secret32 SecretOfJson(const json& j) { return Secret32::From(HexOf(j)).value(); }
inline std::string Hex(ByteView bytes) { return ToHex(bytes); }
template <size_t N>
std::array<uint8_t, N> Fixed(ByteView from) {
  if (from.size() != N) throw std::runtime_error("expected " + std::to_string(N) + " bytes");
  std::array<uint8_t, N> out;
  std::copy(from.begin(), from.end(), out.begin());
  return out;
}
inline std::vector<uint32_t> WordsOfJson(const json& j, uint32_t modulus_bits = kPlainBits) {
  const Bytes bytes = HexOf(j);
  std::vector<uint32_t> words(bytes.size() / WordBytes(modulus_bits));
  UnpackWords(bytes, modulus_bits, words);
  return words;
}
inline Digest DigestOfWords(const std::vector<uint32_t>& words, uint32_t modulus_bits) {
  Bytes scratch;
  return crypto::Sha256(WireBytes(words, modulus_bits, scratch));
}
inline std::vector<float> FloatsOfJson(const json& j) {
  const Bytes bytes = HexOf(j);
  std::vector<float> out(bytes.size() / sizeof(float));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(float));
  return out;
}

/// Gives the values it was told, in order, 32 bytes a draw. A draw of another size or one too many fails the
/// test. A worker draws its channel key, mask key and seed at the offer; then, at the keys, the mask key's
/// coefficients of x^1 to x^(t-1), the seed's, and for each holder a salt for each of the two shares.
class ScriptedRandom final : public RandomSource {
 public:
  void Add(const json& hex) { left_.push_back(SecretOfJson(hex)); }
  void Fill(std::span<uint8_t> out) override {
    if (left_.empty() || out.size() != Secret32::size())
      throw std::runtime_error("a draw that no script has");
    std::ranges::copy(left_.front().view(), out.begin());
    left_.pop_front();
  }
  size_t left() const { return left_.size(); }

 private:
  std::deque<Secret32> left_;
};

/// One Read for each kind of body and part, by the table "Formats"; Body<T> reads a whole one.
struct Decoder {
  static void Read(CanonicalReader& r, AttemptId& m) {
    m.job = r.Hash();
    m.round = r.U32();
    m.attempt = r.U32();
  }
  static void Read(CanonicalReader& r, Signature& m) { m = Fixed<64>(r.Raw(64)); }
  static void Read(CanonicalReader& r, std::vector<SiteIndex>& sites) {
    sites.resize(r.Count(255));
    for (SiteIndex& site : sites) site = r.U8();
  }
  static void Read(CanonicalReader& r, std::vector<ShareCommitment>& commitments) {
    commitments.resize(r.Count(255));
    for (ShareCommitment& c : commitments) {
      c.holder = r.U8();
      c.mask_key_share = r.Hash();
      c.seed_share = r.Hash();
    }
  }
  static void Read(CanonicalReader& r, Offer& m) {
    Read(r, m.id);
    m.charter = r.Hash();
    m.base_model = r.Hash();
    m.adapter = r.Hash();
    m.elements = r.U64();
    for (uint32_t* field :
         {&m.threshold, &m.min_survivors, &m.assumed_colluding, &m.attempts_allowed, &m.deadlines.advert_ms,
          &m.deadlines.shares_ms, &m.deadlines.input_ms, &m.deadlines.agreement_ms, &m.deadlines.unmask_ms}) {
      *field = r.U32();
    }
    m.roster.resize(r.Count(255));
    for (RosterEntry& entry : m.roster) {
      entry.worker = SpiffeId::Parse(r.Text(200)).value();
      entry.key_hash = r.Hash();
    }
  }
  static void Read(CanonicalReader& r, Advert& m) {
    Read(r, m.id);
    m.site = r.U8();
    m.channel_key = Fixed<32>(r.Raw(32));
    m.mask_key = Fixed<32>(r.Raw(32));
    m.seed_hash = r.Hash();
    m.t0 = r.Hash();
    m.ledger_head = r.Hash();
  }
  static void Read(CanonicalReader& r, InputHeader& m) {
    Read(r, m.id);
    m.site = r.U8();
    m.t2 = r.Hash();
    m.elements = r.U64();
    m.sha256 = r.Hash();
  }
  template <typename T>
  static T Body(ByteView body) {
    CanonicalReader r(body);
    T m;
    Read(r, m);
    if (const Status status = r.Finish(); !status.ok()) throw std::runtime_error(status.ToString());
    return m;
  }
  template <typename T>
  static void Read(CanonicalReader& r, std::vector<Signed<T>>& list) {
    list.resize(r.Count(255));
    for (Signed<T>& item : list) {
      item.body = Body<T>(r.Blob(1000));
      Read(r, item.signature);
    }
  }
  static void Read(CanonicalReader& r, Keys& m) {
    Read(r, m.id);
    Read(r, m.adverts);
    m.chains.resize(r.Count(255));
    for (std::string& chain : m.chains) chain = r.Text(1000);
  }
  static void Read(CanonicalReader& r, Shares& m) {
    Read(r, m.id);
    m.dealer = r.U8();
    m.t1 = r.Hash();
    Read(r, m.commitments);
  }
  static void Read(CanonicalReader& r, Delivery& m) {
    Read(r, m.id);
    m.to = r.U8();
    m.t1 = r.Hash();
    m.rows.resize(r.Count(255));
    for (Delivery::Row& row : m.rows) {
      row.dealer = r.U8();
      Read(r, row.commitments.Change());
      Read(r, row.signature);
      row.ciphertext = Fixed<kShareCipherBytes>(r.Raw(kShareCipherBytes));
    }
    if (r.left() == 0) return;  // a job without pairwise keys
    m.pair_tags.resize(r.Count(255));
    for (Digest& tag : m.pair_tags) tag = r.Hash();
  }
  static void Read(CanonicalReader& r, Complaint& m) {
    Read(r, m.id);
    m.site = r.U8();
    m.accused = r.U8();
    m.t1 = r.Hash();
    m.code = static_cast<Complaint::Code>(r.U8());
  }
  static void Read(CanonicalReader& r, Survivors& m) {
    Read(r, m.id);
    m.t2 = r.Hash();
    Read(r, m.headers);
  }
  static void Read(CanonicalReader& r, Agreement& m) {
    Read(r, m.id);
    m.site = r.U8();
    m.t2 = r.Hash();
    Read(r, m.survivors);
  }
  static void Read(CanonicalReader& r, AgreementBundle& m) {
    Read(r, m.id);
    m.t2 = r.Hash();
    Read(r, m.survivors);
    m.signatures.resize(r.Count(255));
    for (auto& [site, signature] : m.signatures) {
      site = r.U8();
      Read(r, signature);
    }
  }
  static void Read(CanonicalReader& r, Unmask& m) {
    Read(r, m.id);
    m.site = r.U8();
    m.t2 = r.Hash();
    for (auto* list : {&m.seed_shares, &m.mask_key_shares}) {
      list->resize(r.Count(255));
      for (OpenedShare& share : *list) {
        share.dealer = r.U8();
        r.Hash();  // of the opened share, which comes beside the body
      }
    }
  }
  static void Read(CanonicalReader& r, Result& m) {
    Read(r, m.id);
    m.t2 = r.Hash();
    Read(r, m.survivors);
    m.sum_sha256 = r.Hash();
    m.new_adapter = r.Hash();
  }
};

// What travels beside a body.
template <typename T>
void ReadBeside(const json&, T&) {}
inline void ReadBeside(const json& j, Shares& m) {
  for (const json& c : j["ciphertexts"]) m.ciphertexts.push_back(Fixed<kShareCipherBytes>(HexOf(c)));
  if (!j.contains("pair_seals")) return;
  for (const json& s : j["pair_seals"]) m.pair_seals.push_back(Fixed<kPairSealBytes>(HexOf(s)));
}
inline void ReadBeside(const json& j, Unmask& m) {
  const auto read = [](const json& list, std::vector<OpenedShare>& out) {
    for (size_t k = 0; k < out.size(); ++k) {
      out[k].share = SecretOfJson(list.at(k)["share"]);
      out[k].salt = SecretOfJson(list.at(k)["salt"]);
    }
  };
  read(j["seed_shares"], m.seed_shares);
  read(j["mask_key_shares"], m.mask_key_shares);
}

/// The message that a record holds.
template <typename T>
Signed<T> MessageOf(const json& record) {
  Signed<T> message{Decoder::Body<T>(HexOf(record["body"])), Fixed<64>(HexOf(record["signature"]))};
  ReadBeside(record, message.body);
  EXPECT_EQ(Hex(Canonical(message.body)), record["body"]) << T::kDomain;
  return message;
}

// What travels beside a body is compared by itself.
template <typename T>
void ExpectSameBeside(const T&, const json&) {}
inline void ExpectSameBeside(const Shares& got, const json& record) {
  ASSERT_EQ(got.ciphertexts.size(), record["ciphertexts"].size());
  for (size_t k = 0; k < got.ciphertexts.size(); ++k) {
    EXPECT_EQ(Hex(got.ciphertexts[k]), record["ciphertexts"][k]);
  }
  const json seals = record.value("pair_seals", json::array());
  ASSERT_EQ(got.pair_seals.size(), seals.size());
  for (size_t k = 0; k < seals.size(); ++k) EXPECT_EQ(Hex(got.pair_seals[k]), seals[k]);
}
inline void ExpectSameBeside(const Unmask& got, const json& record) {
  const auto expect = [](const std::vector<OpenedShare>& opened, const json& list) {
    ASSERT_EQ(opened.size(), list.size());
    for (size_t k = 0; k < opened.size(); ++k) {
      EXPECT_EQ(opened[k].dealer, list[k]["dealer"].get<int>());
      EXPECT_EQ(Hex(opened[k].share.view()), list[k]["share"]);
      EXPECT_EQ(Hex(opened[k].salt.view()), list[k]["salt"]);
    }
  };
  expect(got.seed_shares, record["seed_shares"]);
  expect(got.mask_key_shares, record["mask_key_shares"]);
}

/// Expects the record's body (or, where the record has only that, its SHA-256), signature, and what is
/// beside.
template <typename T>
void ExpectSame(const Signed<T>& got, const json& record) {
  const Bytes body = Canonical(got.body);
  if (record.contains("body")) {
    EXPECT_EQ(Hex(body), record["body"]) << T::kDomain;
  } else {
    EXPECT_EQ(crypto::Sha256(body).hex(), record["body_sha256"]) << T::kDomain;
  }
  EXPECT_EQ(Hex(got.signature), record["signature"]) << T::kDomain;
  ExpectSameBeside(got.body, record);
}

}  // namespace concordat::secagg::testing

#endif  // CONCORDAT_TESTS_UNIT_PRIVACY_SECAGG_VECTORS_H_
