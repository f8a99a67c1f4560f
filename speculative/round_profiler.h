// Where the time of rounds goes: waits for the device behind every phase and looks at the clock.
// Fills the RoundProfile of an engine whose options ask for it.
#ifndef SIDEWINDER_SPECULATIVE_ROUND_PROFILER_H_
#define SIDEWINDER_SPECULATIVE_ROUND_PROFILER_H_

#include <chrono>

#include "runtime/device.h"
#include "sidewinder/engine.h"
#include "speculative/decoder.h"

namespace sidewinder {

class RoundProfiler {
 public:
  // Both must outlive the profiler; `profile` is added to.
  RoundProfiler(Stream* stream, RoundProfile* profile) : stream_(stream), profile_(profile) {}

  // Where the plan of verifying passes can be read; without it nothing is counted but time.
  void SetVerifier(const ModelRunner* verifier) { verifier_ = verifier; }

  // Call when no work is pending and a round is about to be enqueued.
  void StartRound();
  // A phase has been enqueued. Errors stay in the stream, which returns them at the round's end.
  void EndPhase(RoundPhase phase);

 private:
  void CountRows();

  Stream* stream_;
  RoundProfile* profile_;
  const ModelRunner* verifier_ = nullptr;
  std::chrono::steady_clock::time_point phase_start_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_SPECULATIVE_ROUND_PROFILER_H_
