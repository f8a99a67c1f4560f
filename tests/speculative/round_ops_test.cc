// The small ops of a round, one by one: how many proposals, which rows, where cursors and
// checkpoints go, what prompt lookup finds.
#include <algorithm>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/begin_round.h"
#include "kernels/common/thread_pool.h"
#include "kernels/draft_length.h"
#include "kernels/ngram_draft.h"
#include "kernels/plan_rows.h"

namespace sidewinder {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

class RoundOpsTest : public ::testing::Test {
 protected:
  RoundOpsTest() {
    for (SlotControl& slot : slots_) {
      slot.tokens = tokens_[&slot - slots_];
      slot.max_tokens = 64;
      slot.draft_tokens = 4;
      slot.synthetic_acceptance[0] = -1.0f;
    }
    control_ = {.slots = slots_,
                .draft_probs = nullptr,
                .drafting = &drafting_,
                .num_slots = 3,
                .max_draft = 8,
                .vocab_size = 100,
                .vocab_limit = 100};
    plan_ = {.num_rows = &counts_[0],
             .num_sequences = &counts_[1],
             .num_logit_rows = &counts_[2],
             .tokens = plan_tokens_,
             .sequences = sequences_,
             .logit_rows = logit_rows_,
             .max_rows = 64,
             .max_sequences = 3};
  }

  // Rounds in which each proposal takes `row` more to verify and `draft` more to make.
  void SetCosts(float row, float draft) {
    RoundCosts& costs = drafting_.costs[0];
    costs.num_slots = 1;
    for (int32_t k = 0; k <= kMaxDraft; ++k) {
      costs.round_us[k] = 100.0f * (1.0f + static_cast<float>(k) * (row + draft));
      costs.row_us[k] = 100.0f * row;
    }
    costs.catch_up_us = 100.0f * draft;
  }

  // As if the slot had seen many proposals, of which so many were accepted wherever reached.
  void SetAcceptance(int32_t slot, float acceptance) {
    for (int32_t j = 0; j < kMaxDraft; ++j) {
      slots_[slot].reached[j] = 1e6f;
      slots_[slot].accepted_of_reached[j] = 1e6f * acceptance;
    }
  }

  void Activate(int32_t slot, const std::vector<int32_t>& text) {
    slots_[slot].active = 1;
    slots_[slot].num_tokens = static_cast<int32_t>(text.size());
    std::copy(text.begin(), text.end(), slots_[slot].tokens);
  }
  std::vector<int32_t> PlannedTokens() const { return {plan_tokens_, plan_tokens_ + counts_[0]}; }
  std::vector<int32_t> LogitRows() const { return {logit_rows_, logit_rows_ + counts_[2]}; }
  std::vector<int32_t> Drafted(int32_t slot) const {
    return {slots_[slot].draft, slots_[slot].draft + slots_[slot].num_drafted};
  }
  PlanRowsParams Plan(const CheckpointRule& rule) {
    return {.control = control_, .cursors = cursors_, .rule = rule, .plan = plan_};
  }

