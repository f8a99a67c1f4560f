#include <algorithm>

#include "kernels/publish_round.h"

namespace sidewinder {

void PublishRoundCpu(ExecutionContext&, const PublishRoundParams& params) {
  const ControlBlock& control = params.control;
  SlotRecord* records =
      params.log.records + *params.num_published % params.log.capacity * control.num_slots;
  for (int32_t i = 0; i < control.num_slots; ++i) {
    const SlotControl& slot = control.slots[i];
    records[i] = {.round_start = slot.round_start,
                  .num_tokens = slot.num_tokens,
                  .num_drafted = slot.num_drafted,
                  .num_accepted = slot.num_accepted,
                  .finish = slot.finish};
    std::copy_n(slot.tokens + slot.round_start, slot.num_tokens - slot.round_start,
                records[i].tokens);
  }
  *params.log.published = ++*params.num_published;
}

}  // namespace sidewinder
