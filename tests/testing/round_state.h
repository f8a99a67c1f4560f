// Everything the ops of a round read and write, in host memory and on a GPU, so that a test can run
// an op on both and compare what is left field by field.
#ifndef SIDEWINDER_TESTS_TESTING_ROUND_STATE_H_
#define SIDEWINDER_TESTS_TESTING_ROUND_STATE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/control_block.h"
#include "kernels/plan_rows.h"
#include "kernels/row_plan.h"
#include "tests/testing/cuda_backend.h"

namespace sidewinder::testing {

struct RoundShape {
  int32_t num_slots;
  int32_t max_draft = kMaxDraft;
  int32_t max_tokens = 96;     // room of a slot's text
  int32_t rows_per_slot = 24;  // room of the plan
  int32_t vocab_size = 64;
  int32_t vocab_limit = 61;
  bool draft_probs = false;
  bool temperatures = false;  // some slots sample
};

// The host's side. Copies own their arrays: pointers are set when control() and plan() are called.
struct RoundState {
  explicit RoundState(const RoundShape& s)
      : shape(s),
        slots(s.num_slots),
        tokens(int64_t{s.num_slots} * s.max_tokens, -1),
        draft_probs(s.draft_probs ? int64_t{s.num_slots} * s.max_draft * s.vocab_size : 0),
        drafting(1),
        cursors(s.num_slots),
        counts(3),
        plan_tokens(int64_t{s.num_slots} * s.rows_per_slot, -1),
        sequences(s.num_slots),
        logit_rows(int64_t{s.num_slots} * s.rows_per_slot, -1) {
    std::memset(static_cast<void*>(slots.data()), 0, slots.size() * sizeof(SlotControl));
    for (SlotControl& slot : slots) {
      slot.max_tokens = s.max_tokens;
      slot.top_p = 1.0f;
      slot.synthetic_acceptance[0] = -1.0f;
    }
  }

  ControlBlock control() {
    for (int32_t i = 0; i < shape.num_slots; ++i) {
      slots[i].tokens = tokens.data() + int64_t{i} * shape.max_tokens;
    }
    return Control(slots.data(), draft_probs.data(), drafting.data());
  }
  RowPlan plan() {
    return Plan(counts.data(), plan_tokens.data(), sequences.data(), logit_rows.data());
  }

  ControlBlock Control(SlotControl* slots_at, float* draft_probs_at,
                       DraftControl* drafting_at) const {
    return {.slots = slots_at,
            .draft_probs = shape.draft_probs ? draft_probs_at : nullptr,
            .drafting = drafting_at,
            .num_slots = shape.num_slots,
            .max_draft = shape.max_draft,
            .vocab_size = shape.vocab_size,
            .vocab_limit = shape.vocab_limit};
  }
  RowPlan Plan(int32_t* counts_at, int32_t* tokens_at, SequenceRows* sequences_at,
               int32_t* logit_rows_at) const {
    return {.num_rows = counts_at,
            .num_sequences = counts_at + 1,
            .num_logit_rows = counts_at + 2,
            .tokens = tokens_at,
            .sequences = sequences_at,
            .logit_rows = logit_rows_at,
            .max_rows = shape.num_slots * shape.rows_per_slot,
            .max_sequences = shape.num_slots};
  }

  RoundShape shape;
  std::vector<SlotControl> slots;
  std::vector<int32_t> tokens;
  std::vector<float> draft_probs;
  std::vector<DraftControl> drafting;  // one
  std::vector<StateCursor> cursors;
  std::vector<int32_t> counts;
  std::vector<int32_t> plan_tokens;
  std::vector<SequenceRows> sequences;
  std::vector<int32_t> logit_rows;
};

// A copy of it on the GPU.
class DeviceRound {
 public:
  DeviceRound(Stream& stream, const Device& device, const RoundState& state)
      : host_(state),
        tokens_(stream, device, state.tokens, false),
        slots_(stream, device, SlotsOnDevice(state), false),
        draft_probs_(stream, device, state.draft_probs, false),
        drafting_(stream, device, state.drafting, false),
        cursors_(stream, device, state.cursors, false),
        counts_(stream, device, state.counts, false),
        plan_tokens_(stream, device, state.plan_tokens, false),
        sequences_(stream, device, state.sequences, false),
        logit_rows_(stream, device, state.logit_rows, false) {}

