// `sidewinder bench`: plain and speculative decoding of the same prompts, in turn, in one run.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "apps/sidewinder/bench_prompts.h"
#include "apps/sidewinder/bench_report.h"
#include "apps/sidewinder/command.h"
#include "apps/sidewinder/flags.h"
#include "apps/sidewinder/output.h"
#include "apps/sidewinder/usage_error.h"
#include "runtime/status_macros.h"
#include "sidewinder/engine.h"
#include "sidewinder/system.h"

namespace sidewinder::cli {
namespace {

constexpr char kFooter[]{
    "Every prompt is decoded by each configuration before the next prompt, in rotating order, so\n"
    "that noise of the machine hits all alike. Tokens/s counts the time after the first token. "
    "The\n"
    "floor is what reading the weights alone would take at the bandwidth measured now: of one "
    "pass\n"
    "for plain decoding; of one verifier pass and the draft's passes, at the acceptance seen, "
    "else.\n"
    "On a GPU it counts the recurrent states too. Greedy texts are compared with plain "
    "decoding's;\n"
    "a difference is an error. With --batch the figures are of all prompts of a batch together.\n\n"
    "Prompts are JSON lines: {\"prompt\": text}, {\"text\": text}, {\"turns\": [text, ...]} (the "
    "first)\n"
    "or {\"prompt_ids\": [...]}. Without --prompts a few built-in ones are used.\n\n"
    "  sidewinder bench --model DIR --draft DIR\n"
    "  sidewinder bench --model DIR --draft DIR --prompts heldout.jsonl --draft-tokens 2,3,auto\n"
    "  sidewinder bench --model DIR --draft ngram --json\n"
    "  sidewinder bench --model synthetic:mamba2-2.7b --draft synthetic:mamba2-130m --batch 32 \\\n"
    "    --prompt-tokens 16 --draft-tokens 4 --synthetic-acceptance 0.8"};

constexpr int kWarmUpTokens{8};
constexpr int kCudaWarmUpTokens{64};  // until clocks are up
constexpr int kMaxBatch{1024};

struct Flags {
  ModelFlags model;
  EngineFlags engine;
  Request request;
  std::string draft = "none";
  std::string draft_tokens = "1,2,3,4";
  std::string prompts;
  int32_t prompt_tokens = 0;  // of made-up prompts; 0: none
  int64_t limit = 0;
  int32_t repeat = 1;
  int32_t batch = 1;
  bool json = false;
};

// Decodes one batch of prompts with every configuration at a time.
class Bench {
 public:
  explicit Bench(const Flags& flags) : flags_(flags) {}
  absl::Status Run();

 private:
  using Batch = std::vector<GenerateResult>;  // of prompts decoded together
  struct Config {
    BenchRow row;
    std::unique_ptr<Engine> engine;
    std::vector<Batch> runs;  // of the prompts at hand
  };

  absl::Status Prepare();
  absl::Status MakePrompts();
  absl::Status AddConfig(int32_t draft_tokens, const DrafterOptions& drafter);
  absl::Status WarmUp();
  absl::StatusOr<Batch> Decode(Engine& engine, size_t first_prompt, int32_t max_new_tokens) const;
  absl::Status RunBatch(size_t first_prompt);
  void AddUp(size_t first_prompt);
  void Compare(size_t first_prompt, const Batch& plain, Config& config);
  absl::Status MeasureBandwidth();
  void ShowProgress(size_t done) const;
  absl::Status Report();

