// Lets a drafter that computes on the host serve a verifier on a GPU: each round the control block
// comes to host memory, the drafter fills in its proposals, and they go back. The round waits for
// it, so it cannot be recorded.
#ifndef SIDEWINDER_SPECULATIVE_DRAFTERS_HOST_BRIDGE_H_
#define SIDEWINDER_SPECULATIVE_DRAFTERS_HOST_BRIDGE_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "speculative/drafter.h"

namespace sidewinder {

class HostBridge final : public Drafter {
 public:
  explicit HostBridge(std::unique_ptr<Drafter> inner) : inner_(std::move(inner)) {}

  bool on_host() const override { return true; }
  absl::Status Attach(const ControlBlock& control) override;
  absl::Status Begin(ExecutionContext& ctx, int32_t slot, const SlotControl& begun,
                     const int32_t* device_tokens) override;
  void Draft(ExecutionContext& ctx, bool sampling) override;
  void Commit(ExecutionContext& ctx) override;
  absl::Status Fork(ExecutionContext& ctx, int32_t from, int32_t to) override {
    return inner_->Fork(ctx, from, to);
  }
  void Release(ExecutionContext& ctx, int32_t slot) override { inner_->Release(ctx, slot); }
  float CostPerProposal() const override { return inner_->CostPerProposal(); }
  DrafterMemory Memory() const override { return inner_->Memory(); }
  int64_t MaxPosition() const override { return inner_->MaxPosition(); }

 private:
  void CopySlotsOut(ExecutionContext& ctx);

  std::unique_ptr<Drafter> inner_;
  ControlBlock control_ = {};       // on the device
  ControlBlock host_control_ = {};  // what the drafter sees
  std::vector<SlotControl> slots_;
  std::vector<std::vector<int32_t>> tokens_;
  std::vector<int32_t> num_known_;  // of tokens_: committed tokens stay what they are
  std::vector<float> draft_probs_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_DRAFTERS_HOST_BRIDGE_H_
