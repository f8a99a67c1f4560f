#include "models/config/layers.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/config/reading.h"
#include "runtime/status_macros.h"

namespace sidewinder {

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

}  // namespace sidewinder
