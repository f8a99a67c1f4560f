// Zamba2 (Glorioso et al., arXiv 2411.15242): Mamba-2 layers, and before some of them a transformer
// block whose weights they share. It sees the residual stream beside the embedding, adapters of low
// rank tell its uses apart, and what it gives goes into the mixer's norm alone:
//
//   c = RMSNorm([h, e])                           e: the embedding, h: the residual stream
//   m = RMSNorm(attention(c));  f = down(gelu(gate m) * up m);  t = linear_i f
//   h = h + mamba2(RMSNorm(h + t))
#ifndef SIDEWINDER_MODELS_ZAMBA2_H_
#define SIDEWINDER_MODELS_ZAMBA2_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "models/language_model.h"
#include "models/weight_loader.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<const LanguageModel>> CreateZamba2(const ModelConfig& config,
                                                                  WeightLoader loader);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_ZAMBA2_H_