  ControlBlock control() const {
    return host_.Control(slots_.data(), draft_probs_.data(), drafting_.data());
  }
  RowPlan plan() const {
    return host_.Plan(counts_.data(), plan_tokens_.data(), sequences_.data(), logit_rows_.data());
  }
  StateCursor* cursors() const { return cursors_.data(); }

  // Waits. Nothing may have been written around the arrays.
  RoundState Download() const {
    RoundState state = host_;
    state.slots = slots_.Download();
    state.tokens = tokens_.Download();
    state.draft_probs = draft_probs_.Download();
    state.drafting = drafting_.Download();
    state.cursors = cursors_.Download();
    state.counts = counts_.Download();
    state.plan_tokens = plan_tokens_.Download();
    state.sequences = sequences_.Download();
    state.logit_rows = logit_rows_.Download();
    EXPECT_TRUE(slots_.Intact() && tokens_.Intact() && draft_probs_.Intact() && cursors_.Intact());
    EXPECT_TRUE(counts_.Intact() && plan_tokens_.Intact() && sequences_.Intact() &&
                logit_rows_.Intact());
    return state;
  }

 private:
  std::vector<SlotControl> SlotsOnDevice(const RoundState& state) const {
    std::vector<SlotControl> slots = state.slots;
    for (size_t i = 0; i < slots.size(); ++i) {
      slots[i].tokens = tokens_.data() + i * state.shape.max_tokens;
    }
    return slots;
  }

