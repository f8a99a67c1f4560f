// The gated DeltaNet mixer (Yang, Kautz and Hatamizadeh, arXiv 2412.06464) as Qwen3-Next uses it.
#ifndef SIDEWINDER_MODELS_BLOCKS_DELTA_NET_MIXER_H_
#define SIDEWINDER_MODELS_BLOCKS_DELTA_NET_MIXER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "models/blocks/common.h"

namespace sidewinder {

struct DeltaNetMixer {
  WeightView in_proj;      // [in_proj_dim, hidden]: rows q, k, v, z, beta, dt
  VectorView conv_weight;  // [taps, conv_dim]: channels q, k, v
  VectorView a;            // [num_heads], negative
  VectorView dt_bias;      // [num_heads]
  VectorView gated_norm;   // [inner]
  WeightView out_proj;     // [hidden, inner]

  // `prefix` as "model.layers.0.linear_attn.".
  static absl::StatusOr<DeltaNetMixer> Load(const ModelConfig& config, WeightLoader& loader,
                                            const std::string& prefix);
  static RecurrentShape Shape(const ModelConfig& config);
  static int64_t ScratchElements(const ModelConfig& config, int64_t max_rows);

  // `layer`: which recurrent layer of the store.
  void Forward(const Pass& pass, const ModelConfig& config, int64_t layer, const Branch& branch,
               float* scratch) const;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_BLOCKS_DELTA_NET_MIXER_H_
