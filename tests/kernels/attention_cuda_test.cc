#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "tests/testing/attention_cases.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/device_row_plan.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::AttentionPass;
using testing::AttentionRows;
using testing::AttentionShape;
using testing::AttentionShapes;
using testing::DeviceArray;
using testing::DeviceRowPlan;
using testing::ExpectWithin;

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16};

// Rows [begin, begin + num_rows) of a pass.
struct Rows {
  int32_t begin, num_rows;
};

class AttentionCudaTest : public testing::CudaTest {
 protected:
  // Runs the op on a copy of the pass in device memory; output and cache come back. `slack`: by how
  // much the maxima of rows and sequences exceed what there is.
  void Run(AttentionPass& pass, int32_t slack = 0, bool in_place = false) {
    AttentionParams params = pass.Params();
    const DeviceRowPlan plan(params.plan, [&](const auto& values) { return Upload(values); });
    const int64_t keys = params.key - params.query, values = params.value - params.query;
    const DeviceArray<float> inputs = Upload(pass.inputs(), /*misalign=*/true);
    const DeviceArray<float> query_norm = Upload(pass.query_norm(), true);
    const DeviceArray<float> key_norm = Upload(pass.key_norm(), true);
    const DeviceArray<float> inv_freq = Upload(pass.inv_freq(), true);
    const DeviceArray<float> output = Upload(pass.output(), true);
    const DeviceArray<char> cache =
        Upload(std::vector<char>(pass.cache().data(), pass.cache().data() + pass.cache().size()));
    std::vector<DeviceArray<void*>> tables;
    std::vector<void* const*> pointers;
    for (int64_t slot = 0; slot < pass.cache().slots(); ++slot) {
      tables.push_back(Upload(pass.cache().Table(cache.data(), slot)));
      pointers.push_back(tables.back().data());
    }
    const DeviceArray<void* const*> table_pointers = Upload(pointers);
    params.query = inputs.data();
    params.key = inputs.data() + keys;
    params.value = inputs.data() + values;
    if (params.query_norm != nullptr) params.query_norm = query_norm.data();
    if (params.key_norm != nullptr) params.key_norm = key_norm.data();
    if (params.inv_freq != nullptr) params.inv_freq = inv_freq.data();
    params.output = in_place ? inputs.data() : output.data();
    if (in_place) params.output_stride = params.query_stride;
    params.cache.tables = table_pointers.data();
    params.plan = plan.plan();
    params.plan.max_rows += slack;
    params.plan.max_sequences += slack;
    Attention(ctx(), params);
    (in_place ? pass.inputs() : pass.output()) = (in_place ? inputs : output).Download();
    const std::vector<char> bytes = cache.Download();
    std::copy(bytes.begin(), bytes.end(), pass.cache().data());
    EXPECT_TRUE(output.Intact() && inputs.Intact() && cache.Intact());
  }

  // The parts of a pass that was run, alone and in two kinds of company, have its bits.
  void ExpectPartsLike(AttentionPass& whole, const std::vector<Rows>& parts) {
    std::vector<SequenceRows> many, others = {AttentionRows(2, 7, 30), AttentionRows(1, 0, 3)};
    for (int32_t slot = 1; slot < whole.cache().slots(); ++slot) {
      many.push_back(AttentionRows(slot, 1 + slot % 3, slot));
    }
    for (const Rows& rows : parts) {
      for (const std::vector<SequenceRows>& company : {{}, others, many}) {
        SCOPED_TRACE("rows from " + std::to_string(rows.begin) + ", beside " +
                     std::to_string(company.size()) + " sequences");
        AttentionPass part = whole.Part(rows.begin, rows.num_rows, company, 99);
        Run(part, company.empty() ? 0 : 20);
        whole.ExpectSameBits(part, rows.begin, rows.num_rows);
      }
    }
  }
};

// Ragged batches in scattered slots, around the edges of pages and segments; what holds nothing
// yet is NaN.
TEST_F(AttentionCudaTest, MatchesReferenceOnRaggedPlans) {
  std::vector<AttentionShape> shapes = AttentionShapes();
  shapes.push_back({16, 1, 64});
  shapes.push_back({40, 2, 96, 96, 200});
  for (AttentionShape shape : shapes) {
    for (const DType dtype : kDTypes) {
      shape.dtype = dtype;
      SCOPED_TRACE(::testing::PrintToString(shape));
      const bool exact = !shape.norms && shape.rotary_dim == 0;
      AttentionPass actual(
          shape,
          {AttentionRows(4, 1, 63), AttentionRows(0, 5, 126), AttentionRows(3, 3, 0),
           AttentionRows(1, 0, 50), AttentionRows(2, 20, 250), AttentionRows(5, 2, 600)},
          7, exact);
      AttentionPass expected = actual.Expected();
      const std::vector<float> magnitude = actual.Magnitude();
      Run(actual);
      ExpectWithin(actual.output().data(), expected.output().data(), magnitude.data(),
                   static_cast<int64_t>(magnitude.size()), actual.Error().CudaRoundings(exact),
                   "output");
      actual.ExpectCache(expected);
    }
  }
}

