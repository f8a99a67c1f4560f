// Tuning profiles: what rounds take on one machine for one pair of models, measured by
// `sidewinder tune` and used by the automatic draft length. See docs/tuning.md.
#ifndef SIDEWINDER_TUNING_H_
#define SIDEWINDER_TUNING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "sidewinder/engine.h"
#include "sidewinder/model.h"

namespace sidewinder {

inline constexpr int kTuningProfileVersion{1};

// Repeated measurements: the median, and what 10 % and 90 % of them lie below.
struct MeasuredTime {
  double median = 0;
  double low = 0;
  double high = 0;
};

// What makes two models equally fast.
struct ModelShape {
  std::string family;
  std::string dtype;
  std::string kv_dtype;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t vocab_size = 0;
  int64_t weight_bytes = 0;
  int64_t state_bytes = 0;  // of one sequence

  static ModelShape Of(const ModelInfo& info);
  bool operator==(const ModelShape&) const = default;
  std::string Text() const;  // "mamba2, 12 layers of 320, vocabulary 4096, bfloat16"
};

// A round of `batch` sequences with so many proposals each.
struct RoundMeasurement {
  int32_t batch = 1;
  CheckpointPolicy policy = CheckpointPolicy::kEveryRound;
  int32_t stride = 16;  // kWhenLogFull
  int32_t draft_tokens = 0;
  MeasuredTime us;
};

struct PrefillMeasurement {
  int32_t chunk = 0;
  MeasuredTime us_per_token;
};

// A round of one sequence with so many proposals that replays `rows` rows of the log: none of the
// last round's proposals were accepted, or all.
struct ReplayMeasurement {
  int32_t draft_tokens = 0;
  int32_t rows = 0;
  MeasuredTime us;
};

// A generation whose time the profile's other measurements predict.
struct PredictionCheck {
  int32_t batch = 1;
  int32_t draft_tokens = 0;  // or kAutoDraftTokens
  double acceptance = 0;     // of every proposal, by lot
  bool fitted = false;       // the profile has a measurement with these draft tokens
  double predicted_us = 0;   // per token
  MeasuredTime measured_us;
};

// The policy that is fastest at a batch.
struct PolicyChoice {
  int32_t batch = 1;
  CheckpointPolicy policy = CheckpointPolicy::kEveryRound;
  int32_t stride = 16;
};

struct TuningProfile {
  // For which machine and models it holds.
  std::string device;   // ModelInfo::device_description
  int32_t threads = 0;  // 0: the device has none
  std::string driver;
  ModelShape model;
  std::optional<ModelShape> draft;  // none: proposals cost nothing (prompt lookup, plain decoding)

  std::string date;  // "2025-01-31"
  std::string sidewinder_version;
  std::string model_path, draft_path;  // as they were given
  bool complete = false;               // nothing was left out for lack of time

  double read_bytes_per_second = 0;      // over the weights of the model
  MeasuredTime launch_us;                // one more small op in a round
  MeasuredTime empty_round_us;           // a round of nothing but opening and closing it
  std::vector<RoundMeasurement> verify;  // the model alone: proposals that cost nothing
  std::vector<RoundMeasurement> rounds;  // with the draft
  std::vector<ReplayMeasurement> replay;
  std::vector<PrefillMeasurement> prefill;
  std::vector<PredictionCheck> checks;

