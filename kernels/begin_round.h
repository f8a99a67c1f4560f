// Opens a round: decides for every active slot how many proposals it wants.
//
// With draft_tokens = kAutoDraft the slot takes the K that maximises expected tokens per unit of
// time,
//   (1 + a + ... + a^K) / (1 + K * (row_cost + draft_cost)),
// a being its own moving acceptance rate: a pure function of the slot's history, so that the
// choice, and with it a sampled text, is reproducible. When no K pays it still proposes one token
// every kProbeInterval rounds, to notice when proposals become good again.
#ifndef SIDEWINDER_KERNELS_BEGIN_ROUND_H_
#define SIDEWINDER_KERNELS_BEGIN_ROUND_H_

#include "kernels/common/execution.h"
#include "kernels/control_block.h"

namespace sidewinder {

inline constexpr int kProbeInterval{16};

struct BeginRoundParams {
  ControlBlock control;
  float row_cost;    // cost of one more verified row, in verifier passes of one row
  float draft_cost;  // cost of one proposal, in the same unit
};

void BeginRound(ExecutionContext& ctx, const BeginRoundParams& params);
void BeginRoundCpu(ExecutionContext& ctx, const BeginRoundParams& params);
CudaError LaunchBeginRound(CudaContext& ctx, const BeginRoundParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_BEGIN_ROUND_H_
