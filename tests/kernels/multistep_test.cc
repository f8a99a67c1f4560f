#include "kernels/multistep.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/testing/host_row_plan.h"
#include "tests/testing/multistep_cases.h"
#include "tests/testing/simd_backend.h"

namespace sidewinder {
namespace {

using testing::ExpectMultiStepWithin;
using testing::GuardedBuffer;
using testing::HostRowPlan;
using testing::Implementation;
using testing::kMultiStepShapes;
using testing::MultiStepInputs;
using testing::MultiStepShape;
using testing::MultiStepState;
using testing::RunMultiStep;

class MultiStepTest : public testing::SimdBackendTest {};

bool SameBits(const float* a, const float* b, int64_t size) {
  return std::memcmp(a, b, size * sizeof(float)) == 0;
}

// softplus(0) = ln 2, and a = -1 halves the state.
TEST_P(MultiStepTest, GoldenValues) {
  const float x[] = {1, 3}, zero[] = {0, 0}, b[] = {2, 2}, c[] = {5, 7}, a[] = {-1}, d[] = {10};
  const float z[] = {100, 100};  // silu: 100
  const float ln2 = std::log(2.0f);
  const float s1 = 2 * ln2, s2 = s1 / 2 + 6 * ln2;
  ExecutionContext ctx = Context(1);
  for (const bool is_mamba2 : {false, true}) {
    float checkpoint[1] = {}, log_x[2], log_delta[2], log_b[2], output[2];
    const RecurrentState state = {.checkpoint = checkpoint,
                                  .log_x = log_x,
                                  .log_delta = log_delta,
                                  .log_b = log_b,
                                  .snapshots = nullptr,
                                  .log_rows = 2,
                                  .snapshot_rows = 0};
    HostRowPlan plan({{.slot = 0,
                       .first_row = 0,
                       .num_rows = 2,
                       .checkpoint = 0,
                       .consumed = 0,
                       .new_checkpoint = 1}});
    if (is_mamba2) {
      MultiStepMamba2(ctx, {.x = x,
                            .b = b,
                            .c = c,
                            .dt = zero,
                            .a = a,
                            .d = d,
                            .dt_bias = zero,
                            .output = output,
                            .num_heads = 1,
                            .head_dim = 1,
                            .num_groups = 1,
                            .state_dim = 1,
                            .delta_min = 0,
                            .delta_max = 10,
                            .x_stride = 1,
                            .b_stride = 1,
                            .c_stride = 1,
                            .dt_stride = 1,
                            .output_stride = 1,
                            .state = state,
                            .plan = plan.plan()});
    } else {
      MultiStepMamba1(ctx, {.x = x,
                            .z = z,
                            .dt = zero,
                            .b = b,
                            .c = c,
                            .a = a,
                            .d = d,
                            .dt_bias = zero,
                            .output = output,
                            .inner_dim = 1,
                            .state_dim = 1,
                            .x_stride = 1,
                            .z_stride = 1,
                            .dt_stride = 1,
                            .b_stride = 1,
                            .c_stride = 1,
                            .output_stride = 1,
                            .state = state,
                            .plan = plan.plan()});
    }
    const float gate = is_mamba2 ? 1 : 100;
    EXPECT_FLOAT_EQ(output[0], gate * (5 * s1 + 10));
    EXPECT_FLOAT_EQ(output[1], gate * (7 * s2 + 30));
    EXPECT_FLOAT_EQ(checkpoint[0], s1);
    EXPECT_EQ(log_x[1], 3);  // the row of position 0 is in the checkpoint, not in the log
    EXPECT_FLOAT_EQ(log_delta[1], ln2);
    EXPECT_EQ(log_b[1], 2);
  }
}

TEST_P(MultiStepTest, ClampsTimeStepsOfMamba2) {
  const float x[] = {1, 1}, dt[] = {-30, 30}, zero[] = {0}, one[] = {1, 1};
  float checkpoint[1] = {}, log[2], log_delta[2], log_b[2], output[2];
  HostRowPlan plan({{.slot = 0,
                     .first_row = 0,
                     .num_rows = 2,
                     .checkpoint = 0,
                     .consumed = 0,
                     .new_checkpoint = 0}});
  ExecutionContext ctx = Context(1);
  MultiStepMamba2(ctx, {.x = x,
                        .b = one,
                        .c = one,
                        .dt = dt,
                        .a = zero,
                        .d = zero,
                        .dt_bias = zero,
                        .output = output,
                        .num_heads = 1,
                        .head_dim = 1,
                        .num_groups = 1,
                        .state_dim = 1,
                        .delta_min = 0.25f,
                        .delta_max = 2,
                        .x_stride = 1,
                        .b_stride = 1,
                        .c_stride = 1,
                        .dt_stride = 1,
                        .output_stride = 1,
                        .state = {.checkpoint = checkpoint,
                                  .log_x = log,
                                  .log_delta = log_delta,
                                  .log_b = log_b,
                                  .snapshots = nullptr,
                                  .log_rows = 2,
                                  .snapshot_rows = 0},
                        .plan = plan.plan()});
  EXPECT_EQ(output[0], 0.25f);
  EXPECT_EQ(output[1], 2.25f);
}

// Keys and queries become unit vectors; beta is 1/2, and a row halves the state.
TEST_P(MultiStepTest, GoldenValuesOfDeltaNet) {
  const float q[] = {0, 2, 2, 0, 2, 0}, k[] = {2, 0, 2, 0, 0, 2}, v[] = {4, 8, 16};
  const float zero[] = {0, 0, 0}, a[] = {-1};
  float checkpoint[2] = {}, log_x[3] = {}, log_delta[3], log_b[6], output[3];
  HostRowPlan plan({{.slot = 0,
                     .first_row = 0,
                     .num_rows = 3,
                     .checkpoint = 0,
                     .consumed = 0,
                     .new_checkpoint = 1}});
  ExecutionContext ctx = Context(1);
  MultiStepDeltaNet(ctx, {.q = q,
                          .k = k,
                          .v = v,
                          .beta = zero,
                          .dt = zero,
                          .a = a,
                          .dt_bias = zero,
                          .output = output,
                          .num_heads = 1,
                          .head_dim = 1,
                          .num_key_heads = 1,
                          .key_dim = 2,
                          .q_stride = 2,
                          .k_stride = 2,
                          .v_stride = 1,
                          .beta_stride = 1,
                          .dt_stride = 1,
                          .output_stride = 1,
                          .state = {.checkpoint = checkpoint,
                                    .log_x = log_x,
                                    .log_delta = log_delta,
                                    .log_b = log_b,
                                    .snapshots = nullptr,
                                    .log_rows = 3,
                                    .snapshot_rows = 0},
                          .plan = plan.plan()});
  const auto expect = [](float actual, double value) { EXPECT_NEAR(actual, value, 1e-5); };
  // States behind the rows: (2, 0), (4.5, 0), (2.25, 8).
  expect(output[0], 0);
  expect(output[1], 4.5 / std::sqrt(2.0));
  expect(output[2], 2.25 / std::sqrt(2.0));
  expect(checkpoint[0], 2);
  EXPECT_EQ(checkpoint[1], 0);
  EXPECT_EQ(log_x[0], 0);  // the row of position 0 is in the checkpoint, not in the log
  expect(log_x[1], 3.5);   // (8 - 1) / 2
  expect(log_x[2], 8);
  expect(log_delta[1], -std::log(2.0));
  expect(log_b[2], 1);
  expect(log_b[5], 1);
  EXPECT_EQ(log_b[4], 0);
}

// Three ragged sequences, twice: the second pass replays what the first one left in the log.
TEST_P(MultiStepTest, MatchesReference) {
  for (const MultiStepShape& shape : kMultiStepShapes) {
    SCOPED_TRACE(shape.Name());
    constexpr int64_t kSlots{5}, kLog{11};
    HostRowPlan first({{.slot = 4,
                        .first_row = 0,
                        .num_rows = 1,
                        .checkpoint = 0,
                        .consumed = 0,
                        .new_checkpoint = 0},
                       {.slot = 1,
                        .first_row = 0,
                        .num_rows = 13,
                        .checkpoint = 0,
                        .consumed = 0,
                        .new_checkpoint = 6},
                       {.slot = 2,
                        .first_row = 0,
                        .num_rows = 5,
                        .checkpoint = 0,
                        .consumed = 0,
                        .new_checkpoint = 5}});
    HostRowPlan second({{.slot = 1,
                         .first_row = 0,
                         .num_rows = 3,
                         .checkpoint = 6,
                         .consumed = 11,
                         .new_checkpoint = 9},
                        {.slot = 4,
                         .first_row = 0,
                         .num_rows = 6,
                         .checkpoint = 0,
                         .consumed = 1,
                         .new_checkpoint = 1},
                        {.slot = 2,
                         .first_row = 0,
                         .num_rows = 1,
                         .checkpoint = 5,
                         .consumed = 5,
                         .new_checkpoint = 5}});
    const MultiStepInputs in(shape, first.num_rows(), 10);
    const MultiStepInputs in_magnitude = in.Magnitude();
    MultiStepState actual(shape, kSlots, kLog, 0), expected(shape, kSlots, kLog, 0),
        magnitude(shape, kSlots, kLog, 0);
    ExecutionContext ctx = Context(2);
    for (HostRowPlan* plan : {&first, &second}) {
      const int64_t size = plan->num_rows() * shape.inner_dim();
      GuardedBuffer actual_out(size), expected_out(size), magnitude_out(size);
      RunMultiStep(Implementation::kBackend, ctx, in, actual, plan->plan(), actual_out.data());
      RunMultiStep(Implementation::kReference, ctx, in, expected, plan->plan(),
                   expected_out.data());
      RunMultiStep(Implementation::kReference, ctx, in_magnitude, magnitude, plan->plan(),
                   magnitude_out.data());
      ExpectMultiStepWithin(shape, 16, {actual_out.data(), size, actual},
                            {expected_out.data(), size, expected},
                            {magnitude_out.data(), size, magnitude});
      EXPECT_TRUE(actual_out.Intact() && actual.Intact());
    }
  }
}

// One text, decoded by passes that are cut, replayed, rejected and checkpointed at random.
class Session {
 public:
  Session(const MultiStepInputs& text, int64_t log_rows, int64_t snapshot_rows)
      : text_(text), state_(text.shape, 2, log_rows, snapshot_rows) {}

