// The decoding loop's one round: Draft -> Verify -> FirstConflict -> Commit, for all active slots
// at once. Round() only enqueues; what it decides stays in the control block
// (kernels/control_block.h) in device memory. Run() and Next() are the loop around it: a GPU runs
// it by itself and tells the host round by round what it did.
#ifndef SIDEWINDER_SPECULATIVE_DECODER_H_
#define SIDEWINDER_SPECULATIVE_DECODER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/common/execution.h"
#include "kernels/control_block.h"
#include "kernels/publish_round.h"
#include "models/model_runner.h"
#include "runtime/device.h"
#include "runtime/recorded_loop.h"
#include "sidewinder/engine.h"
#include "speculative/drafter.h"

namespace sidewinder {

class RoundProfiler;

// What a round consists of, in this order.
enum class RoundPhase : uint8_t { kDraft, kVerify, kJudge, kRollBack, kPublish };

struct DecoderOptions {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Drafter> drafter;
  StateStoreOptions state;  // slots and policy; max_rows is filled in
  int32_t max_draft = 4;    // 0..kMaxDraft
  int32_t prefill_chunk = 64;
  bool sampling = true;  // slots may sample: keeps the drafter's distributions
  // What slots with kAutoDraft decide by (cost_model.h). Empty: nothing is known, and a proposal
  // costs what the drafter says.
  std::vector<RoundCosts> costs;
  // Is told of every round and phase (round_profiler.h); may be null. Rounds are then enqueued one
  // by one.
  RoundProfiler* profiler = nullptr;
};

// A request as a slot sees it.
struct SlotRequest {
  absl::Span<const int32_t> tokens;  // the text so far, at least one token
  int32_t max_tokens = 0;            // > tokens.size()
  int32_t draft_tokens = 0;          // 0..max_draft or kAutoDraft
  std::vector<int32_t> stop_tokens;  // at most kMaxStopTokenCount
  SamplingParams sampling;
  uint32_t sequence = 0;
  bool coupled = false;
  // By position, the last one for those behind, too; empty: off.
  absl::Span<const double> synthetic_acceptance;
};

// Not thread-safe. All calls take place on one stream of the model's device. With the environment
// variable SIDEWINDER_RECORD_ROUNDS=0 a GPU is given one round after the other instead of a loop:
// for sanitizers and profilers that do not see into recorded loops.
class Decoder {
 public:
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(DecoderOptions options);

  // Starts a sequence in a free slot: verifier and drafter consume all tokens but the last.
  absl::Status Begin(Stream& stream, int32_t slot, const SlotRequest& request);

  // The same for a sequence whose state is known: of request.tokens the state has consumed a
  // prefix, and only the rest is evaluated (by the verifier; the drafter starts from nothing).
  absl::Status Resume(Stream& stream, int32_t slot, const SlotRequest& request,
                      absl::string_view state, int32_t consumed);
  absl::Status ResumeFork(Stream& stream, int32_t slot, const SlotRequest& request, int32_t from);

  // One round for all active slots, its record included. Only enqueues.
  void Round(ExecutionContext& ctx);

  // Allows up to `rounds` more rounds, from those on that Next() has delivered. A GPU may run ahead
  // of Next() by as many as the round log holds.
  void Run(int64_t rounds);

  // Waits for the next round and brings slot() up to it. False if there is none: no slot is active,
  // or all rounds that were allowed are done.
  absl::StatusOr<bool> Next(Stream& stream);

  // Lets a running loop end after the round at hand and waits for it; rounds that Next() has not
  // delivered stay. What follows must not be called while a loop runs.
  absl::Status Pause(Stream& stream);

  // Rounds that are done and not yet delivered.
  int64_t pending() const { return *published_host() - collected_; }

  // Between rounds: cuts the text of a slot to its first `num_tokens` tokens and ends it. Only
  // tokens of the round that Next() delivered last can be cut, and the state follows only if no
  // round is pending.
  void Truncate(ExecutionContext& ctx, int32_t slot, int32_t num_tokens);

  // Between rounds: K of the slot from now on, 0..max_draft or kAutoDraft.
  void SetDraftTokens(ExecutionContext& ctx, int32_t slot, int32_t draft_tokens);

  // Between rounds: the slot takes no part in further rounds; its text and state stay.
  void Stop(ExecutionContext& ctx, int32_t slot);

  // Frees a slot.
  void Release(ExecutionContext& ctx, int32_t slot);

  // The verifier's state of a slot: bytes as StateStore::ExportSlot, after all tokens but the last.
  std::string ExportState(ExecutionContext& ctx, int32_t slot);

  // The text of a slot as the device has it: pending rounds included.
  std::vector<int32_t> ReadTokens(ExecutionContext& ctx, int32_t slot);

  // The slot as of the last round that Next() delivered; its tokens are in host memory.
  const SlotControl& slot(int32_t slot) const { return slots_[slot]; }

  ModelRunner& verifier() { return *verifier_; }
  const ModelRunner& verifier() const { return *verifier_; }
  Drafter& drafter() { return *drafter_; }
  const Drafter& drafter() const { return *drafter_; }

 private:
  Decoder() = default;
  absl::Status Allocate(const DecoderOptions& options);
  void WriteCosts(ExecutionContext& ctx, std::vector<RoundCosts> costs);
  absl::Status FillSlot(ExecutionContext& ctx, int32_t slot, const SlotRequest& request);
  void WriteSlot(ExecutionContext& ctx, int32_t slot);
  void EndPhase(RoundPhase phase);
  void EnqueueRound(ExecutionContext& ctx, bool sampling, bool in_loop, uint64_t condition);
  void Deliver();
  absl::Status StartRounds(Stream& stream);
  bool AnyActive() const;
  bool AnySamples() const;
  int64_t* published_host() const { return shared_.as<int64_t>(); }
  int64_t* limit_host() const { return shared_.as<int64_t>() + 1; }

  std::shared_ptr<const Model> model_;
  std::unique_ptr<ModelRunner> verifier_;
  std::unique_ptr<Drafter> drafter_;
  ControlBlock control_ = {};  // in device memory

  // What the host knows of the slots, and their tokens on the host and on the device.
  std::vector<SlotControl> slots_;
  std::vector<std::vector<int32_t>> tokens_;
  std::vector<DeviceMemory> device_tokens_;
  DeviceMemory device_slots_;
  DeviceMemory draft_probs_;
  DeviceMemory drafting_;

  // The round log: `published` and `limit`, then the records.
  DeviceMemory shared_;
  DeviceMemory num_published_;
  RoundLog log_ = {};
  int64_t collected_ = 0;  // rounds delivered
  int64_t target_ = 0;     // rounds allowed

  // The recorded round, for greedy slots alone and for any; empty until it is needed.
  std::unique_ptr<RecordedLoop> loops_[2];
  int64_t recorded_max_position_ = 0;  // of the stores, when they were recorded
  bool loop_running_ = false;
  bool records_rounds_ = true;
  RoundProfiler* profiler_ = nullptr;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_DECODER_H_
