#include "models/config/reading.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

constexpr int64_t kMaxTokenId{std::numeric_limits<int32_t>::max()};
constexpr double kMaxMultiplier{1e6};

// Absent means the default of the class, null means none, -1 is how some files spell none.
absl::StatusOr<int32_t> TokenId(const JsonReader& reader, const char* key, int32_t absent) {
  if (reader.IsNull(key)) return -1;
  SW_ASSIGN_OR_RETURN(const int64_t id, reader.Int(key, -1, kMaxTokenId, absent));
  return static_cast<int32_t>(id);
}

Json TokenIdJson(int32_t id) { return id < 0 ? Json() : Json(id); }

absl::Status CheckMultiplier(double value, const std::string& name) {
  const double size = std::abs(value);
  if (size >= 1.0 / kMaxMultiplier && size <= kMaxMultiplier) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s is %g; legal are numbers of size %g to %g",
                                                    name, value, 1.0 / kMaxMultiplier,
                                                    kMaxMultiplier));
}

}  // namespace

absl::Status Invalid(const JsonReader& reader, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(reader.name(), ": ", what));
}

absl::Status Unsupported(const JsonReader& reader, absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat(reader.name(), ": ", what));
}

const char* KeyOf(const JsonReader& reader, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (reader.Has(key)) return key;
  }
  return *keys.begin();
}

absl::Status Require(const JsonReader& reader, const char* key, bool required) {
  SW_ASSIGN_OR_RETURN(const bool value, reader.Bool(key, required));
  if (value == required) return absl::OkStatus();
  const char* const names[] = {"false", "true"};
  return Unsupported(reader, absl::StrFormat("\"%s\": %s is not supported; legal is %s", key,
                                             names[value], names[required]));
}

absl::Status RequireOneOf(const JsonReader& reader, const char* key, const std::string& absent,
                          std::initializer_list<absl::string_view> built) {
  SW_ASSIGN_OR_RETURN(const std::string name, reader.String(key, absent));
  std::vector<std::string> legal;
  for (absl::string_view one : built) {
    if (name == one || (one == "silu" && name == "swish")) return absl::OkStatus();
    legal.push_back(absl::StrCat("\"", one, "\""));
    if (one == "silu") legal.push_back("\"swish\"");
  }
  return Unsupported(
      reader, absl::StrFormat("\"%s\" is \"%s\"; legal %s %s", key, absl::Utf8SafeCEscape(name),
                              legal.size() == 1 ? "is" : "are", absl::StrJoin(legal, " and ")));
}

absl::StatusOr<int64_t> ReadDim(const JsonReader& reader, const char* key, int64_t absent) {
  return reader.Int(key, 1, kMaxDim, absent);
}

absl::StatusOr<float> ReadEpsilon(const JsonReader& reader, const char* key, double absent) {
  SW_ASSIGN_OR_RETURN(const double value, reader.Float(key, absent));
  if (!(value >= 1e-12 && value <= 1.0)) {
    return Invalid(reader,
                   absl::StrFormat("\"%s\" is %g; legal are numbers from 1e-12 to 1", key, value));
  }
  return static_cast<float>(value);
}

absl::StatusOr<double> ReadMultiplier(const JsonReader& reader, const char* key) {
  SW_ASSIGN_OR_RETURN(const double value, reader.Float(key, 1.0));
  SW_RETURN_IF_ERROR(CheckMultiplier(value, absl::StrCat(reader.name(), ": \"", key, "\"")));
  return value;
}

absl::Status ReadMultipliers(const JsonReader& reader, const char* key,
                             std::initializer_list<float*> targets) {
  const Json* value = reader.Find(key);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_array() || value->size() != targets.size()) {
    return Invalid(reader, absl::StrFormat("\"%s\" is %s; legal is a list of %d numbers", key,
                                           ShortDump(*value), targets.size()));
  }
  size_t i = 0;
  for (float* target : targets) {
    const std::string name = absl::StrFormat("%s: \"%s\"[%d]", reader.name(), key, i);
    SW_ASSIGN_OR_RETURN(const double number, JsonToFloat((*value)[i++], name));
    SW_RETURN_IF_ERROR(CheckMultiplier(number, name));
    *target = static_cast<float>(number);
  }
  return absl::OkStatus();
}

int64_t ScaledDim(double factor, int64_t dim) {
  const double width = factor * static_cast<double>(dim);
  const double nearest = std::round(width);
  return static_cast<int64_t>(std::abs(width - nearest) < 1e-6 ? nearest : width);
}

absl::StatusOr<int64_t> ReadExpanded(const JsonReader& reader, const char* key,
                                     int64_t hidden_size) {
  SW_ASSIGN_OR_RETURN(const double expand, reader.Float(key, 2.0));
  if (!(expand > 0.0 && expand <= 1024.0)) {
    return Invalid(
        reader, absl::StrFormat("\"%s\" is %g; legal are numbers above 0 up to 1024", key, expand));
  }
  return ScaledDim(expand, hidden_size);
}

absl::StatusOr<int64_t> ReadTimeStepRank(const JsonReader& reader, const char* key,
                                         int64_t hidden_size) {
  const Json* value = reader.Find(key);
  if (value == nullptr || (value->is_string() && *value == "auto")) return (hidden_size + 15) / 16;
  if (value->is_string()) {
    return Invalid(reader, absl::StrFormat("\"%s\" is %s; legal are \"auto\" and integers from 1",
                                           key, ShortDump(*value)));
  }
  return reader.Int(key, 1, kMaxDim);
}

