// Where proposals come from. A drafter is driven by the round (decoder.h):
//
//   Begin(slot)      a request joined: the tokens of its slot are the prompt
//   Draft()          every round: enqueue ops that fill draft[] and num_drafted of every active
//                    slot, at most draft_limit proposals each (none is always legal)
//   Commit()         every round, after FirstConflict: enqueue ops that forget rejected proposals
//   Fork, Release    the slot's own state, if the drafter keeps any
//
// The control block is in device memory. A drafter that reads or writes it as ordinary memory says
// so (on_host); on a GPU the round then stops for it (drafters/host_bridge.h).
//
// A drafter can never make the text wrong, only slow: what it proposes is verified. Writing one is
// described in docs/adding-a-drafter.md.
#ifndef SIDEWINDER_SPECULATIVE_DRAFTER_H_
#define SIDEWINDER_SPECULATIVE_DRAFTER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/common/execution.h"
#include "kernels/control_block.h"
#include "kernels/row_plan.h"

namespace sidewinder {

struct DrafterMemory {
  int64_t state_bytes = 0;  // per sequence
  int64_t replay_bytes = 0;
};

class Drafter {
 public:
  virtual ~Drafter() = default;

  // Whether Draft and Commit touch the control block themselves instead of enqueueing ops.
  virtual bool on_host() const { return true; }

  // Called once before anything else: `control` stays valid as long as the drafter is used.
  virtual absl::Status Attach(const ControlBlock& control) = 0;

  // `begun` is the slot in host memory, its prompt in `begun.tokens` and again in `device_tokens`.
  // Fails if the drafter has no room for a text of begun.max_tokens.
  virtual absl::Status Begin(ExecutionContext& ctx, int32_t slot, const SlotControl& begun,
                             const int32_t* device_tokens) = 0;
  // `sampling`: some active slot may have a temperature; else every slot is greedy.
  virtual void Draft(ExecutionContext& ctx, bool sampling) = 0;
  virtual void Commit(ExecutionContext& ctx) = 0;

  virtual absl::Status Fork(ExecutionContext&, int32_t /*from*/, int32_t /*to*/) {
    return absl::OkStatus();
  }
  virtual void Release(ExecutionContext&, int32_t /*slot*/) {}

  // Cost of one proposal in verifier passes, for the choice of the draft length where nothing has
  // been measured.
  virtual float CostPerProposal() const { return 0.0f; }
  // Of a drafter that consumes the text as a model does: how far it has come in each slot, in
  // device memory, and how many tokens it can see in one round and still propose. It is left behind
  // while the automatic draft length is 0.
  virtual const StateCursor* Cursors() const { return nullptr; }
  virtual int32_t MaxCatchUp() const { return 0; }
  virtual DrafterMemory Memory() const { return {}; }
  // StateStore::max_position() of a drafter with attention: a recorded round is valid as long as it
  // stays the same.
  virtual int64_t MaxPosition() const { return 0; }
};

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_DRAFTER_H_
