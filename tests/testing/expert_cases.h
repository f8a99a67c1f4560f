// What the tests of the experts' ops on both backends share.
#ifndef SIDEWINDER_TESTS_TESTING_EXPERT_CASES_H_
#define SIDEWINDER_TESTS_TESTING_EXPERT_CASES_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/experts.h"

namespace sidewinder::testing {

struct RouteCase {
  int64_t num_experts, num_chosen, num_groups, num_chosen_groups;
  ExpertScore score;
  bool correction, normalize;
  float scale;

  std::string Name() const {
    return std::to_string(num_chosen) + " of " + std::to_string(num_experts) + ", " +
           std::to_string(num_chosen_groups) + " of " + std::to_string(num_groups) +
           " groups, score " + std::to_string(static_cast<int>(score));
  }
};

// With what tests draw for them (517 rows of logits in [-4, 4) from seed 1, corrections in [-0.5,
// 0.5) from seed 2) no two scores that a choice hangs on are closer than 7e-6 of their size, so
// that float32 chooses as the reference does.
inline constexpr RouteCase kRouteCases[] = {
    {1, 1, 1, 1, ExpertScore::kSoftmax, false, false, 1},
    {1, 1, 1, 1, ExpertScore::kSigmoid, true, true, 2.5f},
    {5, 3, 1, 1, ExpertScore::kSoftmax, false, true, 1},
    {5, 5, 5, 5, ExpertScore::kSoftmaxChosen, false, false, 1},
    {16, 2, 1, 1, ExpertScore::kSoftmax, false, false, 1},   // Jamba
    {31, 7, 31, 9, ExpertScore::kSigmoid, false, false, 1},  // groups of one
    {32, 4, 4, 2, ExpertScore::kSoftmax, true, true, 0.5f},
    {33, 32, 3, 3, ExpertScore::kSoftmaxChosen, true, false, 1},
    {72, 10, 1, 1, ExpertScore::kSoftmaxChosen, false, false, 1},  // granite-4.0-h-small
    {128, 6, 1, 1, ExpertScore::kSigmoid, true, true, 2.5f},       // Nemotron-H
    {256, 8, 8, 4, ExpertScore::kSigmoid, true, true, 2.5f},
    {1023, 17, 3, 2, ExpertScore::kSoftmax, false, false, 1},
    {1024, 32, 1, 1, ExpertScore::kSoftmax, false, false, 1}};

inline RouteExpertsParams RouteParams(const RouteCase& c) {
  return {.choices = {.num_experts = c.num_experts, .num_chosen = c.num_chosen},
          .score = c.score,
          .num_groups = c.num_groups,
          .num_chosen_groups = c.num_chosen_groups,
          .normalize = c.normalize,
          .scale = c.scale};
}

// Choices of rows in host memory.
struct HostChoices {
  static constexpr int32_t kUnset{-77};
  std::vector<int32_t> experts, order, offsets;
  std::vector<float> weights;
  int64_t num_experts, num_chosen;

  // All unset; one element behind each array that nobody may touch.
  HostChoices(int64_t rows, int64_t num_experts, int64_t num_chosen)
      : experts(rows * num_chosen + 1, kUnset),
        order(rows * num_chosen + 1, kUnset),
        offsets(num_experts + 2, kUnset),
        weights(rows * num_chosen + 1, static_cast<float>(kUnset)),
        num_experts(num_experts),
        num_chosen(num_chosen) {}

  // Of given experts, ascending in each row, with weights that differ.
  HostChoices(const std::vector<std::vector<int32_t>>& rows, int64_t num_experts)
      : HostChoices(static_cast<int64_t>(rows.size()), num_experts,
                    rows.empty() ? 1 : static_cast<int64_t>(rows[0].size())) {
    for (size_t i = 0; i + 1 < experts.size(); ++i) {
      experts[i] = rows[i / num_chosen][i % num_chosen];
      weights[i] = 0.25f + 0.01f * static_cast<float>(i);
    }
    int32_t end = 0;
    for (int32_t e = 0; e < num_experts; ++e) {
      offsets[e] = end;
      for (size_t i = 0; i + 1 < experts.size(); ++i) {
        if (experts[i] == e) order[end++] = static_cast<int32_t>(i);
      }
    }
    offsets[num_experts] = end;
  }

  ExpertChoices View() {
    return {.experts = experts.data(),
            .weights = weights.data(),
            .order = order.data(),
            .offsets = offsets.data(),
            .num_experts = num_experts,
            .num_chosen = num_chosen};
  }
};

// Experts of `rows` rows: spread over all of them, or the first `num_chosen` for every row.
inline std::vector<std::vector<int32_t>> SpreadChoices(int64_t rows, int64_t num_experts,
                                                       int64_t num_chosen, bool all_alike) {
  std::vector<std::vector<int32_t>> choices(rows);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < num_chosen; ++j) {
      const int64_t first = all_alike ? 0 : r * r + 3 * r;
      choices[r].push_back(static_cast<int32_t>((first + j) % num_experts));
    }
    std::sort(choices[r].begin(), choices[r].end());
  }
  return choices;
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_EXPERT_CASES_H_
