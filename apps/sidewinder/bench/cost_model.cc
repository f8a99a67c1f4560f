#include "apps/sidewinder/bench/cost_model.h"

#include <algorithm>
#include <cmath>

#include "apps/sidewinder/bench/statistics.h"
#include "apps/sidewinder/synthetic_acceptance.h"

namespace sidewinder::cli {

double CostModel::SpeedUp(double acceptance, int32_t draft_tokens) const {
  return MeanAcceptanceLength(acceptance, draft_tokens) * Ratio(plain_ms, RoundMs(draft_tokens));
}

std::optional<double> CostModel::BreakEven(int32_t draft_tokens) const {
  const double length = Ratio(RoundMs(draft_tokens), plain_ms);  // tokens a round must commit
  if (length > draft_tokens + 1) return std::nullopt;
  return length <= 1 ? 0.0 : AcceptanceForLength(length, draft_tokens);
}

std::optional<CostModel> FitCostModel(absl::Span<const RoundTime> rounds) {
  // Minimises the sum of ((base + x * slope - ms) / ms)^2.
  double w = 0, wx = 0, wxx = 0, wy = 0, wxy = 0;
  for (const RoundTime& round : rounds) {
    if (round.ms <= 0) continue;
    const double weight = 1 / (round.ms * round.ms);
    const double x = round.proposals;
    w += weight;
    wx += weight * x;
    wxx += weight * x * x;
    wy += weight * round.ms;
    wxy += weight * x * round.ms;
  }
  const double determinant = w * wxx - wx * wx;
  if (!(determinant > 1e-9 * w * wxx) || rounds.front().ms <= 0) return std::nullopt;
  CostModel model;
  model.plain_ms = rounds.front().ms;
  model.proposal_ms = (w * wxy - wx * wy) / determinant;
  model.base_ms = (wy - model.proposal_ms * wx) / w;
  for (const RoundTime& round : rounds) {
    if (round.ms <= 0) continue;
    const double error = std::abs(model.RoundMs(round.proposals) - round.ms) / round.ms;
    model.worst_error = std::max(model.worst_error, error);
  }
  return model;
}

}  // namespace sidewinder::cli
