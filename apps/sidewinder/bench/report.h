// What a benchmark measured: facts about the run, and for each setting the configurations that were
// compared in it.
#ifndef SIDEWINDER_APPS_SIDEWINDER_BENCH_REPORT_H_
#define SIDEWINDER_APPS_SIDEWINDER_BENCH_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "apps/sidewinder/bench/cost_model.h"
#include "apps/sidewinder/bench/measurement.h"
#include "apps/sidewinder/bench/sweep.h"
#include "apps/sidewinder/output.h"
#include "apps/sidewinder/synthetic_acceptance.h"
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

// Bytes that one round did move, as far as they are counted: states and log rows of the verifier
// by what its passes did, those of the draft by its rule. Activations are left out.
struct MovedBytes {
  double weights = 0;
  double draft_weights = 0;
  double states_read = 0;
  double states_written = 0;  // checkpoints, or snapshots
  double log_read = 0;
  double log_written = 0;
  double draft_states = 0;

  double total() const {
    return weights + draft_weights + states_read + states_written + log_read + log_written +
           draft_states;
  }
};

// What proposes.
struct DraftReport {
  std::string name;                // as given
  std::optional<ModelInfo> model;  // nullopt: ngram
  double pair_bandwidth = 0;       // bytes/s over the weights of verifier and draft
  bool is_retokenized = false;     // another vocabulary: proposals go through text
};

struct ConfigReport {
  int32_t draft = -1;        // index into BenchReport::drafts; -1: plain decoding
  int32_t draft_tokens = 0;  // 0: plain decoding
  Measurement all;
  std::vector<std::pair<std::string, Measurement>> by_category;  // empty unless there are several
  std::optional<bool> identical;        // to plain decoding; nullopt: not promised
  EngineMemory memory;                  // per request
  std::optional<RoundProfile> profile;  // of a pass of its own; nullopt: not wanted
  RoundBytes floor_bytes;               // per round
  double floor_tokens_per_second = 0;   // at this acceptance, if floor_bytes were all that moves
  std::optional<MovedBytes> moved;      // per round; with a profile

  bool is_plain() const { return draft_tokens == 0; }
  double FractionOfFloor() const { return Ratio(all.TokensPerSecond(), floor_tokens_per_second); }
};

struct SettingReport {
  Setting setting;
  int64_t num_prompts = 0;            // those that come again to fill a batch included
  int64_t num_requests = 0;           // turns
  std::vector<ConfigReport> configs;  // plain first
};

struct BenchReport {
  std::string command;
  std::string date;  // when it was measured
  int threads = 0;   // 0: the device has none
  ModelInfo model;
  bool chat_template = false;  // applied to the prompts
  Sweep sweep;
  std::vector<DraftReport> drafts;
  std::string prompts_name;
  int32_t max_new_tokens = 0;
  int32_t repeat = 1;
  SamplingParams sampling;  // without the temperature
  SyntheticAcceptance synthetic;
  double read_bandwidth = 0;  // bytes/s over the verifier's weights
  std::vector<SettingReport> settings;
  bool interrupted = false;  // fewer prompts than asked for, or fewer settings
  std::string difference;    // the first one from plain decoding, where none must be; "": none

  bool CountsStates() const { return model.device != "cpu"; }
};

// Fills in floor_bytes, floor_tokens_per_second and moved of a measured configuration.
void CountBytes(const BenchReport& report, const Setting& setting, ConfigReport& config);

// Of plain decoding, all requests of a batch together.
double PlainFloor(const BenchReport& report, const Setting& setting);

// The rounds of one draft in a setting; nullopt: too few numbers of draft tokens.
std::optional<CostModel> CostModelOf(const SettingReport& setting, int32_t draft);

// "plain", "4", "auto"; with several drafts "ngram 4".
std::string ConfigName(const BenchReport& report, const ConfigReport& config);
std::string DraftTokensText(int32_t draft_tokens);
// The last part of a path.
std::string ShortName(const std::string& path);
// "greedy", "temperature 0.7, top-k 0, ...".
std::string MethodText(const BenchReport& report, const Setting& setting);
std::string ModelText(const ModelInfo& info);
// Prompts, tokens, repeats of a setting in one line.
std::string RunText(const BenchReport& report, const SettingReport& setting);

OrderedJson BenchJson(const BenchReport& report);
std::string BenchTable(const BenchReport& report);
// RFC 4180, with a header; a line for each configuration and category, "all" first.
std::string BenchCsv(const BenchReport& report);
// One page that needs nothing else.
std::string BenchHtml(const BenchReport& report);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_REPORT_H_
