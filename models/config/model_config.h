// What a model is: family, dimensions, options. Read from the config.json of a Hugging Face folder,
// in the naming of transformers or in the original one of state-spaces.
#ifndef SIDEWINDER_MODELS_CONFIG_MODEL_CONFIG_H_
#define SIDEWINDER_MODELS_CONFIG_MODEL_CONFIG_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/common/dtype.h"
#include "kernels/experts.h"
#include "kernels/gated_activation.h"
#include "runtime/json.h"

namespace sidewinder {

enum class ModelFamily : uint8_t {
  kMamba1,
  kMamba2,
  kFalconMamba,
  kZamba2,
  kJamba,
  kMambaInLlama,  // and M1
  kLlama,         // and Mistral
  kBamba,
  kGraniteHybrid,
  kNemotronH,
  kFalconH1,
  kQwen3Next,
};

// The model_type of transformers ("mamba", "granitemoehybrid", ...); "mamba_in_llama".
const char* Name(ModelFamily family);

// Limits that every parsed config keeps, so that no product of two dimensions, nor of two and the
// number of layers, overflows int64.
inline constexpr int64_t kMaxDim{int64_t{1} << 24};
inline constexpr int64_t kMaxLayers{1024};
inline constexpr int64_t kMaxStateSize{1 << 12};
inline constexpr int64_t kMaxConvKernel{64};
inline constexpr int64_t kMaxAttentionHeadDim{256};

enum class MixerKind : uint8_t { kNone, kRecurrent, kAttention, kBoth };
enum class FeedForwardKind : uint8_t { kNone, kDense, kExperts };

// What stands in a layer. Zamba2: kBoth is a layer with the shared transformer block (attention and
// a dense MLP) before the mixer; Falcon-H1: kBoth is mixer and attention side by side; else kBoth
// does not occur. If no layer has a mixer, attention or experts, the fields that say what they are
// like have their defaults (but a hybrid of "The Mamba in the Llama" always has its teacher's
// attention).
struct LayerConfig {
  MixerKind mixer = MixerKind::kRecurrent;
  FeedForwardKind feed_forward = FeedForwardKind::kNone;

  friend bool operator==(const LayerConfig&, const LayerConfig&) = default;
};

// Rotary positions (models.md 2.7 of the model specification).
struct RopeConfig {
  enum class Scaling : uint8_t { kNone, kLinear, kLlama3 };
  int64_t dim = 0;  // leading elements of a head that are rotated, even; 0: no rotation
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;  // kLlama3
  double high_freq_factor = 4.0;
  int64_t original_max_positions = 8192;

  friend bool operator==(const RopeConfig&, const RopeConfig&) = default;
};

struct AttentionConfig {
  int64_t num_heads = 0;  // 0: the model has no attention
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  float scale = 1.0f;        // of scores
  int64_t window = 0;        // positions a row sees; 0: all
  bool bias = false;         // of the projections
  bool head_norm = false;    // RMS norms of every head of the queries and of the keys
  bool output_gate = false;  // q_proj has a gate behind every head: its sigmoid scales the output
  RopeConfig rope;

  friend bool operator==(const AttentionConfig&, const AttentionConfig&) = default;
};

struct FeedForwardConfig {
  int64_t inner_size = 0;  // of dense layers; 0: there are none
  Activation activation = Activation::kSilu;
  bool gated = true;
  bool bias = false;

  friend bool operator==(const FeedForwardConfig&, const FeedForwardConfig&) = default;
};

struct ExpertsConfig {
  int64_t num_experts = 0;  // 0: there are none
  int64_t num_chosen = 0;
  int64_t inner_size = 0;         // of an expert; activation and gating are FeedForwardConfig's
  int64_t shared_inner_size = 0;  // of the expert that every row takes; 0: there is none
  int64_t latent_size = 0;        // width the routed experts work in; 0: hidden_size
  ExpertScore score = ExpertScore::kSoftmax;
  bool normalize = false;
  float scale = 1.0f;
  int64_t num_groups = 1;
  int64_t num_chosen_groups = 1;

  friend bool operator==(const ExpertsConfig&, const ExpertsConfig&) = default;
};

// Constants that some families multiply activations with (Granite, Falcon-H1).
struct MultiplierConfig {
  float embedding = 1.0f;
  float residual =
      1.0f;  // what every branch is multiplied with before it joins the residual stream
  float logits = 1.0f;
  float ssm_in = 1.0f, ssm_out = 1.0f;
  float ssm_z = 1.0f, ssm_x = 1.0f, ssm_b = 1.0f, ssm_c = 1.0f,
        ssm_dt = 1.0f;  // of in_proj's parts
  float attention_in = 1.0f, attention_out = 1.0f, key = 1.0f;
  float mlp_gate = 1.0f, mlp_down = 1.0f;

