#include "privacy/accounting/connect_dots.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace concordat {
namespace {

struct Node {
  double at, weight;
};
// Gauss–Legendre on [−1, 1].
constexpr std::array<Node, 2> kTwo = {{{-0.5773502691896257645, 1}, {0.5773502691896257645, 1}}};
constexpr std::array<Node, 3> kThree = {
    {{-0.7745966692414833770, 5.0 / 9}, {0, 8.0 / 9}, {0.7745966692414833770, 5.0 / 9}}};
constexpr std::array<Node, 5> kFive = {{{-0.9061798459386639928, 0.2369268850561890875},
                                        {-0.5384693101056830910, 0.4786286704993664680},
                                        {0, 0.5688888888888888889},
                                        {0.5384693101056830910, 0.4786286704993664680},
                                        {0.9061798459386639928, 0.2369268850561890875}}};
constexpr std::array<Node, 8> kEight = {{{-0.9602898564975362317, 0.1012285362903762591},
                                         {-0.7966664774136267396, 0.2223810344533744706},
                                         {-0.5255324099163289858, 0.3137066458778872873},
                                         {-0.1834346424956498049, 0.3626837833783619830},
                                         {0.1834346424956498049, 0.3626837833783619830},
                                         {0.5255324099163289858, 0.3137066458778872873},
                                         {0.7966664774136267396, 0.2223810344533744706},
                                         {0.9602898564975362317, 0.1012285362903762591}}};

// κ: how many times over the integrand's own length half an interval is. An n-node rule errs by about
// c_n·κ^{2n}: 7e-3, 6e-5, 8e-10, 2e-18 for 2, 3, 5, 8 nodes.
std::span<const Node> Rule(double kappa) {
  if (kappa <= 3e-4) return kTwo;
  if (kappa <= 8e-3) return kThree;
  if (kappa <= 0.25) return kFive;
  return kEight;
}

// 1 − e^{−u}, u >= 0.
double Fall(double u) {
  if (u < 1e-3) return u * (1 - u / 2 * (1 - u / 3 * (1 - u / 4 * (1 - u / 5))));
  return -std::expm1(-u);
}

class Layer {
 public:
  Layer(const StepLoss& loss, const DotsPlan& plan, std::span<double> circle)
      : loss_(loss),
        plan_(plan),
        circle_(circle),
        full_(Fall(plan.spacing)),
        up_(std::exp(plan.theta * plan.spacing)),
        inverse_variance_(1 / (loss.sigma() * loss.sigma())) {}

  // All of P between a and b, whose losses lie in one cell.
  void Cell(double a, double b) {
    while (a < b) {
      double r = (b - a) / 2;
      // Half a standard deviation, the distance of the logarithm's singularity, the slope of the density.
      const double slope = 2 / loss_.sigma() + (std::abs(a) + 2) * inverse_variance_;
      const double kappa_is_one = 2 / (slope + std::sqrt(slope * slope + 8 * inverse_variance_));
      r = std::min(r, kappa_is_one);
      const double next = r * 2 >= (b - a) * (1 - 1e-9) ? b : a + 2 * r;
      Interval((a + next) / 2, (next - a) / 2, r * (slope + 2 * r * inverse_variance_));
      if (next <= a) break;  // no longer a number apart
      a = next;
    }
  }

  void Interval(double middle, double half, double kappa) {
    for (const Node& n : Rule(kappa)) {
      const StepLoss::Point p = loss_.At(middle + half * n.at);
      Place(p.loss + p.slack, p.log_density, half * n.weight);
    }
  }

  // An atom of mass e^{log_density}·weight.
  void Place(double loss, double log_density, double weight) {
    const double index = std::floor(loss / plan_.spacing);
    if (index != index_) Move(index);
    const double u = std::clamp(loss - low_, 0.0, plan_.spacing);
    const double mass = weight * std::exp(log_density + base_);
    const double above = Fall(u) / full_;
    here_ += mass * (1 - above);
    next_ += mass * above * up_;
    split_ += mass * u * (plan_.spacing - u);
  }

  Dots Finish() {
    Flush();
    return {.total = static_cast<double>(total_),
            .tail_moment = static_cast<double>(tail_) * (1 + 1e-9),
            .split = static_cast<double>(split_sum_) / 2,
            .infinite = 0};
  }

 private:
  void Flush() {
    if (here_ == 0 && next_ == 0) return;
    circle_[slot_] += here_;
    circle_[slot_ + 1 == circle_.size() ? 0 : slot_ + 1] += next_;
    total_ += here_;
    total_ += next_;
    split_sum_ += split_;
    if (plan_.tail_theta > 0)
      tail_ += here_ * std::exp(plan_.tail_theta * low_) +
               next_ * std::exp(plan_.tail_theta * (low_ + plan_.spacing));
    here_ = next_ = split_ = 0;
  }

  void Move(double index) {
    Flush();
    index_ = index;
    low_ = index * plan_.spacing;
    base_ = plan_.theta * low_ - plan_.log_moment;
    const auto size = static_cast<double>(circle_.size());
    slot_ = static_cast<size_t>(index - size * std::floor(index / size));
  }

  const StepLoss& loss_;
  const DotsPlan& plan_;
  std::span<double> circle_;
  double full_, up_, inverse_variance_;
  double index_ = NAN, low_ = 0, base_ = 0;
  size_t slot_ = 0;
  double here_ = 0, next_ = 0, split_ = 0;
  long double total_ = 0, tail_ = 0, split_sum_ = 0;
};

}  // namespace

Dots ConnectDots(const StepLoss& loss, const DotsPlan& plan, std::span<double> circle) {
  const double low = loss.Lower(plan.log_mass_below), high = loss.Upper(plan.log_mass_above);
  Layer layer(loss, plan, circle);
  double index = std::floor(loss.At(low).loss / plan.spacing), a = low;
  while (a < high) {
    const double b = std::clamp(loss.Inverse((index + 1) * plan.spacing), a, high);
    layer.Cell(a, b);
    a = b;
    index += 1;
  }
  // What lies below is moved up: to the loss at the edge.
  const StepLoss::Point edge = loss.At(low);
  layer.Place(edge.loss + edge.slack, -plan.log_mass_below, 1);
  Dots dots = layer.Finish();
  dots.infinite = std::exp(-plan.log_mass_above) * (1 + 1e-9);
  return dots;
}

}  // namespace concordat
