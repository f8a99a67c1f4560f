// Figures of decoding as JSON and as a sentence.
#ifndef SIDEWINDER_APPS_SIDEWINDER_STATS_JSON_H_
#define SIDEWINDER_APPS_SIDEWINDER_STATS_JSON_H_

#include <cstdint>
#include <string>

#include "apps/sidewinder/output.h"
#include "sidewinder/engine.h"

namespace sidewinder::cli {

OrderedJson StatsJson(const DecodeStats& stats, const EngineMemory& memory);

// A number, or "auto".
OrderedJson DraftTokensJson(int32_t draft_tokens);

// One or two lines, each ending in a line break.
std::string StatsText(const DecodeStats& stats, FinishReason finish);

// "80 62 51 %": by position in the draft; "-" if nothing was drafted.
std::string AcceptanceByPositionText(const DecodeStats& stats);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_STATS_JSON_H_
