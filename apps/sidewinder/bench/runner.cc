#include "apps/sidewinder/bench/runner.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "apps/sidewinder/bench/progress.h"
#include "apps/sidewinder/interrupt.h"
#include "runtime/status_macros.h"
#include "sidewinder/system.h"

namespace sidewinder::cli {
namespace {

constexpr int kWarmUpTokens{8};
constexpr int kCudaWarmUpTokens{64};  // until clocks are up
constexpr size_t kProfileBatches{4};  // decoded to see where the time of rounds goes
constexpr char kSynthetic[]{"synthetic:"};

// Prompts that are decoded together: indices of prompts, all in the same turn.
struct PromptBatch {
  std::string category;
  size_t turn = 0;
  std::vector<size_t> prompts;
};

// Turn by turn, category by category; every batch is full: prompts come again in the last one of a
// category.
std::vector<PromptBatch> MakeBatches(const std::vector<BenchPrompt>& prompts, size_t batch_size) {
  std::vector<PromptBatch> batches;
  std::vector<std::string> categories;
  std::map<std::string, std::vector<size_t>> members;
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::vector<size_t>& same = members[prompts[i].category];
    if (same.empty()) categories.push_back(prompts[i].category);
    same.push_back(i);
  }
  for (size_t turn = 0;; ++turn) {
    const size_t before = batches.size();
    for (const std::string& category : categories) {
      std::vector<size_t> due;
      for (const size_t i : members[category]) {
        if (turn < prompts[i].num_turns()) due.push_back(i);
      }
      const size_t given = due.size();
      for (size_t i = 0; due.size() % batch_size != 0; ++i) due.push_back(due[i % given]);
      for (size_t i = 0; i < due.size(); i += batch_size) {
        batches.push_back({category, turn, {due.begin() + i, due.begin() + i + batch_size}});
      }
    }
    if (batches.size() == before) return batches;
  }
}

// A configuration in a setting, while it runs.
struct Config {
  ConfigReport report;
  std::unique_ptr<Engine> engine;
  std::vector<BatchSeries> series;
};

using Results = std::vector<GenerateResult>;  // of the requests of a batch

// Runs one setting.
class SettingRun {
 public:
  SettingRun(const BenchOptions& options, const std::vector<DrafterOptions>& drafters,
             const std::vector<BenchPrompt>& prompts, const PromptEncoder& encoder,
             std::shared_ptr<const Model> model, const Setting& setting, BenchReport& report,
             Progress& progress)
      : options_(options),
        drafters_(drafters),
        prompts_(prompts),
        encoder_(encoder),
        model_(std::move(model)),
        setting_(setting),
        report_(report),
        progress_(progress),
        batches_(MakeBatches(prompts, static_cast<size_t>(setting.batch))),
        answers_(prompts.size()) {}

  // Adds the setting to the report, unless it was interrupted before anything was measured.
  absl::Status Run();

 private:
  absl::StatusOr<EngineOptions> OptionsOf(const ConfigReport& config) const;
  absl::Status AddConfig(int32_t draft, int32_t draft_tokens);
  absl::Status EncodePrompts(const PromptBatch& batch);
  absl::Status WarmUp(Engine& engine);
  absl::StatusOr<Results> Decode(Engine& engine, int32_t max_new_tokens);
  absl::Status RunBatch(size_t index);
  void Compare(const PromptBatch& batch, const Results& plain, const Results& results,
               Config& config);
  absl::Status Profile();
  absl::Status ProfileConfig(Config& config);
  void Report();
  std::string Name(const Config& config) const;

  const BenchOptions& options_;
  const std::vector<DrafterOptions>& drafters_;
  const std::vector<BenchPrompt>& prompts_;
  const PromptEncoder& encoder_;
  const std::shared_ptr<const Model> model_;
  const Setting setting_;
  BenchReport& report_;
  Progress& progress_;
  const std::vector<PromptBatch> batches_;
  std::vector<Config> configs_;  // plain first