  const Flags& flags_;
  std::shared_ptr<const Model> model_;
  Prompts prompts_;
  std::vector<Config> configs_;  // plain first
  BenchReport report_;
  std::string difference_;  // the first one found
};

absl::StatusOr<std::vector<int32_t>> ParseList(const std::string& text) {
  std::vector<int32_t> list;
  for (const absl::string_view item : absl::StrSplit(text, ',')) {
    SW_ASSIGN_OR_RETURN(const int32_t value, ParseDraftTokens(std::string(item)));
    if (value != 0) list.push_back(value);  // plain decoding always runs
  }
  return list;
}

absl::Status Bench::Run() {
  SW_RETURN_IF_ERROR(Prepare());
  SW_RETURN_IF_ERROR(MeasureBandwidth());
  SW_RETURN_IF_ERROR(WarmUp());
  for (size_t first = 0; first < prompts_.size(); first += static_cast<size_t>(flags_.batch)) {
    SW_RETURN_IF_ERROR(RunBatch(first));
    AddUp(first);
    ShowProgress(first + static_cast<size_t>(flags_.batch));
  }
  return Report();
}

// One line that is written over on a terminal, about ten lines elsewhere.
void Bench::ShowProgress(size_t done) const {
  const size_t total = prompts_.size();
  const bool terminal = isatty(STDERR_FILENO) == 1;
  const size_t before = done - static_cast<size_t>(flags_.batch);
  if (!terminal && done != total && done * 10 / total == before * 10 / total) return;
  std::fprintf(stderr, "%sprompt %zu of %zu: plain %.1f tokens/s so far%s", terminal ? "\r" : "",
               done, total, configs_.front().row.TokensPerSecond(),
               terminal && done != total ? "" : "\n");
}

absl::Status Bench::Prepare() {
  SW_ASSIGN_OR_RETURN(const std::vector<int32_t> list, ParseList(flags_.draft_tokens));
  SW_ASSIGN_OR_RETURN(model_, LoadModel(flags_.model));
  SW_ASSIGN_OR_RETURN(const DrafterOptions drafter, LoadDrafter(flags_.draft, flags_.model));
  SW_RETURN_IF_ERROR(MakePrompts());
  SW_RETURN_IF_ERROR(AddConfig(0, DrafterOptions::None()));
  if (drafter.kind != DrafterOptions::Kind::kNone) {
    for (const int32_t k : list) SW_RETURN_IF_ERROR(AddConfig(k, drafter));
  }
  report_.model = model_->info();
  if (drafter.model != nullptr) report_.draft = drafter.model->info();
  report_.draft_name = flags_.draft;
  report_.draft_is_retokenized = IsRetokenized(*model_, drafter);
  report_.num_prompts = static_cast<int64_t>(prompts_.size());
  report_.max_new_tokens = flags_.request.max_new_tokens;
  report_.repeat = flags_.repeat;
  report_.batch = flags_.batch;
  report_.sampling = flags_.request.sampling;
  report_.checkpoint_policy = configs_.front().engine->options().checkpoint_policy;
  report_.synthetic_acceptance = flags_.engine.synthetic_acceptance;
  return absl::OkStatus();
}

absl::Status Bench::MakePrompts() {
  const int64_t limit = flags_.limit > 0 ? flags_.limit : std::numeric_limits<int64_t>::max();
  if (flags_.prompt_tokens > 0) {
    prompts_ = MadeUpPrompts(*model_, flags_.prompt_tokens,
                             flags_.limit > 0 ? flags_.limit : flags_.batch);
    report_.prompts_name = absl::StrCat(flags_.prompt_tokens, " made-up tokens");
  } else if (flags_.prompts.empty()) {
    prompts_ = BuiltInPrompts(*model_, limit);
    report_.prompts_name = "built in";
  } else {
    SW_ASSIGN_OR_RETURN(prompts_, ReadPrompts(flags_.prompts, *model_, limit));
    report_.prompts_name = flags_.prompts;
  }
  // Every batch is full: prompts come again in the last one.
  const size_t given = prompts_.size();
  for (size_t i = 0; prompts_.size() % static_cast<size_t>(flags_.batch) != 0; ++i) {
    prompts_.push_back(std::vector<int32_t>(prompts_[i % given]));
  }
  return absl::OkStatus();
}

absl::Status Bench::AddConfig(int32_t draft_tokens, const DrafterOptions& drafter) {
  EngineOptions options = MakeEngineOptions(flags_.engine, flags_.model);
  options.model = model_;
  options.drafter = drafter;
  options.draft_tokens = draft_tokens;
  options.max_sequences = flags_.batch;
  Config config;
  config.row.draft_tokens = draft_tokens;
  const bool same_text =
      flags_.request.sampling.temperature == 0 || options.acceptance == AcceptanceMethod::kCoupled;
  if (same_text && options.synthetic_acceptance < 0)
    config.row.identical = true;  // until a difference is found
  SW_ASSIGN_OR_RETURN(config.engine, Engine::Create(std::move(options)));
  configs_.push_back(std::move(config));
  return absl::OkStatus();
}

absl::Status Bench::WarmUp() {
  const int tokens = model_->info().device == "cpu" ? kWarmUpTokens : kCudaWarmUpTokens;
  for (Config& config : configs_) {
    SW_RETURN_IF_ERROR(
        Decode(*config.engine, /*first_prompt=*/0, std::min(tokens, flags_.request.max_new_tokens))
            .status());
  }
  return absl::OkStatus();
}

absl::StatusOr<Bench::Batch> Bench::Decode(Engine& engine, size_t first_prompt,
                                           int32_t max_new_tokens) const {
  std::vector<RequestId> ids;
  for (size_t i = first_prompt; i < first_prompt + static_cast<size_t>(flags_.batch); ++i) {
    Request request = flags_.request;
    request.prompt = prompts_[i];
    request.sequence = static_cast<uint32_t>(i);
    request.max_new_tokens = max_new_tokens;
    SW_ASSIGN_OR_RETURN(ids.emplace_back(), engine.Submit(std::move(request)));
  }
  SW_RETURN_IF_ERROR(engine.Run());
  Batch batch;
  for (const RequestId id : ids) {
    SW_ASSIGN_OR_RETURN(batch.emplace_back(), engine.TakeResult(id));
  }
  return batch;
}

absl::Status Bench::RunBatch(size_t first_prompt) {
  for (Config& config : configs_) config.runs.clear();
  const size_t turn = first_prompt / static_cast<size_t>(flags_.batch);
  for (int32_t r = 0; r < flags_.repeat; ++r) {
    for (size_t c = 0; c < configs_.size(); ++c) {
      Config& config = configs_[(c + turn + static_cast<size_t>(r)) % configs_.size()];
      SW_ASSIGN_OR_RETURN(config.runs.emplace_back(),
                          Decode(*config.engine, first_prompt, flags_.request.max_new_tokens));
    }
  }
  return absl::OkStatus();
}

void Bench::AddUp(size_t first_prompt) {
  const Batch plain = configs_.front().runs.front();
  for (Config& config : configs_) {
    Compare(first_prompt, plain, config);
    const auto median = config.runs.begin() + static_cast<int64_t>(config.runs.size() / 2);
    std::nth_element(config.runs.begin(), median, config.runs.end(),
                     [](const Batch& a, const Batch& b) {
                       return BatchStats(a).decode_ms < BatchStats(b).decode_ms;
                     });
    config.row.AddBatch(*median);
  }
}

void Bench::Compare(size_t first_prompt, const Batch& plain, Config& config) {
  if (!config.row.identical) return;
  for (const Batch& run : config.runs) {
    for (size_t i = 0; i < run.size(); ++i) {
      const std::vector<int32_t>& expected = plain[i].tokens;
      const std::vector<int32_t>& tokens = run[i].tokens;
      if (tokens == expected) continue;
      config.row.identical = false;
      if (!difference_.empty()) return;
      const auto at = std::mismatch(expected.begin(), expected.end(), tokens.begin(), tokens.end());
      difference_ = absl::StrCat("prompt ", first_prompt + i + 1, ", token ",
                                 at.first - expected.begin() + 1, " of ", expected.size());
      return;
    }
  }
}

absl::Status Bench::MeasureBandwidth() {
  const int threads = report_.threads = NumThreads(flags_.model, *model_);
  const int64_t bytes = report_.model.weight_bytes;
  SW_ASSIGN_OR_RETURN(report_.read_bandwidth, MeasureReadBandwidth(*model_, bytes, threads));
  report_.pair_read_bandwidth = report_.read_bandwidth;
  if (!report_.draft) return absl::OkStatus();
  SW_ASSIGN_OR_RETURN(report_.pair_read_bandwidth,
                      MeasureReadBandwidth(*model_, bytes + report_.draft->weight_bytes, threads));
  return absl::OkStatus();
}

absl::Status Bench::Report() {
  for (Config& config : configs_) {
    SetFloor(report_, config.row);
    report_.rows.push_back(config.row);
  }
  SW_RETURN_IF_ERROR(flags_.json ? PrintJson(BenchJson(report_), /*indent=*/2)
                                 : PrintText(BenchTable(report_)));
  if (difference_.empty()) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("speculative and plain decoding differ, first at ", difference_));
}

}  // namespace

