#include "speculative/tuning_profile.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/json.h"
#include "runtime/mapped_file.h"
#include "runtime/status_macros.h"
#include "sidewinder/system.h"
#include "speculative/cost_model.h"

namespace sidewinder {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr char kFormat[]{"sidewinder tuning profile"};
constexpr char kBuiltIn[]{"builtin"};

// What a file may say at most; beyond it is nonsense, and would only cost memory.
constexpr size_t kMaxFileBytes{16 << 20};
constexpr size_t kMaxEntries{4096};
constexpr int64_t kMaxBatch{1024};
constexpr int64_t kMaxStride{4096};
constexpr int64_t kMaxChunk{4096};
constexpr int64_t kMaxCount{int64_t{1} << 50};
constexpr double kMaxMicroseconds{1e12};
constexpr double kMaxBytesPerSecond{1e18};

constexpr CheckpointPolicy kPolicies[]{CheckpointPolicy::kEveryRound,
                                       CheckpointPolicy::kWhenLogFull,
                                       CheckpointPolicy::kSnapshotPerToken};

// Digits beyond what a measurement is worth make files hard to read and to compare.
double Rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return 0;
  const double unit = std::pow(10.0, std::floor(std::log10(std::abs(value))) - 5);
  return std::round(value / unit) * unit;
}

OrderedJson ToJson(const MeasuredTime& spread) {
  return {{"median", Rounded(spread.median)},
          {"low", Rounded(spread.low)},
          {"high", Rounded(spread.high)}};
}

OrderedJson ToJson(const ModelShape& shape) {
  return {{"family", shape.family},
          {"dtype", shape.dtype},
          {"kv_dtype", shape.kv_dtype},
          {"hidden_size", shape.hidden_size},
          {"num_layers", shape.num_layers},
          {"vocab_size", shape.vocab_size},
          {"weight_bytes", shape.weight_bytes},
          {"state_bytes", shape.state_bytes}};
}

OrderedJson ToJson(const RoundMeasurement& round) {
  return {{"batch", round.batch},
          {"policy", Name(round.policy)},
          {"stride", round.stride},
          {"draft_tokens", round.draft_tokens},
          {"us", ToJson(round.us)}};
}

OrderedJson ToJson(const ReplayMeasurement& replay) {
  return {{"draft_tokens", replay.draft_tokens}, {"rows", replay.rows}, {"us", ToJson(replay.us)}};
}

OrderedJson ToJson(const PrefillMeasurement& prefill) {
  return {{"chunk", prefill.chunk}, {"us_per_token", ToJson(prefill.us_per_token)}};
}

OrderedJson ToJson(const PredictionCheck& check) {
  return {{"batch", check.batch},
          {"draft_tokens", check.draft_tokens},
          {"acceptance", check.acceptance},
          {"fitted", check.fitted},
          {"predicted_us", Rounded(check.predicted_us)},
          {"measured_us", ToJson(check.measured_us)}};
}

OrderedJson ToJson(const PolicyChoice& choice) {
  return {{"batch", choice.batch}, {"policy", Name(choice.policy)}, {"stride", choice.stride}};
}

template <class T>
OrderedJson ListJson(const std::vector<T>& list) {
  OrderedJson json = OrderedJson::array();
  for (const T& item : list) json.push_back(ToJson(item));
  return json;
}

absl::Status Wrong(const std::string& name, const char* key, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": \"", key, "\" ", what));
}

