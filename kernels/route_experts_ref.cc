#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/experts.h"

namespace sidewinder {
namespace {

// The numbers of the `count` largest values, ascending.
std::vector<int32_t> Largest(const std::vector<double>& values, int64_t count) {
  std::vector<int32_t> numbers(values.size());
  std::iota(numbers.begin(), numbers.end(), 0);
  std::stable_sort(numbers.begin(), numbers.end(),
                   [&](int32_t a, int32_t b) { return values[a] > values[b]; });
  numbers.resize(count);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

std::vector<double> Softmax(std::vector<double> values) {
  const double largest = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (double& value : values) sum += value = std::exp(value - largest);
  for (double& value : values) value /= sum;
  return values;
}

// Scores of experts that are not considered become minus infinity.
void KeepChosenGroups(const RouteExpertsParams& p, std::vector<double>& scores) {
  const int64_t size = p.choices.num_experts / p.num_groups;
  std::vector<double> sums(p.num_groups);
  for (int64_t g = 0; g < p.num_groups; ++g) {
    std::vector<double> group(scores.begin() + g * size, scores.begin() + (g + 1) * size);
    std::sort(group.rbegin(), group.rend());
    sums[g] = group[0] + (size > 1 ? group[1] : 0);
  }
  const std::vector<int32_t> kept = Largest(sums, p.num_chosen_groups);
  for (int64_t e = 0; e < p.choices.num_experts; ++e) {
    if (!std::binary_search(kept.begin(), kept.end(), e / size)) scores[e] = -INFINITY;
  }
}

}  // namespace

void RouteExpertsRef(const RouteExpertsParams& p) {
  const ExpertChoices& c = p.choices;
  std::vector<std::vector<int32_t>> by_expert(c.num_experts);
  for (int64_t r = 0; r < *p.num_rows; ++r) {
    const float* logits = p.logits + r * c.num_experts;
    std::vector<double> scores(logits, logits + c.num_experts);
    if (p.score == ExpertScore::kSoftmax) scores = Softmax(scores);
    if (p.score == ExpertScore::kSigmoid) {
      for (double& score : scores) score = 1 / (1 + std::exp(-score));
    }
    std::vector<double> corrected = scores;
    for (int64_t e = 0; e < c.num_experts; ++e) {
      if (p.correction != nullptr) corrected[e] += p.correction[e];
    }
    if (p.num_groups > 1) KeepChosenGroups(p, corrected);
    const std::vector<int32_t> chosen = Largest(corrected, c.num_chosen);
    std::vector<double> weights;
    for (const int32_t e : chosen) weights.push_back(scores[e]);
    if (p.score == ExpertScore::kSoftmaxChosen) weights = Softmax(weights);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (int64_t j = 0; j < c.num_chosen; ++j) {
      const int64_t choice = r * c.num_chosen + j;
      c.experts[choice] = chosen[j];
      c.weights[choice] =
          static_cast<float>(weights[j] / (p.normalize ? sum + 1e-20 : 1) * p.scale);
      by_expert[chosen[j]].push_back(static_cast<int32_t>(choice));
    }
  }
  c.offsets[0] = 0;
  for (int64_t e = 0; e < c.num_experts; ++e) {
    std::copy(by_expert[e].begin(), by_expert[e].end(), c.order + c.offsets[e]);
    c.offsets[e + 1] = c.offsets[e] + static_cast<int32_t>(by_expert[e].size());
  }
}

}  // namespace sidewinder
