// The automatic draft length, as plain functions that both backends call. See begin_round.h for
// what is decided and docs/tuning.md for why.
#ifndef SIDEWINDER_KERNELS_DRAFT_LENGTH_H_
#define SIDEWINDER_KERNELS_DRAFT_LENGTH_H_

#include <cstdint>

#include "kernels/common/host_device.h"
#include "kernels/control_block.h"
#include "kernels/row_plan.h"

namespace sidewinder {

// A slot's counts remember about this many proposals of a position: 1 / (1 - kSlotMemory).
inline constexpr float kSlotMemory{0.98f};
// Those of all requests are halved when they reach this.
inline constexpr int32_t kSharedMemory{1024};

// Before anything is known, a proposal is expected to be accepted with this probability, as firmly
// as after so many proposals.
inline constexpr float kFirstAcceptance{0.7f};
inline constexpr float kFirstWeight{4.0f};
// What is known of all requests counts as much as so many proposals of the slot's own.
inline constexpr float kSharedWeight{8.0f};
// A slot whose proposals miss more or less often than those of all requests is expected to do so at
// every position; before that is believed it has to show in this many misses.
inline constexpr float kMissWeight{1.5f};

// Plain decoding needs no proof of being better than drafting, drafting does not either: as long as
// the first proposal may well be this many standard deviations better than it looks, it is made.
inline constexpr float kDoubt{0.75f};

// A text whose drafts do not pay from what all requests showed probes at once, while its drafter
// has nothing to catch up with; for that it may take so much time, in plain rounds.
inline constexpr float kFirstAllowance{0.4f};
// A slot that does not pay probes with one proposal after this many plain rounds, after twice as
// many if that did not change its mind, and so on up to the last.
inline constexpr int32_t kFirstProbeInterval{16};
inline constexpr int32_t kLastProbeInterval{1024};
// The share of a slot's time that probes may take, what the drafter has to catch up for them
// included.
inline constexpr float kProbeShare{0.01f};
// The cost of catching up is worth paying if so many rounds earn it.
inline constexpr float kCatchUpHorizon{32.0f};

// Tokens are summed over slots in units of 2^-16: the sum does not depend on its order.
using TokenSum = int64_t;
inline constexpr float kTokenUnit{65536.0f};

SW_HOST_DEVICE inline TokenSum ToTokenSum(float tokens) {
  return static_cast<TokenSum>(tokens * kTokenUnit);
}
SW_HOST_DEVICE inline float ToTokens(TokenSum sum) { return static_cast<float>(sum) / kTokenUnit; }

struct AcceptanceEstimate {
  float at[kMaxDraft];  // of a position, given that it is reached
  float doubt;          // how much better that of the first may well be
};

// Acceptance that is expected of any slot. `shared` may be null: only what is assumed of all.
SW_HOST_DEVICE inline float SharedAcceptance(const DraftControl* shared, int32_t j) {
  if (shared == nullptr) return kFirstAcceptance;
  const float reached = static_cast<float>(shared->reached[j]);
  const float accepted = static_cast<float>(shared->accepted_of_reached[j]);
  return MultiplyThenAdd(kFirstWeight, kFirstAcceptance, accepted) / (reached + kFirstWeight);
}

// Posterior means: the slot's own counts on top of a prior, which is what is known of all requests
// with misses scaled to the level that the slot has shown over all positions.
SW_HOST_DEVICE inline AcceptanceEstimate EstimateAcceptance(const SlotControl& slot,
                                                            const DraftControl* shared,
                                                            int32_t max_draft) {
  float misses = kMissWeight, expected = kMissWeight;
  AcceptanceEstimate estimate;
  for (int32_t j = 0; j < max_draft; ++j) {
    const float acceptance = SharedAcceptance(shared, j);
    estimate.at[j] = acceptance;
    misses += slot.reached[j] - slot.accepted_of_reached[j];
    expected = MultiplyThenAdd(slot.reached[j], 1.0f - acceptance, expected);
  }
  const float level = misses / expected;
  for (int32_t j = 0; j < max_draft; ++j) {
    const float miss = Smaller(1.0f, level * (1.0f - estimate.at[j]));
    estimate.at[j] = MultiplyThenAdd(kSharedWeight, 1.0f - miss, slot.accepted_of_reached[j]) /
                     (slot.reached[j] + kSharedWeight);
  }
  const float first = estimate.at[0];
  const float variance = first * (1.0f - first) / (slot.reached[0] + kSharedWeight);
  estimate.doubt = kDoubt * SquareRoot(variance);
  return estimate;
}

// Walks over the draft lengths of a slot: tokens() is what a round with `length()` proposals is
// expected to commit, one of the verifier's own included; drafting has the benefit of the doubt.
class ExpectedTokens {
 public:
  SW_HOST_DEVICE explicit ExpectedTokens(const AcceptanceEstimate& estimate)
      : estimate_(estimate) {}
  SW_HOST_DEVICE float tokens() const { return tokens_; }
  SW_HOST_DEVICE int32_t length() const { return length_; }
  SW_HOST_DEVICE void Lengthen() {
    const float acceptance = estimate_.at[length_++];
    if (length_ == 1) tokens_ += estimate_.doubt;
    tokens_ = MultiplyThenAdd(reach_, acceptance, tokens_);
    reach_ *= acceptance;
  }

