#include "apps/sidewinder/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace sidewinder::cli {
namespace {

constexpr int kResamples{2000};
constexpr uint64_t kSeed{20240607};

// Unbiased enough for so few values, and the same with every standard library.
size_t Draw(std::mt19937_64& random, size_t count) { return random() % count; }

Timing MedianOfResample(const Repeats& repeats, std::mt19937_64& random) {
  if (repeats.size() == 1) return repeats.front();
  Repeats drawn;
  drawn.reserve(repeats.size());
  for (size_t i = 0; i < repeats.size(); ++i)
    drawn.push_back(repeats[Draw(random, repeats.size())]);
  return MedianRepeat(std::move(drawn));
}

void Add(const Timing& timing, Timing& total) {
  total.tokens += timing.tokens;
  total.ms += timing.ms;
}

double RatioOfRates(const Timing& fast, const Timing& slow) {
  return Ratio(Ratio(fast.tokens, fast.ms), Ratio(slow.tokens, slow.ms));
}

}  // namespace

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

double Median(std::vector<double> values) { return Quantile(std::move(values), 0.5); }

double Mean(absl::Span<const double> values) {
  return Ratio(std::accumulate(values.begin(), values.end(), 0.0),
               static_cast<double>(values.size()));
}

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

Timing MedianRepeat(Repeats repeats) {
  if (repeats.empty()) return {};
  std::sort(repeats.begin(), repeats.end(),
            [](const Timing& a, const Timing& b) { return a.ms < b.ms; });
  const Timing& low = repeats[(repeats.size() - 1) / 2];
  const Timing& high = repeats[repeats.size() / 2];
  return {(low.tokens + high.tokens) / 2, (low.ms + high.ms) / 2};
}

double Spread(const Repeats& repeats) {
  if (repeats.size() < 2) return 0;
  const auto [low, high] = std::minmax_element(
      repeats.begin(), repeats.end(), [](const Timing& a, const Timing& b) { return a.ms < b.ms; });
  return Ratio(high->ms - low->ms, MedianRepeat(repeats).ms);
}

double SpeedUp(absl::Span<const Repeats> fast, absl::Span<const Repeats> slow) {
  Timing fast_total, slow_total;
  for (const Repeats& repeats : fast) Add(MedianRepeat(repeats), fast_total);
  for (const Repeats& repeats : slow) Add(MedianRepeat(repeats), slow_total);
  return RatioOfRates(fast_total, slow_total);
}

std::optional<Interval> SpeedUpInterval(absl::Span<const Repeats> fast,
                                        absl::Span<const Repeats> slow) {
  const size_t count = std::min(fast.size(), slow.size());
  if (count == 0 || (count == 1 && fast[0].size() == 1 && slow[0].size() == 1)) return std::nullopt;
  std::mt19937_64 random(kSeed);
  std::vector<double> ratios;
  ratios.reserve(kResamples);
  for (int r = 0; r < kResamples; ++r) {
    Timing fast_total, slow_total;
    for (size_t i = 0; i < count; ++i) {
      const size_t prompt = Draw(random, count);
      Add(MedianOfResample(fast[prompt], random), fast_total);
      Add(MedianOfResample(slow[prompt], random), slow_total);
    }
    ratios.push_back(RatioOfRates(fast_total, slow_total));
  }
  return Interval{Quantile(ratios, 0.025), Quantile(ratios, 0.975)};
}

}  // namespace sidewinder::cli
