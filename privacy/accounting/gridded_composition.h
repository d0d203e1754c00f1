#ifndef CONCORDAT_PRIVACY_ACCOUNTING_GRIDDED_COMPOSITION_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_GRIDDED_COMPOSITION_H_

#include <optional>
#include <span>
#include <vector>

#include "privacy/accounting/composition_moments.h"
#include "privacy/accounting/subsampled_gaussian.h"

namespace concordat {

/// A composition's loss distribution on a grid, tilted, with everything that may be wrong with it on the
/// upper side: the middle of the accountant. pld.h says why each figure is an upper bound.
class GriddedComposition {
 public:
  struct Plan {
    double theta = 0;              // tilt
    double spacing = 0;            // of the grid; what is used may be wider, to bound the work
    double outside = 24;           // of the tilted mass, e^−outside on each side may be outside the window
    double most_points = 1 << 21;  // of the window
    bool precise = false;          // transforms in long double
    double log_mass_below = 0, log_mass_above = 0;  // of one step: see DotsPlan
  };
  /// One transform for each step, one back. `steps`, `losses` and `moments` belong together.
  /// Nothing if no grid of bearable size holds it.
  static std::optional<GriddedComposition> Make(std::span<const SubsampledGaussian> steps,
                                                std::span<const StepLoss> losses,
                                                const CompositionMoments& moments, const Plan& plan);

  struct Answer {
    double value = 0;  // an upper bound, infinity if there is none
    /// What the grid may have added: to ε relative to it, to ln δ. A measure of tightness, not a bound.
    double grid_share = 0;
    double noise_share = 0;  // the same, of the bound on rounding
    bool in_window = true;   // false: the answer lies elsewhere, and `value` is far from tight
  };
  Answer Epsilon(double delta) const;
  Answer Delta(double epsilon) const;
  double spacing() const { return h_; }
  /// Bound on what rounding did to the tilted mass, as it is weighted.
  double error() const { return error_; }
  size_t points() const { return mass_.size(); }
  /// The grid is wider than was asked.
  bool coarsened() const { return coarsened_; }

 private:
  // Goes down the grid. Sums are over what lies at and above `index` + 1, relative to `index`:
  // sum = Σ_{m>0} r^m (1−ρ^m) p_m and light = Σ_{m>0} (rρ)^m p_m, r = e^{−θh}, ρ = e^{−h}.
  struct Walk {
    double index = 0, sum = 0, light = 0;
    size_t slot = 0;
  };
  GriddedComposition() = default;
  template <typename Scalar>
  void Lay(std::span<const SubsampledGaussian> steps, std::span<const StepLoss> losses,
           const CompositionMoments& moments, const Plan& plan, double tail_theta);
  Walk Start() const;
  void Down(Walk& walk) const;
  double DeltaAt(const Walk& walk) const;
  double AddedByGrid(double d0, double d1, double d2) const;
  double ShareOfNoise(const Walk& walk) const;
  double Bottom() const { return top_ - static_cast<double>(mass_.size()) + 1; }

  double theta_ = 0, h_ = 0, r_ = 0, rho_ = 0, fall_ = 0;  // fall = 1 − ρ
  double top_ = 0;                                         // index of the window's end
  std::vector<double> mass_;                               // tilted; index i at i mod size
  double log_scale_ = 0;                                   // what undoes the tilt
  double error_ = 0;                                       // of any Walk::sum, from transforms
  double tail_ = 0;                                        // tilted mass above the window
  double infinite_ = 0;                                    // mass at infinity
  double split_ = 0;                                       // half the variance that the grid has added
  bool coarsened_ = false;
};

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_GRIDDED_COMPOSITION_H_
