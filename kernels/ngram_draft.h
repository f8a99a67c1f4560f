// Prompt lookup: proposes what followed the latest earlier occurrence of the text's own last n
// tokens, the longest n in [min_ngram, max_ngram] that occurs. Proposals are certain (q = 1).
// Where lots decide what is accepted there must be something to accept: what is not found is filled
// up with the last token.
#ifndef SIDEWINDER_KERNELS_NGRAM_DRAFT_H_
#define SIDEWINDER_KERNELS_NGRAM_DRAFT_H_

#include <cstdint>

#include "kernels/common/execution.h"
#include "kernels/control_block.h"

namespace sidewinder {

struct NgramDraftParams {
  ControlBlock control;
  int32_t min_ngram;  // >= 1
  int32_t max_ngram;  // >= min_ngram
};

void NgramDraft(ExecutionContext& ctx, const NgramDraftParams& params);
void NgramDraftCpu(ExecutionContext& ctx, const NgramDraftParams& params);
CudaError LaunchNgramDraft(CudaContext& ctx, const NgramDraftParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_NGRAM_DRAFT_H_
