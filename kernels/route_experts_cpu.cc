#include <algorithm>
#include <cmath>

#include "kernels/common/check.h"
#include "kernels/experts.h"

namespace sidewinder {
namespace {

// Which of up to kMaxExperts things are out of the running.
struct Flags {
  bool set[kMaxExperts] = {};
};

// The largest of the values that are not `out`, a NaN below all numbers; ties go to the lower
// number.
int32_t Largest(const float* values, const Flags& out, int64_t count) {
  int32_t best = -1;
  for (int32_t i = 0; i < count; ++i) {
    if (out.set[i]) continue;
    if (best < 0 || values[i] > values[best] ||
        (std::isnan(values[best]) && !std::isnan(values[i]))) {
      best = i;
    }
  }
  return best;
}

void Softmax(const float* from, int64_t count, float* to) {
  const float largest = *std::max_element(from, from + count);
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    to[i] = std::exp(from[i] - largest);
    sum += to[i];
  }
  for (int64_t i = 0; i < count; ++i) to[i] /= sum;
}

void Score(ExpertScore score, const float* logits, int64_t count, float* scores) {
  switch (score) {
    case ExpertScore::kSoftmax:
      return Softmax(logits, count, scores);
    case ExpertScore::kSoftmaxChosen:
      std::copy_n(logits, count, scores);
      return;
    case ExpertScore::kSigmoid:
      for (int64_t i = 0; i < count; ++i) scores[i] = 1.0f / (1.0f + std::exp(-logits[i]));
      return;
  }
}

float SumOfTwoBest(const float* values, int64_t count) {
  Flags out;
  const int32_t best = Largest(values, out, count);
  if (count == 1) return values[best];
  out.set[best] = true;
  return values[best] + values[Largest(values, out, count)];
}

// Experts of groups that are not considered.
Flags OtherGroups(const RouteExpertsParams& p, const float* corrected) {
  Flags others;
  if (p.num_groups == 1) return others;
  const int64_t size = p.choices.num_experts / p.num_groups;
  float sums[kMaxExperts];
  for (int64_t g = 0; g < p.num_groups; ++g) sums[g] = SumOfTwoBest(corrected + g * size, size);
  Flags kept;
  for (int64_t i = 0; i < p.num_chosen_groups; ++i)
    kept.set[Largest(sums, kept, p.num_groups)] = true;
  for (int64_t e = 0; e < p.choices.num_experts; ++e) others.set[e] = !kept.set[e / size];
  return others;
}

void RouteRow(const RouteExpertsParams& p, int64_t row) {
  const int64_t num_experts = p.choices.num_experts, num_chosen = p.choices.num_chosen;
  float scores[kMaxExperts], corrected[kMaxExperts];
  Score(p.score, p.logits + row * num_experts, num_experts, scores);
  for (int64_t e = 0; e < num_experts; ++e) {
    corrected[e] = p.correction != nullptr ? scores[e] + p.correction[e] : scores[e];
  }
  Flags out = OtherGroups(p, corrected);
  int32_t* experts = p.choices.experts + row * num_chosen;
  for (int64_t j = 0; j < num_chosen; ++j) {
    experts[j] = Largest(corrected, out, num_experts);
    out.set[experts[j]] = true;
  }
  std::sort(experts, experts + num_chosen);

  float* weights = p.choices.weights + row * num_chosen;
  for (int64_t j = 0; j < num_chosen; ++j) weights[j] = scores[experts[j]];
  if (p.score == ExpertScore::kSoftmaxChosen) Softmax(weights, num_chosen, weights);
  float sum = 0;
  for (int64_t j = 0; j < num_chosen; ++j) sum += weights[j];
  for (int64_t j = 0; j < num_chosen; ++j) {
    if (p.normalize) weights[j] /= sum + 1e-20f;
    weights[j] *= p.scale;
  }
}

// A counting sort of the choices by expert.
void SortChoices(const ExpertChoices& c, int64_t num_choices) {
  std::fill_n(c.offsets, c.num_experts + 1, 0);
  for (int64_t i = 0; i < num_choices; ++i) ++c.offsets[c.experts[i] + 1];
  int32_t next[kMaxExperts];
  for (int64_t e = 0; e < c.num_experts; ++e) {
    next[e] = c.offsets[e];
    c.offsets[e + 1] += c.offsets[e];
  }
  for (int64_t i = 0; i < num_choices; ++i) {
    c.order[next[c.experts[i]]++] = static_cast<int32_t>(i);
  }
}

}  // namespace

void RouteExpertsCpu(ExecutionContext& ctx, const RouteExpertsParams& params) {
  const ExpertChoices& c = params.choices;
  SW_CHECK(c.num_experts >= 1 && c.num_experts <= kMaxExperts && c.num_chosen >= 1 &&
           c.num_chosen <= std::min<int64_t>(c.num_experts, kMaxChosenExperts))
      << "num_experts=" << c.num_experts << " num_chosen=" << c.num_chosen;
  SW_CHECK(params.num_groups >= 1 && c.num_experts % params.num_groups == 0 &&
           params.num_chosen_groups >= 1 && params.num_chosen_groups <= params.num_groups &&
           c.num_chosen <= c.num_experts / params.num_groups * params.num_chosen_groups)
      << "num_experts=" << c.num_experts << " num_groups=" << params.num_groups
      << " num_chosen_groups=" << params.num_chosen_groups << " num_chosen=" << c.num_chosen;
  constexpr int64_t kGrainScores{1024};  // about the time of a fork
  ctx.pool->ParallelFor(
      *params.num_rows,
      std::max<int64_t>(1, kGrainScores / (c.num_experts * (1 + c.num_chosen / 4))),
      [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) RouteRow(params, r);
      });
  SortChoices(c, *params.num_rows * c.num_chosen);
}

}  // namespace sidewinder