// Reads the members of one object of a profile.
class Reader {
 public:
  static absl::StatusOr<Reader> Of(const Json& json, const std::string& name) {
    if (json.is_object()) return Reader(json, name);
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": is ", ShortDump(json), "; legal is an object"));
  }

  absl::StatusOr<Reader> Object(const char* key) const {
    const Json* member = reader_.Find(key);
    if (member == nullptr) return Wrong(reader_.name(), key, "is missing");
    return Of(*member, absl::StrCat(reader_.name(), ": \"", key, "\""));
  }
  bool Has(const char* key) const { return reader_.Has(key); }

  absl::Status Read(const char* key, int64_t min, int64_t max, int64_t& value) const {
    SW_ASSIGN_OR_RETURN(value, reader_.Int(key, min, max));
    return absl::OkStatus();
  }
  absl::Status Read(const char* key, int64_t min, int64_t max, int32_t& value) const {
    SW_ASSIGN_OR_RETURN(const int64_t wide, reader_.Int(key, min, max));
    value = static_cast<int32_t>(wide);
    return absl::OkStatus();
  }
  absl::Status Read(const char* key, double min, double max, double& value) const {
    SW_ASSIGN_OR_RETURN(value, reader_.Float(key));
    if (value >= min && value <= max) return absl::OkStatus();
    return Wrong(reader_.name(), key,
                 absl::StrFormat("is %g; legal are %g to %g", value, min, max));
  }
  absl::Status Read(const char* key, std::string& value) const {
    SW_ASSIGN_OR_RETURN(value, reader_.String(key));
    return absl::OkStatus();
  }
  absl::Status Read(const char* key, bool& value) const {
    SW_ASSIGN_OR_RETURN(value, reader_.Bool(key));
    return absl::OkStatus();
  }
  absl::Status Read(const char* key, CheckpointPolicy& value) const {
    SW_ASSIGN_OR_RETURN(const std::string text, reader_.String(key));
    for (const CheckpointPolicy policy : kPolicies) {
      value = policy;
      if (text == Name(policy)) return absl::OkStatus();
    }
    return Wrong(reader_.name(), key,
                 absl::StrCat("is \"", text, "\"; legal are every-round, when-full, snapshot"));
  }
  absl::Status Read(const char* key, MeasuredTime& spread) const {
    SW_ASSIGN_OR_RETURN(const Reader reader, Object(key));
    SW_RETURN_IF_ERROR(reader.Read("median", 0.0, kMaxMicroseconds, spread.median));
    SW_RETURN_IF_ERROR(reader.Read("low", 0.0, kMaxMicroseconds, spread.low));
    return reader.Read("high", 0.0, kMaxMicroseconds, spread.high);
  }
  // A time that something takes is not 0.
  absl::Status ReadTime(const char* key, MeasuredTime& spread) const {
    SW_RETURN_IF_ERROR(Read(key, spread));
    if (spread.median > 0) return absl::OkStatus();
    return Wrong(reader_.name(), key, "has a median of 0; legal is more");
  }

  // A missing list is empty.
  template <class T>
  absl::Status ReadList(const char* key, std::vector<T>& list) const {
    const Json* array = reader_.Find(key);
    if (array == nullptr) return absl::OkStatus();
    if (!array->is_array()) return Wrong(reader_.name(), key, "is not a list");
    if (array->size() > kMaxEntries) {
      return Wrong(
          reader_.name(), key,
          absl::StrFormat("has %d entries; legal are 0 to %d", array->size(), kMaxEntries));
    }
    for (size_t i = 0; i < array->size(); ++i) {
      SW_ASSIGN_OR_RETURN(
          const Reader reader,
          Of((*array)[i], absl::StrFormat("%s: \"%s\"[%d]", reader_.name(), key, i)));
      SW_RETURN_IF_ERROR(reader.ReadItem(list.emplace_back()));
    }
    return absl::OkStatus();
  }

  absl::Status ReadItem(ModelShape& shape) const {
    SW_RETURN_IF_ERROR(Read("family", shape.family));
    SW_RETURN_IF_ERROR(Read("dtype", shape.dtype));
    SW_RETURN_IF_ERROR(Read("kv_dtype", shape.kv_dtype));
    SW_RETURN_IF_ERROR(Read("hidden_size", 1, kMaxCount, shape.hidden_size));
    SW_RETURN_IF_ERROR(Read("num_layers", 1, kMaxCount, shape.num_layers));
    SW_RETURN_IF_ERROR(Read("vocab_size", 1, kMaxCount, shape.vocab_size));
    SW_RETURN_IF_ERROR(Read("weight_bytes", 1, kMaxCount, shape.weight_bytes));
    return Read("state_bytes", 0, kMaxCount, shape.state_bytes);
  }
  absl::Status ReadItem(RoundMeasurement& round) const {
    SW_RETURN_IF_ERROR(Read("batch", 1, kMaxBatch, round.batch));
    SW_RETURN_IF_ERROR(Read("policy", round.policy));
    SW_RETURN_IF_ERROR(Read("stride", 1, kMaxStride, round.stride));
    SW_RETURN_IF_ERROR(Read("draft_tokens", 0, kMaxDraftTokens, round.draft_tokens));
    return ReadTime("us", round.us);
  }
  absl::Status ReadItem(ReplayMeasurement& replay) const {
    SW_RETURN_IF_ERROR(Read("draft_tokens", 0, kMaxDraftTokens, replay.draft_tokens));
    SW_RETURN_IF_ERROR(Read("rows", 0, kMaxDraftTokens, replay.rows));
    return ReadTime("us", replay.us);
  }
  absl::Status ReadItem(PrefillMeasurement& prefill) const {
    SW_RETURN_IF_ERROR(Read("chunk", 1, kMaxChunk, prefill.chunk));
    return ReadTime("us_per_token", prefill.us_per_token);
  }
  absl::Status ReadItem(PredictionCheck& check) const {
    SW_RETURN_IF_ERROR(Read("batch", 1, kMaxBatch, check.batch));
    SW_RETURN_IF_ERROR(Read("draft_tokens", kAutoDraftTokens, kMaxDraftTokens, check.draft_tokens));
    SW_RETURN_IF_ERROR(Read("acceptance", 0.0, 1.0, check.acceptance));
    SW_RETURN_IF_ERROR(Read("fitted", check.fitted));
    SW_RETURN_IF_ERROR(Read("predicted_us", 0.0, kMaxMicroseconds, check.predicted_us));
    return ReadTime("measured_us", check.measured_us);
  }
  absl::Status ReadItem(PolicyChoice& choice) const {
    SW_RETURN_IF_ERROR(Read("batch", 1, kMaxBatch, choice.batch));
    SW_RETURN_IF_ERROR(Read("policy", choice.policy));
    return Read("stride", 1, kMaxStride, choice.stride);
  }

 private:
  Reader(const Json& json, const std::string& name) : reader_(json, name) {}
  JsonReader reader_;
};

