#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/common/logits_simd.h"
#include "kernels/common/philox.h"
#include "kernels/round_rules.h"
#include "kernels/sampling.h"

namespace sidewinder {
namespace {

// Zeroes everything below the k-th largest value.
void KeepTopK(std::vector<float>& scratch, int32_t k, float* probs, int32_t n) {
  if (k <= 0 || k >= n) return;
  scratch.assign(probs, probs + n);
  std::nth_element(scratch.begin(), scratch.begin() + (k - 1), scratch.end(), std::greater<>());
  const float threshold = scratch[k - 1];
  for (int32_t i = 0; i < n; ++i) {
    if (probs[i] < threshold) probs[i] = 0.0f;
  }
}

// Zeroes all but the smallest set of largest values that holds `top_p` of the sum. Of equal values
// the lower ids are kept.
void KeepTopP(float top_p, float* probs, int32_t n) {
  if (top_p >= 1.0f) return;
  double sum = 0.0;
  std::vector<int32_t> heap;
  for (int32_t i = 0; i < n; ++i) {
    sum += probs[i];
    if (probs[i] > 0.0f) heap.push_back(i);
  }
  const auto less_likely = [probs](int32_t a, int32_t b) {
    return probs[a] != probs[b] ? probs[a] < probs[b] : a > b;
  };
  std::make_heap(heap.begin(), heap.end(), less_likely);
  double mass = 0.0;
  while (!heap.empty() && mass < top_p * sum) {
    mass += probs[heap.front()];
    std::pop_heap(heap.begin(), heap.end(), less_likely);
    heap.pop_back();
  }
  for (const int32_t i : heap) probs[i] = 0.0f;
}

// Index drawn from n weights by inverse transform; the last positive one if rounding runs past it.
int32_t DrawFrom(const float* weights, int32_t n, float uniform) {
  double sum = 0.0;
  for (int32_t i = 0; i < n; ++i) sum += weights[i];
  const double target = uniform * sum;
  double mass = 0.0;
  int32_t last = 0;
  for (int32_t i = 0; i < n; ++i) {
    if (weights[i] <= 0.0f) continue;
    last = i;
    mass += weights[i];
    if (mass > target) break;
  }
  return last;
}

// The Gumbel-max draw as an exponential race: argmin of E_i / p_i with E_i = -log(u_i), the noise a
// function of position and token alone.
int32_t DrawCoupled(const SlotControl& slot, const float* probs, int32_t n, int32_t position) {
  int32_t winner = 0;
  double best = std::numeric_limits<double>::infinity();
  for (int32_t i = 0; i < n; ++i) {
    if (probs[i] <= 0.0f) continue;
    const double arrival =
        -std::log(static_cast<double>(RandomFor(slot, position, RandomPurpose::kGumbel, i))) /
        probs[i];
    if (arrival < best) {
      best = arrival;
      winner = i;
    }
  }
  return winner;
}

// Judges one slot's proposals. Returns how many are correct and the verifier's own token behind
// them.
class Judge {
 public:
  Judge(const ControlBlock& control, int32_t slot_idx, const float* logits)
      : control_(control), slot_(control.slots[slot_idx]), slot_idx_(slot_idx), logits_(logits) {
    if (slot_.temperature > 0.0f) probs_.resize(control.vocab_size);
  }

  struct Verdict {
    int32_t accepted;
    int32_t next;
  };

  Verdict Run() {
    for (int32_t j = 0; j < slot_.num_drafted; ++j) {
      int32_t next;
      if (!Accepts(j, &next)) return {j, next};
    }
    return {slot_.num_drafted, OwnToken(slot_.num_drafted)};
  }

 private:
  const float* Row(int32_t j) const {
    return logits_ + static_cast<int64_t>(j) * control_.vocab_size;
  }

  // The verifier's token at draft position j, were nothing proposed.
  int32_t OwnToken(int32_t j) {
    if (slot_.temperature <= 0.0f) return ArgMax(Row(j), control_.vocab_limit);
    SamplingDistribution(slot_, Row(j), control_.vocab_size, control_.vocab_limit, probs_.data());
    const int32_t position = slot_.num_tokens + j;
    if (slot_.coupled) return DrawCoupled(slot_, probs_.data(), control_.vocab_limit, position);
    return DrawFrom(probs_.data(), control_.vocab_limit,
                    RandomFor(slot_, position, RandomPurpose::kSample));
  }

