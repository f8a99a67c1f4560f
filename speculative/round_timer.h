// Times rounds of a decoder as they are in a generation: on a GPU in a recorded loop, without the
// host.
#ifndef SIDEWINDER_SPECULATIVE_ROUND_TIMER_H_
#define SIDEWINDER_SPECULATIVE_ROUND_TIMER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/device.h"
#include "sidewinder/tuning.h"
#include "speculative/decoder.h"

namespace sidewinder {

// Median, 10 % and 90 % quantile; zeros if there are none.
MeasuredTime MeasuredTimeOf(std::vector<double> values);

// Fewer samples say nothing, more do not fit any budget.
inline constexpr int32_t kMinSamples{3};
inline constexpr int32_t kMaxSamples{100};

struct RoundTimerOptions {
  std::shared_ptr<const Model> model;
  std::shared_ptr<const Model> draft;  // may be null: proposals that cost next to nothing
  int32_t num_threads = 0;
  int32_t batch = 1;
  CheckpointPolicy policy = CheckpointPolicy::kEveryRound;
  int32_t stride = 16;
  int32_t max_draft = 8;
  int32_t prefill_chunk = 64;
  std::vector<RoundCosts> costs;  // for kAutoDraft
};

class RoundTimer {
 public:
  // ResourceExhausted: such a batch does not fit.
  static absl::StatusOr<std::unique_ptr<RoundTimer>> Create(const RoundTimerOptions& options);

  struct Sample {
    double round_us = 0;
    double token_us = 0;  // of one sequence
  };

  // One sample of rounds for each number of proposals (or kAutoDraft), in order; each proposal is
  // accepted with this probability, by lot. The first call for a number finds out how many rounds
  // make a sample.
  absl::StatusOr<std::vector<Sample>> InTurn(absl::Span<const int32_t> draft_tokens,
                                             double acceptance);

  // Samples for about `seconds`, at least a few.
  struct Result {
    MeasuredTime round_us;
    MeasuredTime token_us;
  };
  absl::StatusOr<Result> Rounds(int32_t draft_tokens, double acceptance, double seconds);

  // Microseconds a token of evaluating a prompt of `tokens` tokens, by the model alone.
  absl::StatusOr<MeasuredTime> Prefill(int32_t tokens, double seconds);

 private:
  explicit RoundTimer(RoundTimerOptions options) : options_(std::move(options)) {}
  absl::Status Calibrate(int32_t draft_tokens, double acceptance);
  absl::Status BeginAll(double acceptance, int64_t tokens);
  void SetDraftTokens(int32_t draft_tokens);
  void ReleaseAll();
  int64_t TokensSoFar() const;
  absl::StatusOr<double> TimeRounds(int64_t rounds);  // microseconds of all of them

  RoundTimerOptions options_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Decoder> decoder_;
  std::map<int32_t, int64_t> sample_rounds_;  // by draft tokens
  uint32_t next_sequence_ = 0;
};

// What one more small op in a round takes, and a round that only opens and closes. On a CPU an op
// is a parallel region.
struct LaunchCosts {
  MeasuredTime op_us;
  MeasuredTime empty_round_us;
};
absl::StatusOr<LaunchCosts> MeasureLaunchCosts(const Device& device, int32_t num_threads);

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_ROUND_TIMER_H_