  std::vector<std::vector<std::string>> answers_;  // of plain decoding, by prompt and turn
  std::vector<std::vector<int32_t>> ids_;          // of the batch at hand
  uint32_t first_sequence_ = 0;                    // keys its random numbers
  int64_t num_prompts_ = 0;
  int64_t num_requests_ = 0;
};

std::string SettingRun::Name(const Config& config) const {
  const std::string setting = SettingText(report_.sweep, setting_);
  return absl::StrCat(setting, setting.empty() ? "" : ", ", ConfigName(report_, config.report));
}

absl::Status SettingRun::Run() {
  SW_RETURN_IF_ERROR(AddConfig(-1, 0));
  for (size_t draft = 0; draft < drafters_.size(); ++draft) {
    for (const int32_t k : report_.sweep.draft_tokens) {
      SW_RETURN_IF_ERROR(AddConfig(static_cast<int32_t>(draft), k));
    }
  }
  SW_RETURN_IF_ERROR(EncodePrompts(batches_.front()));
  for (Config& config : configs_) {
    if (!Interrupted()) SW_RETURN_IF_ERROR(WarmUp(*config.engine));
  }
  for (size_t i = 0; i < batches_.size() && !Interrupted(); ++i) {
    SW_RETURN_IF_ERROR(RunBatch(i));
  }
  for (Config& config : configs_) config.engine.reset();
  if (options_.profile && !Interrupted()) SW_RETURN_IF_ERROR(Profile());
  Report();
  return absl::OkStatus();
}

absl::StatusOr<EngineOptions> SettingRun::OptionsOf(const ConfigReport& config) const {
  SW_ASSIGN_OR_RETURN(EngineOptions options,
                      MakeEngineOptions(config.draft_tokens, options_.engine, options_.model));
  options.model = model_;
  if (config.draft >= 0) options.drafter = drafters_[config.draft];
  options.max_sequences = setting_.batch;
  options.checkpoint_policy = setting_.checkpoint_policy;
  return options;
}

absl::Status SettingRun::AddConfig(int32_t draft, int32_t draft_tokens) {
  Config config;
  config.report.draft = draft;
  config.report.draft_tokens = draft_tokens;
  SW_ASSIGN_OR_RETURN(EngineOptions options, OptionsOf(config.report));
  const bool same_text =
      setting_.temperature == 0 || options.acceptance == AcceptanceMethod::kCoupled;
  if (same_text && !report_.synthetic.on()) {
    config.report.identical = true;  // until a difference is found
  }
  SW_ASSIGN_OR_RETURN(config.engine, Engine::Create(std::move(options)));
  config.report.memory = config.engine->memory();
  configs_.push_back(std::move(config));
  return absl::OkStatus();
}

absl::Status SettingRun::EncodePrompts(const PromptBatch& batch) {
  ids_.clear();
  for (const size_t i : batch.prompts) {
    SW_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                        encoder_.Encode(prompts_[i], batch.turn, answers_[i]));
    ids_.push_back(PadByRepetition(ids, setting_.context, model_->info().bos_token));
  }
  return absl::OkStatus();
}

absl::Status SettingRun::WarmUp(Engine& engine) {
  const int tokens = model_->info().device == "cpu" ? kWarmUpTokens : kCudaWarmUpTokens;
  return Decode(engine, std::min(tokens, options_.request.max_new_tokens)).status();
}

// Fewer results than requests if it was interrupted.
absl::StatusOr<Results> SettingRun::Decode(Engine& engine, int32_t max_new_tokens) {
  std::vector<RequestId> ids;
  for (size_t i = 0; i < ids_.size(); ++i) {
    Request request = options_.request;
    request.prompt = ids_[i];
    request.sampling.temperature = setting_.temperature;
    request.sequence = first_sequence_ + static_cast<uint32_t>(i);
    request.max_new_tokens = max_new_tokens;
    SW_ASSIGN_OR_RETURN(ids.emplace_back(), engine.Submit(std::move(request)));
  }
  SW_RETURN_IF_ERROR(engine.Run([](const RequestUpdate&) { return !Interrupted(); }));
  Results results;
  if (!engine.idle()) {
    for (const RequestId id : ids) SW_RETURN_IF_ERROR(engine.Cancel(id));
    return results;
  }
  for (const RequestId id : ids) {
    SW_ASSIGN_OR_RETURN(results.emplace_back(), engine.TakeResult(id));
  }
  return results;
}

