// Prefill of Mamba-2 on a GPU in whole chunks: against the reference, and bits that depend on
// positions alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/multistep.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/device_row_plan.h"
#include "tests/testing/multistep_cases.h"

namespace sidewinder {
namespace {

using testing::DeviceArray;
using testing::DeviceRowPlan;
using testing::ExpectWithin;
using testing::GuardedBuffer;
using testing::kPoison;
using testing::kUnitRoundoff;
using testing::MultiStepChunkRoundings;
using testing::MultiStepInputs;
using testing::MultiStepShape;
using testing::MultiStepState;
using testing::RandomValues;
using testing::StepKind;

constexpr int64_t kLogRows{24};
constexpr MultiStepShape kShapes[]{{StepKind::kMamba2, 3, 64, 1, 128},
                                   {StepKind::kMamba2, 5, 64, 5, 64},
                                   {StepKind::kMamba2, 6, 64, 3, 128},
                                   {StepKind::kMamba2, 2, 128, 1, 64},
                                   {StepKind::kMamba2, 1, 192, 1, 128}};

// What a pass does to the text in a slot, from where the text stands.
struct Share {
  int32_t slot;
  int32_t num_rows;
  int32_t new_checkpoint;
};

// Some texts, one behind the other in the arrays of inputs and outputs, each in the slot of its
// number. `gap`: elements behind a row; a multiple of 4 goes with aligned arrays.
struct Texts {
  Texts(const MultiStepShape& shape, std::vector<int32_t> lengths, uint32_t seed, int64_t gap = 4,
        int64_t snapshot_rows = 0)
      : gap(gap),
        first_rows(lengths.size() + 1),
        cursors(lengths.size()),
        in(shape, Sum(lengths), seed),
        state(shape, static_cast<int64_t>(lengths.size()), snapshot_rows > 0 ? 1 : kLogRows,
              snapshot_rows),
        output(Sum(lengths) * shape.inner_dim(), kPoison) {
    for (size_t i = 0; i < lengths.size(); ++i) first_rows[i + 1] = first_rows[i] + lengths[i];
  }

  static int64_t Sum(const std::vector<int32_t>& lengths) {
    int64_t sum = 0;
    for (const int32_t length : lengths) sum += length;
    return sum;
  }

  // Plans the shares and moves the cursors.
  std::vector<SequenceRows> Plan(const std::vector<Share>& shares) {
    std::vector<SequenceRows> sequences;
    for (const Share& share : shares) {
      StateCursor& cursor = cursors[share.slot];
      sequences.push_back({.slot = share.slot,
                           .first_row = first_rows[share.slot] + cursor.consumed,
                           .num_rows = share.num_rows,
                           .checkpoint = cursor.checkpoint,
                           .consumed = cursor.consumed,
                           .new_checkpoint = share.new_checkpoint});
      cursor = {.checkpoint = share.new_checkpoint, .consumed = cursor.consumed + share.num_rows};
    }
    return sequences;
  }

  // The outputs of a text, and the state of a settled one.
  std::vector<float> OutputOf(int32_t slot) const {
    const int64_t dim = in.shape.inner_dim();
    return {output.begin() + first_rows[slot] * dim, output.begin() + first_rows[slot + 1] * dim};
  }
  std::vector<float> StateOf(int32_t slot) const {
    const int64_t size = in.shape.state_elements();
    const float* states = state.checkpoint.data() + slot * size;
    if (state.num_snapshot_rows > 0) {
      const int64_t entry = cursors[slot].consumed % state.num_snapshot_rows;
      states = state.snapshots.data() + (slot * state.num_snapshot_rows + entry) * size;
    }
    return {states, states + size};
  }

  int64_t gap;
  std::vector<int32_t> first_rows;
  std::vector<StateCursor> cursors;
  MultiStepInputs in;
  MultiStepState state;
  std::vector<float> output;
};

// A plan in ordinary memory.
struct PlanMemory {
  explicit PlanMemory(std::vector<SequenceRows> rows) : sequences(std::move(rows)) {
    for (const SequenceRows& sequence : sequences) num_rows += sequence.num_rows;
    num_sequences = static_cast<int32_t>(sequences.size());
    indices.resize(num_rows);
  }
  RowPlan plan() {
    return {.num_rows = &num_rows,
            .num_sequences = &num_sequences,
            .num_logit_rows = &num_rows,
            .tokens = indices.data(),
            .sequences = sequences.data(),
            .logit_rows = indices.data(),
            .max_rows = num_rows,
            .max_sequences = num_sequences};
  }

