// Mixture of experts: which experts a row is sent to, the products with their matrices, and the
// weighted sum of what they give. Only matrices of experts that some row chose are read. The bits
// of a row depend on that row alone: a product's as in linear.h, and the sum runs over a row's
// experts in ascending order of their numbers.
//
//   RouteExperts(logits)                      choice j of row r: expert e, weight w
//   ExpertLinear(up)      h[r, j] = up[e] x[r]
//   GatedActivation       h[r, j] = act(gate) * up
//   ExpertLinear(down)    y[r, j] = down[e] h[r, j]
//   CombineExperts        out[r] = sum_j w[r, j] y[r, j]   (+ out[r])
#ifndef SIDEWINDER_KERNELS_EXPERTS_H_
#define SIDEWINDER_KERNELS_EXPERTS_H_

#include <cstdint>

#include "kernels/common/dtype.h"
#include "kernels/common/execution.h"

namespace sidewinder {

inline constexpr int kMaxChosenExperts{32};
inline constexpr int kMaxExperts{1024};

// From the router's logits to scores, which choose and weigh.
enum class ExpertScore : uint8_t {
  kSoftmax,        // softmax over all experts
  kSoftmaxChosen,  // the logits choose; softmax over those chosen
  kSigmoid,        // of each logit
};

// Where the rows of a pass go.
struct ExpertChoices {
  int32_t* experts;  // [rows, num_chosen] ascending in a row
  float* weights;    // [rows, num_chosen]
  int32_t* order;  // [rows * num_chosen] the choices r * num_chosen + j, by expert, then ascending
  int32_t* offsets;  // [num_experts + 1] where an expert's part of `order` begins
  int64_t num_experts;
  int64_t num_chosen;  // <= min(num_experts, kMaxChosenExperts)
};

struct RouteExpertsParams {
  const float* logits;      // [rows, num_experts] dense
  const float* correction;  // [num_experts] added to the scores for choosing only; null: none
  ExpertChoices choices;
  ExpertScore score;
  int64_t num_groups;         // experts in equal groups, of which only the num_chosen_groups with
  int64_t num_chosen_groups;  // the largest sum of two best (corrected) scores are considered; 1
  bool normalize;             // divide a row's weights by their sum + 1e-20
  float scale;                // multiplies the weights
  const int32_t* num_rows;    // [1]; ties go to the lower number
  int32_t max_rows;           // *num_rows never exceeds this; sizes launches (CUDA)
};

void RouteExperts(ExecutionContext& ctx, const RouteExpertsParams& params);
void RouteExpertsCpu(ExecutionContext& ctx, const RouteExpertsParams& params);
CudaError LaunchRouteExperts(CudaContext& ctx, const RouteExpertsParams& params);
void RouteExpertsRef(const RouteExpertsParams& params);

struct ExpertLinearParams {
  const void* const* weights;  // [num_experts] device memory: [out_dim, in_dim] each, stored as
                               // LinearParams::weight
  DType weight_dtype;
  ExpertChoices choices;  // read
  const float* input;     // [rows, in_dim], or with input_per_choice [rows * num_chosen, in_dim]
  float* output;          // [rows * num_chosen, out_dim] dense; must not overlap input
  int64_t in_dim;
  int64_t out_dim;
  int64_t input_stride;
  bool input_per_choice;
  const int32_t* num_rows;  // [1]
  int32_t max_rows;
};

void ExpertLinear(ExecutionContext& ctx, const ExpertLinearParams& params);
void ExpertLinearCpu(ExecutionContext& ctx, const ExpertLinearParams& params);
CudaError LaunchExpertLinear(CudaContext& ctx, const ExpertLinearParams& params);
void ExpertLinearRef(const ExpertLinearParams& params);

struct CombineExpertsParams {
  const float* input;     // [rows * num_chosen, dim] dense
  ExpertChoices choices;  // num_chosen and weights are read
  const float* scale;     // [1] device memory, multiplies the sum; null: 1
  float* output;          // [rows, dim]
  int64_t dim;
  int64_t output_stride;
  bool accumulate;
  const int32_t* num_rows;  // [1]
  int32_t max_rows;
};

void CombineExperts(ExecutionContext& ctx, const CombineExpertsParams& params);
void CombineExpertsCpu(ExecutionContext& ctx, const CombineExpertsParams& params);
CudaError LaunchCombineExperts(CudaContext& ctx, const CombineExpertsParams& params);
void CombineExpertsRef(const CombineExpertsParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_EXPERTS_H_
