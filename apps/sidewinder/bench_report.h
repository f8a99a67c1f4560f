// What a benchmark measured, and how it is shown.
#ifndef SIDEWINDER_APPS_SIDEWINDER_BENCH_REPORT_H_
#define SIDEWINDER_APPS_SIDEWINDER_BENCH_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/sidewinder/output.h"
#include "sidewinder/engine.h"

namespace sidewinder::cli {

// One number of draft tokens over all prompts. 0 is plain decoding.
struct BenchRow {
  int32_t draft_tokens = 0;
  DecodeStats stats;                      // added up over the prompts
  std::vector<double> tokens_per_second;  // of each prompt
  double floor_tokens_per_second = 0;     // at this acceptance, if weights were all that is read
  std::optional<bool> identical;          // to plain decoding; nullopt: not promised

  double TokensPerSecond() const { return stats.TokensPerSecond(); }
  double MedianTokensPerSecond() const;
  double EndToEndTokensPerSecond() const;  // the prompt's time included
  double MsPerRound() const;               // rounds after the one that gave the first token
};

struct BenchReport {
  std::string machine;
  int threads = 0;
  ModelInfo model;
  std::optional<ModelInfo> draft;
  std::string draft_name;
  std::string prompts_name;
  int64_t num_prompts = 0;
  int32_t max_new_tokens = 0;
  int32_t repeat = 1;
  SamplingParams sampling;
  double read_bandwidth = 0;       // bytes/s over the verifier's weights
  double pair_read_bandwidth = 0;  // bytes/s over the weights of both
  std::vector<BenchRow> rows;      // plain first

  double FloorTokensPerSecond() const;  // of plain decoding
};

// Sets the floor of a row: mean acceptance length over the time that the weights of one round take,
// the verifier's once and the draft's once a proposal.
void SetFloor(const BenchReport& report, BenchRow& row);

OrderedJson BenchJson(const BenchReport& report);
std::string BenchTable(const BenchReport& report);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_REPORT_H_
