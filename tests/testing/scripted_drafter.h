// A drafter that knows the right answer and proposes what a script makes of it.
#ifndef SIDEWINDER_TESTS_TESTING_SCRIPTED_DRAFTER_H_
#define SIDEWINDER_TESTS_TESTING_SCRIPTED_DRAFTER_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "kernels/common/philox.h"
#include "speculative/drafter.h"

namespace sidewinder::testing {

enum class Script { kRight, kWrong, kAlternating, kEmpty, kRandom };

class ScriptedDrafter final : public Drafter {
 public:
  // `texts`: the plain text, prompt included, of each request by its `sequence` number.
  ScriptedDrafter(Script script, std::map<uint32_t, std::vector<int32_t>> texts)
      : script_(script), texts_(std::move(texts)) {}

  absl::Status Attach(const ControlBlock& control) override {
    control_ = control;
    return absl::OkStatus();
  }
  absl::Status Begin(ExecutionContext&, int32_t, const SlotControl&, const int32_t*) override {
    return absl::OkStatus();
  }
  void Commit(ExecutionContext&) override {}

  void Draft(ExecutionContext&, bool /*sampling*/) override {
    for (int32_t i = 0; i < control_.num_slots; ++i) {
      SlotControl& slot = control_.slots[i];
      if (!slot.active) continue;
      // kRandom also varies how many tokens it proposes, down to none.
      const uint32_t dice = Dice(slot, 1000);
      const int32_t count = script_ == Script::kEmpty ? 0
                            : script_ == Script::kRandom
                                ? static_cast<int32_t>(dice % (slot.draft_limit + 1))
                                : slot.draft_limit;
      for (int32_t k = 0; k < count; ++k) slot.draft[k] = Propose(slot, k);
      slot.num_drafted = count;
    }
  }

 private:
  uint32_t Dice(const SlotControl& slot, int32_t k) const {
    return Philox4x32({{static_cast<uint32_t>(slot.num_tokens), static_cast<uint32_t>(k),
                        slot.sequence, 77}},
                      {{1, 2}})
        .words[0];
  }

  int32_t Propose(const SlotControl& slot, int32_t k) const {
    const std::vector<int32_t>& text = texts_.at(slot.sequence);
    const size_t position = slot.num_tokens + k;
    const int32_t right = position < text.size() ? text[position] : 0;
    const int32_t wrong = (right + 1) % control_.vocab_limit;
    switch (script_) {
      case Script::kRight:
        return right;
      case Script::kWrong:
        return wrong;
      case Script::kAlternating:
        return position % 2 == 0 ? right : wrong;
      default:
        break;
    }
    const uint32_t dice = Dice(slot, k);
    return dice % 4 != 0 ? right : static_cast<int32_t>(dice / 4 % control_.vocab_limit);
  }

  Script script_;
  std::map<uint32_t, std::vector<int32_t>> texts_;
  ControlBlock control_ = {};
};

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_SCRIPTED_DRAFTER_H_
