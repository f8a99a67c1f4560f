// What decoding a set of prompts with one configuration gave, in comparison with plain decoding of
// the same prompts. docs/benchmarking.md has the definitions.
#ifndef SIDEWINDER_APPS_SIDEWINDER_BENCH_MEASUREMENT_H_
#define SIDEWINDER_APPS_SIDEWINDER_BENCH_MEASUREMENT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "apps/sidewinder/bench/statistics.h"
#include "sidewinder/engine.h"

namespace sidewinder::cli {

// Requests that were decoded together, once.
struct BatchRun {
  DecodeStats stats;                 // counts added up, times of the longest
  int64_t rounds = 0;                // of the whole batch; stats.rounds counts each request's own
  std::vector<double> ttft_ms;       // of each request
  std::vector<double> ms_per_token;  // of each request that had a second round

  static BatchRun Of(absl::Span<const GenerateResult> batch);
  Timing timing() const;             // tokens after the first round, and their time
  Timing end_to_end_timing() const;  // all new tokens, from submission to the last
};

// The same batch, several times.
struct BatchSeries {
  std::string category;
  std::vector<BatchRun> repeats;

  BatchRun median() const;  // by decode time; its times as MedianRepeat has them
};

// All batches, or those of a category. Each counts by the median of its repeats.
struct Measurement {
  DecodeStats stats;  // counts added up over the batches, times too
  int64_t batches = 0;
  int64_t rounds = 0;                     // of whole batches
  std::vector<double> tokens_per_second;  // of each batch, all its requests together
  std::vector<double> ttft_ms;            // of each request
  std::vector<double> ms_per_token;
  double repeat_spread = 0;  // Spread() of the batches, the median
  double speedup = 1;        // over plain decoding, of tokens/s after the first round
  std::optional<Interval> speedup_interval;
  double end_to_end_speedup = 1;  // the prompt's time included

  double TokensPerSecond() const { return stats.TokensPerSecond(); }
  double EndToEndTokensPerSecond() const;
  double TokensPerRound() const;  // new tokens of a request over its rounds
  double ProposalsPerRound() const;
  double RequestsPerRound() const;
  double MsPerRound() const;  // rounds after the one that gave the first token
};

// `plain` are the same batches in the same order.
Measurement Measure(absl::Span<const BatchSeries> series, absl::Span<const BatchSeries> plain);

// Those of one category.
std::vector<BatchSeries> OfCategory(absl::Span<const BatchSeries> series,
                                    const std::string& category);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_MEASUREMENT_H_
