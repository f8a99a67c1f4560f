#include "speculative/drafters/host_bridge.h"

#include <algorithm>

#include "kernels/common/copy.h"

namespace sidewinder {

absl::Status HostBridge::Attach(const ControlBlock& control) {
  control_ = control;
  slots_.resize(control.num_slots);
  tokens_.resize(control.num_slots);
  num_known_.resize(control.num_slots);
  if (control.draft_probs != nullptr) {
    draft_probs_.resize(int64_t{control.num_slots} * control.max_draft * control.vocab_size);
  }
  host_control_ = control;
  host_control_.slots = slots_.data();
  host_control_.draft_probs = draft_probs_.data();
  return inner_->Attach(host_control_);
}

void HostBridge::CopySlotsOut(ExecutionContext& ctx) {
  CopyOut(ctx, slots_.data(), control_.slots, slots_.size() * sizeof(SlotControl));
  for (size_t i = 0; i < slots_.size(); ++i) {
    const int32_t* device_tokens = slots_[i].tokens;
    tokens_[i].resize(slots_[i].max_tokens);
    slots_[i].tokens = tokens_[i].data();
    const int32_t num_tokens = slots_[i].num_tokens;
    const int32_t known = std::min(num_known_[i], num_tokens);
    num_known_[i] = num_tokens;
    if (known == num_tokens) continue;
    CopyOut(ctx, tokens_[i].data() + known, device_tokens + known,
            (num_tokens - known) * sizeof(int32_t));
  }
}

absl::Status HostBridge::Begin(ExecutionContext& ctx, int32_t slot, const SlotControl& begun,
                               const int32_t*) {
  num_known_[slot] = 0;
  CopySlotsOut(ctx);
  return inner_->Begin(ctx, slot, begun, begun.tokens);
}

void HostBridge::Draft(ExecutionContext& ctx, bool sampling) {
  CopySlotsOut(ctx);
  inner_->Draft(ctx, sampling);
  for (size_t i = 0; i < slots_.size(); ++i) {
    const SlotControl& from = slots_[i];
    if (from.num_drafted == 0) continue;
    SlotControl* const to = control_.slots + i;
    CopyIn(ctx, to->draft, from.draft, sizeof(from.draft));
    CopyIn(ctx, &to->num_drafted, &from.num_drafted, sizeof(from.num_drafted));
    CopyIn(ctx, &to->draft_is_sampled, &from.draft_is_sampled, sizeof(from.draft_is_sampled));
    if (!from.draft_is_sampled) continue;
    const int64_t first = static_cast<int64_t>(i) * control_.max_draft * control_.vocab_size;
    CopyIn(ctx, control_.draft_probs + first, draft_probs_.data() + first,
           int64_t{from.num_drafted} * control_.vocab_size * sizeof(float));
  }
}

void HostBridge::Commit(ExecutionContext& ctx) {
  CopySlotsOut(ctx);
  inner_->Commit(ctx);
}

}  // namespace sidewinder
