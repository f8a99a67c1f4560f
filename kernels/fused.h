// Ops that a GPU runs in one launch, because what stands between them is small and a launch is not
// free. Where a type or shape has no fused kernel, and on the CPU, they are the ops one behind the
// other; on the CPU but for few rows of Mamba-2, where heads convolve their own channels. The
// number of rows and sequences may decide which it is, because it changes nothing: fused or not, a
// row has the same bits however many travel with it.
//
// An op reads what the one before it writes (`norm.output`, `conv.output`, ...). That buffer is
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

// in_proj, the convolution and x_proj of Mamba-1: x_proj.input = conv.output.
void NormLinearConvLinear(ExecutionContext& ctx, const RmsNormParams& norm,
                          const LinearParams& in_proj, const CausalConvParams& conv,
                          const LinearParams& x_proj);

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
CudaError LaunchNormLinearConvLinear(CudaContext& ctx, const RmsNormParams& norm,
                                     const LinearParams& in_proj, const CausalConvParams& conv,
                                     const LinearParams& x_proj);
CudaError LaunchLinearMultiStepMamba1(CudaContext& ctx, const LinearParams& linear,
                                      const MultiStepMamba1Params& multistep);
CudaError LaunchConvMultiStepMamba2(CudaContext& ctx, const CausalConvParams& conv,
                                    const MultiStepMamba2Params& multistep);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_FUSED_H_
