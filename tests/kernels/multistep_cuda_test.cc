#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/fused.h"
#include "kernels/multistep.h"
#include "kernels/pack_weights.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/device_row_plan.h"
#include "tests/testing/host_row_plan.h"
#include "tests/testing/multistep_cases.h"

namespace sidewinder {
namespace {

using testing::DeviceArray;
using testing::DeviceRowPlan;
using testing::ExpectMultiStepWithin;
using testing::GuardedBuffer;
using testing::HostRowPlan;
using testing::Implementation;
using testing::kMultiStepShapes;
using testing::kPoison;
using testing::MultiStepInputs;
using testing::MultiStepShape;
using testing::MultiStepState;
using testing::RandomValues;
using testing::RunMultiStep;
using testing::StepKind;

constexpr int64_t kGap{MultiStepInputs::kGap};

bool SameBits(const float* a, const float* b, int64_t size) {
  return std::memcmp(a, b, size * sizeof(float)) == 0;
}
bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && SameBits(a.data(), b.data(), a.size());
}
bool SameBits(const GuardedBuffer& a, const GuardedBuffer& b) {
  return a.size() == b.size() && SameBits(a.data(), b.data(), a.size());
}
bool SameBits(const MultiStepState& a, const MultiStepState& b) {
  return SameBits(a.checkpoint, b.checkpoint) && SameBits(a.log_x, b.log_x) &&
         SameBits(a.log_delta, b.log_delta) && SameBits(a.log_b, b.log_b) &&
         SameBits(a.snapshots, b.snapshots);
}

// Shapes of real layers, besides those of the CPU's tests.
std::vector<MultiStepShape> Shapes() {
  std::vector<MultiStepShape> shapes(std::begin(kMultiStepShapes), std::end(kMultiStepShapes));
  shapes.push_back({StepKind::kMamba2, 3, 64, 1, 128});
  shapes.push_back({StepKind::kMamba2, 2, 36, 2, 129});
  shapes.push_back({StepKind::kMamba2, 1, 8, 1, 256});
  shapes.push_back({StepKind::kMamba1, 0, 96, 1, 128});
  shapes.push_back({StepKind::kMamba1, 0, 33, 1, 33});
  shapes.push_back({StepKind::kMamba1, 0, 256, 2, 64});   // groups of several blocks
  shapes.push_back({StepKind::kMamba1, 0, 100, 50, 15});  // nearly all of B that a block can stage
  shapes.push_back({StepKind::kDeltaNet, 4, 128, 2, 128});
  shapes.push_back({StepKind::kDeltaNet, 4, 36, 1, 65});
  shapes.push_back({StepKind::kDeltaNet, 1, 8, 1, 256});
  return shapes;
}

// Which ops make the step. The fused ones are preceded by what they fuse.
enum class Form { kPlain, kLinearBFloat16, kLinearFloat16, kConv, kConvFused };

// The form that networks use.
Form UsualForm(const MultiStepShape& shape) {
  switch (shape.kind) {
    case StepKind::kMamba1:
      return Form::kLinearBFloat16;
    case StepKind::kMamba2:
      return Form::kConvFused;
    case StepKind::kDeltaNet:
      break;
  }
  return Form::kPlain;
}

// What stands before the step in the fused forms.
struct Front {
  int64_t in_dim = 0;             // kLinear*: of the product that gives dt
  std::vector<float> low;         // [rows, in_dim + kGap]
  std::vector<uint16_t> weights;  // packed
  std::vector<float> raw;         // kConv*: [rows, conv_dim + kGap]
  std::vector<float> conv_weight, conv_bias;
  std::vector<float> ring;  // [slots, ring_rows, conv_dim]
  int64_t ring_rows = 0;
};

int64_t ConvDim(const MultiStepShape& shape) { return shape.inner_dim() + 2 * shape.b_dim(); }

// A state's copy in device memory.
class DeviceState {
 public:
  template <class Upload>
  DeviceState(MultiStepState& host, const Upload& upload)
      : host_(host),
        checkpoint_(upload(host.checkpoint)),
        log_x_(upload(host.log_x)),
        log_delta_(upload(host.log_delta)),
        log_b_(upload(host.log_b)),
        snapshots_(upload(host.snapshots)) {}

  RecurrentState state() const {
    return {.checkpoint = checkpoint_.data(),
            .log_x = log_x_.data(),
            .log_delta = log_delta_.data(),
            .log_b = log_b_.data(),
            .snapshots = host_.num_snapshot_rows > 0 ? snapshots_.data() : nullptr,
            .log_rows = host_.num_log_rows,
            .snapshot_rows = host_.num_snapshot_rows};
  }

