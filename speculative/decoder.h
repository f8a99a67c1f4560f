// The decoding loop's one round: Draft -> Verify -> FirstConflict -> Commit, for all active slots
// at once. Round() only enqueues; what it decides stays in the control block
// (kernels/control_block.h).
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
#include "models/model_runner.h"
#include "sidewinder/engine.h"
#include "speculative/drafter.h"

namespace sidewinder {

struct DecoderOptions {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Drafter> drafter;
  StateStoreOptions state;  // slots and policy; max_rows is filled in
  int32_t max_draft = 4;    // 0..kMaxDraft
  int32_t prefill_chunk = 64;
  bool sampling = true;  // slots may sample: keeps the drafter's distributions
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
  float synthetic_acceptance = -1.0f;  // as SlotControl's; negative: off
};

class Decoder {
 public:
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(DecoderOptions options);

  // Starts a sequence in a free slot: verifier and drafter consume all tokens but the last.
  void Begin(ExecutionContext& ctx, int32_t slot, const SlotRequest& request);

  // The same for a sequence whose state is known: of request.tokens the state has consumed a
  // prefix, and only the rest is evaluated (by the verifier; the drafter starts from nothing).
  absl::Status Resume(ExecutionContext& ctx, int32_t slot, const SlotRequest& request,
                      absl::string_view state, int32_t consumed);
  void ResumeFork(ExecutionContext& ctx, int32_t slot, const SlotRequest& request, int32_t from);

  // One round for all active slots. Only enqueues.
  void Round(ExecutionContext& ctx);

  // Between rounds: cuts the text of a slot to its first `num_tokens` tokens and ends it. Only
  // tokens of the last round can be cut.
  void Truncate(ExecutionContext& ctx, int32_t slot, int32_t num_tokens);

  // Between rounds: the slot takes no part in further rounds; its text and state stay.
  void Stop(int32_t slot) { slots_[slot].active = 0; }

  // Frees a slot.
  void Release(int32_t slot);

  // The verifier's state of a slot: bytes as StateStore::ExportSlot. `consumed` = num_tokens - 1.
  std::string ExportState(ExecutionContext& ctx, int32_t slot);

  const SlotControl& slot(int32_t slot) const { return slots_[slot]; }
  ModelRunner& verifier() { return *verifier_; }
  const ModelRunner& verifier() const { return *verifier_; }
  Drafter& drafter() { return *drafter_; }
  const Drafter& drafter() const { return *drafter_; }

 private:
  Decoder() = default;
  void FillSlot(int32_t slot, const SlotRequest& request);

  std::unique_ptr<ModelRunner> verifier_;
  std::unique_ptr<Drafter> drafter_;
  ControlBlock control_ = {};
  std::vector<SlotControl> slots_;
  std::vector<std::vector<int32_t>> tokens_;
  std::vector<float> draft_probs_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_DECODER_H_
