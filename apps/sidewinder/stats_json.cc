#include "apps/sidewinder/stats_json.h"

#include <string>

#include "absl/strings/str_format.h"

namespace sidewinder::cli {

OrderedJson StatsJson(const DecodeStats& stats, const EngineMemory& memory) {
  return {
      {"rounds", stats.rounds},
      {"drafted", stats.drafted},
      {"accepted", stats.accepted},
      {"acceptance_rate", stats.AcceptanceRate()},
      {"mean_acceptance_length", stats.MeanAcceptanceLength()},
      {"acceptance_by_position", stats.AcceptanceByPosition()},
      {"ttft_ms", stats.ttft_ms},
      {"decode_ms", stats.decode_ms},
      {"tokens_per_second", stats.TokensPerSecond()},
      {"state_bytes", memory.state_bytes},
      {"replay_bytes", memory.replay_bytes},
  };
}

OrderedJson DraftTokensJson(int32_t draft_tokens) {
  if (draft_tokens == kAutoDraftTokens) return "auto";
  return draft_tokens;
}

std::string StatsText(const DecodeStats& stats, FinishReason finish) {
  std::string text = absl::StrFormat(
      "%d tokens (%s) in %.0f ms after the first, %.1f tokens/s; first after %.0f ms, %d prompt "
      "tokens\n",
      stats.new_tokens, Name(finish), stats.decode_ms, stats.TokensPerSecond(), stats.ttft_ms,
      stats.prompt_tokens);
  if (stats.drafted == 0) return text;
  return text +
         absl::StrFormat(
             "%d of %d draft tokens accepted (%.1f %%), %.2f tokens a round in %d rounds; by "
             "position %s\n",
             stats.accepted, stats.drafted, 100 * stats.AcceptanceRate(),
             stats.MeanAcceptanceLength(), stats.rounds, AcceptanceByPositionText(stats));
}

std::string AcceptanceByPositionText(const DecodeStats& stats) {
  std::string text;
  for (const double rate : stats.AcceptanceByPosition()) {
    absl::StrAppendFormat(&text, "%.0f ", 100 * rate);
  }
  return text.empty() ? "-" : text + "%";
}

}  // namespace sidewinder::cli