  void Download() {
    const auto take = [](const DeviceArray<float>& from, GuardedBuffer& to) {
      const std::vector<float> values = from.Download();
      std::copy(values.begin(), values.end(), to.data());
      EXPECT_TRUE(from.Intact());
    };
    take(checkpoint_, host_.checkpoint);
    take(log_x_, host_.log_x);
    take(log_delta_, host_.log_delta);
    take(log_b_, host_.log_b);
    take(snapshots_, host_.snapshots);
  }

 private:
  MultiStepState& host_;
  DeviceArray<float> checkpoint_, log_x_, log_delta_, log_b_, snapshots_;
};

class MultiStepCudaTest : public testing::CudaTest {
 protected:
  // Runs one pass on copies in device memory; state, ring and output come back. All inputs begin
  // one element behind an aligned address, the state too if `misalign_state`.
  void Run(Form form, const MultiStepInputs& in, Front& front, MultiStepState& state,
           HostRowPlan& host_plan, float* output, bool misalign_state = false) {
    const MultiStepShape& shape = in.shape;
    const auto upload = [&](const auto& values) { return Upload(values, /*misalign=*/true); };
    const DeviceRowPlan device_plan(host_plan.plan(), [&](const auto& v) { return Upload(v); });
    const RowPlan plan = device_plan.plan();
    DeviceState device_state(state, [&](const GuardedBuffer& buffer) {
      return Upload(std::vector<float>(buffer.data(), buffer.data() + buffer.size()),
                    misalign_state);
    });
    const DeviceArray<float> x = upload(in.x), z = upload(in.z), dt = upload(in.dt);
    const DeviceArray<float> b = upload(in.b), c = upload(in.c);
    const DeviceArray<float> a = upload(in.a), d = upload(in.d), bias = upload(in.dt_bias);
    const int64_t rows = host_plan.num_rows();
    const DeviceArray<float> out = Poisoned<float>(rows * shape.inner_dim());
    if (shape.is_mamba2()) {
      MultiStepMamba2Params p = Mamba2Params(in, state, plan, out.data());
      p.x = x.data(), p.b = b.data(), p.c = c.data(), p.dt = dt.data();
      p.a = a.data(), p.d = d.data(), p.dt_bias = bias.data();
      p.state = device_state.state();
      if (form == Form::kPlain) {
        MultiStepMamba2(ctx(), p);
      } else {
        RunConv(form == Form::kConvFused, front, p);
      }
    } else if (shape.is_delta_net()) {
      MultiStepDeltaNetParams p = DeltaNetParams(in, state, plan, out.data());
      p.q = c.data(), p.k = b.data(), p.v = x.data(), p.beta = z.data(), p.dt = dt.data();
      p.a = a.data(), p.dt_bias = bias.data();
      p.state = device_state.state();
      MultiStepDeltaNet(ctx(), p);
    } else {
      MultiStepMamba1Params p = Mamba1Params(in, state, plan, out.data());
      p.x = x.data(), p.z = z.data(), p.dt = dt.data(), p.b = b.data(), p.c = c.data();
      p.a = a.data(), p.d = d.data(), p.dt_bias = bias.data();
      p.state = device_state.state();
      if (form == Form::kPlain) {
        MultiStepMamba1(ctx(), p);
      } else {
        const bool bfloat16 = form == Form::kLinearBFloat16;
        RunLinear(bfloat16 ? DType::kBFloat16 : DType::kFloat16, front, p);
      }
    }
    device_state.Download();
    const std::vector<float> result = out.Download();
    std::copy(result.begin(), result.end(), output);
    EXPECT_TRUE(out.Intact());
  }

 private:
  void RunLinear(DType dtype, Front& front, MultiStepMamba1Params& p) {
    const DeviceArray<uint16_t> weights = Upload(front.weights);
    const DeviceArray<float> low = Upload(front.low, /*misalign=*/true);
    const DeviceArray<float> dt = Poisoned<float>(p.plan.max_rows * p.inner_dim);
    p.dt = dt.data();
    p.dt_stride = p.inner_dim;
    LinearMultiStepMamba1(ctx(),
                          {.weight = weights.data(),
                           .weight_dtype = dtype,
                           .bias = nullptr,
                           .input = low.data(),
                           .row_index = nullptr,
                           .output = dt.data(),
                           .in_dim = front.in_dim,
                           .out_dim = p.inner_dim,
                           .input_stride = front.in_dim + kGap,
                           .output_stride = p.inner_dim,
                           .accumulate = false,
                           .num_rows = p.plan.num_rows,
                           .max_rows = p.plan.max_rows},
                          p);
  }