  std::vector<SequenceRows> sequences;
  std::vector<int32_t> indices;
  int32_t num_rows = 0;
  int32_t num_sequences = 0;
};

class MultiStepChunksCudaTest : public testing::CudaTest {
 protected:
  // Runs one pass on copies in device memory.
  void Pass(Texts& texts, const std::vector<Share>& shares, bool prefill = true) {
    const MultiStepShape& shape = texts.in.shape;
    PlanMemory memory(texts.Plan(shares));
    const DeviceRowPlan device_plan(memory.plan(), [&](const auto& v) { return Upload(v); });
    RowPlan plan = device_plan.plan();
    plan.prefill = prefill;
    const bool misalign = texts.gap % 4 != 0;
    const auto rows = [&](const std::vector<float>& values, int64_t dim) {
      const int64_t num_rows = static_cast<int64_t>(values.size()) / (dim + MultiStepInputs::kGap);
      std::vector<float> result(num_rows * (dim + texts.gap), kPoison);
      for (int64_t r = 0; r < num_rows; ++r) {
        std::copy_n(values.begin() + r * (dim + MultiStepInputs::kGap), dim,
                    result.begin() + r * (dim + texts.gap));
      }
      return Upload(result, misalign);
    };
    const auto upload = [&](const GuardedBuffer& buffer) {
      return Upload(std::vector<float>(buffer.data(), buffer.data() + buffer.size()));
    };
    const DeviceArray<float> x = rows(texts.in.x, shape.inner_dim());
    const DeviceArray<float> dt = rows(texts.in.dt, shape.num_heads);
    const DeviceArray<float> b = rows(texts.in.b, shape.b_dim());
    const DeviceArray<float> c = rows(texts.in.c, shape.b_dim());
    const DeviceArray<float> a = Upload(texts.in.a), d = Upload(texts.in.d);
    const DeviceArray<float> bias = Upload(texts.in.dt_bias), out = Upload(texts.output);
    MultiStepState& state = texts.state;
    const std::pair<GuardedBuffer*, DeviceArray<float>> arrays[]{
        {&state.checkpoint, upload(state.checkpoint)},
        {&state.log_x, upload(state.log_x)},
        {&state.log_delta, upload(state.log_delta)},
        {&state.log_b, upload(state.log_b)},
        {&state.snapshots, upload(state.snapshots)}};
    MultiStepMamba2Params p = Mamba2Params(texts.in, state, plan, out.data());
    p.x = x.data(), p.b = b.data(), p.c = c.data(), p.dt = dt.data();
    p.x_stride = shape.inner_dim() + texts.gap;
    p.b_stride = p.c_stride = shape.b_dim() + texts.gap;
    p.dt_stride = shape.num_heads + texts.gap;
    p.a = a.data(), p.d = d.data(), p.dt_bias = bias.data();
    p.state.checkpoint = arrays[0].second.data();
    p.state.log_x = arrays[1].second.data();
    p.state.log_delta = arrays[2].second.data();
    p.state.log_b = arrays[3].second.data();
    if (p.state.snapshots != nullptr) p.state.snapshots = arrays[4].second.data();
    MultiStepMamba2(ctx(), p);
    for (const auto& [host, device] : arrays) {
      const std::vector<float> values = device.Download();
      std::copy(values.begin(), values.end(), host->data());
      EXPECT_TRUE(device.Intact());
    }
    texts.output = out.Download();
    EXPECT_TRUE(out.Intact());
  }

  static void RunReference(Texts& texts, const std::vector<Share>& shares) {
    PlanMemory memory(texts.Plan(shares));
    MultiStepMamba2Ref(Mamba2Params(texts.in, texts.state, memory.plan(), texts.output.data()));
  }

