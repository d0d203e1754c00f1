#ifndef CONCORDAT_PRIVACY_AUDIT_MEMBERSHIP_H_
#define CONCORDAT_PRIVACY_AUDIT_MEMBERSHIP_H_

#include <cstdint>
#include <optional>
#include <span>

#include "common/status.h"

namespace concordat::audit {

/// Can records that were trained on be told from records that were not? A document's score is its loss under
/// the base model less that under the adapter, nats a token: what is hard for any model is hard for both, and
/// falls out (the ratio attack of Carlini et al. 2021, arXiv 2012.07805, section 5.2, calibrated by the base
/// as in Mireshghallah et al. 2022, arXiv 2203.03929). Members and non-members were parted by a keyed hash,
/// so that nothing but training sets them apart.
struct Membership {
  uint32_t members = 0, non_members = 0;
  /// Chance that a member scores above a non-member, ties counted half: 0.5 knows nothing.
  double auc = 0;
  /// Of `auc`, after DeLong, DeLong and Clarke-Pearson (1988). Takes documents for independent: too small
  /// where one person has several. 0 where the scores part completely.
  double standard_error = 0;
  /// Share of members above a threshold that at most 1% of the non-members are above. None with fewer than a
  /// hundred non-members, who cannot show 1%. A guess has 0.01.
  std::optional<double> tpr_at_1_percent;

  /// Whether members stand out by more than chance: three standard errors.
  bool told_apart() const { return auc > 0.5 + 3 * standard_error; }
  bool operator==(const Membership&) const = default;
};

/// InvalidArgument: fewer than two scores on a side, more than 2^24, one that is not finite.
StatusOr<Membership> MeasureMembership(std::span<const double> members, std::span<const double> non_members);

}  // namespace concordat::audit

#endif  // CONCORDAT_PRIVACY_AUDIT_MEMBERSHIP_H_