absl::Status CheckFormat(const Reader& root, const std::string& name) {
  std::string format;
  if (!root.Has("format") || !root.Read("format", format).ok() || format != kFormat) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": is not a tuning profile; \"format\" must be \"", kFormat, "\""));
  }
  int64_t version = 0;
  SW_RETURN_IF_ERROR(root.Read("version", 0, kMaxCount, version));
  if (version == kTuningProfileVersion) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: \"version\" is %d; this program reads %d: run `sidewinder tune` again",
                      name, version, kTuningProfileVersion));
}

std::string Quoted(const std::string& text) { return absl::StrCat("\"", text, "\""); }

// The first thing in which `shape` is not what there is.
std::string Difference(const char* which, const ModelShape& shape, const ModelShape& actual) {
  if (shape == actual) return "";
  return absl::StrFormat("it is for a %s of another shape: %s, not %s", which, shape.Text(),
                         actual.Text());
}

std::string ShortHash(const std::string& text) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return absl::StrFormat("%08x", hash >> 32);
}

// Files in the folder of profiles, the one of this name first.
std::vector<std::string> FoundProfiles(const std::string& first) {
  std::vector<std::string> paths;
  const std::string folder = ProfileFolder();
  if (folder.empty()) return paths;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".json") paths.push_back(it->path().string());
    if (paths.size() == kMaxEntries) break;
  }
  const std::string wanted = absl::StrCat(folder, "/", first);
  std::sort(paths.begin(), paths.end(), [&](const std::string& a, const std::string& b) {
    return std::make_pair(a != wanted, a) < std::make_pair(b != wanted, b);
  });
  return paths;
}

}  // namespace

const char* Name(CheckpointPolicy policy) {
  switch (policy) {
    case CheckpointPolicy::kEveryRound:
      return "every-round";
    case CheckpointPolicy::kWhenLogFull:
      return "when-full";
    case CheckpointPolicy::kSnapshotPerToken:
      return "snapshot";
  }
  return "unknown";
}

ModelShape ModelShape::Of(const ModelInfo& info) {
  return {.family = info.family,
          .dtype = info.dtype,
          .kv_dtype = info.kv_dtype,
          .hidden_size = info.hidden_size,
          .num_layers = info.num_layers,
          .vocab_size = info.vocab_size,
          .weight_bytes = info.weight_bytes,
          .state_bytes = info.state_bytes};
}

std::string ModelShape::Text() const {
  return absl::StrFormat("%s, %d layers of %d, vocabulary %d, %s, %d bytes", family, num_layers,
                         hidden_size, vocab_size, dtype, weight_bytes);
}

