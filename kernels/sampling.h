// From logits to tokens, for drafting and for verification. A slot with temperature 0 takes the
// most likely token (the lowest id of equals); others draw from the distribution that temperature,
// top_k, top_p and min_p leave, in that order. top_k keeps ties of the k-th; top_p keeps the
// smallest set of most likely tokens whose probability reaches it, at least one.
//
// Backends agree to the bit on greedy tokens and lots. A distribution differs by roundings of the
// exponential and the sum, so a draw next to a boundary may differ; on one backend a draw depends
// on its row and on (seed, sequence, position) alone.
#ifndef SIDEWINDER_KERNELS_SAMPLING_H_
#define SIDEWINDER_KERNELS_SAMPLING_H_

#include <cstdint>

#include "kernels/common/execution.h"
#include "kernels/control_block.h"
#include "kernels/row_plan.h"

namespace sidewinder {

// Turns the logits of a draft pass into proposal number `step` of each sequence in the plan, and
// writes the distribution it was drawn from to control.draft_probs if the slot samples by
// rejection.
struct DraftSampleParams {
  ControlBlock control;
  RowPlan plan;         // one logits row a sequence, in the order of the sequences that want logits
  const float* logits;  // [logit rows, logits_stride]
  int32_t logits_stride;  // rows of the draft model's head: padding may differ from the verifier's
  int32_t step;
  bool sampling = true;  // false: every slot is greedy. Chooses launches, not results (CUDA)
};
void DraftSample(ExecutionContext& ctx, const DraftSampleParams& params);
void DraftSampleCpu(ExecutionContext& ctx, const DraftSampleParams& params);
CudaError LaunchDraftSample(CudaContext& ctx, const DraftSampleParams& params);

// Judges the proposals of every sequence in the plan against the verifier's logits, commits the
// longest correct prefix and one token of the verifier's own (the correction, or the bonus if
// everything was right), and ends the text at a stop token or at max_tokens: what lies behind is
// dropped as if it had never been proposed.
//
// Greedy: a proposal is correct if it is the verifier's token. Rejection sampling, p the verifier's
// distribution and q the drafter's: accepted if u * q(x) < p(x), else the correction is drawn from
// relu(p - q) (Leviathan et al., arXiv 2211.17192); a certain proposal has q = 1 at its token.
// Coupled: a proposal is correct if it is the token the verifier draws with the Gumbel noise of
// that position. Synthetic (SlotControl::synthetic_acceptance): lots decide which proposals are
// accepted as they are; the token behind them is the one the verifier takes without proposals.
struct FirstConflictParams {
  ControlBlock control;
  RowPlan plan;          // logits for all rows: num_drafted + 1 a sequence
  const float* logits;   // [rows, vocab]
  bool sampling = true;  // as DraftSampleParams'
};
void FirstConflict(ExecutionContext& ctx, const FirstConflictParams& params);
void FirstConflictCpu(ExecutionContext& ctx, const FirstConflictParams& params);
CudaError LaunchFirstConflict(CudaContext& ctx, const FirstConflictParams& params);

// The distribution a slot samples from, [vocab]; zeros at excluded tokens and padding.
void SamplingDistribution(const SlotControl& slot, const float* logits, int32_t vocab_size,
                          int32_t vocab_limit, float* probs);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_SAMPLING_H_