  // What won.
  int32_t prefill_chunk = 0;           // 0: not measured
  std::vector<PolicyChoice> policies;  // by batch
};

// JSON text of a profile, and back. Errors name `name`, the field, its value and what is legal.
std::string TuningProfileJson(const TuningProfile& profile);
absl::StatusOr<TuningProfile> ParseTuningProfile(absl::string_view json, const std::string& name);
// The same for a file; it appears whole or not at all.
absl::Status WriteTuningProfile(const std::string& path, const TuningProfile& profile);
absl::StatusOr<TuningProfile> ReadTuningProfile(const std::string& path);

// Where profiles are looked for: $XDG_CACHE_HOME/sidewinder/profiles, or ~/.cache/...; empty if
// neither variable is set.
std::string ProfileFolder();
// The file in it for a model on its device with a draft (may be null).
std::string ProfileFileName(const Model& model, const Model* draft, int num_threads);

// What makes `profile` useless for these models on this machine; empty if nothing does.
std::string WhyUnfit(const TuningProfile& profile, const Model& model, const Model* draft,
                     int num_threads);

// Figures of a device that estimate rounds of any model where no profile fits.
struct DeviceFigures {
  std::string name;  // part of the device's description
  double read_bytes_per_second = 0;
  double layer_us = 0;    // what a layer takes beyond reading its weights
  double row_share = 0;   // one more row, as a share of a pass of one row
  bool measured = false;  // else derived
  std::string origin;     // how
};
absl::Span<const DeviceFigures> BuiltInFigures();

// Times of rounds of a batch, in microseconds.
struct RoundTimes {
  int32_t batch = 1;
  std::vector<double> verify_us;  // [kMaxDraftTokens + 1] by proposals, which cost nothing
  std::vector<double> round_us;   // the same with the draft
};

// What an engine decides by.
struct RoundCostModel {
  std::string source;              // "profile FILE", "built-in figures of H100 ..."
  std::vector<std::string> notes;  // profiles that were found and do not fit, and why
  bool measured = false;
  int32_t prefill_chunk = 0;      // 0: not known
  std::vector<RoundTimes> times;  // by ascending batch, at least one

  // Of the table for so many sequences: the first that is large enough, else the last.
  const RoundTimes& At(int32_t batch) const;

  // Tokens of one sequence that a round commits if position j is accepted with probability
  // rates[j] once reached; the last rate also applies behind.
  static double ExpectedTokens(absl::Span<const double> rates, int32_t draft_tokens);
  // Over plain decoding.
  double SpeedUp(int32_t batch, absl::Span<const double> rates, int32_t draft_tokens) const;
  // The number of draft tokens with the largest, 0..max_draft_tokens.
  int32_t BestDraftTokens(int32_t batch, absl::Span<const double> rates,
                          int32_t max_draft_tokens) const;
  // The acceptance, the same at all positions, from which on so many draft tokens are faster than
  // none; nullopt: none is enough.
  std::optional<double> BreakEven(int32_t batch, int32_t draft_tokens) const;
};

// The model of a profile. Rounds that were not measured lie between those that were.
RoundCostModel CostModelOf(const TuningProfile& profile, CheckpointPolicy policy, int32_t stride);

// The model for an engine with these options: options.tuning_profile if it is given, else the file
// in ProfileFolder() if there is one that fits, else built-in figures. Errors are those of a file
// that was given and cannot be read or does not fit.
absl::StatusOr<RoundCostModel> FindCostModel(const EngineOptions& options);

struct TuneProgress {
  int32_t done = 0;  // measurements
  int32_t total = 0;
  double seconds = 0;            // since the start
  const char* what = "";         // the measurement that is done
  const TuningProfile& profile;  // so far
};

struct TuneOptions {
  std::shared_ptr<const Model> model;
  std::shared_ptr<const Model> draft;  // may be null
  int32_t num_threads = 0;             // 0: one per core
  double time_budget = 300;            // seconds; measurements begin as long as there are any left
  // Measurements that are here already are not taken again; its device and models must fit.
  std::optional<TuningProfile> resume;
  std::string program_version;  // for the profile
  // After each measurement; an error ends tuning and is returned. May be null.
  std::function<absl::Status(const TuneProgress&)> on_progress;
};

// Measures rounds on the device of the model, with the code that generates. What does not fit into
// the device's memory is left out. Without time for all of it the profile says that it is not
// complete; what matters most comes first.
absl::StatusOr<TuningProfile> Tune(const TuneOptions& options);

}  // namespace sidewinder

#endif  // SIDEWINDER_TUNING_H_
