// Times of rounds as a function of the number of proposals: estimates from a device's figures, and
// the tables that rounds decide by (kernels/control_block.h). The arithmetic of reports is in
// sidewinder/tuning.h.
#ifndef SIDEWINDER_SPECULATIVE_COST_MODEL_H_
#define SIDEWINDER_SPECULATIVE_COST_MODEL_H_

#include <cstdint>
#include <iterator>
#include <vector>

#include "kernels/control_block.h"
#include "sidewinder/tuning.h"

namespace sidewinder {

// The longest draft that kAutoDraftTokens considers. With the pending token its rows fill one tile
// of the tensor cores; the launches of a recorded round are sized for it, and a second tile would
// cost every round, also those of short drafts.
inline constexpr int32_t kAutoMaxDraft{7};

// Batches that estimates and measurements are made for.
inline constexpr int32_t kTunedBatches[]{1, 2, 4, 8, 16, 32, 64};
static_assert(std::size(kTunedBatches) <= kMaxCostTables);

// Rounds that nobody measured. `draft` may be null: proposals cost `cost_per_proposal` passes of
// the verifier.
std::vector<RoundTimes> EstimateRounds(const DeviceFigures& figures, const ModelInfo& model,
                                       const ModelInfo* draft, double cost_per_proposal);

// Tables for at most `max_slots` slots.
std::vector<RoundCosts> CostTables(const RoundCostModel& model, int32_t max_slots);

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_COST_MODEL_H_
