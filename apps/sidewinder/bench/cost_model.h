// A model of what a round costs, fitted to measured rounds: what other numbers of draft tokens and
// other drafts of the same cost would give.
#ifndef SIDEWINDER_APPS_SIDEWINDER_BENCH_COST_MODEL_H_
#define SIDEWINDER_APPS_SIDEWINDER_BENCH_COST_MODEL_H_

#include <cstdint>
#include <optional>

#include "absl/types/span.h"

namespace sidewinder::cli {

// Milliseconds of a round with so many proposals, on average; 0: plain decoding.
struct RoundTime {
  double proposals = 0;
  double ms = 0;
};

// A round takes base_ms + proposals * proposal_ms: verifying one row, and for each proposal
// drafting it and one more row.
struct CostModel {
  double plain_ms = 0;  // of a plain round, as measured
  double base_ms = 0;
  double proposal_ms = 0;
  double worst_error = 0;  // largest relative error at the measured rounds

  double RoundMs(double proposals) const { return base_ms + proposals * proposal_ms; }

  // Speed-up over plain decoding if each proposal is accepted with probability `acceptance` once
  // those ahead of it are.
  double SpeedUp(double acceptance, int32_t draft_tokens) const;

  // The acceptance from which on so many draft tokens are faster than plain decoding; nullopt: none
  // is enough.
  std::optional<double> BreakEven(int32_t draft_tokens) const;
};

// Least squares of relative errors. The first entry is plain decoding; at least two different
// numbers of proposals are needed, else nullopt.
std::optional<CostModel> FitCostModel(absl::Span<const RoundTime> rounds);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_COST_MODEL_H_
