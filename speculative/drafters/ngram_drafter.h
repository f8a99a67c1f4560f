// Prompt lookup: proposes what followed the latest earlier occurrence of the last tokens.
#ifndef SIDEWINDER_SPECULATIVE_DRAFTERS_NGRAM_DRAFTER_H_
#define SIDEWINDER_SPECULATIVE_DRAFTERS_NGRAM_DRAFTER_H_

#include "kernels/ngram_draft.h"
#include "speculative/drafter.h"

namespace sidewinder {

class NgramDrafter final : public Drafter {
 public:
  NgramDrafter(int32_t min_ngram, int32_t max_ngram) : min_(min_ngram), max_(max_ngram) {}

  bool on_host() const override { return false; }
  absl::Status Attach(const ControlBlock& control) override {
    control_ = control;
    return absl::OkStatus();
  }
  absl::Status Begin(ExecutionContext&, int32_t, const SlotControl&, const int32_t*) override {
    return absl::OkStatus();
  }
  void Draft(ExecutionContext& ctx, bool /*sampling*/) override {
    NgramDraft(ctx, {.control = control_, .min_ngram = min_, .max_ngram = max_});
  }
  void Commit(ExecutionContext&) override {}

 private:
  ControlBlock control_ = {};
  int32_t min_;
  int32_t max_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_DRAFTERS_NGRAM_DRAFTER_H_
