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
    "Greedy texts are compared with plain decoding's; a difference is an error.\n\n"
    "Prompts are JSON lines: {\"prompt\": text}, {\"text\": text}, {\"turns\": [text, ...]} (the "
    "first)\n"
    "or {\"prompt_ids\": [...]}. Without --prompts a few built-in ones are used.\n\n"
    "  sidewinder bench --model DIR --draft DIR\n"
    "  sidewinder bench --model DIR --draft DIR --prompts heldout.jsonl --draft-tokens 2,3,auto\n"
    "  sidewinder bench --model DIR --draft ngram --json"};

constexpr int kWarmUpTokens{8};

struct Flags {
  ModelFlags model;
  EngineFlags engine;
  Request request;
  std::string draft = "none";
  std::string draft_tokens = "1,2,3,4";
  std::string prompts;
  int64_t limit = 0;
  int32_t repeat = 1;
  bool json = false;
};

// Decodes one prompt with every configuration at a time.
class Bench {
 public:
  explicit Bench(const Flags& flags) : flags_(flags) {}
  absl::Status Run();

 private:
  struct Config {
    BenchRow row;
    std::unique_ptr<Engine> engine;
    std::vector<GenerateResult> runs;  // of the prompt at hand
  };

  absl::Status Prepare();
  absl::Status AddConfig(int32_t draft_tokens, const DrafterOptions& drafter);
  absl::Status WarmUp();
  absl::Status RunPrompt(size_t prompt_idx);
  void AddUp(size_t prompt_idx);
  void Compare(size_t prompt_idx, const std::vector<int32_t>& plain, Config& config);
  void MeasureBandwidth();
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
  MeasureBandwidth();
  SW_RETURN_IF_ERROR(WarmUp());
  for (size_t i = 0; i < prompts_.size(); ++i) {
    SW_RETURN_IF_ERROR(RunPrompt(i));
    AddUp(i);
    ShowProgress(i + 1);
  }
  return Report();
}

// One line that is written over on a terminal, about ten lines elsewhere.
void Bench::ShowProgress(size_t done) const {
  const size_t total = prompts_.size();
  const bool terminal = isatty(STDERR_FILENO) == 1;
  if (!terminal && done != total && done * 10 / total == (done - 1) * 10 / total) return;
  std::fprintf(stderr, "%sprompt %zu of %zu: plain %.1f tokens/s so far%s", terminal ? "\r" : "",
               done, total, configs_.front().row.TokensPerSecond(),
               terminal && done != total ? "" : "\n");
}

absl::Status Bench::Prepare() {
  SW_ASSIGN_OR_RETURN(const std::vector<int32_t> list, ParseList(flags_.draft_tokens));
  SW_ASSIGN_OR_RETURN(model_, LoadModel(flags_.model));
  SW_ASSIGN_OR_RETURN(const DrafterOptions drafter, LoadDrafter(flags_.draft, flags_.model));
  const int64_t limit = flags_.limit > 0 ? flags_.limit : std::numeric_limits<int64_t>::max();
  if (flags_.prompts.empty()) {
    prompts_ = BuiltInPrompts(*model_, limit);
  } else {
    SW_ASSIGN_OR_RETURN(prompts_, ReadPrompts(flags_.prompts, *model_, limit));
  }
  SW_RETURN_IF_ERROR(AddConfig(0, DrafterOptions::None()));
  if (drafter.kind != DrafterOptions::Kind::kNone) {
    for (const int32_t k : list) SW_RETURN_IF_ERROR(AddConfig(k, drafter));
  }
  report_.model = model_->info();
  if (drafter.model != nullptr) report_.draft = drafter.model->info();
  report_.draft_name = flags_.draft;
  report_.prompts_name = flags_.prompts.empty() ? "built in" : flags_.prompts;
  report_.num_prompts = static_cast<int64_t>(prompts_.size());
  report_.max_new_tokens = flags_.request.max_new_tokens;
  report_.repeat = flags_.repeat;
  report_.sampling = flags_.request.sampling;
  return absl::OkStatus();
}

