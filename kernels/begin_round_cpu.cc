#include <algorithm>

#include "kernels/begin_round.h"

namespace sidewinder {
namespace {

// K with the most expected tokens per unit of time; ties to the smaller.
int32_t BestDraftLength(float acceptance, float row_cost, float draft_cost, int32_t max_draft) {
  int32_t best = 0;
  double best_rate = 1.0;
  double tokens = 1.0;
  double power = 1.0;
  for (int32_t k = 1; k <= max_draft; ++k) {
    power *= acceptance;
    tokens += power;
    const double rate = tokens / (1.0 + k * (static_cast<double>(row_cost) + draft_cost));
    if (rate > best_rate) {
      best_rate = rate;
      best = k;
    }
  }
  return best;
}

}  // namespace

void BeginRoundCpu(ExecutionContext&, const BeginRoundParams& params) {
  for (int32_t i = 0; i < params.control.num_slots; ++i) {
    SlotControl& slot = params.control.slots[i];
    slot.round_start = slot.num_tokens;
    slot.num_drafted = 0;
    slot.num_accepted = 0;
    slot.draft_is_sampled = 0;
    slot.draft_limit = 0;
    if (!slot.active) continue;
    int32_t wanted = slot.draft_tokens;
    if (wanted == kAutoDraft) {
      wanted = BestDraftLength(slot.acceptance, params.row_cost, params.draft_cost,
                               params.control.max_draft);
      if (wanted == 0 && slot.rounds % kProbeInterval == 0) wanted = 1;
    }
    // The verifier adds a token of its own, so one less than what is missing is enough.
    const int32_t room = slot.max_tokens - slot.num_tokens - 1;
    slot.draft_limit = std::max(0, std::min({wanted, room, params.control.max_draft}));
  }
}

}  // namespace sidewinder
