// Pairs of ops that a GPU runs in one launch, because what stands between them is small and a
// launch is not free. On the CPU, and on CUDA with float32 weights, they are the two ops one behind
// the other, but for few rows of Mamba-2 on the CPU: there heads convolve their own channels, with
// the bits of the two ops. On CUDA, which it is depends on types and shapes alone, never on the
// number of rows. Fused or not, a row has the same bits however many travel with it.
//
// The second op reads what the first one writes (`norm.output`, `conv.output`, ...). That buffer is
// always given; a fused kernel need not write it unless said otherwise.
#ifndef SIDEWINDER_KERNELS_FUSED_H_
#define SIDEWINDER_KERNELS_FUSED_H_

#include "kernels/causal_conv.h"
#include "kernels/common/execution.h"
#include "kernels/linear.h"
#include "kernels/multistep.h"
#include "kernels/rms_norm.h"

namespace sidewinder {

// linear.input = norm.output, dense. The norm runs over the plan's rows, the product over its own
// (linear.row_index picks the rows whose logits are wanted).
void NormLinear(ExecutionContext& ctx, const RmsNormParams& norm, const LinearParams& linear);

// in_proj and the convolution of Mamba-1: conv.input = linear.output, dense from its first column;
// both outputs are written.
void NormLinearConv(ExecutionContext& ctx, const RmsNormParams& norm, const LinearParams& linear,
                    const CausalConvParams& conv);

// dt_proj and the recurrence of Mamba-1: multistep.dt = linear.output.
void LinearMultiStepMamba1(ExecutionContext& ctx, const LinearParams& linear,
                           const MultiStepMamba1Params& multistep);

// The convolution and the recurrence of Mamba-2: multistep.x, .b and .c lie in conv.output.
void ConvMultiStepMamba2(ExecutionContext& ctx, const CausalConvParams& conv,
                         const MultiStepMamba2Params& multistep);

void ConvMultiStepMamba2Cpu(ExecutionContext& ctx, const CausalConvParams& conv,
                            const MultiStepMamba2Params& multistep);

CudaError LaunchNormLinear(CudaContext& ctx, const RmsNormParams& norm, const LinearParams& linear);
CudaError LaunchNormLinearConv(CudaContext& ctx, const RmsNormParams& norm,
                               const LinearParams& linear, const CausalConvParams& conv);
CudaError LaunchLinearMultiStepMamba1(CudaContext& ctx, const LinearParams& linear,
                                      const MultiStepMamba1Params& multistep);
CudaError LaunchConvMultiStepMamba2(CudaContext& ctx, const CausalConvParams& conv,
                                    const MultiStepMamba2Params& multistep);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_FUSED_H_
