#include "kernels/begin_round.h"
#include "kernels/round_rules.h"

namespace sidewinder {

void BeginRoundCpu(ExecutionContext&, const BeginRoundParams& params) {
  for (int32_t i = 0; i < params.control.num_slots; ++i) {
    OpenRound(params.control.slots[i], params.control.max_draft, params.row_cost,
              params.draft_cost);
  }
}

}  // namespace sidewinder