 private:
  const AcceptanceEstimate& estimate_;
  float reach_ = 1.0f;
  float tokens_ = 1.0f;
  int32_t length_ = 0;
};

// The table for so many active slots: the first that is large enough, else the last.
SW_HOST_DEVICE inline const RoundCosts& CostsFor(const DraftControl& control, int32_t num_slots) {
  int32_t i = 0;
  while (i < control.num_costs - 1 && control.costs[i].num_slots < num_slots) ++i;
  return control.costs[i];
}

// Proposals that fit in front of the end of the text. The verifier adds a token of its own.
SW_HOST_DEVICE inline int32_t DraftRoom(const SlotControl& slot, int32_t max_draft) {
  return Larger(0, Smaller(max_draft, slot.max_tokens - slot.num_tokens - 1));
}

// Whether the slot's text depends on how many tokens it drafts: rejection sampling draws other
// random numbers then. Such a slot must not depend on what else runs, so that a seed gives the same
// text in any batch.
SW_HOST_DEVICE inline bool DecidesAlone(const SlotControl& slot) {
  return slot.temperature > 0.0f && !slot.coupled;
}

// Whether the slot's length is chosen together with that of others.
SW_HOST_DEVICE inline bool DecidesTogether(const SlotControl& slot) {
  return slot.active && slot.draft_tokens == kAutoDraft && !DecidesAlone(slot);
}

// Passes in which the drafter only catches up before it can propose. Each round adds a token.
SW_HOST_DEVICE inline int32_t CatchUpPasses(const SlotControl& slot, const StateCursor* cursor,
                                            int32_t max_catch_up) {
  if (cursor == nullptr) return 0;
  const int32_t unseen = slot.num_tokens - cursor->consumed;
  if (unseen <= max_catch_up) return 0;
  const int32_t gain = Larger(1, max_catch_up - 1);
  return (unseen - max_catch_up + gain - 1) / gain;
}

// A share of the catching up that proposals of a slot need before they can be made, in
// microseconds.
SW_HOST_DEVICE inline float CatchUpTime(const RoundCosts& costs, int32_t catch_up_passes) {
  return static_cast<float>(catch_up_passes) / kCatchUpHorizon * costs.catch_up_us;
}

// Calls add(k, tokens) for each common length k with what the slot is expected to commit.
template <class Add>
SW_HOST_DEVICE inline void AddExpectedTokens(const SlotControl& slot, const DraftControl& control,
                                             int32_t max_draft, const Add& add) {
  const AcceptanceEstimate estimate = EstimateAcceptance(slot, &control, max_draft);
  const int32_t room = DraftRoom(slot, max_draft);
  ExpectedTokens expected(estimate);
  for (int32_t k = 0; k <= max_draft; ++k) {
    add(k, ToTokenSum(expected.tokens()));
    if (k < room) expected.Lengthen();
  }
}

struct CommonLength {
  int32_t length;
  float tokens_per_us;
};

// The length with the most tokens per time if all slots have it; ties to the smaller. `sums` are of
// AddExpectedTokens.
SW_HOST_DEVICE inline CommonLength BestCommonLength(const TokenSum* sums, const RoundCosts& costs,
                                                    int32_t max_draft, int32_t catch_up_passes) {
  CommonLength best = {0, 0.0f};
  const float catch_up_us = CatchUpTime(costs, catch_up_passes);
  for (int32_t k = 0; k <= max_draft; ++k) {
    const float us = k == 0 ? costs.round_us[0] : costs.round_us[k] + catch_up_us;
    const float rate = ToTokens(sums[k]) / us;
    if (rate > best.tokens_per_us) best = {k, rate};
  }
  return best;
}

// In a batch a proposal must bring more than its row takes from all slots: time is worth
// `tokens_per_us`. Calls at(k, length, gain) for each k: the slot's best length up to k, and the
// tokens it brings then beyond the time of its rows.
template <class At>
SW_HOST_DEVICE inline void WalkOwnLengths(const SlotControl& slot, const DraftControl& control,
                                          const RoundCosts& costs, float tokens_per_us,
                                          int32_t max_draft, int32_t catch_up_passes,
                                          const At& at) {
  const AcceptanceEstimate estimate = EstimateAcceptance(slot, &control, max_draft);
  const int32_t room = DraftRoom(slot, max_draft);
  const float catch_up = tokens_per_us * CatchUpTime(costs, catch_up_passes);
  ExpectedTokens expected(estimate);
  int32_t length = 0;
  float gain = 1.0f;
  for (int32_t k = 0; k <= max_draft; ++k) {
    if (k > 0 && k <= room) {
      expected.Lengthen();
      const float price = tokens_per_us * costs.row_us[k];
      const float net =
          MultiplyThenAdd(-price, static_cast<float>(k), expected.tokens()) - catch_up;
      if (net > gain) {
        gain = net;
        length = k;
      }
    }
    at(k, length, gain);
  }
}

// The longest draft of the batch, if slots may draft less. `gains` are sums of WalkOwnLengths at
// the rate `tokens_per_us`; what is left of a round's time is that of the pass and of the drafter.
SW_HOST_DEVICE inline int32_t BestLongest(const TokenSum* gains, const RoundCosts& costs,
                                          float tokens_per_us, int32_t num_slots,
                                          int32_t max_draft) {
  int32_t best = 0;
  float best_gain = 0.0f;
  for (int32_t k = 0; k <= max_draft; ++k) {
    const float rows = static_cast<float>(k * num_slots);
    const float shared_us =
        Larger(costs.round_us[0], MultiplyThenAdd(-rows, costs.row_us[k], costs.round_us[k]));
    const float gain = MultiplyThenAdd(-tokens_per_us, shared_us, ToTokens(gains[k]));
    if (k == 0 || gain > best_gain) {
      best_gain = gain;
      best = k;
    }
  }
  return best;
}

// The length of a slot that decides alone: by its own history and the table of all slots.
SW_HOST_DEVICE inline int32_t LengthAlone(const SlotControl& slot, const RoundCosts& costs,
                                          int32_t max_draft, int32_t catch_up_passes) {
  const AcceptanceEstimate estimate = EstimateAcceptance(slot, nullptr, max_draft);
  ExpectedTokens expected(estimate);
  int32_t best = 0;
  float best_rate = 1.0f / costs.round_us[0];
  for (int32_t room = DraftRoom(slot, max_draft); expected.length() < room;) {
    expected.Lengthen();
    const float us = costs.round_us[expected.length()] + CatchUpTime(costs, catch_up_passes);
    const float rate = expected.tokens() / us;
    if (rate > best_rate) {
      best_rate = rate;
      best = expected.length();
    }
  }
  return best;
}

// What a probe costs, in plain rounds.
SW_HOST_DEVICE inline float ProbeCost(const RoundCosts& costs, int32_t catch_up_passes) {
  const float probe = MultiplyThenAdd(static_cast<float>(catch_up_passes), costs.catch_up_us,
                                      costs.round_us[1] - costs.round_us[0]);
  return Larger(0.0f, probe / costs.round_us[0]);
}

// Turns the length that pays into the one that is wanted: a slot for which none pays looks again
// now and then. `clock` counts rounds; slots that share it probe together.
SW_HOST_DEVICE inline int32_t WithProbes(SlotControl& slot, const RoundCosts& costs, int32_t length,
                                         int32_t clock, int32_t max_draft,
                                         int32_t catch_up_passes) {
  if (length > 0) {
    slot.probing = 0;
    slot.probe_interval = kFirstProbeInterval;
    slot.plain_rounds = 0;
    return length;
  }
  if (DraftRoom(slot, max_draft) == 0) return 0;
  if (!slot.probing) {
    ++slot.plain_rounds;
    slot.probe_allowance += kProbeShare;
    const float cost = ProbeCost(costs, catch_up_passes);
    const bool due = clock % kFirstProbeInterval == 0 && slot.plain_rounds >= slot.probe_interval;
    const bool first = slot.rounds == 0;
    if (!(due || first) || cost > slot.probe_allowance) return 0;
    slot.probe_allowance -= cost;
    slot.probe_interval = Smaller(2 * slot.probe_interval, kLastProbeInterval);
    slot.probing = 1;
  }
  if (catch_up_passes == 0) {  // else this round only catches up
    slot.probing = 0;
    slot.plain_rounds = 0;
  }
  return 1;
}

// After a verdict: the slot's own counts.
SW_HOST_DEVICE inline void CountAcceptance(SlotControl& slot) {
  const int32_t reached = Smaller(slot.num_drafted, slot.num_accepted + 1);
  for (int32_t j = 0; j < reached; ++j) {
    slot.reached[j] = MultiplyThenAdd(kSlotMemory, slot.reached[j], 1.0f);
    slot.accepted_of_reached[j] = MultiplyThenAdd(kSlotMemory, slot.accepted_of_reached[j],
                                                  j < slot.num_accepted ? 1.0f : 0.0f);
  }
}

// The counts of all requests, after the last round's were added.
SW_HOST_DEVICE inline void ForgetShared(DraftControl& control, int32_t j) {
  if (control.reached[j] < kSharedMemory) return;
  control.reached[j] /= 2;
  control.accepted_of_reached[j] /= 2;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_DRAFT_LENGTH_H_
