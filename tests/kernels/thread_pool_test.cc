#include "kernels/common/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace sidewinder {
namespace {

struct Range {
  int64_t begin, end;
  int thread_idx;
  bool operator==(const Range&) const = default;
};

std::vector<Range> RangesOf(ThreadPool& pool, int64_t n, int64_t grain, int64_t lead = 0) {
  std::vector<Range> ranges(pool.num_threads(), Range{-1, -1, -1});
  pool.ParallelFor(
      n, grain,
      [&](int64_t begin, int64_t end, int thread_idx) {
        ranges[thread_idx] = {begin, end, thread_idx};
      },
      lead);
  std::erase_if(ranges, [](const Range& range) { return range.thread_idx < 0; });
  return ranges;
}

TEST(ThreadPoolTest, RangesCoverEverythingOnceAndStartAtMultiplesOfGrain) {
  for (int threads : {1, 2, 3, 5, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (int64_t n : {0, 1, 2, 3, 7, 8, 31, 1000}) {
      for (int64_t grain : {0, 1, 3, 8, 999, 5000}) {
        std::vector<std::atomic<int>> hits(n);
        pool.ParallelFor(n, grain, [&](int64_t begin, int64_t end, int thread_idx) {
          EXPECT_LT(begin, end);
          EXPECT_EQ(begin % std::max<int64_t>(grain, 1), 0);
          EXPECT_GE(thread_idx, 0);
          EXPECT_LT(thread_idx, threads);
          for (int64_t i = begin; i < end; ++i) ++hits[i];
        });
        for (const std::atomic<int>& hit : hits) ASSERT_EQ(hit, 1);
      }
    }
  }
}

TEST(ThreadPoolTest, RangesDependOnTheArgumentsAlone) {
  ThreadPool a(3), b(3);
  // 25 pieces of 4: nine for the caller, eight for each worker.
  const std::vector<Range> expected = {{0, 36, 0}, {36, 68, 1}, {68, 100, 2}};
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(RangesOf(a, 100, 4), expected);
    EXPECT_EQ(RangesOf(b, 100, 4), expected);
  }
}

TEST(ThreadPoolTest, LeadGoesToTheCaller) {
  ThreadPool pool(3);
  // Four pieces of 25 are the caller's lead, the other 21 are shared.
  const std::vector<Range> expected = {{0, 44, 0}, {44, 72, 1}, {72, 100, 2}};
  EXPECT_EQ(RangesOf(pool, 100, 4, 16), expected);
  const std::vector<Range> one_worker = {{0, 15, 0}, {15, 16, 1}};
  EXPECT_EQ(RangesOf(pool, 16, 1, 14), one_worker);
  const std::vector<Range> inline_range = {{0, 16, 0}};
  EXPECT_EQ(RangesOf(pool, 16, 1, 15), inline_range);
  EXPECT_EQ(RangesOf(pool, 16, 1, 1000), inline_range);
}

TEST(ThreadPoolTest, OneRangeRunsInline) {
  ThreadPool pool(4);
  const std::thread::id caller = std::this_thread::get_id();
  pool.ParallelFor(16, 16, [&](int64_t begin, int64_t end, int thread_idx) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(begin, 0);
    EXPECT_EQ(end, 16);
    EXPECT_EQ(thread_idx, 0);
  });
}

TEST(ThreadPoolTest, ManyRegionsWithMoreThreadsThanCores) {
  ThreadPool pool(16);
  int64_t total = 0;
  std::vector<int64_t> sums(16 * 16);
  for (int region = 0; region < 500; ++region) {
    pool.ParallelFor(16, 1, [&](int64_t begin, int64_t end, int thread_idx) {
      for (int64_t i = begin; i < end; ++i) sums[thread_idx * 16] += i;
    });
  }
  for (int64_t sum : sums) total += sum;
  EXPECT_EQ(total, 500 * 120);
}

TEST(ThreadPoolTest, WakesSleepersAndAlternatesWidths) {
  ThreadPool pool(4);
  std::atomic<int64_t> total = 0;
  for (int region = 0; region < 60; ++region) {
    if (region % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    pool.ParallelFor(region % 5, 1, [&](int64_t begin, int64_t end, int) { total += end - begin; });
  }
  EXPECT_EQ(total, 12 * (0 + 1 + 2 + 3 + 4));
}

TEST(ThreadPoolTest, PoolsOfSeveralCallersDoNotDisturbEachOther) {
  std::vector<std::thread> callers;
  std::vector<int64_t> totals(3);
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&, c] {
      ThreadPool pool(3);
      std::atomic<int64_t> total = 0;
      for (int region = 0; region < 300; ++region) {
        pool.ParallelFor(9, 1, [&](int64_t begin, int64_t end, int) { total += end - begin; });
      }
      totals[c] = total;
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(totals, std::vector<int64_t>(3, 2700));
}

TEST(ThreadPoolTest, ZeroThreadsMeansOnePerCore) {
  ThreadPool pool(0);
  EXPECT_GE(pool.num_threads(), 1);
  EXPECT_LE(pool.num_threads(),
            static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
}

}  // namespace
}  // namespace sidewinder