absl::Status ReadTimeStepLimit(const JsonReader& reader, const char* key, ModelConfig& config) {
  const Json* value = reader.Find(key);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_array() || value->size() != 2) {
    return Invalid(reader, absl::StrFormat("\"%s\" is %s; legal is a list of two numbers", key,
                                           ShortDump(*value)));
  }
  const std::string name = absl::StrCat(reader.name(), ": \"", key, "\"");
  SW_ASSIGN_OR_RETURN(const double low, JsonToFloat((*value)[0], name + "[0]"));
  SW_ASSIGN_OR_RETURN(const double high, JsonToFloat((*value)[1], name + "[1]"));
  config.time_step_min = static_cast<float>(low);
  config.time_step_max = static_cast<float>(high);
  if (!(low >= 0.0 && std::isfinite(config.time_step_min) && high > 0.0 && low <= high)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s is %s; legal are 0 <= low <= high, low finite, high above 0", name, ShortDump(*value)));
  }
  return absl::OkStatus();
}

bool IsInteger(const Json& value, int64_t min, int64_t max) {
  // Parsed non-negative numbers are unsigned ones, which may exceed int64; built ones need not be.
  if (value.is_number_unsigned()) return value.get<uint64_t>() <= static_cast<uint64_t>(max);
  return value.is_number_integer() && value.get<int64_t>() >= min && value.get<int64_t>() <= max;
}

absl::StatusOr<std::vector<int32_t>> ReadEosTokenIds(const JsonReader& reader, int32_t absent) {
  constexpr const char* kKey = "eos_token_id";
  std::vector<int32_t> ids;
  const Json* value = reader.Find(kKey);
  if (value == nullptr || !value->is_array()) {
    SW_ASSIGN_OR_RETURN(const int32_t id, TokenId(reader, kKey, absent));
    if (id >= 0) ids.push_back(id);
    return ids;
  }
  for (const Json& item : *value) {
    if (!IsInteger(item, 0, kMaxTokenId)) {
      return Invalid(reader, absl::StrFormat("\"%s\" is %s; legal are an integer from 0 to %d or a "
                                             "list of them",
                                             kKey, ShortDump(*value), kMaxTokenId));
    }
    ids.push_back(item.get<int32_t>());
  }
  return ids;
}

void SortUnique(std::vector<int32_t>& ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

absl::Status ReadTokens(const JsonReader& reader, DefaultTokens absent, ModelConfig& config) {
  SW_ASSIGN_OR_RETURN(config.bos_token_id, TokenId(reader, "bos_token_id", absent.bos));
  SW_ASSIGN_OR_RETURN(config.pad_token_id, TokenId(reader, "pad_token_id", absent.pad));
  SW_ASSIGN_OR_RETURN(config.eos_token_ids, ReadEosTokenIds(reader, absent.eos));
  SortUnique(config.eos_token_ids);
  // A default of the class that a small vocabulary lacks is no token at all.
  if (!reader.Has("bos_token_id") && config.bos_token_id >= config.vocab_size) {
    config.bos_token_id = -1;
  }
  // Padding and end ids out of range are never met; a begin id out of range would be fed to the
  // model.
  if (config.bos_token_id >= config.vocab_size) {
    return Invalid(reader, absl::StrFormat("\"bos_token_id\" is %d; legal are ids below the "
                                           "vocabulary size %d",
                                           config.bos_token_id, config.vocab_size));
  }
  return absl::OkStatus();
}

// The weights' own types decide how they are read, so an unknown spelling here is no error.
absl::StatusOr<std::optional<DType>> ReadDType(const JsonReader& reader) {
  const char* key = KeyOf(reader, {"dtype", "torch_dtype"});
  SW_ASSIGN_OR_RETURN(const std::string text, reader.String(key, ""));
  const absl::string_view name = absl::StripPrefix(text, "torch.");
  for (DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    if (name == Name(dtype)) return dtype;
  }
  return std::nullopt;
}

absl::Status ReadFrame(const JsonReader& reader, const FrameDefaults& defaults,
                       ModelConfig& config) {
  SW_ASSIGN_OR_RETURN(config.hidden_size, ReadDim(reader, "hidden_size", defaults.hidden_size));
  SW_ASSIGN_OR_RETURN(config.num_layers,
                      reader.Int("num_hidden_layers", 1, kMaxLayers, defaults.num_layers));
  config.layers.assign(config.num_layers, LayerConfig{});
  SW_ASSIGN_OR_RETURN(config.vocab_size, ReadDim(reader, "vocab_size", defaults.vocab_size));
  config.vocab_limit = config.vocab_size;
  SW_ASSIGN_OR_RETURN(config.norm_eps, ReadEpsilon(reader, defaults.eps_key, defaults.eps));
  SW_ASSIGN_OR_RETURN(config.tie_embeddings, reader.Bool("tie_word_embeddings", defaults.tied));
  SW_ASSIGN_OR_RETURN(config.dtype, ReadDType(reader));
  return ReadTokens(reader, defaults.tokens, config);
}

Json FrameJson(const ModelConfig& config, const char* eps_key) {
  Json json = {{"model_type", Name(config.family)},
               {"hidden_size", config.hidden_size},
               {"num_hidden_layers", config.num_layers},
               {"vocab_size", config.vocab_size},
               {"tie_word_embeddings", config.tie_embeddings},
               {"bos_token_id", TokenIdJson(config.bos_token_id)},
               {"pad_token_id", TokenIdJson(config.pad_token_id)}};
  json[eps_key] = config.norm_eps;
  json["eos_token_id"] = config.eos_token_ids;
  if (config.dtype) json["dtype"] = Name(*config.dtype);
  return json;
}

Json FloatJson(float value) { return std::isinf(value) ? Json("Infinity") : Json(value); }

Json TimeStepLimitJson(const ModelConfig& config) {
  return {FloatJson(config.time_step_min), FloatJson(config.time_step_max)};
}

}  // namespace sidewinder
