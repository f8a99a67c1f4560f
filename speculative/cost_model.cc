#include "speculative/cost_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "kernels/common/check.h"

namespace sidewinder {
namespace {

constexpr int32_t kNumLengths{kMaxDraftTokens + 1};

// H100: rounds of mamba-2.8b, mamba-130m and their pair in docs/benchmarks.md, batches of 32 of
// mamba2-2.7b; bandwidth over 6 GiB. Others by what their bandwidth is to that of the H100.
constexpr double kH100Bandwidth{3.10e12};
constexpr double kH100NominalBandwidth{3.35e12};
constexpr double kH100LayerUs{10.0};
constexpr double kGpuRowShare{0.034};

DeviceFigures DerivedGpu(const char* name, double nominal_bytes_per_second) {
  return {
      .name = name,
      .read_bytes_per_second = kH100Bandwidth * nominal_bytes_per_second / kH100NominalBandwidth,
      .layer_us = kH100LayerUs,
      .row_share = kGpuRowShare,
      .measured = false,
      .origin = "derived from the H100's by the ratio of nominal bandwidths, not measured"};
}

const std::array<DeviceFigures, 5>& AllFigures() {
  static const auto& figures = *new std::array<DeviceFigures, 5>{
      DeviceFigures{.name = "H100",
                    .read_bytes_per_second = kH100Bandwidth,
                    .layer_us = kH100LayerUs,
                    .row_share = kGpuRowShare,
                    .measured = true,
                    .origin = "fitted to the rounds of docs/benchmarks.md"},
      DerivedGpu("H200", 4.8e12), DerivedGpu("A100", 2.039e12), DerivedGpu("RTX 3090", 0.936e12),
      // The pair in checkpoints/ on two cores, docs/benchmarks.md; weights in a last-level cache.
      DeviceFigures{.name = "cpu",
                    .read_bytes_per_second = 100e9,
                    .layer_us = 9,
                    .row_share = 0.08,
                    .measured = false,
                    .origin = "a guess between the CPUs of docs/benchmarks.md"}};
  return figures;
}

// One pass over `rows` rows of each of `batch` sequences.
double PassUs(const DeviceFigures& figures, const ModelInfo& info, int32_t batch, double rows) {
  const double bytes_per_us = figures.read_bytes_per_second / 1e6;
  const double one_row = static_cast<double>(info.weight_bytes) / bytes_per_us +
                         figures.layer_us * static_cast<double>(info.num_layers);
  const double states = 2.0 * static_cast<double>(info.state_bytes) * batch / bytes_per_us;
  return one_row * (1.0 + figures.row_share * (batch * rows - 1.0)) + states;
}

// y over integers from points by ascending x: straight lines between them and beyond the last two.
class Interpolation {
 public:
  void Add(double x, double y) { points_[x] = y; }
  void Scale(double factor) {
    for (auto& [x, y] : points_) y *= factor;
  }
  std::vector<double> Places() const {
    std::vector<double> places;
    for (const auto& [x, y] : points_) places.push_back(x);
    return places;
  }
  double At(double x) const {
    auto upper = points_.lower_bound(x);
    if (upper != points_.end() && upper->first == x) return upper->second;
    if (points_.size() == 1) return points_.begin()->second;
    if (upper == points_.end()) --upper;
    if (upper == points_.begin()) ++upper;
    const auto lower = std::prev(upper);
    const double slope = (upper->second - lower->second) / (upper->first - lower->first);
    // Beyond the measured ones nothing becomes cheaper.
    if (x > upper->first) return upper->second + std::max(0.0, slope) * (x - upper->first);
    return lower->second + slope * (x - lower->first);
  }