  void RunConv(bool fused, Front& front, MultiStepMamba2Params& p) {
    const int64_t inner = p.num_heads * p.head_dim, b_dim = p.num_groups * p.state_dim;
    const int64_t dim = inner + 2 * b_dim;
    const DeviceArray<float> raw = Upload(front.raw, true), weight = Upload(front.conv_weight);
    const DeviceArray<float> bias = Upload(front.conv_bias), ring = Upload(front.ring, true);
    const DeviceArray<float> convolved = Poisoned<float>(p.plan.max_rows * dim);
    const CausalConvParams conv = {.input = raw.data(),
                                   .weight = weight.data(),
                                   .bias = front.conv_bias.empty() ? nullptr : bias.data(),
                                   .output = convolved.data(),
                                   .ring = ring.data(),
                                   .dim = dim,
                                   .width = static_cast<int64_t>(front.conv_weight.size()) / dim,
                                   .input_stride = dim + kGap,
                                   .output_stride = dim,
                                   .ring_rows = front.ring_rows,
                                   .plan = p.plan};
    p.x = convolved.data();
    p.b = convolved.data() + inner;
    p.c = convolved.data() + inner + b_dim;
    p.x_stride = p.b_stride = p.c_stride = dim;
    if (fused) {
      ConvMultiStepMamba2(ctx(), conv, p);
    } else {
      CausalConv(ctx(), conv);
      MultiStepMamba2(ctx(), p);
    }
    front.ring = ring.Download();
    EXPECT_TRUE(ring.Intact() && convolved.Intact());
  }
};

SequenceRows Rows(int32_t slot, int32_t num_rows, int32_t checkpoint, int32_t consumed,
                  int32_t new_checkpoint) {
  return {.slot = slot,
          .first_row = 0,
          .num_rows = num_rows,
          .checkpoint = checkpoint,
          .consumed = consumed,
          .new_checkpoint = new_checkpoint};
}

// softplus(0) = ln 2, and a = -1 halves the state.
TEST_F(MultiStepCudaTest, GoldenValues) {
  const float ln2 = std::log(2.0f);
  const float s1 = 2 * ln2, s2 = s1 / 2 + 6 * ln2;
  for (const bool is_mamba2 : {false, true}) {
    MultiStepInputs in({is_mamba2 ? StepKind::kMamba2 : StepKind::kMamba1, 1, 1, 1, 1}, 2, 0);
    const auto set = [](std::vector<float>& values, float first, float second) {
      values[0] = first;
      values[1 + kGap] = second;
    };
    set(in.x, 1, 3), set(in.z, 100, 100), set(in.dt, 0, 0), set(in.b, 2, 2), set(in.c, 5, 7);
    in.a = {-1}, in.d = {10}, in.dt_bias = {0};
    MultiStepState state(in.shape, 1, 2, 0);
    HostRowPlan plan({Rows(0, 2, 0, 0, 1)});
    Front none;
    float output[2];
    Run(Form::kPlain, in, none, state, plan, output);
    const float gate = is_mamba2 ? 1 : 100;
    EXPECT_FLOAT_EQ(output[0], gate * (5 * s1 + 10));
    EXPECT_FLOAT_EQ(output[1], gate * (7 * s2 + 30));
    EXPECT_FLOAT_EQ(state.checkpoint[0], s1);
    EXPECT_EQ(state.log_x[1], 3);  // the row of position 0 is in the checkpoint, not in the log
    EXPECT_TRUE(std::isnan(state.log_x[0]));
    EXPECT_FLOAT_EQ(state.log_delta[1], ln2);
    EXPECT_EQ(state.log_b[1], 2);
  }
}

// Ragged sequences, twice: the second pass replays what the first one left in the log, settles a
// sequence and leaves one alone.
TEST_F(MultiStepCudaTest, MatchesReference) {
  std::vector<MultiStepShape> shapes = Shapes();
  shapes.push_back({StepKind::kMamba2, 24, 64, 1, 128});
  shapes.push_back({StepKind::kMamba1, 0, 1536, 1, 16});
  shapes.push_back({StepKind::kMamba1, 0, 4096, 256, 16});
  shapes.push_back({StepKind::kDeltaNet, 32, 128, 16, 128});
  for (const MultiStepShape& shape : shapes) {
    SCOPED_TRACE(shape.Name());
    constexpr int64_t kSlots{6}, kLog{11};
    HostRowPlan first(
        {Rows(4, 1, 0, 0, 0), Rows(1, 23, 0, 0, 16), Rows(2, 5, 0, 0, 5), Rows(0, 9, 0, 0, 0)});
    HostRowPlan second({Rows(1, 3, 16, 21, 19), Rows(4, 6, 0, 1, 1), Rows(2, 1, 5, 5, 5),
                        Rows(0, 0, 0, 8, 8), Rows(5, 0, 0, 0, 0)});
    const MultiStepInputs in(shape, first.num_rows(), 10);
    const MultiStepInputs in_magnitude = in.Magnitude();
    MultiStepState actual(shape, kSlots, kLog, 0), expected(shape, kSlots, kLog, 0),
        magnitude(shape, kSlots, kLog, 0);
    ExecutionContext no_context;
    for (HostRowPlan* plan : {&first, &second}) {
      const int64_t size = plan->num_rows() * shape.inner_dim();
      std::vector<float> actual_out(size), expected_out(size), magnitude_out(size);
      Front none;
      Run(Form::kPlain, in, none, actual, *plan, actual_out.data());
      RunMultiStep(Implementation::kReference, no_context, in, expected, plan->plan(),
                   expected_out.data());
      RunMultiStep(Implementation::kReference, no_context, in_magnitude, magnitude, plan->plan(),
                   magnitude_out.data());
      ExpectMultiStepWithin(shape, 26, {actual_out.data(), size, actual},
                            {expected_out.data(), size, expected},
                            {magnitude_out.data(), size, magnitude});
    }
  }
}

// One text and everything that stands before its step.
struct Text {
  Text(const MultiStepShape& shape, Form form, int64_t num_rows, uint32_t seed, int64_t dim = 48)
      : form(form), in(shape, num_rows, seed) {
    if (form == Form::kLinearBFloat16 || form == Form::kLinearFloat16) {
      front.in_dim = dim;
      front.low = MultiStepInputs::Rows(num_rows, dim, seed + 9, -0.25f, 0.25f);
      const std::vector<char> bytes = testing::RandomWeights(
          shape.inner_dim() * dim,
          form == Form::kLinearBFloat16 ? DType::kBFloat16 : DType::kFloat16, seed + 10);
      Pack(shape.inner_dim(), reinterpret_cast<const uint16_t*>(bytes.data()));
    }
    if (form == Form::kConv || form == Form::kConvFused) {
      front.raw = MultiStepInputs::Rows(num_rows, ConvDim(shape), seed + 9, -2, 2);
      front.conv_weight = RandomValues(4 * ConvDim(shape), seed + 10);
      front.conv_bias = RandomValues(ConvDim(shape), seed + 11);
    }
  }

