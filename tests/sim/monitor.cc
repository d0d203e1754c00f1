#include "tests/sim/monitor.h"

#include <algorithm>

#include "privacy/crypto/hash.h"

namespace concordat::sim {
namespace {

using namespace secagg;

// Everything of a message that a receiver sees, the signature and ciphertexts included.
template <typename T>
Digest WholeDigest(const Signed<T>& message) {
  Bytes all = Canonical(message.body);
  all.insert(all.end(), message.signature.begin(), message.signature.end());
  if constexpr (std::is_same_v<T, Shares>) {
    for (const ShareCiphertext& c : message.body.ciphertexts) all.insert(all.end(), c.begin(), c.end());
  }
  if constexpr (std::is_same_v<T, Unmask>) {
    for (const auto* kind : {&message.body.seed_shares, &message.body.mask_key_shares}) {
      for (const OpenedShare& s : *kind) {
        all.insert(all.end(), s.share.view().begin(), s.share.view().end());
        all.insert(all.end(), s.salt.view().begin(), s.salt.view().end());
      }
    }
  }
  return crypto::Sha256(all);
}

std::string List(const std::vector<SiteIndex>& sites) {
  std::string out;
  for (const SiteIndex site : sites) out += fmt::format("{}{}", out.empty() ? "" : ",", int{site});
  return "{" + out + "}";
}

}  // namespace

void Monitor::Fail(std::string kind, std::string text) {
  violations_.push_back({std::move(kind), std::move(text)});
}

void Monitor::WorkerSends(SiteIndex site, const WorkerMessage& message) {
  std::visit(
      [&](const auto& m) {
        using T = std::decay_t<decltype(m.body)>;
        const AttemptIndex attempt = m.body.id.attempt;
        const auto [it, first] = answers_.emplace(std::tuple(attempt, site, message.index()), WholeDigest(m));
        if (!first && it->second != WholeDigest(m)) {
          Fail("double-answer",
               fmt::format("site {} sent two bodies of {} in attempt {}", site, T::kDomain, attempt));
        }
        if constexpr (std::is_same_v<T, Unmask>) {
          const auto see = [&](SiteIndex dealer, bool seed) {
            const auto [known, fresh] = opened_.emplace(std::pair(attempt, dealer), seed);
            if (!fresh && known->second != seed) {
              Fail("both-kinds",
                   fmt::format("site {} opened the other kind of site {}'s shares in attempt {}", site,
                               dealer, attempt));
            }
          };
          for (const OpenedShare& s : m.body.seed_shares) see(s.dealer, true);
          for (const OpenedShare& s : m.body.mask_key_shares) see(s.dealer, false);
        }
      },
      message);
}

void Monitor::CoordinatorSends(SiteIndex to, const CoordinatorMessage& message,
                               const std::vector<SiteIndex>& durable_u3) {
  std::visit(
      [&](const auto& m) {
        using T = std::decay_t<decltype(m.body)>;
        const AttemptIndex attempt = m.body.id.attempt;
        // Only a delivery is its receiver's own.
        const SiteIndex whom = std::is_same_v<T, Delivery> ? to : 0;
        const auto [it, first] =
            questions_.emplace(std::tuple(attempt, whom, message.index()), WholeDigest(m));
        if (!first && it->second != WholeDigest(m)) {
          Fail("two-questions", fmt::format("two bodies of {} in attempt {}", T::kDomain, attempt));
        }
        if constexpr (std::is_same_v<T, Survivors>) {
          std::vector<SiteIndex> u3;
          for (const auto& header : m.body.headers) u3.push_back(header.body.site);
          const auto [known, fresh] = announced_.emplace(attempt, u3);
          if (!fresh && known->second != u3) {
            Fail("two-survivors",
                 fmt::format("attempt {}: {} and {}", attempt, List(known->second), List(u3)));
          }
          if (durable_u3 != u3) {
            Fail("not-written-ahead", fmt::format("attempt {}: {}", attempt, List(u3)));
          }
        }
      },
      message);
}

void Monitor::MasksTaken(SiteIndex site, const Digest& t2) {
  if (!masks_taken_.insert({t2, site}).second) {
    Fail("mask-reuse", fmt::format("site {} took its masks twice under T2 {}", site, t2.brief()));
  }
}

void Monitor::Encoded(SiteIndex site, AttemptIndex attempt, std::vector<uint32_t> x) {
  plain_.emplace(std::pair(attempt, site), std::move(x));
}

void Monitor::VectorLeaves(SiteIndex site, const Digest& t2, uint64_t offset, ByteView bytes, bool charged,
                           bool begun) {
  auto& before = left_[{t2, site}];
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto [it, first] = before.emplace(offset + i, bytes[i]);
    if (first || it->second == bytes[i]) continue;
    Fail("mask-reuse",
         fmt::format("site {}: byte {} left twice, and differs, under T2 {}", site, offset + i, t2.brief()));
    break;
  }
  if (!charged || !begun) {
    Fail("charge-late",
         fmt::format("site {}: a byte left {}", site, charged ? "before \"begun\"" : "uncharged"));
  }
}

void Monitor::LedgerHolds(SiteIndex site, std::set<AttemptIndex> attempts) {
  auto& known = ledgers_[site];
  if (!std::ranges::includes(attempts, known)) {
    Fail("charge-returned",
         fmt::format("site {}: {} charges, {} before", site, attempts.size(), known.size()));
  }
  known = std::move(attempts);
}

void Monitor::Finished(AttemptIndex attempt, const std::vector<SiteIndex>& survivors,
                       const std::vector<uint32_t>& sum) {
  finished_ = true;
  std::vector<uint32_t> plain(sum.size(), 0);
  for (const SiteIndex site : survivors) {
    const auto x = plain_.find({attempt, site});
    if (x == plain_.end())
      return Fail("wrong-sum", fmt::format("site {} is in U3 and encoded nothing", site));
    for (size_t e = 0; e < plain.size(); ++e) plain[e] += x->second[e];
  }
  if (plain != sum) Fail("wrong-sum", fmt::format("attempt {} over {}", attempt, List(survivors)));
}

}  // namespace concordat::sim
