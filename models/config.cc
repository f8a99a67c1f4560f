#include "models/config.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "runtime/mapped_file.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

constexpr int64_t kMaxTokenId{std::numeric_limits<int32_t>::max()};

constexpr const char* kSupported =
    "model_type \"mamba\" and \"mamba2\", and the original format of state-spaces (d_model, "
    "n_layer, ssm_cfg)";

absl::Status Invalid(const JsonReader& reader, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(reader.name(), ": ", what));
}

absl::Status Unsupported(const JsonReader& reader, absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat(reader.name(), ": ", what));
}

// An option of which only one value is built.
absl::Status Require(const JsonReader& reader, const char* key, bool required) {
  SW_ASSIGN_OR_RETURN(const bool value, reader.Bool(key, required));
  if (value == required) return absl::OkStatus();
  const char* const names[] = {"false", "true"};
  return Unsupported(reader, absl::StrFormat("\"%s\": %s is not supported; legal is %s", key,
                                             names[value], names[required]));
}

// `expand` times the width, cut to an integer as Python's int() does, unless only the rounding of
// the product keeps it from one (the factor need not be an integer: 16 / 9 of 36 is 64).
absl::StatusOr<int64_t> Expanded(const JsonReader& reader, int64_t hidden_size) {
  SW_ASSIGN_OR_RETURN(const double expand, reader.Float("expand", 2.0));
  if (!(expand > 0.0 && expand <= 1024.0)) {
    return Invalid(
        reader, absl::StrFormat("\"expand\" is %g; legal are numbers above 0 up to 1024", expand));
  }
  const double width = expand * static_cast<double>(hidden_size);
  const double nearest = std::round(width);
  return static_cast<int64_t>(std::abs(width - nearest) < 1e-6 ? nearest : width);
}

