// The control ops of a round on a GPU leave exactly what they leave on the CPU, from any state.
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/begin_round.h"
#include "kernels/common/thread_pool.h"
#include "kernels/ngram_draft.h"
#include "kernels/plan_rows.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/round_state.h"

namespace sidewinder {
namespace {

using testing::DeviceRound;
using testing::ExpectSameRound;
using testing::RandomRound;
using testing::RoundShape;
using testing::RoundState;

constexpr int32_t kSlotCounts[] = {1, 2, 31, 33, 255, 256, 257, 1024};
constexpr uint32_t kSeeds{2};

class RoundCudaTest : public testing::CudaTest {
 protected:
  // Runs `op`(context, control block, plan, cursors) on both from the same state.
  template <class Op>
  void ExpectSame(RoundState state, const Op& op) {
    DeviceRound on_device(stream(), device(), state);
    op(ctx(), on_device.control(), on_device.plan(), on_device.cursors());
    op(cpu_, state.control(), state.plan(), state.cursors.data());
    ExpectSameRound(on_device.Download(), state);
  }

  // The same over many random states.
  template <class Op>
  void ExpectSameOnRandomRounds(int32_t max_behind, const Op& op) {
    for (const int32_t num_slots : kSlotCounts) {
      for (uint32_t seed = 0; seed < kSeeds; ++seed) {
        SCOPED_TRACE("slots " + std::to_string(num_slots) + " seed " + std::to_string(seed));
        ExpectSame(RandomRound({.num_slots = num_slots, .temperatures = true},
                               seed * 977 + num_slots, max_behind),
                   op);
        if (HasFatalFailure()) return;
      }
    }
  }

  ExecutionContext& cpu() { return cpu_; }

 private:
  ThreadPool pool_{1};
  ExecutionContext cpu_{.pool = &pool_};
};

constexpr CheckpointRule kRules[] = {
    {.every_round = 1, .stride = 1, .log_rows = 24, .max_rows = 16},
    {.every_round = 0, .stride = 4, .log_rows = 35, .max_rows = 16},
    {.every_round = 0, .stride = 7, .log_rows = 16, .max_rows = 16},
};

TEST_F(RoundCudaTest, BeginRound) {
  for (const bool has_state : {false, true}) {
    ExpectSameOnRandomRounds(40, [&](ExecutionContext& ctx, const ControlBlock& control,
                                     const RowPlan&, StateCursor* cursors) {
      BeginRound(ctx, {.control = control,
                       .draft_cursors = has_state ? cursors : nullptr,
                       .max_catch_up = has_state ? 5 : 0});
    });
  }
}

TEST_F(RoundCudaTest, PlanVerifyRows) {
  for (const CheckpointRule& rule : kRules) {
    ExpectSameOnRandomRounds(0, [&](ExecutionContext& ctx, const ControlBlock& control,
                                    const RowPlan& plan, StateCursor* cursors) {
      PlanVerifyRows(ctx, {.control = control, .cursors = cursors, .rule = rule, .plan = plan});
    });
  }
}

TEST_F(RoundCudaTest, PlanDraftRows) {
  for (const CheckpointRule& rule : kRules) {
    for (const int32_t step : {0, 1, 2, kMaxDraft - 1}) {
      for (const int32_t max_catch_up : {1, 8, 20}) {
        SCOPED_TRACE("step " + std::to_string(step) + " catch up " + std::to_string(max_catch_up));
        ExpectSameOnRandomRounds(25, [&](ExecutionContext& ctx, const ControlBlock& control,
                                         const RowPlan& plan, StateCursor* cursors) {
          PlanDraftRows(ctx, {.control = control, .cursors = cursors, .rule = rule, .plan = plan},
                        step, max_catch_up);
        });
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(RoundCudaTest, PlanPrefillRows) {
  constexpr int32_t kText{20'000};
  const RoundShape shape = {.num_slots = 3, .max_tokens = kText, .rows_per_slot = kText};
  for (const CheckpointRule& rule : kRules) {
    for (const int32_t num_rows : {0, 1, 255, 256, 257, 4096, 17'000}) {
      for (const bool logits : {false, true}) {
        SCOPED_TRACE("rows " + std::to_string(num_rows));
        RoundState state = RandomRound(shape, num_rows + 1, 0);
        state.cursors[1] = {.checkpoint = 2, .consumed = 5};
        const DeviceRound on_device(stream(), device(), state);
        const auto run = [&](ExecutionContext& ctx, const int32_t* tokens, const RowPlan& plan,
                             StateCursor* cursors) {
          PlanPrefillRows(ctx, {.tokens = tokens + kText,
                                .slot = 1,
                                .num_rows = num_rows,
                                .logits = logits,
                                .cursors = cursors,
                                .rule = rule,
                                .plan = plan});
        };
        const auto tokens = Upload(state.tokens);
        run(ctx(), tokens.data(), on_device.plan(), on_device.cursors());
        run(cpu(), state.tokens.data(), state.plan(), state.cursors.data());
        ExpectSameRound(on_device.Download(), state);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(RoundCudaTest, CursorsAdvanceAndRollBack) {
  ExpectSameOnRandomRounds(0, [&](ExecutionContext& ctx, const ControlBlock& control,
                                  const RowPlan& plan, StateCursor* cursors) {
    PlanVerifyRows(ctx, {.control = control, .cursors = cursors, .rule = kRules[1], .plan = plan});
    AdvanceCursors(ctx, plan, cursors);
  });
  ExpectSameOnRandomRounds(0, [&](ExecutionContext& ctx, const ControlBlock& control,
                                  const RowPlan& plan, StateCursor* cursors) {
    PlanVerifyRows(ctx, {.control = control, .cursors = cursors, .rule = kRules[0], .plan = plan});
    AdvanceCursors(ctx, plan, cursors);
    RollBackCursors(ctx, control, cursors);
  });
}

TEST_F(RoundCudaTest, NgramDraft) {
  for (const auto& [min_ngram, max_ngram] :
       {std::pair{1, 1}, std::pair{1, 3}, std::pair{2, 4}, std::pair{3, 3}, std::pair{1, 200}}) {
    SCOPED_TRACE("n " + std::to_string(min_ngram) + ".." + std::to_string(max_ngram));
    ExpectSameOnRandomRounds(
        0, [&](ExecutionContext& ctx, const ControlBlock& control, const RowPlan&, StateCursor*) {
          NgramDraft(ctx, {.control = control, .min_ngram = min_ngram, .max_ngram = max_ngram});
        });
  }
}

// Texts longer than the positions one block looks at together, the only match early or late.
TEST_F(RoundCudaTest, NgramDraftOverLongTexts) {
  constexpr int32_t kText{10'000};
  for (const int32_t match : {0, 1, 2046, 2047, 2048, 5000, kText - 8}) {
    SCOPED_TRACE("match at " + std::to_string(match));
    RoundState state({.num_slots = 2, .max_tokens = kText});
    for (SlotControl& slot : state.slots) {
      slot.active = 1;
      slot.draft_limit = 7;
      slot.num_tokens = kText - 2;
    }
    for (int32_t t = 0; t < kText - 2; ++t) state.tokens[t] = state.tokens[kText + t] = t;
    for (int32_t k = 0; k < 3; ++k) state.tokens[kText - 5 + k] = state.tokens[match + k];
    ExpectSame(state, [&](ExecutionContext& ctx, const ControlBlock& control, const RowPlan&,
                          StateCursor*) {
      NgramDraft(ctx, {.control = control, .min_ngram = 2, .max_ngram = 4});
    });
  }
}

}  // namespace
}  // namespace sidewinder
