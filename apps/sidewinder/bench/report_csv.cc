// The report as CSV: a line for each configuration and category.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "apps/sidewinder/bench/report.h"
#include "apps/sidewinder/flags.h"

namespace sidewinder::cli {
namespace {

constexpr char kAll[]{"all"};

class Line {
 public:
  void Text(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) {
      cells_.push_back(text);
    } else {
      cells_.push_back(absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\""));
    }
  }
  void Number(double value) { cells_.push_back(absl::StrFormat("%.9g", value)); }
  void Maybe(std::optional<double> value) { value ? Number(*value) : Text(""); }
  void Count(int64_t value) { cells_.push_back(absl::StrCat(value)); }
  std::string End() const { return absl::StrJoin(cells_, ",") + "\r\n"; }

 private:
  std::vector<std::string> cells_;
};

constexpr const char* kColumns[]{
    "machine", "model", "draft", "draft_tokens", "batch", "temperature", "context",
    "checkpoint_policy", "synthetic_acceptance", "category", "requests", "repeat",
    "tokens_per_second", "tokens_per_second_p10", "tokens_per_second_p90", "repeat_spread",
    "speedup", "speedup_low", "speedup_high", "end_to_end_speedup", "acceptance_rate",
    "mean_acceptance_length", "tokens_per_round", "acceptance_by_position",
    "conditional_acceptance_by_position", "ttft_mean_ms", "ttft_median_ms",
    "time_per_output_token_mean_ms", "ms_per_round", "rounds", "drafted", "accepted", "new_tokens",
    // Of a whole configuration, so empty on lines of a category.
    "fraction_of_floor", "identical", "draft_ms", "verify_ms", "commit_ms", "roll_back_ms",
    "moved_bytes_per_round", "state_bytes_per_request", "log_bytes_per_request"};

std::string Rates(const std::vector<double>& rates) {
  return absl::StrJoin(
      rates, " ", [](std::string* out, double rate) { absl::StrAppendFormat(out, "%.6g", rate); });
}

void AddMeasurement(const Measurement& m, Line& line) {
  line.Number(m.TokensPerSecond());
  line.Number(Quantile(m.tokens_per_second, 0.1));
  line.Number(Quantile(m.tokens_per_second, 0.9));
  line.Number(m.repeat_spread);
  line.Number(m.speedup);
  line.Maybe(m.speedup_interval ? std::optional<double>(m.speedup_interval->low) : std::nullopt);
  line.Maybe(m.speedup_interval ? std::optional<double>(m.speedup_interval->high) : std::nullopt);
  line.Number(m.end_to_end_speedup);
  line.Number(m.stats.AcceptanceRate());
  line.Number(m.stats.MeanAcceptanceLength());
  line.Number(m.TokensPerRound());
  line.Text(Rates(m.stats.AcceptanceByPosition()));
  line.Text(Rates(m.stats.ConditionalAcceptanceByPosition()));
  line.Number(Mean(m.ttft_ms));
  line.Number(Median(m.ttft_ms));
  line.Number(Mean(m.ms_per_token));
  line.Number(m.MsPerRound());
  line.Count(m.stats.rounds);
  line.Count(m.stats.drafted);
  line.Count(m.stats.accepted);
  line.Count(m.stats.new_tokens);
}

void AddConfigFigures(const ConfigReport& config, Line& line) {
  line.Number(config.FractionOfFloor());
  line.Text(!config.identical ? "" : *config.identical ? "yes" : "no");
  const RoundProfile profile = config.profile.value_or(RoundProfile());
  for (const double ms :
       {profile.draft_ms, profile.verify_ms, profile.commit_ms(), profile.roll_back_ms}) {
    line.Maybe(config.profile
                   ? std::optional<double>(Ratio(ms, static_cast<double>(profile.rounds)))
                   : std::nullopt);
  }
  line.Maybe(config.moved ? std::optional<double>(config.moved->total()) : std::nullopt);
  line.Count(config.memory.state_bytes);
  line.Count(config.memory.replay_bytes);
}

std::string ConfigLine(const BenchReport& report, const Setting& setting,
                       const ConfigReport& config, const std::string& category,
                       const Measurement& measured) {
  Line line;
  line.Text(MachineText(report.model, report.threads));
  line.Text(report.model.path);
  line.Text(config.is_plain() ? "none" : report.drafts[config.draft].name);
  line.Text(config.is_plain() ? "0" : DraftTokensText(config.draft_tokens));
  line.Count(setting.batch);
  line.Number(setting.temperature);
  line.Count(setting.context);
  line.Text(Name(setting.checkpoint_policy));
  line.Text(report.synthetic.ToString());
  line.Text(category);
  line.Count(static_cast<int64_t>(measured.ttft_ms.size()));
  line.Count(report.repeat);
  AddMeasurement(measured, line);
  if (&measured == &config.all) {
    AddConfigFigures(config, line);
  } else {
    for (int i = 0; i < 9; ++i) line.Text("");
  }
  return line.End();
}

}  // namespace

std::string BenchCsv(const BenchReport& report) {
  std::string csv = absl::StrJoin(kColumns, ",") + "\r\n";
  for (const SettingReport& setting : report.settings) {
    for (const ConfigReport& config : setting.configs) {
      csv += ConfigLine(report, setting.setting, config, kAll, config.all);
      for (const auto& [category, measured] : config.by_category) {
        csv += ConfigLine(report, setting.setting, config, category, measured);
      }
    }
  }
  return csv;
}

}  // namespace sidewinder::cli