  RoundState host_;
  DeviceArray<int32_t> tokens_;
  DeviceArray<SlotControl> slots_;
  DeviceArray<float> draft_probs_;
  DeviceArray<DraftControl> drafting_;
  DeviceArray<StateCursor> cursors_;
  DeviceArray<int32_t> counts_;
  DeviceArray<int32_t> plan_tokens_;
  DeviceArray<SequenceRows> sequences_;
  DeviceArray<int32_t> logit_rows_;
};

// The bytes of the slot but for the address of its text.
inline bool SameSlot(SlotControl a, SlotControl b) {
  a.tokens = b.tokens = nullptr;
  return std::memcmp(static_cast<const void*>(&a), static_cast<const void*>(&b), sizeof(a)) == 0;
}

// Names the first 32-bit word in which the slots differ.
inline std::string DescribeDifference(const SlotControl& a, const SlotControl& b) {
  uint32_t words_a[sizeof(SlotControl) / 4], words_b[sizeof(SlotControl) / 4];
  std::memcpy(words_a, &a, sizeof(a));
  std::memcpy(words_b, &b, sizeof(b));
  for (size_t w = sizeof(a.tokens) / 4; w < sizeof(SlotControl) / 4; ++w) {
    if (words_a[w] != words_b[w]) {
      return "byte " + std::to_string(4 * w) + ": " + std::to_string(words_a[w]) + ", expected " +
             std::to_string(words_b[w]);
    }
  }
  return "no difference";
}

// Every field of everything but draft_probs is the same.
inline void ExpectSameRound(const RoundState& actual, const RoundState& expected) {
  for (size_t i = 0; i < expected.slots.size(); ++i) {
    ASSERT_TRUE(SameSlot(actual.slots[i], expected.slots[i]))
        << "slot " << i << " " << DescribeDifference(actual.slots[i], expected.slots[i]);
    ASSERT_EQ(actual.cursors[i].checkpoint, expected.cursors[i].checkpoint) << "slot " << i;
    ASSERT_EQ(actual.cursors[i].consumed, expected.cursors[i].consumed) << "slot " << i;
    ASSERT_EQ(std::memcmp(&actual.sequences[i], &expected.sequences[i], sizeof(SequenceRows)), 0)
        << "sequence " << i;
  }
  ASSERT_EQ(std::memcmp(actual.drafting.data(), expected.drafting.data(), sizeof(DraftControl)), 0);
  ASSERT_EQ(actual.counts, expected.counts);
  ASSERT_EQ(actual.tokens, expected.tokens);
  ASSERT_EQ(actual.plan_tokens, expected.plan_tokens);
  ASSERT_EQ(actual.logit_rows, expected.logit_rows);
}

// Any state that the contracts of the control ops allow. The texts use few tokens, so that they
// repeat themselves. `max_behind`: how many committed tokens a cursor may lack beyond the pending.
inline RoundState RandomRound(const RoundShape& shape, uint32_t seed, int32_t max_behind) {
  RoundState state(shape);
  std::mt19937 generator(seed);
  const auto below = [&](int32_t n) { return static_cast<int32_t>(generator() % n); };
  const auto unit = [&] { return static_cast<float>(generator() >> 8) * 0x1p-24f; };
  const int32_t alphabet = 2 + below(6);
  for (int32_t i = 0; i < shape.num_slots; ++i) {
    SlotControl& slot = state.slots[i];
    slot.active = below(4) != 0;
    slot.finish = slot.active ? SlotFinish::kRunning : static_cast<SlotFinish>(below(3));
    slot.max_tokens = shape.max_tokens - below(4);
    // Sometimes close to the end, where there is little room for proposals.
    slot.num_tokens =
        below(3) == 0 ? slot.max_tokens - 1 - below(4) : 1 + below(slot.max_tokens - 1);
    if (!slot.active && below(2) == 0) slot.num_tokens = 0;
    for (int32_t t = 0; t < slot.num_tokens; ++t) {
      state.tokens[int64_t{i} * shape.max_tokens + t] = below(alphabet);
    }
    slot.draft_tokens = below(2) == 0 ? kAutoDraft : below(shape.max_draft + 1);
    slot.num_stop_tokens = below(kMaxStopTokenCount + 1);
    for (int32_t k = 0; k < slot.num_stop_tokens; ++k)
      slot.stop_tokens[k] = below(shape.vocab_limit);
    slot.seed = uint64_t{generator()} << 32 | generator();
    slot.sequence = generator();
    slot.round_start = below(10);
    slot.draft_limit = below(shape.max_draft + 1);
    slot.num_drafted = below(slot.draft_limit + 1);
    slot.num_accepted = below(slot.num_drafted + 1);
    for (int32_t k = 0; k < kMaxDraft; ++k) {
      slot.draft[k] = below(shape.vocab_limit);
      slot.drafted_at[k] = below(100);
      slot.accepted_at[k] = below(100);
    }
    slot.draft_is_sampled = below(2);
    for (int32_t k = 0; k < kMaxDraft; ++k) {
      slot.reached[k] = 50.0f * unit();
      slot.accepted_of_reached[k] = slot.reached[k] * (below(8) == 0 ? 1.0f : unit());
    }
    slot.probe_interval = below(3) == 0 ? 0 : 16 << below(4);
    slot.plain_rounds = below(64);
    slot.probing = below(4) == 0;
    slot.probe_allowance = unit();
    if (shape.temperatures && below(3) == 0) {
      slot.temperature = 1.0f;
      slot.coupled = below(2);
    }
    slot.rounds = below(40);
    slot.drafted = below(1000);
    slot.accepted = below(1000);
    StateCursor& cursor = state.cursors[i];
    cursor.consumed = std::max(0, slot.num_tokens - 1 - below(max_behind + 1));
    cursor.checkpoint = std::max(0, cursor.consumed - below(12));
  }
  DraftControl& drafting = state.drafting.front();
  drafting.num_costs = 1 + below(kMaxCostTables);
  for (int32_t t = 0; t < drafting.num_costs; ++t) {
    RoundCosts& costs = drafting.costs[t];
    costs.num_slots = 1 << t;
    const float row = 0.1f * unit(), draft = 0.3f * unit();
    for (int32_t k = 0; k <= kMaxDraft; ++k) {
      const float per_row = 100.0f * row / static_cast<float>(costs.num_slots);
      costs.row_us[k] = per_row;
      costs.round_us[k] = 100.0f + 100.0f * (row + draft) * static_cast<float>(k);
    }
    costs.catch_up_us = 100.0f * draft;
  }
  for (int32_t k = 0; k < kMaxDraft; ++k) {
    drafting.reached[k] = below(1100);
    drafting.accepted_of_reached[k] = below(drafting.reached[k] + 1);
  }
  drafting.rounds = below(100);
  return state;
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_ROUND_STATE_H_