absl::Status Bench::AddConfig(int32_t draft_tokens, const DrafterOptions& drafter) {
  EngineOptions options = MakeEngineOptions(flags_.engine, flags_.model);
  options.model = model_;
  options.drafter = drafter;
  options.draft_tokens = draft_tokens;
  Config config;
  config.row.draft_tokens = draft_tokens;
  const bool same_text =
      flags_.request.sampling.temperature == 0 || options.acceptance == AcceptanceMethod::kCoupled;
  if (same_text) config.row.identical = true;  // until a difference is found
  SW_ASSIGN_OR_RETURN(config.engine, Engine::Create(std::move(options)));
  configs_.push_back(std::move(config));
  return absl::OkStatus();
}

absl::Status Bench::WarmUp() {
  for (Config& config : configs_) {
    Request request = flags_.request;
    request.prompt = prompts_.front();
    request.max_new_tokens = std::min(kWarmUpTokens, request.max_new_tokens);
    SW_RETURN_IF_ERROR(config.engine->Generate(std::move(request)).status());
  }
  return absl::OkStatus();
}

absl::Status Bench::RunPrompt(size_t prompt_idx) {
  for (Config& config : configs_) config.runs.clear();
  for (int32_t r = 0; r < flags_.repeat; ++r) {
    for (size_t c = 0; c < configs_.size(); ++c) {
      Config& config = configs_[(c + prompt_idx + static_cast<size_t>(r)) % configs_.size()];
      Request request = flags_.request;
      request.prompt = prompts_[prompt_idx];
      request.sequence = static_cast<uint32_t>(prompt_idx);
      SW_ASSIGN_OR_RETURN(GenerateResult result, config.engine->Generate(std::move(request)));
      config.runs.push_back(std::move(result));
    }
  }
  return absl::OkStatus();
}

void Bench::AddUp(size_t prompt_idx) {
  const std::vector<int32_t> plain = configs_.front().runs.front().tokens;
  for (Config& config : configs_) {
    Compare(prompt_idx, plain, config);
    const auto median = config.runs.begin() + static_cast<int64_t>(config.runs.size() / 2);
    std::nth_element(config.runs.begin(), median, config.runs.end(),
                     [](const GenerateResult& a, const GenerateResult& b) {
                       return a.stats.decode_ms < b.stats.decode_ms;
                     });
    config.row.stats.Add(median->stats);
    config.row.tokens_per_second.push_back(median->stats.TokensPerSecond());
  }
}

void Bench::Compare(size_t prompt_idx, const std::vector<int32_t>& plain, Config& config) {
  if (!config.row.identical) return;
  for (const GenerateResult& run : config.runs) {
    if (run.tokens == plain) continue;
    config.row.identical = false;
    if (!difference_.empty()) return;
    const auto at = std::mismatch(plain.begin(), plain.end(), run.tokens.begin(), run.tokens.end());
    difference_ = absl::StrCat("prompt ", prompt_idx + 1, ", token ", at.first - plain.begin() + 1,
                               " of ", plain.size());
    return;
  }
}

void Bench::MeasureBandwidth() {
  report_.machine = CpuDescription();
  report_.threads = NumThreads(flags_.model);
  report_.read_bandwidth = MeasureReadBandwidth(report_.model.weight_bytes, report_.threads);
  report_.pair_read_bandwidth =
      report_.draft ? MeasureReadBandwidth(report_.model.weight_bytes + report_.draft->weight_bytes,
                                           report_.threads)
                    : report_.read_bandwidth;
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
  sub->add_option("--draft", flags->draft, "What proposes; none: only plain decoding")
      ->capture_default_str()
      ->type_name("DIR|ngram|none");
  sub->add_option("--draft-tokens", flags->draft_tokens,
                  absl::StrCat("Proposals a round, a list of 1 to ", kMaxDraftTokens, " and auto"))
      ->capture_default_str()
      ->type_name("K,...");
  sub->add_option("--prompts", flags->prompts, "JSON lines; -: standard input")
      ->type_name("FILE.jsonl");
  sub->add_option("--limit", flags->limit, "Use the first N prompts; 0: all")
      ->check(AtLeast(0))
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