void AddBench(CLI::App& app, Run& run) {
  CLI::App* sub = app.add_subcommand("bench", "Plain against speculative decoding, in turn");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*sub, flags->model);
  sub->add_option("--draft", flags->draft,
                  "What proposes: a folder, synthetic:<preset>, ngram; none: only plain\n"
                  "decoding")
      ->capture_default_str()
      ->type_name("DIR|ngram|none");
  sub->add_option("--draft-tokens", flags->draft_tokens,
                  absl::StrCat("Proposals a round, a list of 1 to ", kMaxDraftTokens, " and auto"))
      ->capture_default_str()
      ->type_name("K,...");
  CLI::Option* const prompts =
      sub->add_option("--prompts", flags->prompts, "JSON lines; -: standard input")
          ->type_name("FILE.jsonl");
  sub->add_option("--prompt-tokens", flags->prompt_tokens,
                  "Prompts of N made-up tokens, as many as --limit or else --batch says")
      ->check(Between(1, kMaxMadeUpIds))
      ->excludes(prompts)
      ->type_name("N");
  sub->add_option("--limit", flags->limit, "Use the first N prompts; 0: all")
      ->check(AtLeast(0))
      ->capture_default_str()
      ->type_name("N");
  sub->add_option("--batch", flags->batch,
                  "Prompts decoded together; they come again to fill the last batch")
      ->check(Between(1, kMaxBatch))
      ->capture_default_str()
      ->type_name("N");
  sub->add_option("--repeat", flags->repeat, "Runs of each prompt; the median counts")
      ->check(Between(1, 1000))
      ->capture_default_str()
      ->type_name("N");
  sub->add_option("--max-new-tokens", flags->request.max_new_tokens, "Tokens a prompt, at most")
      ->check(AtLeast(1))
      ->capture_default_str()
      ->type_name("N");
  sub->add_flag("--ignore-eos", flags->request.ignore_eos, "Do not end at the end-of-text token");
  AddSamplingFlags(*sub, flags->request.sampling);
  AddEngineFlags(*sub, flags->engine);
  sub->add_flag("--json", flags->json, "Print one JSON object");
  sub->footer(kFooter);
  sub->callback([&run, flags] { run = [flags] { return Bench(*flags).Run(); }; });
}

}  // namespace sidewinder::cli
