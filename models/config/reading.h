// What the readers of the families' config.json share: fields that several families have, with
// their limits, and how they are written again. Messages name file, field, value and what is legal.
#ifndef SIDEWINDER_MODELS_CONFIG_READING_H_
#define SIDEWINDER_MODELS_CONFIG_READING_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "models/config/model_config.h"
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

// Whether a list's item is an integer of [min, max]; min >= 0.
bool IsInteger(const Json& value, int64_t min, int64_t max);

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

Json FloatJson(float value);  // infinity as JsonToFloat reads it
Json TimeStepLimitJson(const ModelConfig& config);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODELS_CONFIG_READING_H_