  // Rows [consumed, consumed + num_rows), of which only the first `accepted` are the text's; the
  // rest is of another text and rolled back.
  void Pass(ExecutionContext& ctx, int32_t num_rows, int32_t accepted, int32_t new_checkpoint,
            std::vector<float>& output) {
    const MultiStepShape& shape = text_.shape;
    HostRowPlan plan({{.slot = 1,
                       .first_row = 0,
                       .num_rows = num_rows,
                       .checkpoint = checkpoint_,
                       .consumed = consumed_,
                       .new_checkpoint = new_checkpoint}});
    MultiStepInputs rows(shape, num_rows, 1000 + consumed_);
    const auto take = [&](const std::vector<float>& from, std::vector<float>& to, int64_t dim) {
      const int64_t stride = dim + MultiStepInputs::kGap;
      std::copy_n(from.begin() + consumed_ * stride, accepted * stride, to.begin());
    };
    take(text_.x, rows.x, shape.inner_dim());
    take(text_.z, rows.z, shape.z_dim());
    take(text_.dt, rows.dt, shape.delta_dim());
    take(text_.b, rows.b, shape.b_dim());
    take(text_.c, rows.c, shape.c_dim());
    GuardedBuffer out(num_rows * shape.inner_dim());
    RunMultiStep(Implementation::kBackend, ctx, rows, state_, plan.plan(), out.data());
    EXPECT_TRUE(out.Intact() && state_.Intact());
    std::copy_n(out.data(), accepted * shape.inner_dim(),
                output.begin() + consumed_ * shape.inner_dim());
    consumed_ += accepted;
    checkpoint_ = new_checkpoint;
  }

