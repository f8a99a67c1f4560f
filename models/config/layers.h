// Layers and what stands in them, as far as the configurations of several families agree: lists of
// layers, attention and its rotation, and what the dimensions of a Mamba-2 recurrence and of
// experts must satisfy together.
#ifndef SIDEWINDER_MODELS_CONFIG_LAYERS_H_
#define SIDEWINDER_MODELS_CONFIG_LAYERS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/config/model_config.h"
#include "runtime/json.h"

namespace sidewinder {

// A list of strings, of layers or of other things, at most kMaxLayers. NotFound if it is absent.
absl::StatusOr<std::vector<std::string>> ReadNames(const JsonReader& reader, const char* key);

// The recurrent or attention layers of a list in one of transformers' two spellings
// ("mamba"/"attention", "linear_attention"/"full_attention"), one a layer. Absent changes nothing.
absl::Status ReadMixers(const JsonReader& reader, const char* key, ModelConfig& config);

// Numbers of layers, each below num_layers, in any order.
absl::StatusOr<std::vector<int64_t>> ReadLayerIndices(const JsonReader& reader, const char* key,
                                                      int64_t num_layers);

bool HasMixer(const ModelConfig& config, MixerKind kind);
bool HasFeedForward(const ModelConfig& config, FeedForwardKind kind);

struct AttentionDefaults {
  int64_t num_heads = 32;
  int64_t num_kv_heads = 0;  // 0: num_heads
  int64_t head_dim = 0;      // 0: hidden_size / num_heads
  int64_t width = 0;         // that heads divide if head_dim is absent; 0: hidden_size
  const char* head_dim_key = "head_dim";
};
// Heads and their scale, 1 / sqrt(head_dim). Rotation, window and bias stay as they are.
absl::Status ReadAttention(const JsonReader& reader, const AttentionDefaults& defaults,
                           ModelConfig& config);

// "rope_parameters" (transformers 5) or "rope_theta", "rope_scaling" and "partial_rotary_factor"
// (before); the latter are also the fallbacks of the former. `share` is the part of a head that is
// rotated if the file says nothing else, or with `fixed_share` whatever it says.
absl::Status ReadRope(const JsonReader& reader, double share, bool fixed_share,
                      ModelConfig& config);

// Members for what ReadAttention and ReadRope read.
void WriteAttention(const ModelConfig& config, Json& json);

// What the dimensions of a Mamba-2 recurrence must satisfy together. `norm_group` is the group of
// its gated norm, "gated_norm_group" if that is there.
absl::Status CheckMamba2(const JsonReader& reader, int64_t norm_group, ModelConfig& config);
absl::Status CheckInnerSize(const JsonReader& reader, const ModelConfig& config);
// The group for files of classes of transformers that took one mean over the whole width until
// version 5.23.
absl::StatusOr<int64_t> NormGroupOfVersion(const JsonReader& reader, const ModelConfig& config);

// What the numbers of experts must satisfy together.
absl::Status CheckExperts(const JsonReader& reader, const ExpertsConfig& experts);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_CONFIG_LAYERS_H_