  friend bool operator==(const MultiplierConfig&, const MultiplierConfig&) = default;
};

enum class GatedNorm : uint8_t {
  kGateFirst,  // Mamba-2: the norm of y * silu(z)
  kGateLast,   // the norm of y, times silu(z)
  kGateAlone,  // y * silu(z) without a norm
};

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
  int64_t num_heads = 0;         // Mamba-2: heads of the recurrence; else 0
  int64_t head_dim = 0;          // Mamba-2; else 0
  int64_t num_groups = 0;        // Mamba-2: B and C shared by num_heads / num_groups heads; else 0
  int64_t gated_norm_group = 0;  // Mamba-2: channels per mean of the gated norm; else 0
  GatedNorm gated_norm = GatedNorm::kGateFirst;
  float norm_eps = 1e-5f;           // of the RMS norms
  bool zero_centred_norms = false;  // their weights are stored less one; not the gated norm's
  float gated_norm_eps = 1e-5f;     // Mamba-2: of the gated norm
  float inner_norm_eps = 0.0f;      // Mamba-1: of the norms of dt, B and C; 0: there are none
  bool use_bias = false;            // of in_proj
  bool use_out_bias = false;        // of out_proj
  bool use_conv_bias = true;
  float time_step_min = 0.0f;  // Mamba-2: limits of the time step after softplus
  float time_step_max = std::numeric_limits<float>::infinity();

  std::vector<LayerConfig> layers;  // [num_layers]
  AttentionConfig attention;
  FeedForwardConfig feed_forward;
  ExpertsConfig experts;
  MultiplierConfig multipliers;

  // Zamba2.
  int64_t num_shared_blocks = 0;
  int64_t adapter_rank = 0;
  bool attention_adapters = false;

  // The hybrids of "The Mamba in the Llama": channels of x and B before they are repeated, and
  // whether they are repeated before the convolution. Their mixers are Mamba-1 if time_step_rank is
  // not 0, else Mamba-2.
  int64_t repeated_dim = 0;
  bool repeat_before_conv = false;

  // Qwen3-Next: heads of the keys of gated DeltaNet and their width; num_heads and head_dim are
  // those of its values.
  int64_t num_key_heads = 0;
  int64_t key_head_dim = 0;

  bool tie_embeddings = false;         // as the file says; whether lm_head.weight is there decides
  int32_t bos_token_id = -1;           // -1: none
  int32_t pad_token_id = -1;           // -1: none
  std::vector<int32_t> eos_token_ids;  // ascending; any of them ends a text
  std::optional<DType> dtype;          // of the weights, as the file says; each tensor knows better
  bool original_naming = false;        // a state-spaces folder, not a transformers one

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;

  // Channels convolved: those of the recurrence and, unless they pass the convolution by, B and C
  // (Qwen3-Next: queries and keys).
  int64_t conv_dim() const;
};

// InvalidArgument with file, field, value and what is legal; Unimplemented for a family or an
// option that exists but is not built here, with those that are. `name` is the file.
//
// "gated_norm_group" (an extension; 1..inner_size) overrides over how many channels the gated norm
// of a Mamba-2 mixer takes its mean. The default is inner_size / num_groups, but inner_size for
// Mamba-2, Bamba and Granite folders written by transformers before 5.23 or of unknown origin,
// whose outputs only that reproduces (of Mamba-2, the original folders and Codestral are known).
//
// A hybrid of "The Mamba in the Llama" is two files in a folder. In one object its model_type is
// "mamba_in_llama", with the teacher's as "base_model_type" ("llama" by default, or "mistral") and
// the content of mamba_config.json as "mamba_config".
absl::StatusOr<ModelConfig> ParseConfig(const Json& json, const std::string& name);

// Reads `folder`/config.json; with mamba_config.json beside a Llama's or Mistral's, a hybrid of
// "The Mamba in the Llama". Adds the end-of-text ids of generation_config.json if there is one.
// NotFound if there is no config.json.
absl::StatusOr<ModelConfig> LoadConfig(const std::string& folder);

// A config.json from which ParseConfig gives the same config back.
Json ToJson(const ModelConfig& config);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_CONFIG_MODEL_CONFIG_H_
