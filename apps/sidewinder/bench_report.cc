#include "apps/sidewinder/bench_report.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/sidewinder/stats_json.h"

namespace sidewinder::cli {
namespace {

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

double Proposals(const BenchRow& row) {
  return Ratio(static_cast<double>(row.stats.drafted), static_cast<double>(row.stats.rounds));
}

double Megabytes(int64_t bytes) { return static_cast<double>(bytes) / 1e6; }

std::string ModelLine(const ModelInfo& info) {
  return absl::StrFormat("%s: %s, %.1f M parameters, %s, %.1f MB of weights a pass", info.path,
                         info.family, static_cast<double>(info.num_parameters) / 1e6, info.dtype,
                         Megabytes(info.weight_bytes));
}

std::string Method(const SamplingParams& sampling) {
  if (sampling.temperature == 0) return "greedy";
  return absl::StrFormat("temperature %g, top-k %d, top-p %g, min-p %g, seed %d",
                         sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p,
                         sampling.seed);
}

std::string Heading(const BenchReport& report) {
  std::string text = absl::StrFormat("machine   %s, %d threads\n", report.machine, report.threads);
  absl::StrAppendFormat(&text, "model     %s\n", ModelLine(report.model));
  absl::StrAppendFormat(&text, "draft     %s\n",
                        report.draft ? ModelLine(*report.draft) : report.draft_name);
  absl::StrAppendFormat(&text, "prompts   %d (%s), up to %d new tokens each, %s%s\n",
                        report.num_prompts, report.prompts_name, report.max_new_tokens,
                        Method(report.sampling),
                        report.repeat > 1 ? absl::StrCat(", median of ", report.repeat) : "");
  absl::StrAppendFormat(
      &text, "floor     %.1f tokens/s plain: %.2f GB/s read over the weights, measured now\n",
      report.FloorTokensPerSecond(), report.read_bandwidth / 1e9);
  return text;
}

std::string TableRow(const BenchReport& report, const BenchRow& row) {
  const bool plain = row.draft_tokens == 0;
  const std::string name = plain                                  ? "plain"
                           : row.draft_tokens == kAutoDraftTokens ? "auto"
                                                                  : absl::StrCat(row.draft_tokens);
  return absl::StrFormat("%-12s %9.1f %9.1f %8.2fx %9s %12.2f %9.3f %7.1f %%  %s\n", name,
                         row.TokensPerSecond(), row.MedianTokensPerSecond(),
                         Ratio(row.TokensPerSecond(), report.rows.front().TokensPerSecond()),
                         plain ? "-" : absl::StrFormat("%.1f %%", 100 * row.stats.AcceptanceRate()),
                         row.stats.MeanAcceptanceLength(), row.MsPerRound(),
                         100 * Ratio(row.TokensPerSecond(), row.floor_tokens_per_second),
                         plain || !row.identical ? "-"
                         : *row.identical        ? "yes"
                                                 : "NO");
}

OrderedJson ModelJson(const ModelInfo& info) {
  return {{"path", info.path},     {"family", info.family}, {"parameters", info.num_parameters},
          {"device", info.device}, {"dtype", info.dtype},   {"weight_bytes", info.weight_bytes}};
}

OrderedJson RowJson(const BenchReport& report, const BenchRow& row) {
  return {
      {"draft_tokens", DraftTokensJson(row.draft_tokens)},
      {"tokens_per_second", row.TokensPerSecond()},
      {"acceptance_rate", row.stats.AcceptanceRate()},
      {"mean_acceptance_length", row.stats.MeanAcceptanceLength()},
      {"speedup", Ratio(row.TokensPerSecond(), report.rows.front().TokensPerSecond())},
      {"acceptance_by_position", row.stats.AcceptanceByPosition()},
      {"median_tokens_per_second", row.MedianTokensPerSecond()},
      {"end_to_end_tokens_per_second", row.EndToEndTokensPerSecond()},
      {"ms_per_round", row.MsPerRound()},
      {"floor_tokens_per_second", row.floor_tokens_per_second},
      {"fraction_of_floor", Ratio(row.TokensPerSecond(), row.floor_tokens_per_second)},
      {"identical", row.identical ? OrderedJson(*row.identical) : OrderedJson(nullptr)},
      {"rounds", row.stats.rounds},
      {"drafted", row.stats.drafted},
      {"accepted", row.stats.accepted},
      {"new_tokens", row.stats.new_tokens},
      {"decode_ms", row.stats.decode_ms},
      {"ttft_ms", row.stats.ttft_ms},
  };
}

}  // namespace

double BenchRow::MedianTokensPerSecond() const {
  std::vector<double> sorted = tokens_per_second;
  std::sort(sorted.begin(), sorted.end());
  const size_t n = sorted.size();
  if (n == 0) return 0;
  return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double BenchRow::EndToEndTokensPerSecond() const {
  return Ratio(static_cast<double>(stats.new_tokens) * 1e3, stats.ttft_ms + stats.decode_ms);
}

double BenchRow::MsPerRound() const {
  const auto first_rounds = static_cast<int64_t>(tokens_per_second.size());
  return Ratio(stats.decode_ms, static_cast<double>(stats.rounds - first_rounds));
}

double BenchReport::FloorTokensPerSecond() const {
  return Ratio(read_bandwidth, static_cast<double>(model.weight_bytes));
}

void SetFloor(const BenchReport& report, BenchRow& row) {
  if (row.draft_tokens == 0 || !report.draft) {
    row.floor_tokens_per_second = row.stats.MeanAcceptanceLength() * report.FloorTokensPerSecond();
    return;
  }
  const double round_bytes = static_cast<double>(report.model.weight_bytes) +
                             Proposals(row) * static_cast<double>(report.draft->weight_bytes);
  row.floor_tokens_per_second =
      row.stats.MeanAcceptanceLength() * Ratio(report.pair_read_bandwidth, round_bytes);
}

OrderedJson BenchJson(const BenchReport& report) {
  OrderedJson results = OrderedJson::array();
  for (const BenchRow& row : report.rows) results.push_back(RowJson(report, row));
  return {
      {"results", std::move(results)},
      {"machine", report.machine},
      {"threads", report.threads},
      {"model", ModelJson(report.model)},
      {"draft", report.draft ? ModelJson(*report.draft) : OrderedJson(report.draft_name)},
      {"prompts", report.num_prompts},
      {"prompts_from", report.prompts_name},
      {"max_new_tokens", report.max_new_tokens},
      {"repeat", report.repeat},
      {"temperature", report.sampling.temperature},
      {"seed", report.sampling.seed},
      {"read_bytes_per_second", report.read_bandwidth},
      {"pair_read_bytes_per_second", report.pair_read_bandwidth},
      {"floor_tokens_per_second", report.FloorTokensPerSecond()},
  };
}

std::string BenchTable(const BenchReport& report) {
  std::string text = Heading(report);
  absl::StrAppendFormat(&text, "\n%-12s %9s %9s %9s %9s %12s %9s %9s  %s\n", "draft tokens",
                        "tokens/s", "median", "speed-up", "accepted", "mean length", "ms/round",
                        "of floor", "same text");
  for (const BenchRow& row : report.rows) text += TableRow(report, row);
  bool first = true;
  for (const BenchRow& row : report.rows) {
    if (row.stats.drafted == 0) continue;
    absl::StrAppendFormat(
        &text, "%s%6s: %s\n", first ? "\naccepted by position\n" : "",
        row.draft_tokens == kAutoDraftTokens ? "auto" : absl::StrCat(row.draft_tokens),
        AcceptanceByPositionText(row.stats));
    first = false;
  }
  return text;
}

}  // namespace sidewinder::cli
