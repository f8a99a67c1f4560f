#include "apps/sidewinder/bench/statistics.h"

#include <cmath>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace sidewinder::cli {
namespace {

TEST(StatisticsTest, QuantilesLieBetweenNeighbours) {
  EXPECT_EQ(Quantile({}, 0.5), 0);
  EXPECT_EQ(Quantile({3}, 0.9), 3);
  EXPECT_EQ(Median({4, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 3}), 2.5);
  EXPECT_DOUBLE_EQ(Quantile({10, 20, 30, 40, 50}, 0.1), 14);
  EXPECT_EQ(Quantile({1, 2, 3}, 0), 1);
  EXPECT_EQ(Quantile({1, 2, 3}, 1), 3);
  EXPECT_EQ(Mean({}), 0);
  EXPECT_EQ(Mean({1, 2, 6}), 3);
}

TEST(StatisticsTest, RatioOfNothingIsZero) {
  EXPECT_EQ(Ratio(3, 2), 1.5);
  EXPECT_EQ(Ratio(3, 0), 0);
  EXPECT_EQ(Ratio(3, -1), 0);
}

TEST(StatisticsTest, MedianRepeatAndSpread) {
  const Repeats repeats{{10, 5}, {10, 9}, {10, 4}};
  EXPECT_EQ(MedianRepeat(repeats).ms, 5);
  EXPECT_EQ(MedianRepeat({{10, 5}, {10, 9}, {10, 4}, {10, 6}}).ms, 5.5);
  EXPECT_EQ(Spread(repeats), 1.0);  // (9 - 4) / 5
  EXPECT_EQ(Spread({{10, 5}}), 0);
  EXPECT_EQ(MedianRepeat({}).ms, 0);
}

TEST(StatisticsTest, SpeedUpIsARatioOfRates) {
  // 30 tokens in 15 ms against 30 in 30.
  EXPECT_DOUBLE_EQ(SpeedUp({{{10, 5}}, {{20, 10}}}, {{{10, 10}}, {{20, 20}}}), 2.0);
  // Outliers of repeats do not count.
  EXPECT_DOUBLE_EQ(SpeedUp({{{10, 5}, {10, 500}, {10, 5}}}, {{{10, 10}, {10, 10}, {10, 1}}}), 2.0);
  EXPECT_EQ(SpeedUp({}, {}), 0);
}

TEST(StatisticsTest, NoIntervalOfASingleRun) {
  EXPECT_FALSE(SpeedUpInterval({{{10, 5}}}, {{{10, 10}}}).has_value());
  EXPECT_FALSE(SpeedUpInterval({}, {}).has_value());
}

TEST(StatisticsTest, IntervalOfEqualRunsIsAPoint) {
  const std::vector<Repeats> fast(5, Repeats{{10, 5}, {10, 5}});
  const std::vector<Repeats> slow(5, Repeats{{10, 10}, {10, 10}});
  const auto interval = SpeedUpInterval(fast, slow);
  ASSERT_TRUE(interval.has_value());
  EXPECT_DOUBLE_EQ(interval->low, 2);
  EXPECT_DOUBLE_EQ(interval->high, 2);
}

TEST(StatisticsTest, IntervalIsTheSameInEveryRun) {
  const std::vector<Repeats> fast{{{10, 4}}, {{10, 6}}, {{10, 5}}};
  const std::vector<Repeats> slow{{{10, 9}}, {{10, 12}}, {{10, 10}}};
  const auto first = SpeedUpInterval(fast, slow);
  const auto second = SpeedUpInterval(fast, slow);
  EXPECT_EQ(first->low, second->low);
  EXPECT_EQ(first->high, second->high);
  EXPECT_LT(first->low, SpeedUp(fast, slow));
  EXPECT_GT(first->high, SpeedUp(fast, slow));
}

// Of experiments whose true speed-up is known, some 95 % have it in their interval.
TEST(StatisticsTest, IntervalCoversTheTruth) {
  constexpr int kExperiments{200};
  constexpr int kPrompts{40};
  constexpr double kTruth{1.5};
  std::mt19937_64 random(7);
  std::normal_distribution<double> noise(0, 0.2);
  int covered = 0;
  for (int e = 0; e < kExperiments; ++e) {
    std::vector<Repeats> fast, slow;
    for (int i = 0; i < kPrompts; ++i) {
      slow.push_back({{100, 100 * (1 + 0.1 * noise(random))}});
      fast.push_back({{100, 100 / kTruth * (1 + noise(random))}});
    }
    const auto interval = SpeedUpInterval(fast, slow);
    covered += interval->low <= kTruth && kTruth <= interval->high;
  }
  // Binomial: a standard deviation is 1.5 %; a percentile bootstrap of 40 is a little too narrow.
  EXPECT_GE(covered, kExperiments * 0.89);
  EXPECT_LE(covered, kExperiments * 0.99);
}

}  // namespace
}  // namespace sidewinder::cli
