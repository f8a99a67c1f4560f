// Opens a round: decides for every active slot how many proposals it wants.
//
// With draft_tokens = kAutoDraft that is the K that maximises expected tokens per time,
//   (1 + p1 + p1 p2 + ... + p1...pK) / round_us[K],
// p_j being the acceptance of position j as far as it is known: the slot's own counts on top of
// what is known of all requests (draft_length.h), and round_us what rounds take on this machine
// (DraftControl). Slots of a batch share a pass, so their K is chosen together: what a slot's
// proposals bring is weighed against what its rows take. K may be 0; then a slot looks again now
// and then with one proposal, ever more rarely and never for more than kProbeShare of its time.
//
// The texts of greedy and of coupled slots do not depend on K. A slot that samples with rejection
// decides by its own history alone, so that a seed gives the same text in any batch.
#ifndef SIDEWINDER_KERNELS_BEGIN_ROUND_H_
#define SIDEWINDER_KERNELS_BEGIN_ROUND_H_

#include "kernels/common/execution.h"
#include "kernels/control_block.h"
#include "kernels/row_plan.h"

namespace sidewinder {

struct BeginRoundParams {
  ControlBlock control;
  const StateCursor* draft_cursors = nullptr;  // [num_slots] of a drafter with state of its own
  int32_t max_catch_up = 0;  // tokens that such a drafter may see and still propose
};

void BeginRound(ExecutionContext& ctx, const BeginRoundParams& params);
void BeginRoundCpu(ExecutionContext& ctx, const BeginRoundParams& params);
CudaError LaunchBeginRound(CudaContext& ctx, const BeginRoundParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_BEGIN_ROUND_H_