// Every configuration `repeat` times, in rotating order, so that noise of the machine hits all
// alike. A batch counts only if all of them did it.
absl::Status SettingRun::RunBatch(size_t index) {
  const PromptBatch& batch = batches_[index];
  SW_RETURN_IF_ERROR(EncodePrompts(batch));
  std::vector<std::vector<Results>> runs(configs_.size());
  for (size_t r = 0; r < static_cast<size_t>(options_.repeat); ++r) {
    for (size_t i = 0; i < configs_.size(); ++i) {
      const size_t c = (i + index + r) % configs_.size();
      SW_ASSIGN_OR_RETURN(Results results,
                          Decode(*configs_[c].engine, options_.request.max_new_tokens));
      if (Interrupted()) return absl::OkStatus();
      runs[c].push_back(std::move(results));
      progress_.Step(absl::StrFormat("%s at %.1f tokens/s", Name(configs_[c]),
                                     BatchRun::Of(runs[c].back()).stats.TokensPerSecond()));
    }
  }
  const Results& plain = runs.front().front();
  for (size_t c = 0; c < configs_.size(); ++c) {
    BatchSeries& series = configs_[c].series.emplace_back(BatchSeries{batch.category, {}});
    for (const Results& results : runs[c]) {
      Compare(batch, plain, results, configs_[c]);
      series.repeats.push_back(BatchRun::Of(results));
    }
  }
  // What was said before the next turn is the same for all configurations.
  for (size_t i = 0; i < batch.prompts.size(); ++i) {
    std::vector<std::string>& said = answers_[batch.prompts[i]];
    if (said.size() == batch.turn) said.push_back(plain[i].text);
  }
  first_sequence_ += static_cast<uint32_t>(ids_.size());
  num_requests_ += static_cast<int64_t>(ids_.size());
  if (batch.turn == 0) num_prompts_ += static_cast<int64_t>(ids_.size());
  return absl::OkStatus();
}

void SettingRun::Compare(const PromptBatch& batch, const Results& plain, const Results& results,
                         Config& config) {
  if (!config.report.identical) return;
  for (size_t i = 0; i < results.size(); ++i) {
    const std::vector<int32_t>& expected = plain[i].tokens;
    const std::vector<int32_t>& tokens = results[i].tokens;
    if (tokens == expected) continue;
    config.report.identical = false;
    if (!report_.difference.empty()) return;
    const auto at = std::mismatch(expected.begin(), expected.end(), tokens.begin(), tokens.end());
    const std::string& where = prompts_[batch.prompts[i]].where;
    report_.difference =
        absl::StrCat(Name(config), ": prompt ", batch.prompts[i] + 1, where.empty() ? "" : " (",
                     where, where.empty() ? "" : ")", ", turn ", batch.turn + 1, ", token ",
                     at.first - expected.begin() + 1, " of ", expected.size());
    return;
  }
}

// In passes of their own, since waiting for every phase slows rounds down.
absl::Status SettingRun::Profile() {
  for (Config& config : configs_) {
    if (!Interrupted()) SW_RETURN_IF_ERROR(ProfileConfig(config));
  }
  return absl::OkStatus();
}

absl::Status SettingRun::ProfileConfig(Config& config) {
  SW_ASSIGN_OR_RETURN(EngineOptions options, OptionsOf(config.report));
  options.profile_rounds = true;
  SW_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, Engine::Create(std::move(options)));
  first_sequence_ = 0;
  SW_RETURN_IF_ERROR(EncodePrompts(batches_.front()));
  SW_RETURN_IF_ERROR(WarmUp(*engine));
  engine->ResetProfile();
  const size_t count = std::min(kProfileBatches, batches_.size());
  for (size_t i = 0; i < count && !Interrupted(); ++i) {
    SW_RETURN_IF_ERROR(EncodePrompts(batches_[i]));
    SW_RETURN_IF_ERROR(Decode(*engine, options_.request.max_new_tokens).status());
    progress_.Step(absl::StrCat(Name(config), ", time split"));
  }
  if (engine->profile().rounds > 0) config.report.profile = engine->profile();
  return absl::OkStatus();
}

