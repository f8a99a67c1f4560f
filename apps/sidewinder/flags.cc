#include "apps/sidewinder/flags.h"

#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "apps/sidewinder/input.h"
#include "apps/sidewinder/usage_error.h"
#include "runtime/status_macros.h"
#include "sidewinder/system.h"

namespace sidewinder::cli {
namespace {

constexpr int kMaxThreads{1024};
constexpr char kEveryRound[]{"every-round"};
constexpr char kWhenFull[]{"when-full"};
constexpr char kSnapshot[]{"snapshot"};
constexpr char kRejection[]{"rejection"};
constexpr char kCoupled[]{"coupled"};
constexpr char kAuto[]{"auto"};

// What a check expects, after its value is known to be wrong.
std::string Expected(const std::string& text, const std::string& legal) {
  return absl::StrCat("'", text, "' is not ", legal);
}

// Numbers from `min` to `max`; the ends count as the brackets of `range` say.
CLI::Validator In(const std::string& range, float min, float max) {
  const bool closed_min = range.front() == '[';
  const bool closed_max = range.back() == ']';
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        float value = 0;
        if (absl::SimpleAtof(text, &value) && (closed_min ? value >= min : value > min) &&
            (closed_max ? value <= max : value < max)) {
          return "";
        }
        return Expected(text, absl::StrCat("a number in ", range));
      },
      "");
}

absl::Status CheckIds(const std::vector<int32_t>& ids, const Model& model) {
  for (const int32_t id : ids) {
    if (id >= model.info().vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("--prompt-ids: ", id, " is not a token of ",
                                                     model.info().path, "; legal ids are 0 to ",
                                                     model.info().vocab_size - 1));
    }
  }
  return absl::OkStatus();
}

}  // namespace

CheckpointPolicy ParseCheckpointPolicy(const std::string& text) {
  return text == kEveryRound ? CheckpointPolicy::kEveryRound
         : text == kWhenFull ? CheckpointPolicy::kWhenLogFull
                             : CheckpointPolicy::kSnapshotPerToken;
}

const char* Name(CheckpointPolicy policy) {
  switch (policy) {
    case CheckpointPolicy::kEveryRound:
      return kEveryRound;
    case CheckpointPolicy::kWhenLogFull:
      return kWhenFull;
    case CheckpointPolicy::kSnapshotPerToken:
      return kSnapshot;
  }
  return "unknown";
}

CLI::Validator OneOf(const std::vector<std::string>& choices) {
  return CLI::Validator(
      [choices](std::string& text) -> std::string {
        if (absl::c_linear_search(choices, text)) return "";
        return Expected(text, absl::StrCat("one of ", absl::StrJoin(choices, ", ")));
      },
      "");
}

CLI::Validator AtLeast(int64_t min) {
  return CLI::Validator(
      [min](std::string& text) -> std::string {
        int64_t value = 0;
        if (absl::SimpleAtoi(text, &value) && value >= min) return "";
        return Expected(text, absl::StrCat("an integer from ", min, " up"));
      },
      "");
}

CLI::Validator Between(int64_t min, int64_t max) {
  return CLI::Validator(
      [min, max](std::string& text) -> std::string {
        int64_t value = 0;
        if (absl::SimpleAtoi(text, &value) && value >= min && value <= max) return "";
        return Expected(text, absl::StrCat("an integer from ", min, " to ", max));
      },
      "");
}

void AddModelFlags(CLI::App& app, ModelFlags& flags) {
  app.add_option("--model", flags.model,
                 "Folder of the model that decides (Hugging Face layout), or\n"
                 "synthetic:<preset>, e.g. synthetic:mamba-2.8b: random weights")
      ->required()
      ->type_name("DIR");
  app.add_option("--device", flags.options.device,
                 "auto (a GPU if there is one), cpu, cuda or cuda:<i>; of the draft, too")
      ->capture_default_str()
      ->type_name("DEVICE");
  app.add_option("--dtype", flags.options.dtype,
                 "Weights in memory: auto (as stored, mapped), float32, bfloat16 or\n"
                 "float16 (converted copies)")
      ->check(OneOf({kAuto, "float32", "bfloat16", "float16"}))
      ->capture_default_str()
      ->type_name("TYPE");
  app.add_option("--kv-dtype", flags.options.kv_dtype,
                 "Keys and values of attention layers: auto (bfloat16 on a GPU with\n"
                 "16-bit weights, else float32), float32 or bfloat16")
      ->check(OneOf({kAuto, "float32", "bfloat16"}))
      ->capture_default_str()
      ->type_name("TYPE");
  app.add_option("--threads", flags.threads, "CPU threads; 0: one per core")
      ->check(Between(0, kMaxThreads))
      ->capture_default_str()
      ->type_name("N");
}