std::string TuningProfileJson(const TuningProfile& p) {
  const OrderedJson json = {
      {"format", kFormat},
      {"version", kTuningProfileVersion},
      {"sidewinder", p.sidewinder_version},
      {"date", p.date},
      {"complete", p.complete},
      {"device", p.device},
      {"threads", p.threads},
      {"driver", p.driver},
      {"model_path", p.model_path},
      {"model", ToJson(p.model)},
      {"draft_path", p.draft_path},
      {"draft", p.draft ? ToJson(*p.draft) : OrderedJson(nullptr)},
      {"read_bytes_per_second", Rounded(p.read_bytes_per_second)},
      {"launch_us", ToJson(p.launch_us)},
      {"empty_round_us", ToJson(p.empty_round_us)},
      {"prefill_chunk", p.prefill_chunk},
      {"policies", ListJson(p.policies)},
      {"verify", ListJson(p.verify)},
      {"rounds", ListJson(p.rounds)},
      {"replay", ListJson(p.replay)},
      {"prefill", ListJson(p.prefill)},
      {"checks", ListJson(p.checks)},
  };
  return json.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

absl::StatusOr<TuningProfile> ParseTuningProfile(absl::string_view text, const std::string& name) {
  SW_ASSIGN_OR_RETURN(const Json json, ParseJson(text, name, DuplicateKeys::kReject));
  SW_ASSIGN_OR_RETURN(const Reader root, Reader::Of(json, name));
  SW_RETURN_IF_ERROR(CheckFormat(root, name));
  TuningProfile p;
  SW_RETURN_IF_ERROR(root.Read("sidewinder", p.sidewinder_version));
  SW_RETURN_IF_ERROR(root.Read("date", p.date));
  SW_RETURN_IF_ERROR(root.Read("complete", p.complete));
  SW_RETURN_IF_ERROR(root.Read("device", p.device));
  SW_RETURN_IF_ERROR(root.Read("threads", 0, 4096, p.threads));
  SW_RETURN_IF_ERROR(root.Read("driver", p.driver));
  SW_RETURN_IF_ERROR(root.Read("model_path", p.model_path));
  SW_ASSIGN_OR_RETURN(const Reader model, root.Object("model"));
  SW_RETURN_IF_ERROR(model.ReadItem(p.model));
  SW_RETURN_IF_ERROR(root.Read("draft_path", p.draft_path));
  if (root.Has("draft")) {
    SW_ASSIGN_OR_RETURN(const Reader draft, root.Object("draft"));
    SW_RETURN_IF_ERROR(draft.ReadItem(p.draft.emplace()));
  }
  SW_RETURN_IF_ERROR(
      root.Read("read_bytes_per_second", 0.0, kMaxBytesPerSecond, p.read_bytes_per_second));
  SW_RETURN_IF_ERROR(root.Read("launch_us", p.launch_us));
  SW_RETURN_IF_ERROR(root.Read("empty_round_us", p.empty_round_us));
  SW_RETURN_IF_ERROR(root.Read("prefill_chunk", 0, kMaxChunk, p.prefill_chunk));
  SW_RETURN_IF_ERROR(root.ReadList("policies", p.policies));
  SW_RETURN_IF_ERROR(root.ReadList("verify", p.verify));
  SW_RETURN_IF_ERROR(root.ReadList("rounds", p.rounds));
  SW_RETURN_IF_ERROR(root.ReadList("replay", p.replay));
  SW_RETURN_IF_ERROR(root.ReadList("prefill", p.prefill));
  SW_RETURN_IF_ERROR(root.ReadList("checks", p.checks));
  return p;
}

absl::Status WriteTuningProfile(const std::string& path, const TuningProfile& profile) {
  const std::string text = TuningProfileJson(profile);
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  const std::string temporary = absl::StrCat(path, ".", getpid(), ".tmp");
  std::FILE* file = std::fopen(temporary.c_str(), "wb");
  if (file == nullptr) {
    return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot be written"));
  }
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const bool closed = std::fclose(file) == 0;
  if (written && closed) std::filesystem::rename(temporary, path, error);
  if (written && closed && !error) return absl::OkStatus();
  const std::string why = error ? error.message() : std::strerror(errno);
  std::filesystem::remove(temporary, error);
  return absl::UnavailableError(absl::StrCat(path, ": writing failed: ", why));
}

absl::StatusOr<TuningProfile> ReadTuningProfile(const std::string& path) {
  SW_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: has %d bytes; legal are up to %d", path, file.size(), kMaxFileBytes));
  }
  return ParseTuningProfile(file.text(), path);
}

std::string ProfileFolder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') return absl::StrCat(cache, "/sidewinder/profiles");
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] != '\0') return absl::StrCat(home, "/.cache/sidewinder/profiles");
  return "";
}

