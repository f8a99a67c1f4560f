// Whether draws follow a distribution.
#ifndef SIDEWINDER_TESTS_TESTING_CHI_SQUARE_H_
#define SIDEWINDER_TESTS_TESTING_CHI_SQUARE_H_

#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

namespace sidewinder::testing {

// One chance in a million and less for a correct sampler, fixed seeds besides.
inline constexpr double kChiSquareSigmas{6.0};

// Chi-square statistic of counts against probabilities, in standard deviations above its mean.
// Cells with fewer than ten expected draws are pooled; a draw where p = 0 is infinitely bad.
inline double ChiSquareSigmas(const std::vector<int64_t>& counts,
                              const std::vector<double>& probs) {
  const double total =
      static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  double statistic = 0.0, pooled_expected = 0.0, pooled_count = 0.0;
  int cells = 0;
  const auto add = [&](double count, double expected) {
    statistic += (count - expected) * (count - expected) / expected;
    ++cells;
  };
  for (size_t i = 0; i < probs.size(); ++i) {
    const double expected = probs[i] * total;
    if (probs[i] == 0.0 && counts[i] > 0) return std::numeric_limits<double>::infinity();
    if (expected >= 10.0) {
      add(static_cast<double>(counts[i]), expected);
    } else {
      pooled_expected += expected;
      pooled_count += static_cast<double>(counts[i]);
    }
  }
  if (pooled_expected >= 10.0) add(pooled_count, pooled_expected);
  const double freedom = cells - 1;
  return (statistic - freedom) / std::sqrt(2.0 * freedom);
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_CHI_SQUARE_H_