  void Pack(int64_t out_dim, const uint16_t* row_major) {
    front.weights.assign(PackedBytes(out_dim, front.in_dim) / sizeof(uint16_t), 0);
    for (int64_t r = 0; r < out_dim; ++r) {
      for (int64_t k = 0; k < front.in_dim; ++k) {
        front.weights[PackedIndex(r, k, front.in_dim)] = row_major[r * front.in_dim + k];
      }
    }
  }

  Form form;
  MultiStepInputs in;
  Front front;
};

// A text decoded by passes that are cut, replayed, rejected and checkpointed at random.
class Session {
 public:
  Session(const Text& text, int64_t log_rows, int64_t snapshot_rows, int64_t ring_rows)
      : text_(text), state_(text.in.shape, 2, log_rows, snapshot_rows) {
    ring_.assign(2 * ring_rows * ConvDim(text.in.shape), kPoison);
    ring_rows_ = ring_rows;
  }

  // The next `num_rows` rows, of which only the first `accepted` are the text's; the rest is of
  // another text and rolled back. `run` runs the pass. `form` replaces the text's own.
  template <class Run>
  void Pass(const Run& run, int32_t num_rows, int32_t accepted, int32_t new_checkpoint, Form form,
            std::vector<float>& output) {
    const MultiStepShape& shape = text_.in.shape;
    // A second sequence, of nothing, keeps the op from taking the pass for a prefill.
    HostRowPlan plan(
        {Rows(1, num_rows, checkpoint_, consumed_, new_checkpoint), Rows(0, 0, 0, 0, 0)});
    Text rows(shape, text_.form, num_rows, 1000 + consumed_, text_.front.in_dim);
    rows.front.weights = text_.front.weights;
    rows.front.conv_weight = text_.front.conv_weight;
    rows.front.conv_bias = text_.front.conv_bias;
    const auto take = [&](const std::vector<float>& from, std::vector<float>& to, int64_t dim) {
      if (from.empty()) return;
      const int64_t stride = dim + kGap;
      std::copy_n(from.begin() + consumed_ * stride, accepted * stride, to.begin());
    };
    take(text_.in.x, rows.in.x, shape.inner_dim());
    take(text_.in.z, rows.in.z, shape.z_dim());
    take(text_.in.dt, rows.in.dt, shape.delta_dim());
    take(text_.in.b, rows.in.b, shape.b_dim());
    take(text_.in.c, rows.in.c, shape.c_dim());
    take(text_.front.low, rows.front.low, text_.front.in_dim);
    take(text_.front.raw, rows.front.raw, ConvDim(shape));
    rows.front.ring = ring_;
    rows.front.ring_rows = ring_rows_;
    std::vector<float> out(num_rows * shape.inner_dim());
    run(form, rows.in, rows.front, state_, plan, out.data());
    ring_ = rows.front.ring;
    std::copy_n(out.begin(), accepted * shape.inner_dim(),
                output.begin() + consumed_ * shape.inner_dim());
    consumed_ += accepted;
    checkpoint_ = new_checkpoint;
  }

