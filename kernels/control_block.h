// The control block: everything a decoding round decides or depends on, one entry a slot, in device
// memory. The host writes the first part when a request joins, the ops of the round write the rest;
// nothing is read back while rounds run.
//
// Invariants between rounds, for an active slot:
//   tokens[0, num_tokens) are committed: the prompt and the text so far.
//   The verifier has consumed exactly num_tokens - 1 of them: the last one, the *pending* token, is
//   the first row of the next round.
//   The draft model has consumed at most num_tokens - 1.
#ifndef SIDEWINDER_KERNELS_CONTROL_BLOCK_H_
#define SIDEWINDER_KERNELS_CONTROL_BLOCK_H_

#include <cstdint>

namespace sidewinder {

inline constexpr int kMaxDraft{15};           // proposals a round: K + 1 rows fill a 16-row tile
inline constexpr int kMaxStopTokenCount{16};  // stop tokens of a slot
inline constexpr int kAutoDraft{-1};          // draft_tokens: chosen by the round

enum class SlotFinish : int32_t { kRunning, kStop, kLength };

struct SlotControl {
  // Written by the host when a request joins.
  int32_t* tokens;       // [max_tokens]
  int32_t max_tokens;    // the text ends when num_tokens reaches this
  int32_t draft_tokens;  // K of this slot, or kAutoDraft
  int32_t num_stop_tokens;
  int32_t stop_tokens[kMaxStopTokenCount];
  float temperature;  // 0: greedy
  int32_t top_k;      // 0: off
  float top_p;        // 1: off
  float min_p;        // 0: off
  uint64_t seed;
  uint32_t sequence;  // keys the random numbers together with the seed
  int32_t coupled;    // 1: coupled acceptance, 0: rejection sampling
  // For benchmarks with random weights: the probability with which the proposal at each position is
  // accepted, by lot, if those ahead of it were. The first one negative, as whoever fills the slot
  // must set it: off, proposals are judged.
  float synthetic_acceptance[kMaxDraft];

  // State of the text.
  int32_t active;  // takes part in rounds
  SlotFinish finish;
  int32_t num_tokens;

  // This round.
  int32_t round_start;   // num_tokens when the round began
  int32_t draft_limit;   // proposals wanted, <= K and small enough for max_tokens
  int32_t num_drafted;   // proposals made, <= draft_limit
  int32_t num_accepted;  // proposals that were committed
  int32_t draft[kMaxDraft];
  int32_t draft_is_sampled;  // proposals were drawn from draft_probs; 0: they are certain

  // What kAutoDraft knows of the slot (draft_length.h): proposals at a position whose predecessors
  // of the round were all accepted, and of them those that were accepted, old ones counting less.
  float reached[kMaxDraft];
  float accepted_of_reached[kMaxDraft];
  int32_t probe_interval;  // plain rounds from one probe to the next
  int32_t plain_rounds;    // since the last round with proposals
  int32_t probing;         // 1: wants proposals until the drafter has seen enough to make some
  float probe_allowance;   // time that probes may cost, in plain rounds

  // Since the request joined.
  int32_t rounds;
  int32_t drafted;
  int32_t accepted;
  int32_t drafted_at[kMaxDraft];
  int32_t accepted_at[kMaxDraft];
};

// What a round takes when `num_slots` slots are active, in microseconds.
struct RoundCosts {
  int32_t num_slots;
  float round_us[kMaxDraft + 1];  // every slot with so many proposals
  float row_us[kMaxDraft + 1];    // one proposal less of one slot saves so much, of so many
  float catch_up_us;              // one pass of the drafter over tokens it has not seen
};

inline constexpr int kMaxCostTables{8};

// What kAutoDraft decides by, in device memory.
struct DraftControl {
  RoundCosts costs[kMaxCostTables];  // by ascending num_slots
  int32_t num_costs;                 // at least 1
  // Of all requests, as the slots' own counts of these names.
  int32_t reached[kMaxDraft];
  int32_t accepted_of_reached[kMaxDraft];
  int32_t rounds;
};

struct ControlBlock {
  SlotControl* slots;      // [num_slots]
  float* draft_probs;      // [num_slots, max_draft, vocab] distributions the proposals were drawn
                           // from; may be null if nothing is sampled
  DraftControl* drafting;  // may be null if no slot has kAutoDraft
  int32_t num_slots;
  int32_t max_draft;    // largest K of any slot, <= kMaxDraft
  int32_t vocab_size;   // columns of logits and draft_probs
  int32_t vocab_limit;  // ids >= this are padding and are never produced
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_CONTROL_BLOCK_H_
