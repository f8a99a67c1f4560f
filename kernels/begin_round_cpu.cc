#include "kernels/begin_round.h"
#include "kernels/round_rules.h"

namespace sidewinder {
namespace {

// What the last round showed, for all requests.
void Learn(const ControlBlock& control) {
  DraftControl& drafting = *control.drafting;
  ++drafting.rounds;
  for (int32_t i = 0; i < control.num_slots; ++i) {
    const SlotControl& slot = control.slots[i];
    for (int32_t j = 0; j < Smaller(slot.num_drafted, slot.num_accepted + 1); ++j) {
      ++drafting.reached[j];
      drafting.accepted_of_reached[j] += j < slot.num_accepted;
    }
  }
  for (int32_t j = 0; j < kMaxDraft; ++j) ForgetShared(drafting, j);
}

struct Batch {
  int32_t num_active = 0;
  int32_t num_together = 0;
  int32_t catch_up_passes = 0;  // of the slot that needs most
  const RoundCosts* costs = nullptr;
  CommonLength common = {0, 0.0f};
};

class Chooser {
 public:
  explicit Chooser(const BeginRoundParams& params)
      : params_(params), control_(params.control), drafting_(*params.control.drafting) {
    ChooseTogether();
  }

  int32_t Wanted(int32_t i) const {
    SlotControl& slot = control_.slots[i];
    const int32_t max_draft = control_.max_draft;
    if (DecidesAlone(slot)) {
      const RoundCosts& costs = CostsFor(drafting_, control_.num_slots);
      const int32_t length = LengthAlone(slot, costs, max_draft, Passes(i));
      return WithProbes(slot, costs, length, slot.rounds, max_draft, Passes(i));
    }
    int32_t length = batch_.common.length;
    if (batch_.num_together > 1) {
      WalkOwnLengths(slot, drafting_, *batch_.costs, batch_.common.tokens_per_us, max_draft,
                     Passes(i), [&](int32_t k, int32_t own, float) {
                       if (k == batch_.common.length) length = own;
                     });
    }
    return WithProbes(slot, *batch_.costs, length, drafting_.rounds, max_draft, Passes(i));
  }

 private:
  int32_t Passes(int32_t i) const {
    const StateCursor* cursor =
        params_.draft_cursors == nullptr ? nullptr : params_.draft_cursors + i;
    return CatchUpPasses(control_.slots[i], cursor, params_.max_catch_up);
  }

  template <class Visit>
  void ForEachTogether(const Visit& visit) const {
    for (int32_t i = 0; i < control_.num_slots; ++i) {
      if (DecidesTogether(control_.slots[i])) visit(i, control_.slots[i]);
    }
  }

  void ChooseTogether() {
    for (int32_t i = 0; i < control_.num_slots; ++i) {
      batch_.num_active += control_.slots[i].active != 0;
    }
    batch_.costs = &CostsFor(drafting_, batch_.num_active);
    const int32_t max_draft = control_.max_draft;
    TokenSum sums[kMaxDraft + 1] = {};
    ForEachTogether([&](int32_t i, const SlotControl& slot) {
      ++batch_.num_together;
      batch_.catch_up_passes = Larger(batch_.catch_up_passes, Passes(i));
      AddExpectedTokens(slot, drafting_, max_draft,
                        [&](int32_t k, TokenSum tokens) { sums[k] += tokens; });
    });
    batch_.common = BestCommonLength(sums, *batch_.costs, max_draft, batch_.catch_up_passes);
    if (batch_.num_together <= 1) return;
    TokenSum gains[kMaxDraft + 1] = {};
    ForEachTogether([&](int32_t i, const SlotControl& slot) {
      WalkOwnLengths(slot, drafting_, *batch_.costs, batch_.common.tokens_per_us, max_draft,
                     Passes(i),
                     [&](int32_t k, int32_t, float gain) { gains[k] += ToTokenSum(gain); });
    });
    batch_.common.length = BestLongest(gains, *batch_.costs, batch_.common.tokens_per_us,
                                       batch_.num_active, max_draft);
  }

  const BeginRoundParams& params_;
  const ControlBlock& control_;
  const DraftControl& drafting_;
  Batch batch_;
};

}  // namespace

void BeginRoundCpu(ExecutionContext&, const BeginRoundParams& params) {
  const ControlBlock& control = params.control;
  if (control.drafting == nullptr) {
    for (int32_t i = 0; i < control.num_slots; ++i) {
      SlotControl& slot = control.slots[i];
      OpenRound(slot, control.max_draft, slot.draft_tokens);
    }
    return;
  }
  Learn(control);
  const Chooser chooser(params);
  for (int32_t i = 0; i < control.num_slots; ++i) {
    SlotControl& slot = control.slots[i];
    const bool automatic = slot.active && slot.draft_tokens == kAutoDraft;
    OpenRound(slot, control.max_draft, automatic ? chooser.Wanted(i) : slot.draft_tokens);
  }
}

}  // namespace sidewinder
