// Proposes nothing: plain autoregressive decoding.
#ifndef SIDEWINDER_SPECULATIVE_DRAFTERS_NULL_DRAFTER_H_
#define SIDEWINDER_SPECULATIVE_DRAFTERS_NULL_DRAFTER_H_

#include "speculative/drafter.h"

namespace sidewinder {

class NullDrafter final : public Drafter {
 public:
  bool on_host() const override { return false; }
  absl::Status Attach(const ControlBlock&) override { return absl::OkStatus(); }
  absl::Status Begin(ExecutionContext&, int32_t, const SlotControl&, const int32_t*) override {
    return absl::OkStatus();
  }
  void Draft(ExecutionContext&, bool /*sampling*/) override {}
  void Commit(ExecutionContext&) override {}
};

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_DRAFTERS_NULL_DRAFTER_H_