absl::StatusOr<int64_t> TimeStepRank(const JsonReader& reader, const char* key,
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

absl::StatusOr<float> NormEpsilon(const JsonReader& reader, const char* key) {
  SW_ASSIGN_OR_RETURN(const double value, reader.Float(key, 1e-5));
  if (!(value >= 1e-12 && value <= 1.0)) {
    return Invalid(reader,
                   absl::StrFormat("\"%s\" is %g; legal are numbers from 1e-12 to 1", key, value));
  }
  return static_cast<float>(value);
}

// The weights' own types decide how they are read, so an unknown spelling here is no error.
absl::StatusOr<std::optional<DType>> ReadDType(const JsonReader& reader) {
  const char* key = reader.Has("dtype") ? "dtype" : "torch_dtype";
  SW_ASSIGN_OR_RETURN(const std::string text, reader.String(key, ""));
  const absl::string_view name = absl::StripPrefix(text, "torch.");
  for (DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    if (name == Name(dtype)) return dtype;
  }
  return std::nullopt;
}

// Absent means the default of the class, null means none, -1 is how some files spell none.
absl::StatusOr<int32_t> TokenId(const Json& json, const JsonReader& reader, const char* key,
                                int32_t absent) {
  if (!json.contains(key)) return absent;
  if (!reader.Has(key)) return -1;
  SW_ASSIGN_OR_RETURN(const int64_t id, reader.Int(key, -1, kMaxTokenId));
  return static_cast<int32_t>(id);
}

// An integer, a list of integers, or null.
absl::StatusOr<std::vector<int32_t>> EosTokenIds(const Json& json, const JsonReader& reader,
                                                 int32_t absent) {
  constexpr const char* kKey = "eos_token_id";
  std::vector<int32_t> ids;
  const Json* value = reader.Find(kKey);
  if (value == nullptr || !value->is_array()) {
    SW_ASSIGN_OR_RETURN(const int32_t id, TokenId(json, reader, kKey, absent));
    if (id >= 0) ids.push_back(id);
    return ids;
  }
  for (const Json& item : *value) {
    // Parsed non-negative numbers are unsigned ones, which may exceed int64; built ones need not
    // be.
    const bool legal = item.is_number_unsigned()
                           ? item.get<uint64_t>() <= static_cast<uint64_t>(kMaxTokenId)
                           : item.is_number_integer() && item.get<int64_t>() >= 0 &&
                                 item.get<int64_t>() <= kMaxTokenId;
    if (!legal) {
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

struct DefaultTokens {
  int32_t bos;
  int32_t eos;
  int32_t pad;
};

absl::Status ReadTokens(const Json& json, const JsonReader& reader, DefaultTokens absent,
                        ModelConfig& config) {
  SW_ASSIGN_OR_RETURN(config.bos_token_id, TokenId(json, reader, "bos_token_id", absent.bos));
  SW_ASSIGN_OR_RETURN(config.pad_token_id, TokenId(json, reader, "pad_token_id", absent.pad));
  SW_ASSIGN_OR_RETURN(config.eos_token_ids, EosTokenIds(json, reader, absent.eos));
  SortUnique(config.eos_token_ids);
  // Padding and end ids out of range are never met; a begin id out of range would be fed to the
  // model.
  if (config.bos_token_id >= config.vocab_size) {
    return Invalid(reader, absl::StrFormat("\"bos_token_id\" is %d; legal are ids below the "
                                           "vocabulary size %d",
                                           config.bos_token_id, config.vocab_size));
  }
  return absl::OkStatus();
}

// Over how many channels the gated norm of a Mamba-2 folder takes its mean, if the file does not
// say. state-spaces trains with one mean per group. transformers took one over the whole width
// until its version 5.23, so a folder that an older one wrote reproduces its outputs only with
// that. Codestral was trained per group: its file is known by a leftover "norm_before_gate".
absl::StatusOr<int64_t> DefaultNormGroup(const JsonReader& reader, const ModelConfig& config) {
  const int64_t per_group = config.inner_size / config.num_groups;
  if (config.original_naming || reader.Has("norm_before_gate")) return per_group;
  SW_ASSIGN_OR_RETURN(const std::string version, reader.String("transformers_version", ""));
  int major = 0, minor = 0;
  const bool known = std::sscanf(version.c_str(), "%d.%d", &major, &minor) == 2;
  const bool groups = known && (major > 5 || (major == 5 && minor >= 23));
  return groups ? per_group : config.inner_size;
}

// What the dimensions must satisfy together, whatever the naming; derives what is left.
absl::Status CheckDimensions(const JsonReader& reader, ModelConfig& config) {
  if (config.inner_size < 1 || config.inner_size > kMaxDim) {
    return Invalid(reader, absl::StrFormat("the inner width is %d; legal are 1 to %d",
                                           config.inner_size, kMaxDim));
  }
  if (config.family != ModelFamily::kMamba2) return absl::OkStatus();
  if (config.num_heads % config.num_groups != 0) {
    return Invalid(reader, absl::StrFormat("%d heads do not divide into %d groups",
                                           config.num_heads, config.num_groups));
  }
  if (config.num_groups * config.state_size > kMaxDim) {
    return Invalid(reader, absl::StrFormat("%d groups of %d state elements are too many; legal are "
                                           "%d in all",
                                           config.num_groups, config.state_size, kMaxDim));
  }
  SW_ASSIGN_OR_RETURN(const int64_t norm_group, DefaultNormGroup(reader, config));
  SW_ASSIGN_OR_RETURN(config.gated_norm_group,
                      reader.Int("gated_norm_group", 1, config.inner_size, norm_group));
  if (config.inner_size % config.gated_norm_group != 0) {
    return Invalid(reader, absl::StrFormat("\"gated_norm_group\" is %d; legal are divisors of the "
                                           "inner width %d",
                                           config.gated_norm_group, config.inner_size));
  }
  return absl::OkStatus();
}

// The naming of transformers. What is absent has the default of the class there.
absl::StatusOr<ModelConfig> ParseTransformers(const Json& json, const std::string& name,
                                              ModelFamily family) {
  const JsonReader reader(json, name);
  const bool mamba1 = family == ModelFamily::kMamba1;
  ModelConfig config;
  config.family = family;
  SW_ASSIGN_OR_RETURN(config.hidden_size,
                      reader.Int("hidden_size", 1, kMaxDim, mamba1 ? 768 : 4096));
  SW_ASSIGN_OR_RETURN(config.num_layers,
                      reader.Int("num_hidden_layers", 1, kMaxLayers, mamba1 ? 32 : 64));
  SW_ASSIGN_OR_RETURN(config.vocab_size,
                      reader.Int("vocab_size", 1, kMaxDim, mamba1 ? 50280 : 32768));
  config.vocab_limit = config.vocab_size;
  SW_ASSIGN_OR_RETURN(config.state_size,
                      reader.Int("state_size", 1, kMaxStateSize, mamba1 ? 16 : 128));
  SW_ASSIGN_OR_RETURN(config.conv_kernel, reader.Int("conv_kernel", 1, kMaxConvKernel, 4));
  SW_ASSIGN_OR_RETURN(config.norm_eps, NormEpsilon(reader, "layer_norm_epsilon"));
  SW_ASSIGN_OR_RETURN(config.use_bias, reader.Bool("use_bias", false));
  config.use_out_bias = config.use_bias;
  SW_ASSIGN_OR_RETURN(config.use_conv_bias, reader.Bool("use_conv_bias", true));
  SW_ASSIGN_OR_RETURN(config.tie_embeddings, reader.Bool("tie_word_embeddings", mamba1));
  SW_ASSIGN_OR_RETURN(config.dtype, ReadDType(reader));
  SW_ASSIGN_OR_RETURN(const std::string activation, reader.String("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    return Unsupported(reader, absl::StrFormat("\"hidden_act\" is \"%s\"; legal are \"silu\" and "
                                               "\"swish\"",
                                               absl::Utf8SafeCEscape(activation)));
  }
  SW_ASSIGN_OR_RETURN(const int64_t expanded, Expanded(reader, config.hidden_size));
  if (mamba1) {
    // An explicit width wins: FalconMamba-like files carry an "expand" that means nothing.
    SW_ASSIGN_OR_RETURN(config.inner_size, reader.Int("intermediate_size", 1, kMaxDim, expanded));
    SW_ASSIGN_OR_RETURN(config.time_step_rank,
                        TimeStepRank(reader, "time_step_rank", config.hidden_size));
  } else {
    SW_ASSIGN_OR_RETURN(config.num_heads, reader.Int("num_heads", 1, kMaxDim, 128));
    SW_ASSIGN_OR_RETURN(config.head_dim, reader.Int("head_dim", 1, kMaxDim, 64));
    SW_ASSIGN_OR_RETURN(config.num_groups, reader.Int("n_groups", 1, kMaxDim, 8));
    config.inner_size = config.num_heads * config.head_dim;
    if (config.inner_size != expanded) {
      return Invalid(reader,
                     absl::StrFormat("\"num_heads\" * \"head_dim\" is %d * %d, but \"expand\" * "
                                     "\"hidden_size\" is %d; they must agree",
                                     config.num_heads, config.head_dim, expanded));
    }
    SW_RETURN_IF_ERROR(ReadTimeStepLimit(reader, "time_step_limit", config));
    SW_RETURN_IF_ERROR(Require(reader, "rms_norm", true));
  }
  SW_RETURN_IF_ERROR(CheckDimensions(reader, config));
  SW_RETURN_IF_ERROR(
      ReadTokens(json, reader, mamba1 ? DefaultTokens{0, 0, 0} : DefaultTokens{0, 2, 1}, config));
  return config;
}

// "ssm_cfg" holds arguments of the mixer's constructor, which knows no others than these.
absl::Status CheckSsmKeys(const JsonReader& reader, const Json& ssm,
                          std::initializer_list<absl::string_view> own) {
  static constexpr absl::string_view kCommon[] = {
      "layer",  "d_state", "d_conv",  "expand",   "bias",          "conv_bias",
      "dt_min", "dt_max",  "dt_init", "dt_scale", "dt_init_floor", "use_fast_path"};
  for (const auto& [key, value] : ssm.items()) {
    if (std::find(std::begin(kCommon), std::end(kCommon), key) != std::end(kCommon)) continue;
    if (std::find(own.begin(), own.end(), key) != own.end()) continue;
    return Unsupported(reader,
                       absl::StrFormat("the option \"%s\" is not known; known are %s, %s",
                                       absl::Utf8SafeCEscape(key), absl::StrJoin(kCommon, ", "),
                                       absl::StrJoin(own, ", ")));
  }
  return absl::OkStatus();
}

absl::Status ReadOriginalMamba1(const JsonReader& ssm, const Json& json, ModelConfig& config) {
  SW_RETURN_IF_ERROR(CheckSsmKeys(ssm, json, {"dt_rank"}));
  config.family = ModelFamily::kMamba1;
  SW_ASSIGN_OR_RETURN(config.state_size, ssm.Int("d_state", 1, kMaxStateSize, 16));
  SW_ASSIGN_OR_RETURN(config.inner_size, Expanded(ssm, config.hidden_size));
  SW_ASSIGN_OR_RETURN(config.time_step_rank, TimeStepRank(ssm, "dt_rank", config.hidden_size));
  return absl::OkStatus();
}

absl::Status ReadOriginalMamba2(const JsonReader& ssm, const Json& json, ModelConfig& config) {
  SW_RETURN_IF_ERROR(
      CheckSsmKeys(ssm, json,
                   {"headdim", "ngroups", "d_ssm", "D_has_hdim", "rmsnorm", "norm_before_gate",
                    "dt_limit", "chunk_size", "use_mem_eff_path", "A_init_range", "conv_init"}));
  config.family = ModelFamily::kMamba2;
  SW_ASSIGN_OR_RETURN(config.state_size, ssm.Int("d_state", 1, kMaxStateSize, 128));
  SW_ASSIGN_OR_RETURN(config.inner_size, Expanded(ssm, config.hidden_size));
  SW_ASSIGN_OR_RETURN(config.head_dim, ssm.Int("headdim", 1, kMaxDim, 64));
  SW_ASSIGN_OR_RETURN(config.num_groups, ssm.Int("ngroups", 1, kMaxDim, 1));
  config.num_heads = config.inner_size / config.head_dim;
  if (config.num_heads < 1 || config.inner_size % config.head_dim != 0) {
    return Invalid(ssm, absl::StrFormat("\"headdim\" is %d; legal are divisors of the inner width "
                                        "%d (\"expand\" * \"d_model\")",
                                        config.head_dim, config.inner_size));
  }
  SW_ASSIGN_OR_RETURN(const int64_t d_ssm, ssm.Int("d_ssm", 1, kMaxDim, config.inner_size));
  if (d_ssm != config.inner_size) {
    return Unsupported(ssm, absl::StrFormat("\"d_ssm\" is %d; supported is only the full inner "
                                            "width %d, without a parallel MLP",
                                            d_ssm, config.inner_size));
  }
  SW_RETURN_IF_ERROR(Require(ssm, "D_has_hdim", false));
  SW_RETURN_IF_ERROR(Require(ssm, "rmsnorm", true));
  SW_RETURN_IF_ERROR(Require(ssm, "norm_before_gate", false));
  return ReadTimeStepLimit(ssm, "dt_limit", config);
}

absl::StatusOr<ModelConfig> ParseOriginal(const Json& json, const std::string& name) {
  const JsonReader reader(json, name);
  ModelConfig config;
  config.original_naming = true;
  SW_ASSIGN_OR_RETURN(config.hidden_size, reader.Int("d_model", 1, kMaxDim));
  SW_ASSIGN_OR_RETURN(config.num_layers, reader.Int("n_layer", 1, kMaxLayers));
  SW_ASSIGN_OR_RETURN(config.vocab_limit, reader.Int("vocab_size", 1, kMaxDim, 50277));
  SW_ASSIGN_OR_RETURN(const int64_t multiple, reader.Int("pad_vocab_size_multiple", 1, kMaxDim, 8));
  config.vocab_size = (config.vocab_limit + multiple - 1) / multiple * multiple;
  SW_RETURN_IF_ERROR(Require(reader, "rms_norm", true));
  SW_ASSIGN_OR_RETURN(const int64_t mlp, reader.Int("d_intermediate", 0, kMaxDim, 0));
  if (mlp > 0) {
    return Unsupported(reader, absl::StrFormat("\"d_intermediate\" is %d; MLP layers are not "
                                               "supported, legal is 0",
                                               mlp));
  }
  if (const Json* layers = reader.Find("attn_layer_idx"); layers != nullptr && !layers->empty()) {
    return Unsupported(reader, absl::StrFormat("\"attn_layer_idx\" is %s; attention layers are not "
                                               "supported, legal is []",
                                               ShortDump(*layers)));
  }

  static const Json* const kEmpty = new Json(Json::object());
  const Json* found = reader.Find("ssm_cfg");
  const Json& ssm_json = found == nullptr ? *kEmpty : *found;
  const JsonReader ssm(ssm_json, absl::StrCat(name, ": \"ssm_cfg\""));
  if (!ssm_json.is_object()) {
    return Invalid(reader, absl::StrCat("\"ssm_cfg\" is ", ShortDump(ssm_json), ", not an object"));
  }
  SW_ASSIGN_OR_RETURN(config.conv_kernel, ssm.Int("d_conv", 1, kMaxConvKernel, 4));
  SW_ASSIGN_OR_RETURN(config.use_bias, ssm.Bool("bias", false));
  config.use_out_bias = config.use_bias;
  SW_ASSIGN_OR_RETURN(config.use_conv_bias, ssm.Bool("conv_bias", true));
  SW_ASSIGN_OR_RETURN(const std::string layer, ssm.String("layer", "Mamba1"));
  if (layer == "Mamba1") {
    SW_RETURN_IF_ERROR(ReadOriginalMamba1(ssm, ssm_json, config));
  } else if (layer == "Mamba2") {
    SW_RETURN_IF_ERROR(ReadOriginalMamba2(ssm, ssm_json, config));
  } else {
    return Unsupported(ssm, absl::StrFormat("\"layer\" is \"%s\"; legal are \"Mamba1\" and "
                                            "\"Mamba2\"",
                                            absl::Utf8SafeCEscape(layer)));
  }
  SW_ASSIGN_OR_RETURN(config.tie_embeddings, reader.Bool("tie_embeddings", true));
  // The original files have neither of these and a fixed epsilon; ToJson writes them.
  SW_ASSIGN_OR_RETURN(config.norm_eps, NormEpsilon(reader, "layer_norm_epsilon"));
  SW_ASSIGN_OR_RETURN(config.dtype, ReadDType(reader));
  SW_RETURN_IF_ERROR(CheckDimensions(reader, config));
  SW_RETURN_IF_ERROR(ReadTokens(json, reader, {-1, -1, -1}, config));
  return config;
}

Json TokenIdJson(int32_t id) { return id < 0 ? Json() : Json(id); }

}  // namespace

const char* Name(ModelFamily family) {
  static constexpr const char* kNames[] = {
      "mamba", "mamba2", "falcon_mamba",     "zamba2",     "jamba",     "mamba_in_llama",
      "llama", "bamba",  "granitemoehybrid", "nemotron_h", "falcon_h1", "qwen3_next"};
  return kNames[static_cast<size_t>(family)];
}

absl::StatusOr<ModelConfig> ParseConfig(const Json& json, const std::string& name) {
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": is ", ShortDump(json), ", not a JSON object"));
  }
  const JsonReader reader(json, name);
  if (reader.Has("quantization_config")) {
    return Unsupported(reader,
                       "\"quantization_config\": quantized weights are not supported; legal are "
                       "float32, bfloat16 and float16 weights");
  }
  if (!reader.Has("model_type")) {
    if (reader.Has("d_model") && reader.Has("n_layer")) return ParseOriginal(json, name);
    return Invalid(reader, absl::StrCat("neither \"model_type\" nor \"d_model\" and \"n_layer\" "
                                        "say what model this is; supported are ",
                                        kSupported));
  }
  SW_ASSIGN_OR_RETURN(const std::string type, reader.String("model_type"));
  for (ModelFamily family : {ModelFamily::kMamba1, ModelFamily::kMamba2}) {
    if (type == Name(family)) return ParseTransformers(json, name, family);
  }
  return Unsupported(reader, absl::StrFormat("\"model_type\" is \"%s\"; supported are %s",
                                             absl::Utf8SafeCEscape(type), kSupported));
}