  // Runs the passes on `actual` and compares with the reference's. `max_exponent`: the largest
  // |delta a| of a row that does not forget everything.
  void ExpectReference(Texts& actual, const std::vector<std::vector<Share>>& passes,
                       double max_exponent) {
    Texts expected = actual, magnitude = actual;
    magnitude.in = actual.in.Magnitude();
    for (const std::vector<Share>& shares : passes) {
      Pass(actual, shares);
      RunReference(expected, shares);
      RunReference(magnitude, shares);
    }
    int32_t steps = 0;
    for (const StateCursor& cursor : actual.cursors) steps = std::max(steps, cursor.consumed);
    const double roundings =
        MultiStepChunkRoundings(steps, actual.in.shape.state_dim, max_exponent);
    const auto compare = [&](const float* a, const float* e, const float* m, int64_t size,
                             const char* what) {
      ExpectWithin(a, e, m, size, roundings, what);
      // Errors of many products average out: their root mean square is below what one product may
      // be off by. A product with one part of three left out is not.
      double error = 0, scale = 0;
      for (int64_t i = 0; i < size; ++i) {
        if (!std::isfinite(e[i])) continue;
        error += std::pow(double{a[i]} - e[i], 2);
        scale += std::pow(double{m[i]}, 2);
      }
      constexpr double kProduct{48};
      EXPECT_LE(std::sqrt(error), kProduct * kUnitRoundoff * std::sqrt(scale)) << what;
    };
    const int64_t outputs = static_cast<int64_t>(actual.output.size());
    compare(actual.output.data(), expected.output.data(), magnitude.output.data(), outputs,
            "output");
    compare(actual.state.checkpoint.data(), expected.state.checkpoint.data(),
            magnitude.state.checkpoint.data(), actual.state.checkpoint.size(), "checkpoint");
  }
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Ragged texts with nothing, something and everything in whole chunks, from empty states; then on
// from where they stand, at multiples of a chunk and elsewhere, with log rows to replay.
TEST_F(MultiStepChunksCudaTest, MatchesReference) {
  for (const MultiStepShape& shape : kShapes) {
    for (const int64_t gap : {3, 4}) {
      SCOPED_TRACE(shape.Name() + " gap " + std::to_string(gap));
      Texts texts(shape, {63, 150, 64, 280, 192, 129}, 10, gap);
      // softplus(dt + dt_bias) is below 3.1
      texts.in.a = RandomValues(shape.num_heads, 6, -0.05f, -0.001f);
      const std::vector<Share> first = {
          {1, 20, 9}, {0, 62, 62}, {3, 200, 196}, {2, 64, 64}, {4, 128, 128}};
      const std::vector<Share> second = {
          {1, 130, 140}, {0, 1, 62}, {3, 80, 256}, {4, 64, 192}, {5, 129, 128}};
      ExpectReference(texts, {first, second}, 3.1 * 0.05);
    }
  }
}

TEST_F(MultiStepChunksCudaTest, EveryLength) {
  const MultiStepShape& shape = kShapes[0];
  for (int32_t length = 1; length <= 200; length += length % 64 < 2 || length % 64 > 61 ? 1 : 13) {
    SCOPED_TRACE("length " + std::to_string(length));
    Texts texts(shape, {length}, 20 + length);
    texts.in.a = RandomValues(shape.num_heads, 6, -0.05f, -0.001f);
    ExpectReference(texts, {{{0, length, length}}}, 3.1 * 0.05);
  }
}

// Rows that forget everything between rows that forget almost nothing, all contributing alike:
// decays are sums over the rows between two rows, and are not what is left of long sums.
TEST_F(MultiStepChunksCudaTest, LargeDecays) {
  constexpr float kRaw{1000}, kLeastDelta{0.001f};  // delta_min
  for (const MultiStepShape& shape : kShapes) {
    SCOPED_TRACE(shape.Name());
    Texts texts(shape, {256, 200}, 30);
    texts.in.a = RandomValues(shape.num_heads, 6, -90, -20);
    std::fill(texts.in.d.begin(), texts.in.d.end(), 0.0f);
    const auto row_of = [](std::vector<float>& values, int64_t dim, int64_t r) {
      return values.data() + r * (dim + MultiStepInputs::kGap);
    };
    for (int64_t r = 0; r < texts.first_rows.back(); ++r) {
      const bool forgets = r % kScanChunk < 40 || r % 29 == 3;
      std::fill_n(row_of(texts.in.dt, shape.num_heads, r), shape.num_heads, forgets ? kRaw : -kRaw);
      float* x = row_of(texts.in.x, shape.inner_dim(), r);
      for (int64_t i = 0; forgets && i < shape.inner_dim(); ++i) x[i] *= kLeastDelta / kRaw;
    }
    ExpectReference(texts, {{{0, 256, 256}, {1, 200, 192}}}, 90 * kLeastDelta);
    for (const float value : texts.output) ASSERT_TRUE(std::isfinite(value));
  }
}

// However a prompt is cut at multiples of a chunk, where its checkpoint falls behind the last one
// of these, in which company, and from aligned arrays or others.
TEST_F(MultiStepChunksCudaTest, CutsAndCompanyDoNotMatter) {
  constexpr int32_t kTokens{280};
  const std::vector<std::vector<Share>> cuts = {
      {{0, 280, 256}},
      {{0, 128, 128}, {0, 152, 279}},
      {{0, 64, 64}, {0, 64, 128}, {0, 64, 192}, {0, 64, 256}, {0, 24, 256}},
      {{0, 192, 192}, {0, 88, 260}}};
  for (const MultiStepShape& shape : kShapes) {
    SCOPED_TRACE(shape.Name());
    Texts whole(shape, {kTokens}, 40);
    Pass(whole, {{0, kTokens, kTokens}});
    const std::vector<float> expected = whole.OutputOf(0), expected_state = whole.StateOf(0);
    for (size_t i = 0; i < cuts.size(); ++i) {
      SCOPED_TRACE("cut " + std::to_string(i));
      Texts alone(shape, {kTokens}, 40, i % 2 == 0 ? 4 : 3);
      for (const Share& share : cuts[i]) Pass(alone, {share});
      Pass(alone, {{0, 0, kTokens}});  // settles
      EXPECT_TRUE(SameBits(alone.OutputOf(0), expected));
      EXPECT_TRUE(SameBits(alone.StateOf(0), expected_state));

      // The first text keeps its rows; what follows is of the same random numbers.
      Texts together(shape, {kTokens, 70, 131}, 40);
      for (size_t k = 0; k < cuts[i].size(); ++k) {
        std::vector<Share> shares = {cuts[i][k]};
        if (k == 0) shares.insert(shares.begin(), {{2, 131, 130}, {1, 70, 70}});
        Pass(together, shares);
      }
      Pass(together, {{0, 0, kTokens}});
      EXPECT_EQ(0, std::memcmp(together.in.x.data(), alone.in.x.data(),
                               alone.in.x.size() * sizeof(float)));
      EXPECT_TRUE(SameBits(together.OutputOf(0), expected));
      EXPECT_TRUE(SameBits(together.StateOf(0), expected_state));
    }
    // A snapshot for every row, but inside of chunks.
    Texts snapshots(shape, {kTokens}, 40, 4, 6);
    Pass(snapshots, {{0, 128, 128}});
    Pass(snapshots, {{0, 152, kTokens}});
    EXPECT_TRUE(SameBits(snapshots.OutputOf(0), expected));
    EXPECT_TRUE(SameBits(snapshots.StateOf(0), expected_state));
  }
}

// Rows outside of whole chunks, before and behind them, have the bits that decoding gives them.
TEST_F(MultiStepChunksCudaTest, OtherRowsAreDecoded) {
  constexpr int32_t kTokens{300}, kBegin{70};
  for (const MultiStepShape& shape : kShapes) {
    SCOPED_TRACE(shape.Name());
    Texts prefilled(shape, {kTokens}, 50), decoded(shape, {kTokens}, 50);
    Pass(prefilled, {{0, kBegin, 64}});
    Pass(prefilled, {{0, kTokens - kBegin, 290}});
    Pass(prefilled, {{0, 0, kTokens}});

    const auto decode_to = [&](int32_t stop) {
      while (decoded.cursors[0].consumed < stop) {
        const int32_t end = std::min(decoded.cursors[0].consumed + 9, stop);
        Pass(decoded, {{0, end - decoded.cursors[0].consumed, end}}, /*prefill=*/false);
      }
    };
    Pass(decoded, {{0, 64, 64}});
    decode_to(128);
    Pass(decoded, {{0, 128, 256}});
    decode_to(kTokens);
    EXPECT_TRUE(SameBits(decoded.OutputOf(0), prefilled.OutputOf(0)));
    EXPECT_TRUE(SameBits(decoded.StateOf(0), prefilled.StateOf(0)));

    // Whole chunks are another form of the recurrence, or nothing was tested.
    Texts in_order(shape, {kTokens}, 50);
    Pass(in_order, {{0, kTokens, kTokens}}, /*prefill=*/false);
    EXPECT_FALSE(SameBits(in_order.OutputOf(0), prefilled.OutputOf(0)));
  }
}

}  // namespace
}  // namespace sidewinder