  bool Accepts(int32_t j, int32_t* correction) {
    const int32_t proposal = slot_.draft[j];
    if (AcceptsByLot(slot_)) {
      if (SyntheticAccepts(slot_, j)) return true;
      *correction = OwnToken(j);
      return false;
    }
    if (slot_.temperature <= 0.0f || slot_.coupled) {
      *correction = OwnToken(j);
      return *correction == proposal;
    }
    SamplingDistribution(slot_, Row(j), control_.vocab_size, control_.vocab_limit, probs_.data());
    const int32_t position = slot_.num_tokens + j;
    const float* draft =
        slot_.draft_is_sampled
            ? control_.draft_probs +
                  (static_cast<int64_t>(slot_idx_) * control_.max_draft + j) * control_.vocab_size
            : nullptr;
    const float q = draft != nullptr ? draft[proposal] : 1.0f;
    if (RandomFor(slot_, position, RandomPurpose::kAccept) * q < probs_[proposal]) return true;
    double residual = 0.0;
    for (int32_t i = 0; i < control_.vocab_limit; ++i) {
      const float drafted = draft != nullptr ? draft[i] : (i == proposal ? 1.0f : 0.0f);
      probs_[i] = std::max(0.0f, probs_[i] - drafted);
      residual += probs_[i];
    }
    // p and q equal up to rounding: rejection has probability zero, and p itself is as good.
    if (residual <= 0.0) {
      SamplingDistribution(slot_, Row(j), control_.vocab_size, control_.vocab_limit, probs_.data());
    }
    *correction = DrawFrom(probs_.data(), control_.vocab_limit,
                           RandomFor(slot_, position, RandomPurpose::kSample));
    return false;
  }

  const ControlBlock& control_;
  const SlotControl& slot_;
  int32_t slot_idx_;
  const float* logits_;
  std::vector<float> probs_;
};

}  // namespace

void SamplingDistribution(const SlotControl& slot, const float* logits, int32_t vocab_size,
                          int32_t vocab_limit, float* probs) {
  const float max = logits[ArgMax(logits, vocab_limit)];
  ExpShifted(logits, vocab_limit, max, 1.0f / slot.temperature, probs);
  std::fill(probs + vocab_limit, probs + vocab_size, 0.0f);
  std::vector<float> scratch;
  KeepTopK(scratch, slot.top_k, probs, vocab_limit);
  KeepTopP(slot.top_p, probs, vocab_limit);
  double sum = 0.0;
  for (int32_t i = 0; i < vocab_limit; ++i) {
    if (probs[i] < slot.min_p) probs[i] = 0.0f;  // the most likely token has exp(0) = 1
    sum += probs[i];
  }
  const float scale = static_cast<float>(1.0 / sum);
  for (int32_t i = 0; i < vocab_limit; ++i) probs[i] *= scale;
}

void DraftSampleCpu(ExecutionContext& ctx, const DraftSampleParams& params) {
  const ControlBlock& control = params.control;
  std::vector<int32_t> wanting;  // sequences with logits, in order
  for (int32_t s = 0, l = 0; s < *params.plan.num_sequences && l < *params.plan.num_logit_rows;
       ++s) {
    const SequenceRows& sequence = params.plan.sequences[s];
    if (params.plan.logit_rows[l] != sequence.first_row + sequence.num_rows - 1) continue;
    wanting.push_back(sequence.slot);
    ++l;
  }
  ctx.pool->ParallelFor(
      static_cast<int64_t>(wanting.size()), 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t l = begin; l < end; ++l) {
          SlotControl& slot = control.slots[wanting[l]];
          const float* logits = params.logits + l * params.logits_stride;
          int32_t& proposal = slot.draft[params.step];
          if (slot.temperature <= 0.0f) {
            proposal = ArgMax(logits, control.vocab_limit);
          } else {
            float* probs = control.draft_probs +
                           (static_cast<int64_t>(wanting[l]) * control.max_draft + params.step) *
                               control.vocab_size;
            SamplingDistribution(slot, logits, control.vocab_size, control.vocab_limit, probs);
            const int32_t position = slot.num_tokens + params.step;
            proposal = slot.coupled ? DrawCoupled(slot, probs, control.vocab_limit, position)
                                    : DrawFrom(probs, control.vocab_limit,
                                               RandomFor(slot, position, RandomPurpose::kDraft));
            slot.draft_is_sampled = 1;
          }
          slot.num_drafted = params.step + 1;
        }
      });
}

void FirstConflictCpu(ExecutionContext& ctx, const FirstConflictParams& params) {
  ctx.pool->ParallelFor(*params.plan.num_sequences, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t s = begin; s < end; ++s) {
      const SequenceRows& sequence = params.plan.sequences[s];
      SlotControl& slot = params.control.slots[sequence.slot];
      const float* logits =
          params.logits + static_cast<int64_t>(sequence.first_row) * params.control.vocab_size;
      const Judge::Verdict verdict = Judge(params.control, sequence.slot, logits).Run();
      CommitTokens(slot, verdict.accepted, verdict.next);
      CountRound(slot);
    }
  });
}

}  // namespace sidewinder
