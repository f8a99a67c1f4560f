#include "speculative/round_profiler.h"

#include <algorithm>
#include <vector>

#include "kernels/common/copy.h"

namespace sidewinder {
namespace {

double* TimeOf(RoundPhase phase, RoundProfile& profile) {
  switch (phase) {
    case RoundPhase::kDraft:
      return &profile.draft_ms;
    case RoundPhase::kVerify:
      return &profile.verify_ms;
    case RoundPhase::kJudge:
      return &profile.judge_ms;
    case RoundPhase::kRollBack:
      return &profile.roll_back_ms;
    case RoundPhase::kPublish:
      return &profile.publish_ms;
  }
  return nullptr;
}

}  // namespace

void RoundProfiler::StartRound() { phase_start_ = std::chrono::steady_clock::now(); }

void RoundProfiler::EndPhase(RoundPhase phase) {
  stream_->Synchronize().IgnoreError();
  const auto now = std::chrono::steady_clock::now();
  *TimeOf(phase, *profile_) +=
      std::chrono::duration<double, std::milli>(now - phase_start_).count();
  if (phase == RoundPhase::kVerify) CountRows();
  if (phase == RoundPhase::kPublish) ++profile_->rounds;
  phase_start_ = std::chrono::steady_clock::now();  // counting is not part of the round
}

void RoundProfiler::CountRows() {
  if (verifier_ == nullptr) return;
  ExecutionContext& ctx = stream_->context();
  const RowPlan plan = verifier_->plan();
  int32_t num_sequences = 0;
  CopyOut(ctx, &num_sequences, plan.num_sequences, sizeof(num_sequences));
  std::vector<SequenceRows> sequences(std::clamp(num_sequences, 0, plan.max_sequences));
  CopyOut(ctx, sequences.data(), plan.sequences, sequences.size() * sizeof(SequenceRows));
  const bool snapshots = verifier_->store().options().snapshots;
  for (const SequenceRows& sequence : sequences) {
    ++profile_->sequences;
    profile_->rows += sequence.num_rows;
    if (snapshots) {
      profile_->states_written += sequence.num_rows;
      continue;
    }
    const int32_t end = sequence.consumed + sequence.num_rows;
    profile_->replayed_rows += sequence.consumed - sequence.checkpoint;
    profile_->logged_rows += end - std::max(sequence.consumed, sequence.new_checkpoint);
    profile_->states_written += sequence.new_checkpoint != sequence.checkpoint;
  }
}

}  // namespace sidewinder
