// Statistics of repeated measurements.
#ifndef SIDEWINDER_APPS_SIDEWINDER_BENCH_STATISTICS_H_
#define SIDEWINDER_APPS_SIDEWINDER_BENCH_STATISTICS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"

namespace sidewinder::cli {

// The q-quantile, 0 <= q <= 1, between the two nearest values in proportion (as numpy has it by
// default); 0 if there are none.
double Quantile(std::vector<double> values, double q);
double Median(std::vector<double> values);
double Mean(absl::Span<const double> values);

// a / b, or 0 if b is not positive.
double Ratio(double a, double b);

// Tokens that took some time.
struct Timing {
  double tokens = 0;
  double ms = 0;
};

// The same work done several times.
using Repeats = std::vector<Timing>;

// The repeat that counts: the median by time; of an even number the mean of the two in the middle.
Timing MedianRepeat(Repeats repeats);
// Longest minus shortest time, over the median: how far the machine moves. 0 for one repeat.
double Spread(const Repeats& repeats);

// Tokens per second of `fast` over those of `slow`; each entry is a prompt (or a batch of them)
// and the median of its repeats counts. 0 if nothing was measured.
double SpeedUp(absl::Span<const Repeats> fast, absl::Span<const Repeats> slow);

struct Interval {
  double low = 0;
  double high = 0;
};

// 95 % confidence interval of the speed-up by bootstrap: draws as many prompts as there are with
// replacement, the same for both, and for each of them repeats with replacement; the interval is
// what 95 % of the ratios lie in. The same in every run. Nullopt if there is one prompt with one
// repeat: nothing is known of the spread then.
std::optional<Interval> SpeedUpInterval(absl::Span<const Repeats> fast,
                                        absl::Span<const Repeats> slow);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_STATISTICS_H_