  int32_t consumed() const { return consumed_; }
  int32_t checkpoint() const { return checkpoint_; }
  const MultiStepState& state() const { return state_; }
  const std::vector<float>& ring() const { return ring_; }
  const float* CheckpointState() const {
    return state_.checkpoint.data() + text_.in.shape.state_elements();
  }

 private:
  const Text& text_;
  MultiStepState state_;
  std::vector<float> ring_;
  int64_t ring_rows_;
  int32_t consumed_ = 0;
  int32_t checkpoint_ = 0;
};

// Cuts `text` at random into passes of up to `max_rows` rows: calls pass(num_rows, accepted,
// new_checkpoint) until all is consumed. Some passes append onto entries that they replay.
template <class Pass>
void CutAtRandom(std::mt19937& random, int32_t num_tokens, int32_t log_rows, int32_t max_rows,
                 const Session& session, const Pass& pass) {
  while (session.consumed() < num_tokens) {
    const int32_t consumed = session.consumed(), checkpoint = session.checkpoint();
    const int32_t num_rows = 1 + random() % std::min(num_tokens - consumed, max_rows);
    // A pass that is too long for the ring of raw inputs is a prefill: nothing is rolled back.
    const int32_t accepted = num_rows > log_rows ? num_rows : random() % (num_rows + 1);
    const int32_t most = consumed + accepted;
    const int32_t least = std::max(checkpoint, consumed + num_rows - log_rows);
    if (least > most) continue;
    const int32_t new_checkpoint = least + random() % (most - least + 1);
    pass(num_rows, accepted, new_checkpoint);
    // Replayed is at most what the log holds.
    if (session.consumed() - session.checkpoint() > log_rows) FAIL() << "the test's cuts are wrong";
  }
}

TEST_F(MultiStepCudaTest, AnySplitGivesTheBitsOfOnePass) {
  constexpr int32_t kTokens{50};
  const auto run = [this](auto&&... args) { Run(args...); };
  for (const Form form :
       {Form::kPlain, Form::kLinearBFloat16, Form::kLinearFloat16, Form::kConv, Form::kConvFused}) {
    for (const MultiStepShape& shape : Shapes()) {
      const bool is_conv = form == Form::kConv || form == Form::kConvFused;
      if (form != Form::kPlain && (is_conv ? !shape.is_mamba2() : !shape.is_mamba1())) continue;
      SCOPED_TRACE(shape.Name() + " form " + std::to_string(static_cast<int>(form)));
      const Text text(shape, form, kTokens, 20, form == Form::kLinearFloat16 ? 35 : 176);
      const int64_t size = kTokens * shape.inner_dim();
      std::vector<float> expected(size);
      Session one_pass(text, kTokens, 0, kTokens + 3);
      one_pass.Pass(run, kTokens, kTokens, kTokens, form, expected);
      const int num_seeds = shape.state_elements() > 8000 ? 3 : 8;
      for (int seed = 0; seed < num_seeds; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::mt19937 random(seed);
        const int32_t log_rows = 3 + random() % 14;
        // Room for what a pass of log_rows rows can roll back.
        Session session(text, log_rows, 0, log_rows + 3);
        std::vector<float> actual(size);
        CutAtRandom(random, kTokens, log_rows, 24, session,
                    [&](int32_t num_rows, int32_t accepted, int32_t new_checkpoint) {
                      session.Pass(run, num_rows, accepted, new_checkpoint, form, actual);
                    });
        ASSERT_TRUE(SameBits(actual, expected));
        session.Pass(run, 0, 0, kTokens, form, actual);  // settles
        ASSERT_TRUE(SameBits(session.CheckpointState(), one_pass.CheckpointState(),
                             shape.state_elements()));
      }
    }
  }
}

// Fused or not: outputs, states, logs and windows after every pass.
TEST_F(MultiStepCudaTest, ConvolutionFusedOrNotGivesTheSameBits) {
  constexpr int32_t kTokens{60};
  const auto run = [this](auto&&... args) { Run(args...); };
  for (const MultiStepShape& shape : Shapes()) {
    if (!shape.is_mamba2()) continue;
    SCOPED_TRACE(shape.Name());
    for (int seed = 0; seed < 6; ++seed) {
      SCOPED_TRACE("seed " + std::to_string(seed));
      Text text(shape, Form::kConvFused, kTokens, 40 + seed);
      if (seed % 3 == 2) text.front.conv_bias.clear();
      std::mt19937 random(seed);
      const int32_t log_rows = 3 + random() % 14;
      const int64_t snapshot_rows = seed == 5 ? 30 : 0;
      Session fused(text, log_rows, snapshot_rows, log_rows + 3);
      Session apart(text, log_rows, snapshot_rows, log_rows + 3);
      std::vector<float> fused_out(kTokens * shape.inner_dim()), apart_out = fused_out;
      CutAtRandom(random, kTokens, log_rows, 24, fused,
                  [&](int32_t num_rows, int32_t accepted, int32_t new_checkpoint) {
                    fused.Pass(run, num_rows, accepted, new_checkpoint, Form::kConvFused,
                               fused_out);
                    apart.Pass(run, num_rows, accepted, new_checkpoint, Form::kConv, apart_out);
                    EXPECT_TRUE(SameBits(fused.state(), apart.state()));
                    EXPECT_TRUE(SameBits(fused.ring(), apart.ring()));
                  });
      ASSERT_TRUE(SameBits(fused_out, apart_out));
    }
  }
}

// A product whose sums are exact in any order gives the time steps of the plain op, to the bit.
TEST_F(MultiStepCudaTest, ProductOfTimeStepsIsExact) {
  constexpr int32_t kRows{13};
  for (const int64_t in_dim : {1, 15, 48, 160, 176, 400}) {
    for (const int64_t channels : {1, 17, 31, 33, 100}) {
      for (const Form form : {Form::kLinearBFloat16, Form::kLinearFloat16}) {
        SCOPED_TRACE("in_dim " + std::to_string(in_dim) + " channels " + std::to_string(channels));
        const MultiStepShape shape{StepKind::kMamba1, 0, channels, 1, 16};
        Text text(shape, form, kRows, 50, in_dim);
        std::mt19937 random(5);
        std::vector<uint16_t> weights(channels * in_dim);
        std::vector<float> values(channels * in_dim);
        for (size_t i = 0; i < weights.size(); ++i) {
          // -1, -0.5, 0, 0.5 and 1; nearly one of a kind, so that a wrong place shows
          const int which = random() % 5;
          values[i] = static_cast<float>(which - 2) / 2;
          constexpr uint16_t kBFloat16[]{0xbf80, 0xbf00, 0, 0x3f00, 0x3f80};
          constexpr uint16_t kFloat16[]{0xbc00, 0xb800, 0, 0x3800, 0x3c00};
          weights[i] = form == Form::kLinearBFloat16 ? kBFloat16[which] : kFloat16[which];
        }
        text.Pack(channels, weights.data());
        for (int32_t r = 0; r < kRows; ++r) {
          std::vector<float> rounded(in_dim);
          for (int64_t k = 0; k < in_dim; ++k) {
            rounded[k] = static_cast<float>(static_cast<int>(random() % 64) - 32) / 256;
            // What is rounded away: less than half a unit in the last of bfloat16's 8 bits, and
            // of float16's 11.
            text.front.low[r * (in_dim + kGap) + k] = rounded[k] * (1 + 0x1p-13f);
          }
          for (int64_t c = 0; c < channels; ++c) {
            float dt = 0;
            for (int64_t k = 0; k < in_dim; ++k) dt += values[c * in_dim + k] * rounded[k];
            text.in.dt[r * (channels + kGap) + c] = dt;
          }
        }
        MultiStepState fused(shape, 1, 7, 0), apart(shape, 1, 7, 0);
        std::vector<float> fused_out(kRows * channels), apart_out(kRows * channels);
        HostRowPlan plan({Rows(0, kRows, 0, 0, 6)});
        Run(form, text.in, text.front, fused, plan, fused_out.data());
        Run(Form::kPlain, text.in, text.front, apart, plan, apart_out.data());
        EXPECT_TRUE(SameBits(fused_out, apart_out));
        EXPECT_TRUE(SameBits(fused, apart));
      }
    }
  }
}

TEST_F(MultiStepCudaTest, SnapshotsGiveTheBitsOfCheckpointAndLog) {
  constexpr int32_t kTokens{30};
  constexpr int64_t kSnapshots{8};
  const auto run = [this](auto&&... args) { Run(args...); };
  for (const MultiStepShape& shape : Shapes()) {
    SCOPED_TRACE(shape.Name());
    const Form form = shape.is_mamba2() ? Form::kConvFused : Form::kPlain;
    const Text text(shape, form, kTokens, 20);
    const int64_t size = kTokens * shape.inner_dim();
    std::vector<float> expected(size), actual(size);
    Session one_pass(text, kTokens, 0, kTokens + 3), session(text, 1, kSnapshots, kSnapshots + 3);
    one_pass.Pass(run, kTokens, kTokens, kTokens, form, expected);
    std::mt19937 random(3);
    while (session.consumed() < kTokens) {
      const int32_t most = std::min<int32_t>(kTokens - session.consumed(), kSnapshots - 1);
      const int32_t num_rows = 1 + random() % most;
      session.Pass(run, num_rows, random() % (num_rows + 1), 0, form, actual);
    }
    EXPECT_TRUE(SameBits(actual, expected));
    EXPECT_TRUE(SameBits(session.state().snapshots.data() +
                             (kSnapshots + kTokens % kSnapshots) * shape.state_elements(),
                         one_pass.CheckpointState(), shape.state_elements()));
  }
}

// A misaligned state takes other loads, not other bits.
TEST_F(MultiStepCudaTest, StateAlignmentDoesNotMatter) {
  for (const MultiStepShape& shape : Shapes()) {
    SCOPED_TRACE(shape.Name());
    const MultiStepInputs in(shape, 9, 60);
    MultiStepState aligned(shape, 2, 12, 0), misaligned(shape, 2, 12, 0);
    std::vector<float> aligned_out(9 * shape.inner_dim()), misaligned_out = aligned_out;
    HostRowPlan plan({Rows(1, 9, 0, 0, 4)});
    Front none;
    Run(Form::kPlain, in, none, aligned, plan, aligned_out.data());
    Run(Form::kPlain, in, none, misaligned, plan, misaligned_out.data(), true);
    EXPECT_TRUE(SameBits(aligned_out, misaligned_out));
    EXPECT_TRUE(SameBits(aligned, misaligned));
  }
}

// Many sequences at a time, among them ones that append onto log entries and raw inputs that other
// blocks still need: each has the bits it has alone, in every one of many runs.
TEST_F(MultiStepCudaTest, SequencesStandAloneHoweverBlocksAreScheduled) {
  constexpr int32_t kSequences{40}, kLog{9}, kRing{12};
  constexpr int kRuns{20};
  for (const MultiStepShape& shape : {MultiStepShape{StepKind::kMamba1, 0, 1536, 1, 16},
                                      MultiStepShape{StepKind::kMamba1, 0, 1536, 96, 16},
                                      MultiStepShape{StepKind::kMamba1, 0, 1536, 4, 16},
                                      MultiStepShape{StepKind::kMamba2, 24, 64, 1, 128},
                                      MultiStepShape{StepKind::kMamba2, 4, 64, 2, 64},
                                      MultiStepShape{StepKind::kDeltaNet, 8, 64, 4, 128},
                                      MultiStepShape{StepKind::kDeltaNet, 12, 33, 3, 16}}) {
    SCOPED_TRACE(shape.Name());
    const Form form = UsualForm(shape);
    std::vector<SequenceRows> first, second;
    for (int32_t i = 0; i < kSequences; ++i) {
      const int32_t slot = i * 7 % kSequences;  // 7 and 40 have no common factor
      first.push_back(Rows(slot, 8, 0, 0, i % 4));
      // Every other sequence decodes; the rest takes more rows than log and ring have.
      second.push_back(i % 2 == 0 ? Rows(slot, 1 + i % 5, i % 4, i % 4 + 3, i % 4)
                                  : Rows(slot, 10 + i % 7, i % 4, 8, 16));
    }
    HostRowPlan first_plan(first), second_plan(second);
    Text first_text(shape, form, first_plan.num_rows(), 70);
    Text second_text(shape, form, second_plan.num_rows(), 80);
    second_text.front.weights = first_text.front.weights;
    second_text.front.conv_weight = first_text.front.conv_weight;
    second_text.front.conv_bias = first_text.front.conv_bias;
    MultiStepState start(shape, kSequences, kLog, 0);
    first_text.front.ring.assign(kSequences * kRing * ConvDim(shape), kPoison);
    first_text.front.ring_rows = second_text.front.ring_rows = kRing;
    std::vector<float> unused(first_plan.num_rows() * shape.inner_dim());
    Run(form, first_text.in, first_text.front, start, first_plan, unused.data());

    // One sequence at a time.
    MultiStepState expected = start;
    std::vector<float> expected_out(second_plan.num_rows() * shape.inner_dim());
    second_text.front.ring = first_text.front.ring;
    std::vector<float> expected_ring;
    for (int32_t i = 0; i < kSequences; ++i) {
      const SequenceRows& sequence = second_plan.sequence(i);
      HostRowPlan alone({sequence});
      Text part = second_text;
      for (std::vector<float>* values : {&part.in.x, &part.in.z, &part.in.dt, &part.in.b,
                                         &part.in.c, &part.front.low, &part.front.raw}) {
        const int64_t stride = values->size() / second_plan.num_rows();
        values->erase(values->begin(), values->begin() + sequence.first_row * stride);
      }
      part.front.ring = i == 0 ? second_text.front.ring : expected_ring;
      Run(form, part.in, part.front, expected, alone,
          expected_out.data() + sequence.first_row * shape.inner_dim());
      expected_ring = part.front.ring;
    }
    for (int repeat = 0; repeat < kRuns; ++repeat) {
      MultiStepState actual = start;
      second_text.front.ring = first_text.front.ring;
      std::vector<float> actual_out(expected_out.size());
      Run(form, second_text.in, second_text.front, actual, second_plan, actual_out.data());
      ASSERT_TRUE(SameBits(actual_out, expected_out)) << "run " << repeat;
      ASSERT_TRUE(SameBits(actual, expected)) << "run " << repeat;
      ASSERT_TRUE(SameBits(second_text.front.ring, expected_ring)) << "run " << repeat;
    }
  }
}

// A prefill of many rows gives the bits of short passes, and its state.
TEST_F(MultiStepCudaTest, LongPrefill) {
  constexpr int32_t kTokens{700}, kLog{20}, kRows{9};
  const auto run = [this](auto&&... args) { Run(args...); };
  for (const MultiStepShape& shape : {MultiStepShape{StepKind::kMamba1, 0, 130, 1, 16},
                                      MultiStepShape{StepKind::kMamba1, 0, 130, 10, 16},
                                      MultiStepShape{StepKind::kMamba2, 3, 64, 1, 128},
                                      MultiStepShape{StepKind::kDeltaNet, 4, 64, 2, 128}}) {
    SCOPED_TRACE(shape.Name());
    const Form form = UsualForm(shape);
    const Text text(shape, form, kTokens, 90);
    std::vector<float> expected(kTokens * shape.inner_dim()), actual = expected;
    Session prefill(text, kLog, 0, kLog + 3), decode(text, kLog, 0, kLog + 3);
    prefill.Pass(run, kTokens, kTokens, kTokens - 5, form, expected);
    while (decode.consumed() < kTokens) {
      const int32_t rows = std::min(kRows, kTokens - decode.consumed());
      const int32_t end = decode.consumed() + rows;
      decode.Pass(run, rows, rows, end == kTokens ? kTokens - 5 : end - 3, form, actual);
    }
    EXPECT_TRUE(SameBits(actual, expected));
    EXPECT_TRUE(SameBits(decode.state().checkpoint, prefill.state().checkpoint));
  }
}

TEST_F(MultiStepCudaTest, StatesBeyondTheLimitsAreRefused) {
  for (const MultiStepShape& shape : {MultiStepShape{StepKind::kMamba2, 1, 1, 1, 257},
                                      MultiStepShape{StepKind::kMamba1, 0, 1, 1, 129},
                                      MultiStepShape{StepKind::kMamba1, 0, 32, 32, 9},
                                      MultiStepShape{StepKind::kDeltaNet, 1, 1, 1, 257}}) {
    SCOPED_TRACE(shape.Name());
    MultiStepState state(shape, 1, 1, 0);
    HostRowPlan plan({Rows(0, 0, 0, 0, 0)});
    const MultiStepInputs in(shape, 1, 0);
    RunMultiStep(Implementation::kBackend, ctx(), in, state, plan.plan(), nullptr);
    EXPECT_NE(ctx().cuda->failure, 0);
    ctx().cuda->failure = 0;
  }
}

}  // namespace
}  // namespace sidewinder