absl::StatusOr<std::shared_ptr<const Model>> LoadModel(const ModelFlags& flags) {
  return Model::Load(flags.model, flags.options);
}

int NumThreads(const ModelFlags& flags, const Model& model) {
  if (model.info().device != "cpu") return 0;
  return flags.threads > 0 ? flags.threads : AvailableCores();
}

std::string MachineText(const ModelInfo& info, int threads) {
  if (threads == 0) return info.device_description;
  return absl::StrCat(info.device_description, ", ", threads, " threads");
}

absl::StatusOr<DrafterOptions> LoadDrafter(const std::string& draft, const ModelFlags& flags) {
  if (draft == "none") return DrafterOptions::None();
  if (draft == "ngram") return DrafterOptions::Ngram();
  SW_ASSIGN_OR_RETURN(std::shared_ptr<const Model> model, Model::Load(draft, flags.options));
  return DrafterOptions::FromModel(std::move(model));
}

bool IsRetokenized(const Model& verifier, const DrafterOptions& drafter) {
  return drafter.model != nullptr && !SharesVocabulary(verifier, *drafter.model);
}

std::string RetokenizedText(bool is_retokenized) {
  if (!is_retokenized) return "";
  return "the draft has another vocabulary: its text is tokenised again for the verifier\n";
}

void AddSamplingFlags(CLI::App& app, SamplingParams& sampling) {
  app.add_option("--temperature", sampling.temperature, "0: greedy; else sample")
      ->check(In("[0, 1000000]", 0, 1e6f))
      ->capture_default_str()
      ->type_name("T");
  AddSamplingFilterFlags(app, sampling);
}

void AddSamplingFilterFlags(CLI::App& app, SamplingParams& sampling) {
  app.add_option("--top-k", sampling.top_k, "Sample from the K most likely tokens; 0: all")
      ->check(Between(0, std::numeric_limits<int32_t>::max()))
      ->capture_default_str()
      ->type_name("K");
  app.add_option("--top-p", sampling.top_p,
                 "Sample from the fewest tokens of total probability P, in (0, 1]")
      ->check(In("(0, 1]", 0, 1))
      ->capture_default_str()
      ->type_name("P");
  app.add_option("--min-p", sampling.min_p,
                 "Drop tokens below P times the most likely one, in [0, 1)")
      ->check(In("[0, 1)", 0, 1))
      ->capture_default_str()
      ->type_name("P");
  app.add_option("--seed", sampling.seed, "Seed of the random numbers")
      ->capture_default_str()
      ->type_name("S");
}

void AddEngineFlags(CLI::App& app, EngineFlags& flags) {
  app.add_option("--checkpoint-policy", flags.checkpoint_policy,
                 "Write recurrent states every-round, when-full (the replay log) or\n"
                 "snapshot (a state per row); the output is the same")
      ->check(OneOf({kEveryRound, kWhenFull, kSnapshot}))
      ->capture_default_str()
      ->type_name("POLICY")
      ->group("State");
  AddEngineFlagsBesidePolicy(app, flags);
}

