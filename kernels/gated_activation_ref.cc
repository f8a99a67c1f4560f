#include <algorithm>
#include <cmath>

#include "kernels/common/reference.h"
#include "kernels/gated_activation.h"

namespace sidewinder {
namespace {

double Activate(Activation activation, double a) {
  switch (activation) {
    case Activation::kSilu:
      return ReferenceSilu(a);
    case Activation::kGelu:
      return a / 2 * (1 + std::erf(a / std::sqrt(2.0)));
    case Activation::kRelu2:
      return std::max(a, 0.0) * std::max(a, 0.0);
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-a));
  }
  return NAN;
}

}  // namespace

void GatedActivationRef(const GatedActivationParams& p) {
  for (int64_t r = 0; r < int64_t{*p.num_rows} * p.rows_factor; ++r) {
    for (int64_t i = 0; i < p.dim; ++i) {
      const double up = p.up != nullptr ? p.up[r * p.up_stride + i] : 1;
      const double act = Activate(p.activation, p.gate[r * p.gate_stride + i]);
      p.output[r * p.output_stride + i] = static_cast<float>(act * up);
    }
  }
}

}  // namespace sidewinder