  int32_t consumed() const { return consumed_; }
  int32_t checkpoint() const { return checkpoint_; }
  MultiStepState& state() { return state_; }
  const float* CheckpointState() const {
    return state_.checkpoint.data() + text_.shape.state_elements();
  }

 private:
  const MultiStepInputs& text_;
  MultiStepState state_;
  int32_t consumed_ = 0;
  int32_t checkpoint_ = 0;
};

TEST_P(MultiStepTest, AnySplitGivesTheBitsOfOnePass) {
  constexpr int32_t kTokens{40};
  std::vector<ExecutionContext> contexts;
  for (const int threads : {1, 2, 3, 5}) contexts.push_back(Context(threads));
  for (const MultiStepShape& shape : kMultiStepShapes) {
    SCOPED_TRACE(shape.Name());
    const MultiStepInputs text(shape, kTokens, 20);
    const int64_t size = kTokens * shape.inner_dim();
    std::vector<float> expected(size);
    Session one_pass(text, kTokens, 0);
    one_pass.Pass(contexts[0], kTokens, kTokens, kTokens, expected);
    const int num_seeds = shape.state_elements() > 8000 ? 6 : 25;
    for (int seed = 0; seed < num_seeds; ++seed) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      std::mt19937 random(seed);
      ExecutionContext& ctx = contexts[seed % contexts.size()];
      const int32_t log_rows = 3 + random() % 12;
      std::vector<float> actual(size);
      Session session(text, log_rows, 0);
      while (session.consumed() < kTokens) {
        const int32_t consumed = session.consumed(), checkpoint = session.checkpoint();
        const int32_t most = std::min(kTokens - consumed, log_rows);
        const int32_t num_rows = 1 + random() % most;
        const int32_t accepted = random() % (num_rows + 1);
        int32_t new_checkpoint = checkpoint + random() % (consumed + accepted - checkpoint + 1);
        const int32_t appended =
            std::min(num_rows, consumed + num_rows - std::max(checkpoint, new_checkpoint));
        // What the log cannot hold must be checkpointed first: a pass of one accepted row that
        // checkpoints everything always fits.
        if (consumed - checkpoint + appended > log_rows) {
          session.Pass(ctx, 1, 1, consumed + 1, actual);
        } else {
          session.Pass(ctx, num_rows, accepted, new_checkpoint, actual);
        }
      }
      ASSERT_TRUE(SameBits(actual.data(), expected.data(), size));
      // Bring the checkpoint to the end: a rejected row replays the rest of the log.
      if (session.checkpoint() < kTokens) {
        if (kTokens - session.checkpoint() < log_rows) {
          session.Pass(ctx, 1, 0, kTokens, actual);
          ASSERT_TRUE(SameBits(session.CheckpointState(), one_pass.CheckpointState(),
                               shape.state_elements()));
        }
      } else {
        ASSERT_TRUE(SameBits(session.CheckpointState(), one_pass.CheckpointState(),
                             shape.state_elements()));
      }
    }
  }
}

TEST_P(MultiStepTest, SnapshotsGiveTheBitsOfCheckpointAndLog) {
  constexpr int32_t kTokens{30};
  constexpr int64_t kSnapshots{8};
  for (const MultiStepShape& shape : kMultiStepShapes) {
    SCOPED_TRACE(shape.Name());
    const MultiStepInputs text(shape, kTokens, 20);
    const int64_t size = kTokens * shape.inner_dim();
    std::vector<float> expected(size), actual(size);
    ExecutionContext ctx = Context(2);
    Session one_pass(text, kTokens, 0), session(text, 1, kSnapshots);
    one_pass.Pass(ctx, kTokens, kTokens, kTokens, expected);
    std::mt19937 random(3);
    while (session.consumed() < kTokens) {
      const int32_t most = std::min<int32_t>(kTokens - session.consumed(), kSnapshots - 1);
      const int32_t num_rows = 1 + random() % most;
      session.Pass(ctx, num_rows, random() % (num_rows + 1), 0, actual);
    }
    EXPECT_TRUE(SameBits(actual.data(), expected.data(), size));
    EXPECT_TRUE(SameBits(session.state().snapshots.data() +
                             (kSnapshots + kTokens % kSnapshots) * shape.state_elements(),
                         one_pass.CheckpointState(), shape.state_elements()));
  }
}

// A sequence's bits do not depend on its companions, on its slot or on its place in the plan.
TEST_P(MultiStepTest, SequencesStandAlone) {
  for (const MultiStepShape& shape : kMultiStepShapes) {
    SCOPED_TRACE(shape.Name());
    const auto rows_of = [](int32_t slot, int32_t num_rows) {
      return SequenceRows{.slot = slot,
                          .first_row = 0,
                          .num_rows = num_rows,
                          .checkpoint = 0,
                          .consumed = 0,
                          .new_checkpoint = num_rows};
    };
    HostRowPlan together({rows_of(2, 4), rows_of(0, 9), rows_of(1, 1)});
    const MultiStepInputs in(shape, together.num_rows(), 30);
    MultiStepState all(shape, 3, 16, 0);
    std::vector<float> outputs(together.num_rows() * shape.inner_dim());
    ExecutionContext ctx = Context(3);
    RunMultiStep(Implementation::kBackend, ctx, in, all, together.plan(), outputs.data());
    for (int s = 0; s < 3; ++s) {
      const SequenceRows& sequence = together.sequence(s);
      HostRowPlan plan({rows_of(0, sequence.num_rows)});
      MultiStepInputs part = in;
      for (std::vector<float>* values : {&part.x, &part.z, &part.dt, &part.b, &part.c}) {
        const int64_t stride = values->size() / together.num_rows();
        values->erase(values->begin(), values->begin() + sequence.first_row * stride);
      }
      MultiStepState state(shape, 1, 16, 0);
      std::vector<float> output(sequence.num_rows * shape.inner_dim());
      RunMultiStep(Implementation::kBackend, ctx, part, state, plan.plan(), output.data());
      EXPECT_TRUE(SameBits(output.data(), outputs.data() + sequence.first_row * shape.inner_dim(),
                           output.size()));
      EXPECT_TRUE(SameBits(state.checkpoint.data(),
                           all.checkpoint.data() + sequence.slot * shape.state_elements(),
                           shape.state_elements()));
    }
  }
}

SW_INSTANTIATE_SIMD_TESTS(MultiStepTest);

}  // namespace
}  // namespace sidewinder
