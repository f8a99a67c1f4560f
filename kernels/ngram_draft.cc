#include "kernels/ngram_draft.h"

namespace sidewinder {

void NgramDraft(ExecutionContext& ctx, const NgramDraftParams& params) {
  Dispatch(
      ctx, "NgramDraft", [&] { NgramDraftCpu(ctx, params); },
      [&](auto& cuda) { return LaunchNgramDraft(cuda, params); });
}

}  // namespace sidewinder
