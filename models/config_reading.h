// What the readers of the families' config.json share: fields that several families have, with
// their limits, and how they are written again. Messages name file, field, value and what is legal.
#ifndef SIDEWINDER_MODELS_CONFIG_READING_H_
#define SIDEWINDER_MODELS_CONFIG_READING_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "models/config.h"
#include "runtime/json.h"

namespace sidewinder {

absl::Status Invalid(const JsonReader& reader, absl::string_view what);
absl::Status Unsupported(const JsonReader& reader, absl::string_view what);

// The first of `keys` that is there; if none is, the first.
const char* KeyOf(const JsonReader& reader, std::initializer_list<const char*> keys);

// An option of which only one value is built.
absl::Status Require(const JsonReader& reader, const char* key, bool required);

// An option that names something, of which only those in `built` are built. "swish" is another name
// of "silu".
absl::Status RequireOneOf(const JsonReader& reader, const char* key, const std::string& absent,
                          std::initializer_list<absl::string_view> built);

absl::StatusOr<int64_t> ReadDim(const JsonReader& reader, const char* key, int64_t absent);
absl::StatusOr<float> ReadEpsilon(const JsonReader& reader, const char* key, double absent);

// A constant that activations are multiplied with or divided by: finite and neither 0 nor so small
// that its inverse is of no use.
absl::StatusOr<double> ReadMultiplier(const JsonReader& reader, const char* key);
// Several of them: a list of targets.size() numbers. Absent leaves the targets as they are.
absl::Status ReadMultipliers(const JsonReader& reader, const char* key,
                             std::initializer_list<float*> targets);

// `factor` times `dim`, cut to an integer as Python's int() does, unless only the rounding of the
// product keeps it from one (the factor need not be an integer: 16 / 9 of 36 is 64).
int64_t ScaledDim(double factor, int64_t dim);
// The member `key` (a factor, by default 2) times the width.
absl::StatusOr<int64_t> ReadExpanded(const JsonReader& reader, const char* key,
                                     int64_t hidden_size);

// "auto" and absent mean a sixteenth of the width.
absl::StatusOr<int64_t> ReadTimeStepRank(const JsonReader& reader, const char* key,
                                         int64_t hidden_size);
absl::Status ReadTimeStepLimit(const JsonReader& reader, const char* key, ModelConfig& config);

struct DefaultTokens {
  int32_t bos;
  int32_t eos;
  int32_t pad;
};
absl::Status ReadTokens(const JsonReader& reader, DefaultTokens absent, ModelConfig& config);
// "eos_token_id": an integer, a list of integers, or null.
absl::StatusOr<std::vector<int32_t>> ReadEosTokenIds(const JsonReader& reader, int32_t absent);
void SortUnique(std::vector<int32_t>& ids);

absl::StatusOr<std::optional<DType>> ReadDType(const JsonReader& reader);

// Embedding, depth, norm, head and tokens, in the naming of transformers, with the defaults of the
// class there.
struct FrameDefaults {
  int64_t hidden_size;
  int64_t num_layers;
  int64_t vocab_size;
  const char* eps_key;
  double eps;
  bool tied;
  DefaultTokens tokens;
};
absl::Status ReadFrame(const JsonReader& reader, const FrameDefaults& defaults,
                       ModelConfig& config);
Json FrameJson(const ModelConfig& config, const char* eps_key);

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

Json FloatJson(float value);  // infinity as JsonToFloat reads it
Json TimeStepLimitJson(const ModelConfig& config);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_CONFIG_READING_H_
