// What a model is: family, dimensions, options. Read from the config.json of a Hugging Face folder,
// in the naming of transformers or in the original one of state-spaces.
#ifndef SIDEWINDER_MODELS_CONFIG_H_
#define SIDEWINDER_MODELS_CONFIG_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/common/dtype.h"
#include "runtime/json.h"

namespace sidewinder {

enum class ModelFamily : uint8_t { kMamba1, kMamba2 };

const char* Name(ModelFamily family);  // "mamba", "mamba2": the model_type of transformers

// Limits that every parsed config keeps, so that no product of two dimensions, nor of two and the
// number of layers, overflows int64.
inline constexpr int64_t kMaxDim{int64_t{1} << 24};
inline constexpr int64_t kMaxLayers{1024};
inline constexpr int64_t kMaxStateSize{1 << 12};
inline constexpr int64_t kMaxConvKernel{64};

struct ModelConfig {
  ModelFamily family = ModelFamily::kMamba2;
  int64_t hidden_size = 0;  // width of the residual stream
  int64_t num_layers = 0;
  int64_t vocab_size = 0;  // rows of the embedding matrix
  int64_t vocab_limit =
      0;  // <= vocab_size; rows from here on only pad the matrix, never sample them
  int64_t inner_size = 0;        // channels of the recurrence; Mamba-2: num_heads * head_dim
  int64_t state_size = 0;        // state elements per channel
  int64_t conv_kernel = 4;       // taps of the causal convolution
  int64_t time_step_rank = 0;    // Mamba-1: rank of the time step projection; else 0
  int64_t num_heads = 0;         // Mamba-2; else 0
  int64_t head_dim = 0;          // Mamba-2; else 0
  int64_t num_groups = 0;        // Mamba-2: B and C shared by num_heads / num_groups heads; else 0
  int64_t gated_norm_group = 0;  // Mamba-2: channels per mean of the gated norm; else 0
  float norm_eps = 1e-5f;        // of every RMS norm
  bool use_bias = false;         // of in_proj and out_proj
  bool use_conv_bias = true;
  float time_step_min = 0.0f;  // Mamba-2: limits of the time step after softplus
  float time_step_max = std::numeric_limits<float>::infinity();
  bool tie_embeddings = false;         // as the file says; whether lm_head.weight is there decides
  int32_t bos_token_id = -1;           // -1: none
  int32_t pad_token_id = -1;           // -1: none
  std::vector<int32_t> eos_token_ids;  // ascending; any of them ends a text
  std::optional<DType> dtype;          // of the weights, as the file says; each tensor knows better
  bool original_naming = false;        // a state-spaces folder, not a transformers one

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;

  int64_t conv_dim() const {
    return inner_size + 2 * num_groups * state_size;
  }  // channels convolved
};

// InvalidArgument with file, field, value and what is legal; Unimplemented for a family or an
// option that exists but is not built here, with those that are. `name` is the file.
//
// "gated_norm_group" (an extension; 1..inner_size) overrides over how many channels the gated norm
// of Mamba-2 takes its mean. The default is inner_size / num_groups for original folders, for
// Codestral and for folders written by transformers 5.23 or later, and inner_size for those of
// older versions or of unknown origin, whose outputs only that reproduces.
absl::StatusOr<ModelConfig> ParseConfig(const Json& json, const std::string& name);

// Reads `folder`/config.json; adds the end-of-text ids of generation_config.json if there is one.
// NotFound if there is no config.json.
absl::StatusOr<ModelConfig> LoadConfig(const std::string& folder);

// A config.json from which ParseConfig gives the same config back.
Json ToJson(const ModelConfig& config);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_CONFIG_H_