// One sequence of one row, of few rows, and of many.
TEST_F(AttentionCudaTest, MatchesReferenceOnOneSequence) {
  for (const int64_t head_dim : {64, 80, 128, 224}) {
    for (const int32_t rows : {1, 5, 100}) {
      const AttentionShape shape{8, 2, head_dim, 0, 0, false, DType::kBFloat16};
      SCOPED_TRACE(::testing::PrintToString(shape) + " rows " + std::to_string(rows));
      AttentionPass actual(shape, {AttentionRows(0, rows, 500)}, 3, true);
      AttentionPass expected = actual.Expected();
      const std::vector<float> magnitude = actual.Magnitude();
      Run(actual);
      ExpectWithin(actual.output().data(), expected.output().data(), magnitude.data(),
                   static_cast<int64_t>(magnitude.size()), actual.Error().CudaRoundings(true),
                   "output");
      actual.ExpectCache(expected);
    }
  }
}

// Rows that were reached by prefill, one by one, or some at a time, alone or in a batch.
TEST_F(AttentionCudaTest, RowsHaveTheSameBitsHoweverReached) {
  for (AttentionShape shape : {AttentionShape{8, 2, 128, 128, 0, true},
                               {5, 1, 80, 32, 300, true},
                               {4, 1, 20, 0, 70},
                               {3, 3, 6, 6, 0},
                               {4, 2, 224, 112, 0, true}}) {
    for (const DType dtype : kDTypes) {
      shape.dtype = dtype;
      SCOPED_TRACE(::testing::PrintToString(shape));
      AttentionPass whole(shape, {AttentionRows(0, 600, 0)}, 5, false, /*min_slots=*/40);
      Run(whole);
      ExpectPartsLike(whole, {{0, 1},
                              {1, 1},
                              {0, 128},
                              {63, 2},
                              {127, 1},
                              {128, 1},
                              {120, 16},
                              {255, 3},
                              {383, 5},
                              {300, 300},
                              {599, 1}});
    }
  }
}

// Positions beyond several groups of segments.
TEST_F(AttentionCudaTest, LongContextsHaveTheSameBits) {
  for (const int64_t window : {0, 9000}) {
    for (const DType dtype : kDTypes) {
      const AttentionShape shape{4, 2, 16, 0, window, false, dtype};
      SCOPED_TRACE(::testing::PrintToString(shape));
      AttentionPass whole(shape, {AttentionRows(0, 150, 20400)}, 5, true, /*min_slots=*/40);
      Run(whole);
      ExpectPartsLike(whole, {{0, 1}, {50, 16}, {78, 3}, {80, 1}, {149, 1}});
      AttentionPass one(shape, {AttentionRows(0, 1, 20400)}, 5, true);
      const AttentionPass expected = one.Expected();
      const std::vector<float> magnitude = one.Magnitude();
      Run(one);
      ExpectWithin(one.output().data(), AttentionPass(expected).output().data(), magnitude.data(),
                   static_cast<int64_t>(magnitude.size()), one.Error().CudaRoundings(true),
                   "output");
    }
  }
}

// However many blocks there are and however little they may leave in the workspace.
TEST_F(AttentionCudaTest, BitsDoNotDependOnTheSplit) {
  CudaContext& cuda = *ctx().cuda;
  const CudaContext before = cuda;
  for (const int32_t rows : {1, 5}) {
    const AttentionShape shape{4, 2, 16, 0, 0, false, DType::kBFloat16};
    AttentionPass whole(shape, {AttentionRows(0, rows, 9000)}, 5);
    const AttentionPass start = whole;
    Run(whole);
    for (const int32_t multiprocessors : {1, 3, 17, 132}) {
      for (const size_t bytes : {0, 2000, 20000, 200000, 2000000}) {
        SCOPED_TRACE(std::to_string(multiprocessors) + " multiprocessors, " +
                     std::to_string(bytes) + " bytes");
        cuda.num_multiprocessors = multiprocessors;
        cuda.workspace_bytes = kWorkspaceCounterBytes + bytes;
        AttentionPass part = start;
        Run(part);
        EXPECT_EQ(part.output(), whole.output());
      }
    }
  }
  cuda = before;
}

TEST_F(AttentionCudaTest, OutputMayBeTheQueries) {
  for (const DType dtype : kDTypes) {
    const AttentionShape shape{6, 2, 20, 10, 0, true, dtype};
    AttentionPass apart(shape, {AttentionRows(0, 3, 500)}, 3);
    AttentionPass in_place = apart;
    Run(apart);
    Run(in_place, 0, /*in_place=*/true);
    for (int64_t r = 0; r < apart.num_rows(); ++r) {
      EXPECT_EQ(std::memcmp(in_place.inputs().data() + r * apart.stride(),
                            apart.output().data() + r * apart.output_stride(), 120 * sizeof(float)),
                0);
      EXPECT_EQ(in_place.inputs()[r * apart.stride() + 120],
                apart.inputs()[r * apart.stride() + 120]);
    }
  }
}

TEST_F(AttentionCudaTest, PlanWithoutRows) {
  for (const DType dtype : kDTypes) {
    AttentionPass pass({4, 2, 6, 0, 0, false, dtype}, {AttentionRows(0, 0, 9)}, 1);
    AttentionPass before = pass;
    Run(pass);
    Run(pass, /*slack=*/3);
    pass.ExpectCache(before);
  }
}

}  // namespace
}  // namespace sidewinder
