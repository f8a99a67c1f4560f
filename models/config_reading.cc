#include "models/config_reading.h"

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

bool IsInteger(const Json& value, int64_t min, int64_t max) {
  // Parsed non-negative numbers are unsigned ones, which may exceed int64; built ones need not be.
  if (value.is_number_unsigned()) return value.get<uint64_t>() <= static_cast<uint64_t>(max);
  return value.is_number_integer() && value.get<int64_t>() >= min && value.get<int64_t>() <= max;
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

absl::StatusOr<std::vector<std::string>> ReadNames(const JsonReader& reader, const char* key) {
  const Json* value = reader.Find(key);
  if (value == nullptr) {
    return absl::NotFoundError(absl::StrCat(reader.name(), ": \"", key, "\" is missing"));
  }
  std::vector<std::string> names;
  const bool list = value->is_array() && value->size() <= kMaxLayers;
  for (const Json& item : list ? *value : Json::array()) {
    if (item.is_string()) names.push_back(item.get<std::string>());
  }
  if (!list || names.size() != value->size()) {
    return Invalid(reader, absl::StrFormat("\"%s\" is %s; legal is a list of at most %d strings",
                                           key, ShortDump(*value), kMaxLayers));
  }
  return names;
}

absl::Status ReadMixers(const JsonReader& reader, const char* key, ModelConfig& config) {
  if (!reader.Has(key)) return absl::OkStatus();
  SW_ASSIGN_OR_RETURN(const std::vector<std::string> names, ReadNames(reader, key));
  if (names.size() != config.layers.size()) {
    return Invalid(reader, absl::StrFormat("\"%s\" has %d names; legal is one for each of the %d "
                                           "layers",
                                           key, names.size(), config.num_layers));
  }
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == "attention" || names[i] == "full_attention") {
      config.layers[i].mixer = MixerKind::kAttention;
    } else if (names[i] == "mamba" || names[i] == "linear_attention") {
      config.layers[i].mixer = MixerKind::kRecurrent;
    } else {
      return Invalid(reader, absl::StrFormat("\"%s\"[%d] is \"%s\"; legal are \"mamba\", "
                                             "\"linear_attention\", \"attention\" and "
                                             "\"full_attention\"",
                                             key, i, absl::Utf8SafeCEscape(names[i])));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> ReadLayerIndices(const JsonReader& reader, const char* key,
                                                      int64_t num_layers) {
  const Json* value = reader.Find(key);
  std::vector<int64_t> indices;
  if (value == nullptr) return indices;
  for (const Json& item : value->is_array() ? *value : Json::array({*value})) {
    if (!value->is_array() || !IsInteger(item, 0, num_layers - 1)) {
      return Invalid(reader, absl::StrFormat("\"%s\" is %s; legal is a list of integers from 0 to "
                                             "%d, the last layer",
                                             key, ShortDump(*value), num_layers - 1));
    }
    indices.push_back(item.get<int64_t>());
  }
  return indices;
}

bool HasMixer(const ModelConfig& config, MixerKind kind) {
  return std::any_of(config.layers.begin(), config.layers.end(),
                     [kind](const LayerConfig& layer) { return layer.mixer == kind; });
}

bool HasFeedForward(const ModelConfig& config, FeedForwardKind kind) {
  return std::any_of(config.layers.begin(), config.layers.end(),
                     [kind](const LayerConfig& layer) { return layer.feed_forward == kind; });
}

absl::Status ReadAttention(const JsonReader& reader, const AttentionDefaults& defaults,
                           ModelConfig& config) {
  AttentionConfig& attention = config.attention;
  SW_ASSIGN_OR_RETURN(attention.num_heads,
                      ReadDim(reader, "num_attention_heads", defaults.num_heads));
  SW_ASSIGN_OR_RETURN(
      attention.num_kv_heads,
      ReadDim(reader, "num_key_value_heads",
              defaults.num_kv_heads > 0 ? defaults.num_kv_heads : attention.num_heads));
  if (attention.num_heads % attention.num_kv_heads != 0) {
    return Invalid(reader, absl::StrFormat("\"num_key_value_heads\" is %d; legal are divisors of "
                                           "the %d heads",
                                           attention.num_kv_heads, attention.num_heads));
  }
  const char* key = defaults.head_dim_key;
  int64_t head_dim = defaults.head_dim;
  if (head_dim == 0 && !reader.Has(key)) {
    const int64_t width = defaults.width > 0 ? defaults.width : config.hidden_size;
    if (width % attention.num_heads != 0) {
      return Invalid(reader, absl::StrFormat("\"num_attention_heads\" is %d; legal are divisors of "
                                             "the width %d where \"%s\" is missing",
                                             attention.num_heads, width, key));
    }
    head_dim = width / attention.num_heads;
  }
  SW_ASSIGN_OR_RETURN(attention.head_dim, ReadDim(reader, key, head_dim));
  if (attention.head_dim % 2 != 0 || attention.head_dim > kMaxAttentionHeadDim) {
    return Unsupported(reader, absl::StrFormat("heads of attention are %d wide (\"%s\"); legal are "
                                               "even widths up to %d",
                                               attention.head_dim, key, kMaxAttentionHeadDim));
  }
  if (attention.num_heads * attention.head_dim > kMaxDim) {
    return Invalid(reader, absl::StrFormat("%d heads of attention of %d elements are too many; "
                                           "legal are %d elements in all",
                                           attention.num_heads, attention.head_dim, kMaxDim));
  }
  attention.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(attention.head_dim)));
  return absl::OkStatus();
}