void SettingRun::Report() {
  if (configs_.front().series.empty()) return;
  const std::vector<BatchSeries>& plain = configs_.front().series;
  std::vector<std::string> categories;
  for (const BatchSeries& batch : plain) {
    if (std::find(categories.begin(), categories.end(), batch.category) == categories.end()) {
      categories.push_back(batch.category);
    }
  }
  std::vector<std::vector<BatchSeries>> plain_of;
  plain_of.reserve(categories.size());
  for (const std::string& category : categories) {
    plain_of.push_back(OfCategory(plain, category));
  }
  SettingReport& setting = report_.settings.emplace_back();
  setting.setting = setting_;
  setting.num_prompts = num_prompts_;
  setting.num_requests = num_requests_;
  for (Config& config : configs_) {
    ConfigReport& result = config.report;
    result.all = Measure(config.series, plain);
    for (size_t i = 0; i < categories.size() && categories.size() > 1; ++i) {
      const std::vector<BatchSeries> own = OfCategory(config.series, categories[i]);
      Measurement measured =
          result.is_plain() ? Measure(plain_of[i], plain_of[i]) : Measure(own, plain_of[i]);
      result.by_category.emplace_back(categories[i], std::move(measured));
    }
    CountBytes(report_, setting_, result);
    setting.configs.push_back(result);
  }
}

// Prepares what all settings share.
class BenchRun {
 public:
  explicit BenchRun(const BenchOptions& options) : options_(options) {}
  absl::StatusOr<BenchReport> Run();

 private:
  absl::Status Load();
  absl::Status LoadDrafts();
  absl::Status CheckSynthetic() const;
  absl::Status MakePrompts();
  absl::StatusOr<PromptEncoder> MakeEncoder();
  absl::Status MeasureBandwidth();
  int64_t NumSteps() const;

  const BenchOptions& options_;
  std::shared_ptr<const Model> model_;
  std::vector<DrafterOptions> drafters_;
  std::vector<BenchPrompt> prompts_;
  BenchReport report_;
};

absl::StatusOr<BenchReport> BenchRun::Run() {
  SW_ASSIGN_OR_RETURN(report_.sweep, ParseSweep(options_.sweep));
  report_.synthetic = options_.engine.synthetic();
  SW_RETURN_IF_ERROR(CheckSynthetic());
  SW_RETURN_IF_ERROR(Load());
  SW_RETURN_IF_ERROR(MakePrompts());
  SW_ASSIGN_OR_RETURN(const PromptEncoder encoder, MakeEncoder());
  SW_RETURN_IF_ERROR(MeasureBandwidth());
  CatchInterrupt();
  Progress progress(NumSteps(), "runs");
  for (const Setting& setting : report_.sweep.settings) {
    if (Interrupted()) break;
    SW_RETURN_IF_ERROR(
        SettingRun(options_, drafters_, prompts_, encoder, model_, setting, report_, progress)
            .Run());
  }
  report_.interrupted = Interrupted();
  if (report_.settings.empty()) {
    return absl::CancelledError("interrupted before anything was measured");
  }
  return std::move(report_);
}

// Before minutes of measuring, not after.
absl::Status BenchRun::CheckSynthetic() const {
  for (const int32_t k : report_.sweep.draft_tokens) {
    SW_RETURN_IF_ERROR(report_.synthetic.Rates(k).status());
  }
  return absl::OkStatus();
}

absl::Status BenchRun::Load() {
  SW_ASSIGN_OR_RETURN(model_, LoadModel(options_.model));
  SW_RETURN_IF_ERROR(LoadDrafts());
  report_.command = options_.command;
  report_.date = absl::FormatTime("%Y-%m-%d %H:%M UTC", absl::Now(), absl::UTCTimeZone());
  report_.model = model_->info();
  report_.threads = NumThreads(options_.model, *model_);
  report_.max_new_tokens = options_.request.max_new_tokens;
  report_.repeat = options_.repeat;
  report_.sampling = options_.request.sampling;
  return absl::OkStatus();
}

