// Softmax attention with grouped keys and values (kernels/attention.h) between its projections.
#ifndef SIDEWINDER_MODELS_BLOCKS_ATTENTION_BLOCK_H_
#define SIDEWINDER_MODELS_BLOCKS_ATTENTION_BLOCK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/blocks/common.h"

namespace sidewinder {

// 1 / wavelength of every rotated pair, [rope.dim / 2] (models.md 2.7 of the model specification).
std::vector<float> InverseFrequencies(const RopeConfig& rope);

// What queries and keys go through, head by head.
struct HeadVectors {
  VectorView inv_freq;              // [rope.dim / 2] or empty
  VectorView query_norm, key_norm;  // [head_dim] or empty
};

struct AttentionBlock {
  WeightView qkv;        // [row_dim, input]: rows q, k, v and, where the output has one, its gate
  VectorView qkv_bias;   // or empty
  VectorView qkv_scale;  // or empty
  HeadVectors heads;
  WeightView out;  // [hidden, num_heads * head_dim]
  VectorView out_bias;

  // `prefix` as "model.layers.0.self_attn.". Tensors are {q,k,v,o}_proj, or in_proj (rows q, k, v)
  // and out_proj. With an output gate q_proj has, head by head, the queries' rows and the gate's.
  static absl::StatusOr<AttentionBlock> Load(const ModelConfig& config, WeightLoader& loader,
                                             const std::string& prefix);
  static KvShape Shape(const ModelConfig& config, int64_t num_layers);
  static int64_t ScratchElements(const ModelConfig& config, int64_t max_rows);

  // `layer`: which attention layer of the store.
  void Forward(const Pass& pass, const ModelConfig& config, int64_t layer, const Branch& branch,
               float* scratch) const;
};

// The ops between the projections: `qkv` are rows of q, k, v and, where the output has one, its
// gate; the output replaces q.
void AttendRows(const Pass& pass, const ModelConfig& config, int64_t layer,
                const HeadVectors& heads, float* qkv);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_BLOCKS_ATTENTION_BLOCK_H_