 private:
  std::map<double, double> points_;
};

bool SamePolicy(const RoundMeasurement& round, CheckpointPolicy policy, int32_t stride) {
  return round.policy == policy &&
         (policy != CheckpointPolicy::kWhenLogFull || round.stride == stride);
}

using ByBatch = std::map<int32_t, Interpolation>;

// Rounds of a policy by batch.
ByBatch Collect(const std::vector<RoundMeasurement>& rounds, CheckpointPolicy policy,
                int32_t stride) {
  ByBatch by_batch;
  for (const RoundMeasurement& round : rounds) {
    if (SamePolicy(round, policy, stride)) {
      by_batch[round.batch].Add(round.draft_tokens, round.us.median);
    }
  }
  if (policy == CheckpointPolicy::kEveryRound) return by_batch;
  // Other policies are measured at few lengths: there they give a factor, and replaying every round
  // the shape.
  ByBatch scaled = Collect(rounds, CheckpointPolicy::kEveryRound, 0);
  for (auto& [batch, times] : scaled) {
    const auto measured = by_batch.find(batch);
    if (measured == by_batch.end()) continue;
    double factor = 0;
    for (const double k : measured->second.Places()) factor += measured->second.At(k) / times.At(k);
    times.Scale(factor / static_cast<double>(measured->second.Places().size()));
  }
  return scaled;
}

}  // namespace

absl::Span<const DeviceFigures> BuiltInFigures() { return AllFigures(); }

std::vector<RoundTimes> EstimateRounds(const DeviceFigures& figures, const ModelInfo& model,
                                       const ModelInfo* draft, double cost_per_proposal) {
  std::vector<RoundTimes> all;
  for (const int32_t batch : kTunedBatches) {
    RoundTimes times{.batch = batch};
    const double proposal =
        draft != nullptr ? PassUs(figures, *draft, batch, 1)
                         : std::max(0.0, cost_per_proposal) * PassUs(figures, model, batch, 1);
    for (int32_t k = 0; k < kNumLengths; ++k) {
      const double verify = PassUs(figures, model, batch, 1 + k);
      times.verify_us.push_back(verify);
      times.round_us.push_back(verify + k * proposal);
    }
    all.push_back(std::move(times));
  }
  return all;
}

std::vector<RoundCosts> CostTables(const RoundCostModel& model, int32_t max_slots) {
  std::vector<RoundCosts> tables;
  for (const RoundTimes& times : model.times) {
    if (!tables.empty() && tables.back().num_slots >= max_slots) break;
    if (tables.size() == kMaxCostTables) break;
    RoundCosts costs = {.num_slots = times.batch};
    for (int32_t k = 0; k < kNumLengths; ++k) {
      costs.round_us[k] = static_cast<float>(times.round_us[k]);
      const double rows = std::max(1, k) * times.batch;
      const double row = (times.verify_us[std::max(1, k)] - times.verify_us[0]) / rows;
      costs.row_us[k] = static_cast<float>(std::max(0.0, row));
    }
    // Not measured by itself: the rows of a catch-up pass are few and need no logits, so it takes
    // about what the step to the first proposal takes, which evaluates one or two rows with them.
    const double drafting = times.round_us[1] - times.verify_us[1];
    costs.catch_up_us = static_cast<float>(std::max(0.0, drafting));
    tables.push_back(costs);
  }
  return tables;
}

const RoundTimes& RoundCostModel::At(int32_t batch) const {
  SW_CHECK(!times.empty()) << "a cost model without times";
  for (const RoundTimes& one : times) {
    if (one.batch >= batch) return one;
  }
  return times.back();
}

double RoundCostModel::ExpectedTokens(absl::Span<const double> rates, int32_t draft_tokens) {
  double tokens = 1, reach = 1;
  for (int32_t j = 0; j < draft_tokens && !rates.empty(); ++j) {
    reach *= rates[std::min<size_t>(j, rates.size() - 1)];
    tokens += reach;
  }
  return tokens;
}

double RoundCostModel::SpeedUp(int32_t batch, absl::Span<const double> rates,
                               int32_t draft_tokens) const {
  const RoundTimes& one = At(batch);
  return ExpectedTokens(rates, draft_tokens) * one.round_us[0] / one.round_us[draft_tokens];
}

int32_t RoundCostModel::BestDraftTokens(int32_t batch, absl::Span<const double> rates,
                                        int32_t max_draft_tokens) const {
  int32_t best = 0;
  for (int32_t k = 1; k <= max_draft_tokens; ++k) {
    if (SpeedUp(batch, rates, k) > SpeedUp(batch, rates, best)) best = k;
  }
  return best;
}

std::optional<double> RoundCostModel::BreakEven(int32_t batch, int32_t draft_tokens) const {
  const auto pays = [&](double acceptance) {
    return SpeedUp(batch, {acceptance}, draft_tokens) >= 1.0;
  };
  if (draft_tokens == 0 || !pays(1.0)) return std::nullopt;
  double low = 0, high = 1;
  if (pays(low)) return 0.0;
  for (int i = 0; i < 50; ++i) {  // down to the last bits
    const double middle = (low + high) / 2;
    (pays(middle) ? high : low) = middle;
  }
  return high;
}

RoundCostModel CostModelOf(const TuningProfile& profile, CheckpointPolicy policy, int32_t stride) {
  RoundCostModel model;
  model.measured = true;
  model.prefill_chunk = profile.prefill_chunk;
  ByBatch verify = Collect(profile.verify, policy, stride);
  ByBatch rounds = Collect(profile.rounds, policy, stride);
  // A batch that was measured for one of them alone takes the cost of drafting from the next
  // smaller one, per round: a draft's pass, like the verifier's, hardly grows with the batch.
  for (const auto& [batch, times] : verify) {
    RoundTimes result{.batch = batch};
    const Interpolation* with_draft = nullptr;
    const Interpolation* verify_there = nullptr;
    for (const auto& [other, candidate] : rounds) {
      if (other > batch && with_draft != nullptr) break;
      if (verify.count(other) == 0) continue;
      with_draft = &candidate;
      verify_there = &verify.at(other);
    }
    for (int32_t k = 0; k < kNumLengths; ++k) {
      const double alone = std::max(1e-3, times.At(k));
      const double drafting =
          with_draft == nullptr ? 0 : std::max(0.0, with_draft->At(k) - verify_there->At(k));
      result.verify_us.push_back(alone);
      result.round_us.push_back(alone + drafting);
    }
    model.times.push_back(std::move(result));
  }
  return model;
}

}  // namespace sidewinder
