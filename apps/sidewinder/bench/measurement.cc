#include "apps/sidewinder/bench/measurement.h"

#include <algorithm>

namespace sidewinder::cli {
namespace {

template <class TimingOf>
std::vector<Repeats> Timings(absl::Span<const BatchSeries> series, const TimingOf& timing) {
  std::vector<Repeats> all;
  for (const BatchSeries& batch : series) {
    Repeats& repeats = all.emplace_back();
    for (const BatchRun& run : batch.repeats) repeats.push_back(timing(run));
  }
  return all;
}

void Append(const std::vector<double>& from, std::vector<double>& to) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

BatchRun BatchRun::Of(absl::Span<const GenerateResult> batch) {
  BatchRun run;
  double ttft_ms = 0;
  double decode_ms = 0;
  for (const GenerateResult& result : batch) {
    const DecodeStats& stats = result.stats;
    run.stats.Add(stats);
    run.rounds = std::max(run.rounds, stats.rounds);
    ttft_ms = std::max(ttft_ms, stats.ttft_ms);
    decode_ms = std::max(decode_ms, stats.decode_ms);
    run.ttft_ms.push_back(stats.ttft_ms);
    const int64_t later = stats.new_tokens - stats.first_round_tokens;
    if (later > 0) run.ms_per_token.push_back(stats.decode_ms / static_cast<double>(later));
  }
  run.stats.ttft_ms = ttft_ms;
  run.stats.decode_ms = decode_ms;
  return run;
}

Timing BatchRun::timing() const {
  return {static_cast<double>(stats.new_tokens - stats.first_round_tokens), stats.decode_ms};
}

Timing BatchRun::end_to_end_timing() const {
  return {static_cast<double>(stats.new_tokens), stats.ttft_ms + stats.decode_ms};
}

BatchRun BatchSeries::median() const {
  std::vector<const BatchRun*> runs;
  for (const BatchRun& run : repeats) runs.push_back(&run);
  std::sort(runs.begin(), runs.end(), [](const BatchRun* a, const BatchRun* b) {
    return a->stats.decode_ms < b->stats.decode_ms;
  });
  const BatchRun& low = *runs[(runs.size() - 1) / 2];
  const BatchRun& high = *runs[runs.size() / 2];
  BatchRun median = low;  // counts are the same in all repeats
  median.stats.ttft_ms = (low.stats.ttft_ms + high.stats.ttft_ms) / 2;
  median.stats.decode_ms = (low.stats.decode_ms + high.stats.decode_ms) / 2;
  return median;
}

double Measurement::EndToEndTokensPerSecond() const {
  return Ratio(static_cast<double>(stats.new_tokens) * 1e3, stats.ttft_ms + stats.decode_ms);
}

double Measurement::TokensPerRound() const {
  return Ratio(static_cast<double>(stats.new_tokens), static_cast<double>(stats.rounds));
}

double Measurement::ProposalsPerRound() const {
  return Ratio(static_cast<double>(stats.drafted), static_cast<double>(stats.rounds));
}

double Measurement::RequestsPerRound() const {
  return Ratio(static_cast<double>(stats.rounds), static_cast<double>(rounds));
}

double Measurement::MsPerRound() const {
  return Ratio(stats.decode_ms, static_cast<double>(rounds - batches));
}

Measurement Measure(absl::Span<const BatchSeries> series, absl::Span<const BatchSeries> plain) {
  Measurement result;
  std::vector<double> spreads;
  for (const BatchSeries& batch : series) {
    const BatchRun run = batch.median();
    result.stats.Add(run.stats);
    result.rounds += run.rounds;
    ++result.batches;
    result.tokens_per_second.push_back(run.stats.TokensPerSecond());
    Append(run.ttft_ms, result.ttft_ms);
    Append(run.ms_per_token, result.ms_per_token);
  }
  const auto decode = [](const BatchRun& run) { return run.timing(); };
  const auto whole = [](const BatchRun& run) { return run.end_to_end_timing(); };
  const std::vector<Repeats> timings = Timings(series, decode);
  spreads.reserve(timings.size());
  for (const Repeats& repeats : timings) spreads.push_back(Spread(repeats));
  result.repeat_spread = Median(std::move(spreads));
  if (series.data() == plain.data()) return result;
  const std::vector<Repeats> plain_timings = Timings(plain, decode);
  result.speedup = SpeedUp(timings, plain_timings);
  result.speedup_interval = SpeedUpInterval(timings, plain_timings);
  result.end_to_end_speedup = SpeedUp(Timings(series, whole), Timings(plain, whole));
  return result;
}

std::vector<BatchSeries> OfCategory(absl::Span<const BatchSeries> series,
                                    const std::string& category) {
  std::vector<BatchSeries> chosen;
  for (const BatchSeries& batch : series) {
    if (batch.category == category) chosen.push_back(batch);
  }
  return chosen;
}

}  // namespace sidewinder::cli
