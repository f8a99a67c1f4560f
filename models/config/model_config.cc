#include "models/config/model_config.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "models/config/families.h"
#include "models/config/reading.h"
#include "runtime/mapped_file.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// The value of "model_type", and what reads and writes such a config.
struct FamilyEntry {
  absl::string_view type;
  ModelFamily family;
  absl::StatusOr<ModelConfig> (*parse)(const JsonReader&);
  Json (*to_json)(const ModelConfig&);
};

template <ModelFamily family>
absl::StatusOr<ModelConfig> ParseMambaAs(const JsonReader& reader) {
  return ParseMamba(reader, family);
}

absl::StatusOr<ModelConfig> ParseAsLlama(const JsonReader& reader) {
  return ParseLlama(reader, "llama");
}

absl::StatusOr<ModelConfig> ParseAsMistral(const JsonReader& reader) {
  return ParseLlama(reader, "mistral");
}

// The spelling of ToJson: one file.
absl::StatusOr<ModelConfig> ParseWholeMambaInLlama(const JsonReader& reader) {
  constexpr const char* kKey = "mamba_config";
  const Json* mamba = reader.Find(kKey);
  if (mamba == nullptr) return Invalid(reader, absl::StrCat("\"", kKey, "\" is missing"));
  SW_ASSIGN_OR_RETURN(const std::string base, reader.String("base_model_type", "llama"));
  return ParseMambaInLlama(reader, base,
                           JsonReader(*mamba, absl::StrFormat("%s: \"%s\"", reader.name(), kKey)));
}

constexpr FamilyEntry kFamilies[] = {
    {"mamba", ModelFamily::kMamba1, ParseMambaAs<ModelFamily::kMamba1>, MambaJson},
    {"mamba2", ModelFamily::kMamba2, ParseMambaAs<ModelFamily::kMamba2>, MambaJson},
    {"falcon_mamba", ModelFamily::kFalconMamba, ParseMambaAs<ModelFamily::kFalconMamba>, MambaJson},
    {"zamba2", ModelFamily::kZamba2, ParseZamba2, Zamba2Json},
    {"jamba", ModelFamily::kJamba, ParseJamba, JambaJson},
    {"mamba_in_llama", ModelFamily::kMambaInLlama, ParseWholeMambaInLlama, MambaInLlamaJson},
    {"llama", ModelFamily::kLlama, ParseAsLlama, LlamaJson},
    {"mistral", ModelFamily::kLlama, ParseAsMistral, LlamaJson},
    {"bamba", ModelFamily::kBamba, ParseBamba, BambaJson},
    {"granitemoehybrid", ModelFamily::kGraniteHybrid, ParseGraniteHybrid, GraniteHybridJson},
    {"nemotron_h", ModelFamily::kNemotronH, ParseNemotronH, NemotronHJson},
    {"falcon_h1", ModelFamily::kFalconH1, ParseFalconH1, FalconH1Json},
    {"qwen3_next", ModelFamily::kQwen3Next, ParseQwen3Next, Qwen3NextJson},
};

std::string Supported() {
  const auto quoted = [](std::string* out, const FamilyEntry& entry) {
    absl::StrAppend(out, "\"", entry.type, "\"");
  };
  return absl::StrCat("model_type ", absl::StrJoin(kFamilies, ", ", quoted),
                      ", and the original format of state-spaces (d_model, n_layer, ssm_cfg)");
}

absl::Status CheckIsObject(const Json& json, const std::string& name) {
  if (json.is_object()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": is ", ShortDump(json), ", not a JSON object"));
}

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

absl::StatusOr<Json> ReadObject(const std::string& path) {
  SW_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  SW_ASSIGN_OR_RETURN(Json json, ParseJson(file.text(), path));
  SW_RETURN_IF_ERROR(CheckIsObject(json, path));
  return json;
}

absl::Status CheckNotQuantized(const JsonReader& reader) {
  if (!reader.Has("quantization_config")) return absl::OkStatus();
  return Unsupported(reader,
                     "\"quantization_config\": quantized weights are not supported; legal are "
                     "float32, bfloat16 and float16 weights");
}

}  // namespace

const char* Name(ModelFamily family) {
  for (const FamilyEntry& entry : kFamilies) {
    if (entry.family == family) return entry.type.data();
  }
  return "unknown";
}

int64_t ModelConfig::conv_dim() const {
  if (num_key_heads > 0) return inner_size + 2 * num_key_heads * key_head_dim;
  if (repeated_dim > 0 && !repeat_before_conv) {
    return time_step_rank > 0 ? repeated_dim : inner_size + 2 * repeated_dim;
  }
  return inner_size + 2 * num_groups * state_size;
}

absl::StatusOr<ModelConfig> ParseConfig(const Json& json, const std::string& name) {
  SW_RETURN_IF_ERROR(CheckIsObject(json, name));
  const JsonReader reader(json, name);
  SW_RETURN_IF_ERROR(CheckNotQuantized(reader));
  if (!reader.Has("model_type")) {
    if (reader.Has("d_model") && reader.Has("n_layer")) return ParseOriginalMamba(reader);
    return Invalid(reader, absl::StrCat("neither \"model_type\" nor \"d_model\" and \"n_layer\" "
                                        "say what model this is; supported are ",
                                        Supported()));
  }
  SW_ASSIGN_OR_RETURN(const std::string type, reader.String("model_type"));
  for (const FamilyEntry& entry : kFamilies) {
    if (type == entry.type) return entry.parse(reader);
  }
  return Unsupported(reader, absl::StrFormat("\"model_type\" is \"%s\"; supported are %s",
                                             absl::Utf8SafeCEscape(type), Supported()));
}

absl::StatusOr<ModelConfig> LoadConfig(const std::string& folder) {
  const auto file = [&folder](const char* name) {
    return (std::filesystem::path(folder) / name).string();
  };
  const std::string path = file("config.json");
  const std::string mamba_path = file("mamba_config.json");
  const std::string generation_path = file("generation_config.json");
  SW_ASSIGN_OR_RETURN(const Json json, ReadObject(path));
  absl::StatusOr<ModelConfig> config = ParseConfig(json, path);
  // A hybrid of "The Mamba in the Llama" keeps its teacher's config.json.
  if (config.ok() && config->family == ModelFamily::kLlama && Exists(mamba_path)) {
    SW_ASSIGN_OR_RETURN(const Json mamba, ReadObject(mamba_path));
    config = ParseMambaInLlama(JsonReader(json, path), json["model_type"].get<std::string>(),
                               JsonReader(mamba, mamba_path));
  }
  if (!config.ok() || !Exists(generation_path)) return config;
  SW_ASSIGN_OR_RETURN(const Json generation, ReadObject(generation_path));
  SW_ASSIGN_OR_RETURN(const std::vector<int32_t> more,
                      ReadEosTokenIds(JsonReader(generation, generation_path), /*absent=*/-1));
  config->eos_token_ids.insert(config->eos_token_ids.end(), more.begin(), more.end());
  SortUnique(config->eos_token_ids);
  return config;
}

Json ToJson(const ModelConfig& config) {
  for (const FamilyEntry& entry : kFamilies) {
    if (entry.family == config.family) return entry.to_json(config);
  }
  return Json();
}

}  // namespace sidewinder