void AddEngineFlagsBesidePolicy(CLI::App& app, EngineFlags& flags) {
  app.add_option("--checkpoint-stride", flags.checkpoint_stride,
                 "when-full: write at multiples of N positions")
      ->check(Between(1, 4096))
      ->capture_default_str()
      ->type_name("N")
      ->group("State");
  app.add_option("--prefill-chunk", flags.prefill_chunk,
                 "Prompt tokens evaluated at once; 0: what suits the device")
      ->check(Between(0, 4096))
      ->capture_default_str()
      ->type_name("N")
      ->group("State");
  app.add_option("--acceptance", flags.acceptance,
                 "Judge sampled proposals by rejection (accepts most), or coupled:\n"
                 "the text of a seed does not depend on the draft")
      ->check(OneOf({kRejection, kCoupled}))
      ->capture_default_str()
      ->type_name("METHOD");
  app.add_option("--profile", flags.profile,
                 "Tuning profile for --draft-tokens auto (see sidewinder tune); builtin:\nnone; "
                 "default: the one in the cache if it fits")
      ->type_name("FILE.json");
  app.add_option("--synthetic-acceptance", flags.synthetic_acceptance,
                 "Accept proposals by lot whatever the verifier says, to measure speed\n"
                 "with random weights; the text is then meaningless. P: each with this\n"
                 "probability; P,P,...: by position; length:L: L tokens a round")
      ->check(CLI::Validator(
          [](std::string& text) -> std::string {
            const auto parsed = SyntheticAcceptance::Parse(text);
            return parsed.ok() ? "" : std::string(parsed.status().message());
          },
          ""))
      ->type_name("P|P,...|length:L");
}

absl::StatusOr<EngineOptions> MakeEngineOptions(int32_t draft_tokens, const EngineFlags& flags,
                                                const ModelFlags& model) {
  EngineOptions options;
  options.draft_tokens = draft_tokens;
  options.checkpoint_policy = ParseCheckpointPolicy(flags.checkpoint_policy);
  options.checkpoint_stride = flags.checkpoint_stride;
  options.acceptance =
      flags.acceptance == kRejection ? AcceptanceMethod::kRejection : AcceptanceMethod::kCoupled;
  options.prefill_chunk = flags.prefill_chunk;
  options.num_threads = model.threads;
  options.tuning_profile = flags.profile;
  SW_ASSIGN_OR_RETURN(options.synthetic_acceptance, flags.synthetic().Rates(draft_tokens));
  return options;
}

absl::StatusOr<TokenizedText> ReadTokens(const TextFlags& flags, const Model& model,
                                         const std::string& file_flag, bool add_special_tokens) {
  TokenizedText result;
  const Tokenizer* tokenizer = model.tokenizer().get();
  if (flags.made_up) {
    result.ids = MadeUpIds(model, *flags.made_up);
    return result;
  }
  if (flags.ids) {
    SW_ASSIGN_OR_RETURN(result.ids, ParseIds("--prompt-ids", *flags.ids));
    SW_RETURN_IF_ERROR(CheckIds(result.ids, model));
    if (tokenizer != nullptr) {
      result.bytes = static_cast<int64_t>(tokenizer->Decode(result.ids).size());
    }
    return result;
  }
  if (tokenizer == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(flags.text ? "--prompt" : file_flag, ": ", model.info().path,
                     " has no tokenizer.json; give token ids with --prompt-ids"));
  }
  std::string text;
  if (flags.text) {
    text = *flags.text;
  } else {
    SW_ASSIGN_OR_RETURN(text, ReadAll(*flags.file));
  }
  result.ids = tokenizer->Encode(text, add_special_tokens);
  result.bytes = static_cast<int64_t>(text.size());
  return result;
}

std::vector<int32_t> MadeUpIds(const Model& model, int32_t count, uint32_t stream) {
  std::mt19937 random(stream);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % model.info().vocab_limit);
  return ids;
}

absl::StatusOr<std::vector<int32_t>> ParseIds(const std::string& flag, const std::string& text) {
  std::vector<int32_t> ids;
  for (absl::string_view item : absl::StrSplit(text, ',')) {
    item = absl::StripAsciiWhitespace(item);
    int32_t id = 0;
    if (!absl::SimpleAtoi(item, &id) || id < 0) {
      return UsageError(absl::StrCat(flag, ": '", item,
                                     "' is not a token id; give integers from 0 up, as in 1,2,3"));
    }
    ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<int32_t> ParseDraftTokens(const std::string& text) {
  if (text == kAuto) return kAutoDraftTokens;
  int32_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || value < 0 || value > kMaxDraftTokens) {
    return UsageError(absl::StrCat("--draft-tokens: '", text,
                                   "' is not auto or an integer from 0 to ", kMaxDraftTokens));
  }
  return value;
}

}  // namespace sidewinder::cli
