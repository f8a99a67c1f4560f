// Closes a round: tells the host what it did, and whether a recorded loop runs another one.
//
// The round log is memory that host and device both see (pinned, for a GPU). The device writes
// records and then the number of rounds it has published; the host reads both and writes how far
// the device may go. So a generation runs without a host round trip, and tokens still stream.
#ifndef SIDEWINDER_KERNELS_PUBLISH_ROUND_H_
#define SIDEWINDER_KERNELS_PUBLISH_ROUND_H_

#include <cstdint>

#include "kernels/common/execution.h"
#include "kernels/control_block.h"

namespace sidewinder {

// What one round did for one slot. The slot took no part if nothing was committed.
struct SlotRecord {
  int32_t round_start;   // committed tokens before the round
  int32_t num_tokens;    // and after it
  int32_t num_drafted;   // proposals that were verified
  int32_t num_accepted;  // of them, those that were committed
  SlotFinish finish;
  int32_t tokens[kMaxDraft + 1];  // the num_tokens - round_start new ones
};

struct RoundLog {
  SlotRecord* records;  // [capacity, num_slots]: round r at r % capacity
  int32_t capacity;
  int64_t* published;    // rounds whose records are there
  const int64_t* limit;  // a recorded loop ends when `published` reaches this
};

struct PublishRoundParams {
  ControlBlock control;
  RoundLog log;
  int64_t* num_published;  // [1] device memory: as log.published, not read across the bus
  uint64_t condition;      // of the loop that this op is recorded in
  bool in_loop;
};

void PublishRound(ExecutionContext& ctx, const PublishRoundParams& params);
void PublishRoundCpu(ExecutionContext& ctx, const PublishRoundParams& params);
CudaError LaunchPublishRound(CudaContext& ctx, const PublishRoundParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_PUBLISH_ROUND_H_
