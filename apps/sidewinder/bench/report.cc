#include "apps/sidewinder/bench/report.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/sidewinder/flags.h"

namespace sidewinder::cli {
namespace {

const ModelInfo* DraftModel(const BenchReport& report, const ConfigReport& config) {
  if (config.draft < 0) return nullptr;
  const std::optional<ModelInfo>& model = report.drafts[config.draft].model;
  return model ? &*model : nullptr;
}

// Recurrent states that a pass of the draft writes, in rounds of so many proposals.
double StatesWritten(CheckpointPolicy policy, double proposals) {
  switch (policy) {
    case CheckpointPolicy::kEveryRound:
      return 1;
    case CheckpointPolicy::kWhenLogFull:
      return 0;  // now and then; a bound counts none
    case CheckpointPolicy::kSnapshotPerToken:
      return proposals;
  }
  return 0;
}

RoundBytes FloorBytes(const BenchReport& report, const Setting& setting, const ModelInfo* draft,
                      double sequences, double proposals) {
  RoundBytes bytes;
  bytes.weights = static_cast<double>(report.model.weight_bytes);
  if (draft != nullptr) bytes.draft_weights = proposals * static_cast<double>(draft->weight_bytes);
  if (!report.CountsStates()) return bytes;
  const CheckpointPolicy policy = setting.checkpoint_policy;
  bytes.states = sequences * (1 + StatesWritten(policy, 1 + proposals)) *
                 static_cast<double>(report.model.state_bytes);
  if (draft != nullptr && proposals > 0) {
    bytes.states += sequences * (proposals + StatesWritten(policy, proposals)) *
                    static_cast<double>(draft->state_bytes);
  }
  return bytes;
}

MovedBytes Moved(const BenchReport& report, const Setting& setting, const ModelInfo* draft,
                 const ConfigReport& config) {
  const RoundProfile& profile = *config.profile;
  const auto per_round = [&profile](int64_t count, int64_t bytes) {
    return Ratio(static_cast<double>(count), static_cast<double>(profile.rounds)) *
           static_cast<double>(bytes);
  };
  MovedBytes moved;
  moved.weights = config.floor_bytes.weights;
  moved.draft_weights = config.floor_bytes.draft_weights;
  moved.states_read = per_round(profile.sequences, report.model.state_bytes);
  moved.states_written = per_round(profile.states_written, report.model.state_bytes);
  moved.log_read = per_round(profile.replayed_rows, report.model.log_row_bytes);
  moved.log_written = per_round(profile.logged_rows, report.model.log_row_bytes);
  const double proposals = config.all.ProposalsPerRound();
  if (draft != nullptr && proposals > 0) {
    moved.draft_states = config.all.RequestsPerRound() *
                         (proposals + StatesWritten(setting.checkpoint_policy, proposals)) *
                         static_cast<double>(draft->state_bytes);
  }
  return moved;
}

}  // namespace

void CountBytes(const BenchReport& report, const Setting& setting, ConfigReport& config) {
  const ModelInfo* const draft = DraftModel(report, config);
  const double sequences = config.all.RequestsPerRound();
  config.floor_bytes =
      FloorBytes(report, setting, draft, sequences, config.all.ProposalsPerRound());
  const double bandwidth =
      draft != nullptr ? report.drafts[config.draft].pair_bandwidth : report.read_bandwidth;
  config.floor_tokens_per_second = sequences * config.all.stats.MeanAcceptanceLength() *
                                   Ratio(bandwidth, config.floor_bytes.total());
  if (config.profile) config.moved = Moved(report, setting, draft, config);
}

double PlainFloor(const BenchReport& report, const Setting& setting) {
  const RoundBytes bytes = FloorBytes(report, setting, nullptr, setting.batch, 0);
  return setting.batch * Ratio(report.read_bandwidth, bytes.total());
}

std::optional<CostModel> CostModelOf(const SettingReport& setting, int32_t draft) {
  std::vector<RoundTime> rounds;
  for (const ConfigReport& config : setting.configs) {
    const bool of_draft = config.draft == draft && config.draft_tokens > 0;
    if (!config.is_plain() && !of_draft) continue;
    rounds.push_back({config.all.ProposalsPerRound(), config.all.MsPerRound()});
  }
  if (rounds.size() < 2) return std::nullopt;
  return FitCostModel(rounds);
}

std::string DraftTokensText(int32_t draft_tokens) {
  if (draft_tokens == 0) return "plain";
  return draft_tokens == kAutoDraftTokens ? "auto" : absl::StrCat(draft_tokens);
}

std::string ShortName(const std::string& path) {
  const std::filesystem::path parts(path);
  return (parts.has_filename() ? parts : parts.parent_path()).filename().string();
}

std::string ConfigName(const BenchReport& report, const ConfigReport& config) {
  const std::string name = DraftTokensText(config.draft_tokens);
  if (config.is_plain() || report.drafts.size() < 2) return name;
  return absl::StrCat(ShortName(report.drafts[config.draft].name), " ", name);
}

std::string MethodText(const BenchReport& report, const Setting& setting) {
  if (setting.temperature == 0) return "greedy";
  return absl::StrFormat("temperature %g, top-k %d, top-p %g, min-p %g, seed %d",
                         setting.temperature, report.sampling.top_k, report.sampling.top_p,
                         report.sampling.min_p, report.sampling.seed);
}

std::string ModelText(const ModelInfo& info) {
  return absl::StrFormat("%s: %s, %.1f M parameters, %s, %.1f MB of weights a pass", info.path,
                         info.family, static_cast<double>(info.num_parameters) / 1e6, info.dtype,
                         static_cast<double>(info.weight_bytes) / 1e6);
}

std::string RunText(const BenchReport& report, const SettingReport& setting) {
  const Setting& s = setting.setting;
  const bool has_turns = setting.num_requests > setting.num_prompts;
  return absl::StrFormat(
      "%d (%s)%s, up to %d new tokens each, %s%s%s%s", setting.num_prompts, report.prompts_name,
      has_turns ? absl::StrCat(", ", setting.num_requests, " turns") : "", report.max_new_tokens,
      MethodText(report, s), s.batch > 1 ? absl::StrCat(", ", s.batch, " at a time") : "",
      s.context > 0 ? absl::StrCat(", padded to ", s.context, " tokens") : "",
      report.repeat > 1 ? absl::StrCat(", median of ", report.repeat) : "");
}

}  // namespace sidewinder::cli
