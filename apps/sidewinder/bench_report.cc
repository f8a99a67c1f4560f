#include "apps/sidewinder/bench_report.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/sidewinder/flags.h"
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

// What the floor of plain decoding counts, and at which bandwidth.
std::string FloorText(const BenchReport& report) {
  const double bandwidth = report.read_bandwidth / 1e9;
  if (!report.CountsStates()) return absl::StrFormat("%.2f GB/s read over the weights", bandwidth);
  const RoundBytes bytes = report.BytesPerRound(report.batch, 0);
  return absl::StrFormat(
      "%.2f GB/s over %.1f MB of weights and %.1f MB of states (%s) a round", bandwidth,
      bytes.weights / 1e6, bytes.states / 1e6,
      report.checkpoint_policy == CheckpointPolicy::kWhenLogFull ? "read" : "read and written");
}

std::string Heading(const BenchReport& report) {
  std::string text = absl::StrFormat("machine   %s\n", MachineText(report.model, report.threads));
  absl::StrAppendFormat(&text, "model     %s\n", ModelLine(report.model));
  absl::StrAppendFormat(&text, "draft     %s\n",
                        report.draft ? ModelLine(*report.draft) : report.draft_name);
  if (report.draft_is_retokenized) text += "          " + RetokenizedText(true);
  absl::StrAppendFormat(&text, "prompts   %d (%s), up to %d new tokens each, %s%s%s\n",
                        report.num_prompts, report.prompts_name, report.max_new_tokens,
                        Method(report.sampling),
                        report.batch > 1 ? absl::StrCat(", ", report.batch, " at a time") : "",
                        report.repeat > 1 ? absl::StrCat(", median of ", report.repeat) : "");
  absl::StrAppendFormat(&text, "floor     %.1f tokens/s plain: %s, measured now\n",
                        report.FloorTokensPerSecond(), FloorText(report));
  return text + SyntheticAcceptanceText(report.synthetic_acceptance);
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

OrderedJson RoundBytesJson(const RoundBytes& bytes) {
  return {{"weights", bytes.weights},
          {"draft_weights", bytes.draft_weights},
          {"states", bytes.states},
          {"total", bytes.total()}};
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
      {"batch_rounds", row.passes},
      {"sequences_per_round", row.SequencesPerRound()},
      {"floor_bytes_per_round", RoundBytesJson(row.round_bytes)},
  };
}

}  // namespace

DecodeStats BatchStats(const std::vector<GenerateResult>& batch) {
  DecodeStats total;
  double ttft_ms = 0;
  double decode_ms = 0;
  for (const GenerateResult& result : batch) {
    total.Add(result.stats);
    ttft_ms = std::max(ttft_ms, result.stats.ttft_ms);
    decode_ms = std::max(decode_ms, result.stats.decode_ms);
  }
  total.ttft_ms = ttft_ms;
  total.decode_ms = decode_ms;
  return total;
}

void BenchRow::AddBatch(const std::vector<GenerateResult>& batch) {
  const DecodeStats total = BatchStats(batch);
  int64_t rounds = 0;
  for (const GenerateResult& result : batch) rounds = std::max(rounds, result.stats.rounds);
  stats.Add(total);
  passes += rounds;
  tokens_per_second.push_back(total.TokensPerSecond());
}

double BenchRow::SequencesPerRound() const {
  return Ratio(static_cast<double>(stats.rounds), static_cast<double>(passes));
}

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
  return Ratio(stats.decode_ms, static_cast<double>(passes - first_rounds));
}

RoundBytes BenchReport::BytesPerRound(double sequences, double proposals) const {
  RoundBytes bytes;
  bytes.weights = static_cast<double>(model.weight_bytes);
  if (draft) bytes.draft_weights = proposals * static_cast<double>(draft->weight_bytes);
  if (!CountsStates()) return bytes;
  const bool snapshots = checkpoint_policy == CheckpointPolicy::kSnapshotPerToken;
  const double writes = checkpoint_policy == CheckpointPolicy::kWhenLogFull ? 0
                        : snapshots                                         ? 1 + proposals
                                                                            : 1;
  bytes.states = sequences * (1 + writes) * static_cast<double>(model.state_bytes);
  if (draft && proposals > 0) {
    const double draft_writes = snapshots ? proposals : writes;
    bytes.states +=
        sequences * (proposals + draft_writes) * static_cast<double>(draft->state_bytes);
  }
  return bytes;
}

double BenchReport::FloorTokensPerSecond() const {
  return batch * Ratio(read_bandwidth, BytesPerRound(batch, 0).total());
}

void SetFloor(const BenchReport& report, BenchRow& row) {
  const bool pair = row.draft_tokens != 0 && report.draft;
  row.round_bytes = report.BytesPerRound(row.SequencesPerRound(), pair ? Proposals(row) : 0);
  const double bandwidth = pair ? report.pair_read_bandwidth : report.read_bandwidth;
  row.floor_tokens_per_second = row.SequencesPerRound() * row.stats.MeanAcceptanceLength() *
                                Ratio(bandwidth, row.round_bytes.total());
}

OrderedJson BenchJson(const BenchReport& report) {
  OrderedJson results = OrderedJson::array();
  for (const BenchRow& row : report.rows) results.push_back(RowJson(report, row));
  return {
      {"results", std::move(results)},
      {"machine", report.model.device_description},
      {"threads", report.threads > 0 ? OrderedJson(report.threads) : OrderedJson(nullptr)},
      {"model", ModelJson(report.model)},
      {"draft", report.draft ? ModelJson(*report.draft) : OrderedJson(report.draft_name)},
      {"draft_is_retokenized", report.draft_is_retokenized},
      {"prompts", report.num_prompts},
      {"prompts_from", report.prompts_name},
      {"max_new_tokens", report.max_new_tokens},
      {"repeat", report.repeat},
      {"temperature", report.sampling.temperature},
      {"seed", report.sampling.seed},
      {"read_bytes_per_second", report.read_bandwidth},
      {"pair_read_bytes_per_second", report.pair_read_bandwidth},
      {"floor_tokens_per_second", report.FloorTokensPerSecond()},
      {"batch", report.batch},
      {"synthetic_acceptance", SyntheticAcceptanceJson(report.synthetic_acceptance)},
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