absl::Status BenchRun::LoadDrafts() {
  for (const std::string& name : report_.sweep.drafts) {
    SW_ASSIGN_OR_RETURN(DrafterOptions drafter, LoadDrafter(name, options_.model));
    DraftReport draft{.name = name};
    if (drafter.model != nullptr) draft.model = drafter.model->info();
    draft.is_retokenized = IsRetokenized(*model_, drafter);
    drafters_.push_back(std::move(drafter));
    report_.drafts.push_back(std::move(draft));
  }
  return absl::OkStatus();
}

absl::Status BenchRun::MakePrompts() {
  const int64_t limit = options_.filter.limit;
  if (options_.prompt_tokens > 0) {
    const std::vector<Setting>& settings = report_.sweep.settings;
    const auto largest =
        std::max_element(settings.begin(), settings.end(),
                         [](const Setting& a, const Setting& b) { return a.batch < b.batch; });
    prompts_ = MadeUpPrompts(*model_, options_.prompt_tokens, limit > 0 ? limit : largest->batch);
    report_.prompts_name = absl::StrCat(options_.prompt_tokens, " made-up tokens");
  } else if (options_.prompts.empty()) {
    prompts_ = BuiltInPrompts(*model_, limit);
    report_.prompts_name = "built in";
  } else {
    SW_ASSIGN_OR_RETURN(prompts_,
                        ReadPrompts(options_.prompts, options_.filter, model_->info().vocab_size));
    report_.prompts_name = absl::StrJoin(options_.prompts, ", ");
  }
  return absl::OkStatus();
}

absl::StatusOr<PromptEncoder> BenchRun::MakeEncoder() {
  std::shared_ptr<const ChatTemplate> chat_template;
  if (options_.chat_template && !absl::StartsWith(model_->info().path, kSynthetic)) {
    SW_ASSIGN_OR_RETURN(chat_template, ChatTemplate::Load(model_->info().path));
  }
  report_.chat_template =
      chat_template != nullptr &&
      std::any_of(prompts_.begin(), prompts_.end(),
                  [](const BenchPrompt& prompt) { return prompt.ids.empty() && prompt.is_chat; });
  PromptEncoder encoder(model_, std::move(chat_template));
  for (const BenchPrompt& prompt :
       prompts_) {  // what is wrong with one is said before anything runs
    SW_RETURN_IF_ERROR(encoder.Encode(prompt, 0, {}).status());
  }
  return encoder;
}

absl::Status BenchRun::MeasureBandwidth() {
  const int64_t bytes = report_.model.weight_bytes;
  SW_ASSIGN_OR_RETURN(report_.read_bandwidth,
                      MeasureReadBandwidth(*model_, bytes, report_.threads));
  for (DraftReport& draft : report_.drafts) {
    draft.pair_bandwidth = report_.read_bandwidth;
    if (!draft.model) continue;
    SW_ASSIGN_OR_RETURN(
        draft.pair_bandwidth,
        MeasureReadBandwidth(*model_, bytes + draft.model->weight_bytes, report_.threads));
  }
  return absl::OkStatus();
}

int64_t BenchRun::NumSteps() const {
  const size_t configs = 1 + report_.sweep.draft_tokens.size() * drafters_.size();
  size_t steps = 0;
  for (const Setting& setting : report_.sweep.settings) {
    const size_t batches = MakeBatches(prompts_, static_cast<size_t>(setting.batch)).size();
    steps += configs * batches * static_cast<size_t>(options_.repeat);
    if (options_.profile) steps += configs * std::min(kProfileBatches, batches);
  }
  return static_cast<int64_t>(steps);
}

}  // namespace

absl::StatusOr<BenchReport> RunBench(const BenchOptions& options) {
  return BenchRun(options).Run();
}

}  // namespace sidewinder::cli
