// The report as a table for people.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/sidewinder/bench/report.h"
#include "apps/sidewinder/flags.h"
#include "apps/sidewinder/stats_json.h"

namespace sidewinder::cli {
namespace {

double Megabytes(double bytes) { return bytes / 1e6; }

// What the floor of plain decoding counts, and at which bandwidth.
std::string FloorText(const BenchReport& report, const ConfigReport& plain) {
  const double bandwidth = report.read_bandwidth / 1e9;
  if (!report.CountsStates()) return absl::StrFormat("%.2f GB/s read over the weights", bandwidth);
  return absl::StrFormat("%.2f GB/s over %.1f MB of weights and %.1f MB of states a round",
                         bandwidth, Megabytes(plain.floor_bytes.weights),
                         Megabytes(plain.floor_bytes.states));
}

std::string Heading(const BenchReport& report) {
  std::string text = absl::StrFormat("machine   %s\n", MachineText(report.model, report.threads));
  absl::StrAppendFormat(&text, "model     %s\n", ModelText(report.model));
  if (report.drafts.empty()) text += "draft     none\n";
  for (const DraftReport& draft : report.drafts) {
    absl::StrAppendFormat(&text, "draft     %s\n",
                          draft.model ? ModelText(*draft.model) : draft.name);
    if (draft.is_retokenized) text += "          " + RetokenizedText(true);
  }
  const SettingReport& first = report.settings.front();
  absl::StrAppendFormat(&text, "prompts   %s%s\n", RunText(report, first),
                        report.chat_template ? ", chat template" : "");
  absl::StrAppendFormat(&text, "floor     %.1f tokens/s plain: %s, measured now\n",
                        PlainFloor(report, first.setting),
                        FloorText(report, first.configs.front()));
  if (report.interrupted) text += "INTERRUPTED: what had been measured by then\n";
  return text + report.synthetic.Warning();
}

// Width of the names of configurations.
int NameWidth(const BenchReport& report) {
  size_t width = 12;
  for (const ConfigReport& config : report.settings.front().configs) {
    width = std::max(width, ConfigName(report, config).size());
  }
  return static_cast<int>(width);
}

std::string IntervalText(const std::optional<Interval>& interval) {
  return interval ? absl::StrFormat("%.2f-%.2f", interval->low, interval->high) : "-";
}

std::string ResultRow(const BenchReport& report, const ConfigReport& config) {
  const Measurement& m = config.all;
  const bool plain = config.is_plain();
  return absl::StrFormat("%-*s %9.1f %9.1f %8.2fx %11s %9s %12.2f %8.1f %9.3f %9.3f %7.1f %%  %s\n",
                         NameWidth(report), ConfigName(report, config), m.TokensPerSecond(),
                         Median(m.tokens_per_second), m.speedup,
                         plain ? "-" : IntervalText(m.speedup_interval),
                         plain ? "-" : absl::StrFormat("%.1f %%", 100 * m.stats.AcceptanceRate()),
                         m.stats.MeanAcceptanceLength(), Mean(m.ttft_ms), Mean(m.ms_per_token),
                         m.MsPerRound(), 100 * config.FractionOfFloor(),
                         plain || !config.identical ? "-"
                         : *config.identical        ? "yes"
                                                    : "NO");
}

std::string Results(const BenchReport& report, const SettingReport& setting) {
  std::string text =
      absl::StrFormat("\n%-*s %9s %9s %9s %11s %9s %12s %8s %9s %9s %9s  %s\n", NameWidth(report),
                      "draft tokens", "tokens/s", "median", "speed-up", "95 %", "accepted",
                      "mean length", "ttft ms", "ms/token", "ms/round", "of floor", "same text");
  for (const ConfigReport& config : setting.configs) text += ResultRow(report, config);
  return text;
}

std::string RatesText(const std::vector<double>& rates) {
  std::string text;
  for (const double rate : rates) absl::StrAppendFormat(&text, "%.0f ", 100 * rate);
  return text.empty() ? "-" : text + "%";
}

std::string ByPosition(const BenchReport& report, const SettingReport& setting) {
  std::string text;
  for (const ConfigReport& config : setting.configs) {
    const DecodeStats& stats = config.all.stats;
    if (stats.drafted == 0) continue;
    const std::string conditional = RatesText(stats.ConditionalAcceptanceByPosition());
    absl::StrAppendFormat(&text, "%*s: %s  (%s once those ahead are)\n", NameWidth(report) - 2,
                          ConfigName(report, config), RatesText(stats.AcceptanceByPosition()),
                          conditional);
  }
  return text.empty() ? "" : "\naccepted by position\n" + text;
}

std::string TimeSplit(const BenchReport& report, const SettingReport& setting) {
  std::string text;
  for (const ConfigReport& config : setting.configs) {
    if (!config.profile || !config.moved) continue;
    const RoundProfile& p = *config.profile;
    const auto ms = [&p](double total) { return Ratio(total, static_cast<double>(p.rounds)); };
    const MovedBytes& moved = *config.moved;
    const double bytes_per_second = Ratio(moved.total() * 1e3, config.all.MsPerRound());
    absl::StrAppendFormat(
        &text, "%-*s %9.3f %9.3f %9.3f %13.1f %10.2f %10.3f %10.3f %9.1f %10.3f %8.3f\n",
        NameWidth(report), ConfigName(report, config), ms(p.draft_ms), ms(p.verify_ms),
        ms(p.commit_ms()), 1e3 * ms(p.roll_back_ms), Megabytes(moved.weights + moved.draft_weights),
        Megabytes(moved.states_read + moved.states_written + moved.draft_states),
        Megabytes(moved.log_read + moved.log_written), bytes_per_second / 1e9,
        Megabytes(static_cast<double>(config.memory.state_bytes)),
        Megabytes(static_cast<double>(config.memory.replay_bytes)));
  }
  if (text.empty()) return "";
  return absl::StrFormat("\n%-*s %9s %9s %9s %13s %10s %10s %10s %9s %10s %8s\n", NameWidth(report),
                         "a round", "draft ms", "verify ms", "commit ms", "roll back us",
                         "weights MB", "states MB", "log MB", "GB/s", "request MB", "its log") +
         text +
         (report.CountsStates() ? "(times of rounds enqueued one by one and waited for phase by "
                                  "phase: recorded loops "
                                  "cannot be looked into)\n"
                                : "");
}

std::string ByCategory(const BenchReport& report, const SettingReport& setting) {
  if (setting.configs.front().by_category.empty()) return "";
  size_t width = 8;
  for (const auto& [category, measured] : setting.configs.front().by_category) {
    width = std::max(width, category.size());
  }
  std::string text =
      absl::StrFormat("\n%-*s %-*s %8s %9s %9s %11s %9s %12s %8s %9s\n", static_cast<int>(width),
                      "category", NameWidth(report), "draft tokens", "requests", "tokens/s",
                      "speed-up", "95 %", "accepted", "mean length", "ttft ms", "ms/token");
  for (size_t i = 0; i < setting.configs.front().by_category.size(); ++i) {
    for (const ConfigReport& config : setting.configs) {
      const auto& [category, m] = config.by_category[i];
      const bool plain = config.is_plain();
      absl::StrAppendFormat(
          &text, "%-*s %-*s %8d %9.1f %8.2fx %11s %9s %12.2f %8.1f %9.3f\n",
          static_cast<int>(width), plain ? category : "", NameWidth(report),
          ConfigName(report, config), m.ttft_ms.size(), m.TokensPerSecond(), m.speedup,
          plain ? "-" : IntervalText(m.speedup_interval),
          plain ? "-" : absl::StrFormat("%.1f %%", 100 * m.stats.AcceptanceRate()),
          m.stats.MeanAcceptanceLength(), Mean(m.ttft_ms), Mean(m.ms_per_token));
    }
  }
  return text;
}

std::string CostModels(const BenchReport& report, const SettingReport& setting) {
  std::string text;
  for (size_t draft = 0; draft < report.drafts.size(); ++draft) {
    const auto model = CostModelOf(setting, static_cast<int32_t>(draft));
    if (!model) continue;
    absl::StrAppendFormat(
        &text, "%s: a round takes %.3f ms and %.3f ms a proposal (within %.1f %%); pays from",
        ShortName(report.drafts[draft].name), model->base_ms, model->proposal_ms,
        100 * model->worst_error);
    for (const int32_t k : report.sweep.draft_tokens) {
      if (k == kAutoDraftTokens) continue;
      const std::optional<double> acceptance = model->BreakEven(k);
      absl::StrAppend(&text, " ", k, ":",
                      acceptance ? absl::StrFormat("%.0f%%", 100 * *acceptance) : "never");
    }
    text += "\n";
  }
  return text.empty() ? "" : "\ncost model and break-even acceptance by draft tokens\n" + text;
}

}  // namespace

std::string BenchTable(const BenchReport& report) {
  std::string text = Heading(report);
  for (const SettingReport& setting : report.settings) {
    const std::string name = SettingText(report.sweep, setting.setting);
    if (!name.empty()) absl::StrAppend(&text, "\n--- ", name, "\n");
    text += Results(report, setting);
    text += ByPosition(report, setting);
    text += TimeSplit(report, setting);
    text += ByCategory(report, setting);
    text += CostModels(report, setting);
  }
  return text;
}

}  // namespace sidewinder::cli