std::string ProfileFileName(const Model& model, const Model* draft, int num_threads) {
  const ModelInfo& info = model.info();
  std::string key = absl::StrCat(info.device_description, "/", num_threads, "/",
                                 ModelShape::Of(info).Text(), "/", info.kv_dtype);
  if (draft != nullptr) absl::StrAppend(&key, "/", ModelShape::Of(draft->info()).Text());
  const std::string device = info.device_description.substr(0, info.device_description.find(','));
  std::string name = absl::StrCat(device, "-", info.family, "-", info.num_layers, "x",
                                  info.hidden_size, "-", ShortHash(key), ".json");
  for (char& c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.') c = '-';
    c = absl::ascii_tolower(static_cast<unsigned char>(c));
  }
  return name;
}

std::string WhyUnfit(const TuningProfile& profile, const Model& model, const Model* draft,
                     int num_threads) {
  const ModelInfo& info = model.info();
  if (profile.device != info.device_description) {
    return absl::StrCat("it is for the device ", Quoted(profile.device), ", not ",
                        Quoted(info.device_description));
  }
  if (profile.threads != num_threads) {
    return absl::StrFormat("it is for %d threads, not %d", profile.threads, num_threads);
  }
  if (std::string why = Difference("model", profile.model, ModelShape::Of(info)); !why.empty()) {
    return why;
  }
  if (draft != nullptr && !profile.draft) return "it was measured without a draft model";
  if (draft != nullptr) {
    std::string why = Difference("draft", *profile.draft, ModelShape::Of(draft->info()));
    if (!why.empty()) return why;
  }
  if (profile.verify.empty() || (draft != nullptr && profile.rounds.empty())) {
    return "it has no times of rounds: measuring was ended too early";
  }
  return "";
}

RoundCostModel BuiltInCostModel(const Model& model, const Model* draft, double cost_per_proposal) {
  const absl::Span<const DeviceFigures> all = BuiltInFigures();
  const bool cpu = model.info().device == "cpu";
  const DeviceFigures* figures = cpu ? &all.back() : &all.front();
  bool known = cpu;
  for (const DeviceFigures& candidate : all) {
    if (!absl::StrContains(model.info().device_description, candidate.name)) continue;
    figures = &candidate;
    known = true;
  }
  RoundCostModel result;
  result.times = EstimateRounds(*figures, model.info(), draft == nullptr ? nullptr : &draft->info(),
                                cost_per_proposal);
  result.source = known
                      ? absl::StrCat("built-in figures for ", figures->name, ": ", figures->origin)
                      : absl::StrCat("built-in figures of another GPU, ", figures->name,
                                     ": none are known for this one");
  return result;
}

absl::StatusOr<RoundCostModel> FindCostModel(const EngineOptions& options) {
  const Model& model = *options.model;
  const Model* draft =
      options.drafter.kind == DrafterOptions::Kind::kModel ? options.drafter.model.get() : nullptr;
  const int threads = model.info().device != "cpu" ? 0
                      : options.num_threads > 0    ? options.num_threads
                                                   : AvailableCores();
  const auto use = [&](const TuningProfile& profile, const std::string& path) {
    RoundCostModel result =
        CostModelOf(profile, options.checkpoint_policy, options.checkpoint_stride);
    result.source = absl::StrCat("profile ", path);
    return result;
  };
  if (!options.tuning_profile.empty() && options.tuning_profile != kBuiltIn) {
    const std::string& path = options.tuning_profile;
    SW_ASSIGN_OR_RETURN(const TuningProfile profile, ReadTuningProfile(path));
    const std::string why = WhyUnfit(profile, model, draft, threads);
    if (why.empty()) return use(profile, path);
    return absl::FailedPreconditionError(absl::StrCat(path, ": the profile does not fit: ", why));
  }
  std::vector<std::string> notes;
  if (options.tuning_profile.empty()) {
    for (const std::string& path : FoundProfiles(ProfileFileName(model, draft, threads))) {
      const absl::StatusOr<TuningProfile> profile = ReadTuningProfile(path);
      if (!profile.ok()) {
        notes.push_back(absl::StrCat("not used: ", profile.status().message()));
        continue;
      }
      const std::string why = WhyUnfit(*profile, model, draft, threads);
      if (why.empty()) {
        RoundCostModel result = use(*profile, path);
        result.notes = std::move(notes);
        return result;
      }
      // A folder may be full of profiles of other models; those are no surprise.
      if (profile->model == ModelShape::Of(model.info())) {
        notes.push_back(absl::StrCat("not used: ", path, ": ", why));
      }
    }
  }
  RoundCostModel result = BuiltInCostModel(model, draft, 0);
  result.notes = std::move(notes);
  return result;
}

}  // namespace sidewinder
