// What the tests of CausalConv on both backends share.
#ifndef SIDEWINDER_TESTS_TESTING_CAUSAL_CONV_CASES_H_
#define SIDEWINDER_TESTS_TESTING_CAUSAL_CONV_CASES_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/causal_conv.h"
#include "tests/testing/guarded_buffer.h"
#include "tests/testing/host_row_plan.h"
#include "tests/testing/random_values.h"

namespace sidewinder::testing {

inline SequenceRows ConvRows(int32_t slot, int32_t num_rows, int32_t consumed) {
  return {.slot = slot,
          .first_row = 0,
          .num_rows = num_rows,
          .checkpoint = 0,
          .consumed = consumed,
          .new_checkpoint = 0};
}

// Sequences of different lengths in scattered slots, and what the reference makes of them. What is
// not theirs is poison.
struct RaggedConv {
  static constexpr int64_t kSlots{6};

  RaggedConv(int64_t dim, int64_t width)
      : plan({ConvRows(4, 1, 2), ConvRows(0, 71, 5), ConvRows(3, 5, 0), ConvRows(1, 33, 50),
              ConvRows(5, 0, 7)}),
        ring_rows(width + 3),
        input(RandomValues(plan.num_rows() * (dim + 1), 1)),
        weight(RandomValues(width * dim, 2)),
        bias(RandomValues(dim, 3)),
        output(plan.num_rows() * (dim + 2), 77),
        ring(kSlots * ring_rows * dim, kPoison) {
    for (int s = 0; s < 5; ++s) {
      const SequenceRows& seq = plan.sequence(s);
      for (int64_t q = std::max<int64_t>(0, seq.consumed - width + 1); q < seq.consumed; ++q) {
        const std::vector<float> past = RandomValues(dim, 100 * s + q);
        std::copy(past.begin(), past.end(),
                  ring.begin() + (seq.slot * ring_rows + q % ring_rows) * dim);
      }
    }
    expected = output;
    expected_ring = ring;
    params = {.input = input.data(),
              .weight = weight.data(),
              .bias = bias.data(),
              .output = expected.data(),
              .ring = expected_ring.data(),
              .dim = dim,
              .width = width,
              .input_stride = dim + 1,
              .output_stride = dim + 2,
              .ring_rows = ring_rows,
              .plan = plan.plan()};
    CausalConvRef(params);
    magnitude.assign(expected.size(), static_cast<float>(width) + 1);
  }
  RaggedConv(const RaggedConv&) = delete;

  std::string Name() const {
    return "dim " + std::to_string(params.dim) + " width " + std::to_string(params.width);
  }

  HostRowPlan plan;
  int64_t ring_rows;
  std::vector<float> input, weight, bias;
  std::vector<float> output, ring;  // before the op
  std::vector<float> expected, magnitude, expected_ring;
  CausalConvParams params;  // of the arrays above, writing the expected ones
};

// Any split of a text into passes, with rejected rows in between, gives the bits of one pass.
// run(params, num_rows, output, ring) runs the op, on these vectors instead of params' own.
template <class Run>
void ExpectAnySplitGivesTheBitsOfOnePass(int64_t width, uint32_t num_seeds, const Run& run) {
  constexpr int64_t kDim{37};
  constexpr int32_t kTokens{200}, kMaxRows{6}, kLongRows{90};
  const int64_t ring_rows = width - 1 + kMaxRows;
  const std::vector<float> input = RandomValues(kTokens * kDim, 1);
  const std::vector<float> weight = RandomValues(width * kDim, 2);
  std::vector<float> ring(ring_rows * kDim, kPoison);
  const auto pass = [&](const float* from, std::vector<float>& to, int32_t consumed,
                        int32_t num_rows) {
    HostRowPlan plan({ConvRows(0, num_rows, consumed)});
    run({.input = from,
         .weight = weight.data(),
         .bias = nullptr,
         .output = nullptr,
         .ring = nullptr,
         .dim = kDim,
         .width = width,
         .input_stride = kDim,
         .output_stride = kDim,
         .ring_rows = ring_rows,
         .plan = plan.plan()},
        num_rows, to, ring);
  };
  std::vector<float> expected(kTokens * kDim);
  pass(input.data(), expected, 0, kTokens);
  for (uint32_t seed = 0; seed < num_seeds; ++seed) {
    SCOPED_TRACE("width " + std::to_string(width) + " seed " + std::to_string(seed));
    std::mt19937 random(seed);
    std::vector<float> actual(kTokens * kDim);
    ring.assign(ring_rows * kDim, kPoison);
    for (int32_t consumed = 0; consumed < kTokens;) {
      // Long passes are prefills: all their rows stay.
      const bool is_long = random() % 8 == 0;
      const int32_t rows =
          std::min<int32_t>(kTokens - consumed, 1 + random() % (is_long ? kLongRows : kMaxRows));
      const int32_t accepted = is_long ? rows : random() % (rows + 1);
      std::vector<float> drafted(input.begin() + consumed * kDim,
                                 input.begin() + (consumed + rows) * kDim);
      for (int64_t i = accepted * kDim; i < rows * kDim; ++i) drafted[i] = 1e6f;  // rejected
      std::vector<float> out(rows * kDim);
      pass(drafted.data(), out, consumed, rows);
      std::copy_n(out.begin(), accepted * kDim, actual.begin() + consumed * kDim);
      consumed += accepted;
    }
    ASSERT_EQ(std::memcmp(actual.data(), expected.data(), expected.size() * sizeof(float)), 0);
  }
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_CAUSAL_CONV_CASES_H_