namespace {

// A member of "rope_parameters", of "rope_scaling" or of the file itself, whichever has it first.
class RopeReader {
 public:
  static absl::StatusOr<RopeReader> Create(const JsonReader& reader) {
    RopeReader rope;
    for (const char* key : {"rope_parameters", "rope_scaling"}) {
      const Json* object = reader.Find(key);
      if (object == nullptr) continue;
      if (!object->is_object()) {
        return Invalid(reader,
                       absl::StrFormat("\"%s\" is %s, not an object", key, ShortDump(*object)));
      }
      rope.readers_.emplace_back(*object, absl::StrFormat("%s: \"%s\"", reader.name(), key));
    }
    rope.num_objects_ = rope.readers_.size();
    rope.readers_.push_back(reader);
    return rope;
  }

  // The file's own "type" or "factor" would be something else's.
  const JsonReader& Of(const char* key, bool file_too) const {
    for (size_t i = 0; i < num_objects_; ++i) {
      if (readers_[i].Has(key)) return readers_[i];
    }
    return file_too || num_objects_ == 0 ? readers_.back() : readers_[0];
  }
  bool HasScaling() const { return num_objects_ > 0; }

 private:
  std::vector<JsonReader> readers_;
  size_t num_objects_ = 0;
};

absl::StatusOr<double> InRange(const JsonReader& reader, const char* key, double value, double min,
                               double max) {
  if (value >= min && value <= max) return value;
  return Invalid(reader, absl::StrFormat("\"%s\" is %g; legal are numbers from %g to %g", key,
                                         value, min, max));
}

absl::Status ReadScaling(const RopeReader& readers, RopeConfig& rope) {
  const char* type_key = readers.Of("rope_type", false).Has("rope_type") ? "rope_type" : "type";
  const JsonReader& type_reader = readers.Of(type_key, false);
  SW_ASSIGN_OR_RETURN(const std::string type, type_reader.String(type_key, "default"));
  if (type == "default") return absl::OkStatus();
  if (type != "linear" && type != "llama3") {
    return Unsupported(type_reader,
                       absl::StrFormat("\"%s\" is \"%s\"; legal are \"default\", \"linear\" and "
                                       "\"llama3\"",
                                       type_key, absl::Utf8SafeCEscape(type)));
  }
  const auto read = [&](const char* key, double min) -> absl::StatusOr<double> {
    const JsonReader& reader = readers.Of(key, false);
    SW_ASSIGN_OR_RETURN(const double value, reader.Float(key));
    return InRange(reader, key, value, min, 1e6);
  };
  SW_ASSIGN_OR_RETURN(rope.factor, read("factor", 1.0));
  rope.scaling = RopeConfig::Scaling::kLinear;
  if (type == "linear") return absl::OkStatus();
  rope.scaling = RopeConfig::Scaling::kLlama3;
  SW_ASSIGN_OR_RETURN(rope.low_freq_factor, read("low_freq_factor", 1e-6));
  SW_ASSIGN_OR_RETURN(rope.high_freq_factor, read("high_freq_factor", 1e-6));
  if (!(rope.low_freq_factor < rope.high_freq_factor)) {
    return Invalid(type_reader,
                   absl::StrFormat("\"low_freq_factor\" is %g; legal are numbers below "
                                   "\"high_freq_factor\", %g",
                                   rope.low_freq_factor, rope.high_freq_factor));
  }
  constexpr const char* kPositions = "original_max_position_embeddings";
  SW_ASSIGN_OR_RETURN(rope.original_max_positions,
                      readers.Of(kPositions, true).Int(kPositions, 1, int64_t{1} << 40));
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadRope(const JsonReader& reader, double share, bool fixed_share,
                      ModelConfig& config) {
  AttentionConfig& attention = config.attention;
  SW_ASSIGN_OR_RETURN(const RopeReader readers, RopeReader::Create(reader));
  if (readers.HasScaling()) SW_RETURN_IF_ERROR(ReadScaling(readers, attention.rope));
  const JsonReader& theta = readers.Of("rope_theta", true);
  SW_ASSIGN_OR_RETURN(attention.rope.theta, theta.Float("rope_theta", 10000.0));
  SW_RETURN_IF_ERROR(InRange(theta, "rope_theta", attention.rope.theta, 1.0, 1e18).status());
  constexpr const char* kShare = "partial_rotary_factor";
  if (!fixed_share) {
    const JsonReader& part = readers.Of(kShare, true);
    SW_ASSIGN_OR_RETURN(share, part.Float(kShare, share));
    if (!(share > 0.0 && share <= 1.0)) {
      return Invalid(
          part, absl::StrFormat("\"%s\" is %g; legal are numbers above 0 up to 1", kShare, share));
    }
  }
  attention.rope.dim = ScaledDim(share, attention.head_dim);
  if (attention.rope.dim < 2 || attention.rope.dim % 2 != 0) {
    return Invalid(reader, absl::StrFormat("%g of a head's %d elements are rotated; legal are "
                                           "shares that make an even number of them",
                                           share, attention.head_dim));
  }
  return absl::OkStatus();
}

void WriteAttention(const ModelConfig& config, Json& json) {
  const AttentionConfig& attention = config.attention;
  json["num_attention_heads"] = attention.num_heads;
  json["num_key_value_heads"] = attention.num_kv_heads;
  json["head_dim"] = attention.head_dim;
  const RopeConfig& rope = attention.rope;
  if (rope.dim == 0) return;
  static constexpr const char* kTypes[] = {"default", "linear", "llama3"};
  Json parameters = {{"rope_type", kTypes[static_cast<size_t>(rope.scaling)]},
                     {"rope_theta", rope.theta}};
  if (rope.dim != attention.head_dim) {
    parameters["partial_rotary_factor"] =
        static_cast<double>(rope.dim) / static_cast<double>(attention.head_dim);
  }
  if (rope.scaling != RopeConfig::Scaling::kNone) parameters["factor"] = rope.factor;
  if (rope.scaling == RopeConfig::Scaling::kLlama3) {
    parameters["low_freq_factor"] = rope.low_freq_factor;
    parameters["high_freq_factor"] = rope.high_freq_factor;
    parameters["original_max_position_embeddings"] = rope.original_max_positions;
  }
  json["rope_parameters"] = parameters;
}

absl::Status CheckInnerSize(const JsonReader& reader, const ModelConfig& config) {
  if (config.inner_size >= 1 && config.inner_size <= kMaxDim) return absl::OkStatus();
  return Invalid(reader, absl::StrFormat("the inner width is %d; legal are 1 to %d",
                                         config.inner_size, kMaxDim));
}

absl::Status CheckMamba2(const JsonReader& reader, int64_t norm_group, ModelConfig& config) {
  SW_RETURN_IF_ERROR(CheckInnerSize(reader, config));
  if (config.num_heads % config.num_groups != 0) {
    return Invalid(reader, absl::StrFormat("%d heads do not divide into %d groups",
                                           config.num_heads, config.num_groups));
  }
  if (config.num_groups * config.state_size > kMaxDim) {
    return Invalid(reader, absl::StrFormat("%d groups of %d state elements are too many; legal are "
                                           "%d in all",
                                           config.num_groups, config.state_size, kMaxDim));
  }
  SW_ASSIGN_OR_RETURN(config.gated_norm_group,
                      reader.Int("gated_norm_group", 1, config.inner_size, norm_group));
  if (config.inner_size % config.gated_norm_group != 0) {
    return Invalid(reader, absl::StrFormat("\"gated_norm_group\" is %d; legal are divisors of the "
                                           "inner width %d",
                                           config.gated_norm_group, config.inner_size));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> NormGroupOfVersion(const JsonReader& reader, const ModelConfig& config) {
  SW_ASSIGN_OR_RETURN(const std::string version, reader.String("transformers_version", ""));
  int major = 0, minor = 0;
  const bool known = std::sscanf(version.c_str(), "%d.%d", &major, &minor) == 2;
  const bool groups = known && (major > 5 || (major == 5 && minor >= 23));
  return groups ? config.inner_size / config.num_groups : config.inner_size;
}

absl::Status CheckExperts(const JsonReader& reader, const ExpertsConfig& experts) {
  // Groups are of equal size, and of more than one of them each is judged by its two best.
  const int64_t group = experts.num_experts / experts.num_groups;
  if (experts.num_experts % experts.num_groups != 0 || (experts.num_groups > 1 && group < 2)) {
    return Invalid(reader, absl::StrFormat("%d groups of experts; legal are 1 and divisors of the "
                                           "%d experts that leave 2 in a group",
                                           experts.num_groups, experts.num_experts));
  }
  if (experts.num_chosen_groups > experts.num_groups) {
    return Invalid(reader, absl::StrFormat("%d groups of experts are chosen; legal are 1 to %d",
                                           experts.num_chosen_groups, experts.num_groups));
  }
  if (experts.num_chosen > group * experts.num_chosen_groups) {
    return Invalid(reader, absl::StrFormat("\"num_experts_per_tok\" is %d; legal are 1 to %d, the "
                                           "experts to choose from",
                                           experts.num_chosen, group * experts.num_chosen_groups));
  }
  if (experts.num_experts * experts.inner_size > kMaxDim) {
    return Invalid(reader, absl::StrFormat("%d experts of width %d are too many; legal are %d "
                                           "elements in all",
                                           experts.num_experts, experts.inner_size, kMaxDim));
  }
  return absl::OkStatus();
}

Json FloatJson(float value) { return std::isinf(value) ? Json("Infinity") : Json(value); }

Json TimeStepLimitJson(const ModelConfig& config) {
  return {FloatJson(config.time_step_min), FloatJson(config.time_step_max)};
}

}  // namespace sidewinder