  ThreadPool pool_{1};
  ExecutionContext ctx_{.pool = &pool_};
  int32_t tokens_[3][64] = {};
  SlotControl slots_[3] = {};
  DraftControl drafting_ = {.num_costs = 1};
  ControlBlock control_ = {};
  StateCursor cursors_[3] = {};
  int32_t counts_[3] = {};
  int32_t plan_tokens_[64] = {};
  SequenceRows sequences_[3] = {};
  int32_t logit_rows_[64] = {};
  RowPlan plan_ = {};
};

constexpr CheckpointRule kEveryRound{.every_round = 1, .stride = 1, .log_rows = 10, .max_rows = 5};

TEST_F(RoundOpsTest, BeginRoundLeavesRoomForTheVerifiersToken) {
  Activate(0, {1, 2, 3});
  Activate(1, {1, 2, 3});
  slots_[1].max_tokens = 6;   // three missing: two proposals and one of the verifier
  slots_[2].num_drafted = 7;  // inactive: cleared all the same
  BeginRound(ctx_, {.control = control_});
  EXPECT_EQ(slots_[0].draft_limit, 4);
  EXPECT_EQ(slots_[1].draft_limit, 2);
  EXPECT_EQ(slots_[2].draft_limit, 0);
  EXPECT_EQ(slots_[2].num_drafted, 0);
  EXPECT_EQ(slots_[0].round_start, 3);
}

TEST_F(RoundOpsTest, AutomaticLengthMaximisesTokensPerTime) {
  Activate(0, {1, 2, 3});
  slots_[0].draft_tokens = kAutoDraft;
  const auto choose = [&](float acceptance, float draft_cost) {
    SetCosts(0.05f, draft_cost);
    SetAcceptance(0, acceptance);
    BeginRound(ctx_, {.control = control_});
    return slots_[0].draft_limit;
  };
  for (const float temperature : {0.0f, 1.0f}) {  // with others, and alone
    slots_[0].temperature = temperature;
    EXPECT_EQ(choose(1.0f, 0.0f), 8);
    EXPECT_EQ(choose(0.0f, 0.0f), 0);
    EXPECT_EQ(choose(0.5f, 0.6f), 0);  // a proposal costs 0.65 and brings 0.5
    // 1.8/1.2, 2.44/1.4, 2.95/1.6 = 1.845, 3.36/1.8 = 1.868, 3.69/2.0 = 1.845
    EXPECT_EQ(choose(0.8f, 0.15f), 4);
  }
}

TEST_F(RoundOpsTest, AutomaticLengthSeesEachPosition) {
  Activate(0, {1, 2, 3});
  slots_[0].draft_tokens = kAutoDraft;
  SetCosts(0.05f, 0.15f);
  SetAcceptance(0, 0.9f);
  slots_[0].accepted_of_reached[2] = 0;  // the third proposal is always wrong
  BeginRound(ctx_, {.control = control_});
  EXPECT_EQ(slots_[0].draft_limit, 2);
}

TEST_F(RoundOpsTest, NewSlotsExpectWhatAllRequestsShowed) {
  Activate(0, {1, 2, 3});
  slots_[0].draft_tokens = kAutoDraft;
  SetCosts(0.05f, 0.15f);
  for (int32_t j = 0; j < kMaxDraft; ++j) drafting_.reached[j] = 1000;
  BeginRound(ctx_, {.control = control_});
  EXPECT_EQ(slots_[0].draft_limit, 0);
  // One that samples with rejection does not look at others: its text would depend on them.
  slots_[0].temperature = 1.0f;
  BeginRound(ctx_, {.control = control_});
  EXPECT_GT(slots_[0].draft_limit, 0);
}

TEST_F(RoundOpsTest, VerdictsAreCountedForAllRequests) {
  Activate(0, {1, 2, 3});
  slots_[0].num_drafted = 3;
  slots_[0].num_accepted = 1;
  slots_[1].num_drafted = 2;  // its text ended with that round
  slots_[1].num_accepted = 2;
  BeginRound(ctx_, {.control = control_});
  EXPECT_THAT(std::vector<int32_t>(drafting_.reached, drafting_.reached + 4),
              ElementsAre(2, 2, 0, 0));
  EXPECT_THAT(
      std::vector<int32_t>(drafting_.accepted_of_reached, drafting_.accepted_of_reached + 4),
      ElementsAre(2, 1, 0, 0));
}

TEST_F(RoundOpsTest, SlotsOfABatchDraftWhatPaysForAll) {
  SetCosts(0.02f, 0.1f);
  drafting_.costs[0].num_slots = 3;
  for (int32_t i = 0; i < 3; ++i) {
    Activate(i, {1, 2, 3});
    slots_[i].draft_tokens = kAutoDraft;
  }
  SetAcceptance(0, 0.9f);
  SetAcceptance(1, 0.9f);
  SetAcceptance(2, 0.0f);  // only takes room in the pass
  BeginRound(ctx_, {.control = control_});
  EXPECT_GT(slots_[0].draft_limit, 2);
  EXPECT_EQ(slots_[0].draft_limit, slots_[1].draft_limit);
  EXPECT_EQ(slots_[2].draft_limit, 0);
}

TEST_F(RoundOpsTest, ProbesComeEverMoreRarely) {
  Activate(0, {1, 2, 3});
  slots_[0].draft_tokens = kAutoDraft;
  SetCosts(0.05f, 0.1f);
  std::vector<int32_t> probes;
  for (int32_t round = 0; round < 4000; ++round) {
    SetAcceptance(0, 0.0f);
    BeginRound(ctx_, {.control = control_});
    ASSERT_LE(slots_[0].draft_limit, 1);
    if (slots_[0].draft_limit == 1) probes.push_back(round);
  }
  ASSERT_GT(probes.size(), 4);
  EXPECT_LE(probes.size() * 0.15, 4000 * kProbeShare);  // a probe costs 0.15 rounds
  for (size_t i = 2; i < probes.size(); ++i) {
    EXPECT_GE(probes[i] - probes[i - 1], probes[i - 1] - probes[i - 2]);
  }
}

TEST_F(RoundOpsTest, AProbeWaitsUntilTheDrafterHasCaughtUp) {
  Activate(0, std::vector<int32_t>(40, 1));
  slots_[0].draft_tokens = kAutoDraft;
  slots_[0].probing = 1;
  SetCosts(0.05f, 0.1f);
  SetAcceptance(0, 0.0f);
  const auto begin = [&](int32_t consumed) {
    cursors_[0].consumed = consumed;
    BeginRound(ctx_, {.control = control_, .draft_cursors = cursors_, .max_catch_up = 5});
    EXPECT_EQ(slots_[0].draft_limit, 1);
    return slots_[0].probing;
  };
  EXPECT_EQ(begin(20), 1);
  EXPECT_EQ(begin(34), 1);
  EXPECT_EQ(begin(35), 0);  // five unseen tokens: this round proposes
}

TEST_F(RoundOpsTest, VerifyRowsArePendingTokenAndProposals) {
  Activate(0, {5, 6, 7});
  Activate(2, {8, 9});
  slots_[0].num_drafted = 2;
  slots_[0].draft[0] = 50;
  slots_[0].draft[1] = 51;
  cursors_[0] = {.checkpoint = 1, .consumed = 2};
  cursors_[2] = {.checkpoint = 1, .consumed = 1};
  PlanVerifyRows(ctx_, Plan(kEveryRound));
  EXPECT_THAT(PlannedTokens(), ElementsAre(7, 50, 51, 9));
  EXPECT_THAT(LogitRows(), ElementsAre(0, 1, 2, 3));
  ASSERT_EQ(counts_[1], 2);
  EXPECT_EQ(sequences_[0].new_checkpoint, 3);  // behind the pending token, which is committed
  EXPECT_EQ(sequences_[1].slot, 2);
  EXPECT_EQ(sequences_[1].first_row, 3);

  AdvanceCursors(ctx_, plan_, cursors_);
  EXPECT_EQ(cursors_[0].consumed, 5);
  slots_[0].num_tokens = 5;  // one proposal accepted, one token of the verifier
  RollBackCursors(ctx_, control_, cursors_);
  EXPECT_EQ(cursors_[0].consumed, 4);
  EXPECT_EQ(cursors_[0].checkpoint, 3);
}

TEST_F(RoundOpsTest, CheckpointWaitsUntilTheLogIsFull) {
  Activate(0, {1, 2, 3});
  const CheckpointRule rule{
      .every_round = 0, .stride = 4, .log_rows = 4 - 1 + 2 * 3, .max_rows = 3};
  int32_t moved = 0;
  for (int32_t position = 0; position < 60; ++position) {
    slots_[0].num_tokens = position + 1;
    slots_[0].num_drafted = position % 3;
    PlanVerifyRows(ctx_, Plan(rule));
    const SequenceRows& rows = sequences_[0];
    EXPECT_EQ(rows.new_checkpoint % rule.stride, 0);
    EXPECT_LE(rows.new_checkpoint, position + 1);
    EXPECT_LE(rows.consumed - rows.checkpoint + rows.num_rows, rule.log_rows) << "overwrites a row";
    moved += rows.new_checkpoint != rows.checkpoint;
    AdvanceCursors(ctx_, plan_, cursors_);
    slots_[0].num_tokens = position + 2;  // nothing accepted
    RollBackCursors(ctx_, control_, cursors_);
  }
  EXPECT_GT(moved, 5);
  EXPECT_LT(moved, 20);
}

TEST_F(RoundOpsTest, DraftCatchesUpBeforeItProposes) {
  Activate(0, {1, 2, 3, 4});                 // all accepted last round: two tokens unseen
  Activate(1, {1, 2, 3, 4, 5, 6, 7, 8, 9});  // paused: eight unseen, room for three
  Activate(2, {1, 2});
  slots_[0].draft_limit = slots_[1].draft_limit = 3;
  slots_[2].draft_limit = 0;  // wants nothing: left alone
  cursors_[0] = {.checkpoint = 2, .consumed = 2};
  cursors_[1] = {.checkpoint = 1, .consumed = 1};
  cursors_[2] = {.checkpoint = 1, .consumed = 1};
  PlanDraftRows(ctx_, Plan(kEveryRound), 0, 3);
  EXPECT_THAT(PlannedTokens(), ElementsAre(3, 4, 2, 3, 4));
  EXPECT_THAT(LogitRows(), ElementsAre(1));  // slot 1 only catches up
  AdvanceCursors(ctx_, plan_, cursors_);
  EXPECT_EQ(cursors_[0].checkpoint, 4);

  slots_[0].draft[0] = 77;
  slots_[0].num_drafted = 1;
  PlanDraftRows(ctx_, Plan(kEveryRound), 1, 3);
  EXPECT_THAT(PlannedTokens(), ElementsAre(77));
  EXPECT_EQ(sequences_[0].new_checkpoint, sequences_[0].checkpoint);  // a proposal is not committed
  slots_[0].num_drafted = 3;
  PlanDraftRows(ctx_, Plan(kEveryRound), 3, 3);
  EXPECT_THAT(PlannedTokens(), IsEmpty());
}

TEST_F(RoundOpsTest, NgramProposesWhatFollowedTheLatestMatch) {
  const auto propose = [&](const std::vector<int32_t>& text, int32_t limit, int32_t min,
                           int32_t max) {
    Activate(0, text);
    slots_[0].draft_limit = limit;
    slots_[0].num_drafted = 0;
    NgramDraft(ctx_, {.control = control_, .min_ngram = min, .max_ngram = max});
    return Drafted(0);
  };
  EXPECT_THAT(propose({1, 2, 3, 4, 9, 1, 2}, 3, 1, 3), ElementsAre(3, 4, 9));
  EXPECT_THAT(propose({1, 2, 3, 1, 2, 4, 1, 2}, 2, 1, 3), ElementsAre(4, 1));  // the latest
  EXPECT_THAT(propose({7, 2, 3, 1, 2, 4, 7, 2}, 1, 2, 2), ElementsAre(3));     // the longest
  EXPECT_THAT(propose({5, 6, 5, 6}, 5, 1, 3), ElementsAre(5, 6, 5, 6, 5));     // repeats itself
  EXPECT_THAT(propose({4, 4}, 3, 1, 1), ElementsAre(4, 4, 4));
  EXPECT_THAT(propose({1, 2, 3, 4}, 3, 1, 3), IsEmpty());
  EXPECT_THAT(propose({1, 2, 3, 9, 3}, 3, 2, 3), IsEmpty());  // one token is not enough
  EXPECT_THAT(propose({1}, 3, 1, 3), IsEmpty());
  EXPECT_THAT(propose({1, 1}, 0, 1, 3), IsEmpty());
  slots_[0].synthetic_acceptance[0] = 0.5f;  // lots need something to decide about
  EXPECT_THAT(propose({1, 2, 3, 4}, 3, 1, 3), ElementsAre(4, 4, 4));
  EXPECT_THAT(propose({1, 2, 3, 1}, 2, 1, 3), ElementsAre(2, 3));
}

}  // namespace
}  // namespace sidewinder
