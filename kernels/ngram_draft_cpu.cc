#include <algorithm>

#include "kernels/ngram_draft.h"
#include "kernels/round_rules.h"

namespace sidewinder {
namespace {

// Position behind the latest earlier occurrence of the last n tokens; -1: none.
int32_t FindContinuation(const int32_t* tokens, int32_t num_tokens, int32_t n) {
  const int32_t* suffix = tokens + num_tokens - n;
  for (int32_t start = num_tokens - n - 1; start >= 0; --start) {
    if (std::equal(suffix, suffix + n, tokens + start)) return start + n;
  }
  return -1;
}

}  // namespace

void NgramDraftCpu(ExecutionContext&, const NgramDraftParams& params) {
  for (int32_t i = 0; i < params.control.num_slots; ++i) {
    SlotControl& slot = params.control.slots[i];
    if (!slot.active || slot.draft_limit == 0) continue;
    int32_t source = -1;
    for (int32_t n = std::min(params.max_ngram, slot.num_tokens - 1);
         n >= params.min_ngram && source < 0; --n) {
      source = FindContinuation(slot.tokens, slot.num_tokens, n);
    }
    if (source < 0 && AcceptsByLot(slot)) source = slot.num_tokens - 1;
    if (source < 0) continue;
    // Past the end of the text the proposals themselves go on: a repetition repeats.
    for (int32_t k = 0; k < slot.draft_limit; ++k, ++source) {
      slot.draft[k] =
          source < slot.num_tokens ? slot.tokens[source] : slot.draft[source - slot.num_tokens];
    }
    slot.num_drafted = slot.draft_limit;
  }
}

}  // namespace sidewinder