absl::StatusOr<ModelConfig> LoadConfig(const std::string& folder) {
  const auto read = [](const std::string& path) -> absl::StatusOr<Json> {
    SW_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    return ParseJson(file.text(), path);
  };
  const std::string path = (std::filesystem::path(folder) / "config.json").string();
  SW_ASSIGN_OR_RETURN(const Json json, read(path));
  SW_ASSIGN_OR_RETURN(ModelConfig config, ParseConfig(json, path));

  const std::string generation_path =
      (std::filesystem::path(folder) / "generation_config.json").string();
  std::error_code error;
  if (!std::filesystem::exists(generation_path, error)) return config;
  SW_ASSIGN_OR_RETURN(const Json generation, read(generation_path));
  if (!generation.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(generation_path, ": is ", ShortDump(generation), ", not a JSON object"));
  }
  SW_ASSIGN_OR_RETURN(
      const std::vector<int32_t> more,
      EosTokenIds(generation, JsonReader(generation, generation_path), /*absent=*/-1));
  config.eos_token_ids.insert(config.eos_token_ids.end(), more.begin(), more.end());
  SortUnique(config.eos_token_ids);
  return config;
}

Json ToJson(const ModelConfig& config) {
  const bool mamba2 = config.family == ModelFamily::kMamba2;
  // Infinity has no spelling in JSON; this one is what JsonToFloat and transformers read.
  const auto number = [](float value) {
    return std::isinf(value) ? Json("Infinity") : Json(value);
  };
  const Json limit = {number(config.time_step_min), number(config.time_step_max)};
  Json json;
  if (config.original_naming) {
    Json ssm = {{"layer", mamba2 ? "Mamba2" : "Mamba1"},
                {"d_state", config.state_size},
                {"d_conv", config.conv_kernel},
                {"expand", static_cast<double>(config.inner_size) / config.hidden_size},
                {"bias", config.use_bias},
                {"conv_bias", config.use_conv_bias}};
    if (mamba2) {
      ssm.update({{"headdim", config.head_dim}, {"ngroups", config.num_groups}});
      ssm["dt_limit"] = limit;
    } else {
      ssm["dt_rank"] = config.time_step_rank;
    }
    json = {{"d_model", config.hidden_size},
            {"n_layer", config.num_layers},
            {"vocab_size", config.vocab_limit},
            {"pad_vocab_size_multiple", config.vocab_size},
            {"rms_norm", true},
            {"tie_embeddings", config.tie_embeddings},
            {"ssm_cfg", ssm}};
  } else {
    json = {{"model_type", Name(config.family)},
            {"hidden_size", config.hidden_size},
            {"num_hidden_layers", config.num_layers},
            {"vocab_size", config.vocab_size},
            {"state_size", config.state_size},
            {"conv_kernel", config.conv_kernel},
            {"expand", static_cast<double>(config.inner_size) / config.hidden_size},
            {"use_bias", config.use_bias},
            {"use_conv_bias", config.use_conv_bias},
            {"tie_word_embeddings", config.tie_embeddings}};
    if (mamba2) {
      json.update({{"num_heads", config.num_heads},
                   {"head_dim", config.head_dim},
                   {"n_groups", config.num_groups}});
      json["time_step_limit"] = limit;
    } else {
      json["intermediate_size"] = config.inner_size;
      json["time_step_rank"] = config.time_step_rank;
    }
  }
  if (mamba2) json["gated_norm_group"] = config.gated_norm_group;
  json["layer_norm_epsilon"] = config.norm_eps;
  json["bos_token_id"] = TokenIdJson(config.bos_token_id);
  json["pad_token_id"] = TokenIdJson(config.pad_token_id);
  json["eos_token_id"] = config.eos_token_ids;
  if (config.dtype) json["dtype"] = Name(*config.dtype);
  return json;
}

}  // namespace sidewinder
