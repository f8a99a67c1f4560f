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

// Bytes that one round cannot do without: each pass reads all weights and the recurrent states of
// its sequences, and a round writes the states as often as the checkpoint policy has it. Replay
// logs and activations are left out, so it is a bound.
struct RoundBytes {
  double weights = 0;        // the verifier's
  double draft_weights = 0;  // the draft's, once a proposal
  double states = 0;         // on a GPU alone: a CPU keeps those of a small model in its caches

  double total() const { return weights + draft_weights + states; }
};

// One number of draft tokens over all prompts. 0 is plain decoding. Prompts are decoded in batches.
struct BenchRow {
  int32_t draft_tokens = 0;
  DecodeStats stats;   // counts added up over the prompts, times over the batches
  int64_t passes = 0;  // rounds of whole batches; stats.rounds counts each sequence's own
  std::vector<double> tokens_per_second;  // of each batch, all its sequences together
  RoundBytes round_bytes;
  double floor_tokens_per_second = 0;  // at this acceptance, if round_bytes were all that moves
  std::optional<bool> identical;       // to plain decoding; nullopt: not promised

  // Counts a batch whose sequences began together.
  void AddBatch(const std::vector<GenerateResult>& batch);

  double SequencesPerRound() const;
  double TokensPerSecond() const { return stats.TokensPerSecond(); }
  double MedianTokensPerSecond() const;
  double EndToEndTokensPerSecond() const;  // the prompt's time included
  double MsPerRound() const;               // rounds after the one that gave the first token
};

// Figures of sequences that began together as if they were one: counts added up, times the longest.
DecodeStats BatchStats(const std::vector<GenerateResult>& batch);

struct BenchReport {
  int threads = 0;  // 0: the device has none
  ModelInfo model;
  std::optional<ModelInfo> draft;
  std::string draft_name;
  bool draft_is_retokenized = false;
  std::string prompts_name;
  int64_t num_prompts = 0;
  int32_t max_new_tokens = 0;
  int32_t repeat = 1;
  int32_t batch = 1;
  SamplingParams sampling;
  CheckpointPolicy checkpoint_policy = CheckpointPolicy::kEveryRound;
  double synthetic_acceptance = -1;  // negative: off
  double read_bandwidth = 0;         // bytes/s over the verifier's weights
  double pair_read_bandwidth = 0;    // bytes/s over the weights of both
  std::vector<BenchRow> rows;        // plain first

  bool CountsStates() const { return model.device != "cpu"; }
  // Of a round of `sequences` sequences with so many proposals each.
  RoundBytes BytesPerRound(double sequences, double proposals) const;
  double FloorTokensPerSecond() const;  // of plain decoding, all sequences of a batch together
};

// Sets the floor of a row: the tokens of a round over the time that its bytes take.
void SetFloor(const BenchReport& report, BenchRow& row);

OrderedJson BenchJson(const BenchReport& report);
std::string BenchTable(const BenchReport& report);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_REPORT_H_
