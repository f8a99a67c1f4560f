// Sampling and verification on a GPU. Greedy tokens and lots are the CPU's exactly; distributions
// are the CPU's up to roundings; draws follow them and depend on seed, sequence and position alone.
#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/common/thread_pool.h"
#include "kernels/plan_rows.h"
#include "tests/testing/chi_square.h"
#include "tests/testing/cuda_backend.h"
#include "tests/testing/random_values.h"
#include "tests/testing/round_state.h"
#include "tests/testing/tolerance.h"

namespace sidewinder {
namespace {

using testing::ChiSquareSigmas;
using testing::DeviceRound;
using testing::ExpectSameRound;
using testing::kChiSquareSigmas;
using testing::RandomRound;
using testing::RandomValues;
using testing::RoundShape;
using testing::RoundState;
using testing::SameSlot;

// Exponential and its argument, as in tolerance.h but for two implementations: 4 u and 2 u. The sum
// of weights is off by as much, and by what fixed point cuts off: less than 2^-42 of at least 1 a
// token. Reciprocal, its rounding to float32 and the product, twice.
constexpr double DistributionRoundings(int64_t vocab) {
  return 2 * (4 + 2) + 2 * 3 + static_cast<double>(vocab) * 0x1p-18;
}

constexpr CheckpointRule kRule{.every_round = 1, .stride = 1, .log_rows = 24, .max_rows = 16};

class SamplingCudaTest : public testing::CudaTest {
 protected:
  ExecutionContext& cpu() { return cpu_; }

  // The plan that verifies every proposal of the state.
  void PlanVerify(RoundState& state) {
    PlanVerifyRowsCpu(cpu_, {.control = state.control(),
                             .cursors = state.cursors.data(),
                             .rule = kRule,
                             .plan = state.plan()});
  }

  // FirstConflict on the GPU.
  RoundState Judged(const RoundState& state, const std::vector<float>& logits, bool sampling,
                    bool misalign = false) {
    const DeviceRound on_device(stream(), device(), state);
    const auto device_logits = Upload(logits, misalign);
    FirstConflict(ctx(), {.control = on_device.control(),
                          .plan = on_device.plan(),
                          .logits = device_logits.data(),
                          .sampling = sampling});
    return on_device.Download();
  }
  void JudgeOnCpu(RoundState& state, const std::vector<float>& logits) {
    FirstConflictCpu(cpu_,
                     {.control = state.control(), .plan = state.plan(), .logits = logits.data()});
  }

 private:
  ThreadPool pool_{1};
  ExecutionContext cpu_{.pool = &pool_};
};

// Logits of the rows of a plan; the padding is larger than anything else. Proposals that are right
// are as likely as those that are wrong.
std::vector<float> LogitsFor(RoundState& state, uint32_t seed, float spread) {
  const RoundShape& shape = state.shape;
  std::vector<float> logits =
      RandomValues(int64_t{std::max(1, state.counts[0])} * shape.vocab_size, seed, -spread, spread);
  std::mt19937 generator(seed + 1);
  for (int32_t r = 0; r < state.counts[0]; ++r) {
    float* row = logits.data() + int64_t{r} * shape.vocab_size;
    std::fill(row + shape.vocab_limit, row + shape.vocab_size, 1e30f);
    if (generator() % 4 == 0) {  // equals among the largest
      for (int k = 0; k < 3; ++k) row[generator() % shape.vocab_limit] = spread;
    }
    if (generator() % 8 == 0) row[generator() % shape.vocab_limit] = NAN;
    if (generator() % 8 == 0) row[generator() % shape.vocab_limit] = -INFINITY;
    if (generator() % 16 == 0) {  // zeros of both signs
      for (int32_t i = 0; i < shape.vocab_limit; ++i) row[i] = generator() % 2 ? 0.0f : -0.0f;
    }
  }
  for (int32_t s = 0; s < state.counts[1]; ++s) {
    const SequenceRows& sequence = state.sequences[s];
    for (int32_t j = 0; j + 1 < sequence.num_rows; ++j) {
      if (generator() % 3 == 0) continue;
      const float* row = logits.data() + int64_t{sequence.first_row + j} * shape.vocab_size;
      int32_t best = 0;
      for (int32_t i = 0; i < shape.vocab_limit; ++i) {
        if (!(row[best] >= row[i]) && !std::isnan(row[i])) best = i;
      }
      state.slots[sequence.slot].draft[j] = best;
    }
  }
  return logits;
}

struct GreedyCase {
  int32_t num_slots, vocab_size, vocab_limit;
  bool misalign;
};
constexpr GreedyCase kGreedyCases[] = {{1, 1, 1, false},        {1, 50280, 50277, false},
                                       {1, 50280, 50280, true}, {2, 131072, 131072, false},
                                       {3, 7, 5, false},        {5, 50281, 50277, false},
                                       {33, 1031, 1024, false}, {33, 4096, 4093, true},
                                       {300, 64, 61, false},    {1024, 32, 31, false}};

TEST_F(SamplingCudaTest, GreedyVerdictsAreTheCpus) {
  for (const GreedyCase& c : kGreedyCases) {
    SCOPED_TRACE("slots " + std::to_string(c.num_slots) + " vocab " + std::to_string(c.vocab_size));
    const RoundShape shape = {
        .num_slots = c.num_slots, .vocab_size = c.vocab_size, .vocab_limit = c.vocab_limit};
    for (uint32_t seed = 0; seed < 3; ++seed) {
      RoundState state = RandomRound(shape, seed + 10, 0);
      for (SlotControl& slot : state.slots) {
        if (seed == 2) {
          for (int32_t j = 0; j < kMaxDraft; ++j) {
            slot.synthetic_acceptance[j] = static_cast<float>((slot.rounds + j) % 5) / 4;
          }
        }
      }
      PlanVerify(state);
      const std::vector<float> logits = LogitsFor(state, seed + 20, 5);
      const RoundState greedy = Judged(state, logits, false, c.misalign);
      const RoundState sampling = Judged(state, logits, true, c.misalign);
      JudgeOnCpu(state, logits);
      ExpectSameRound(greedy, state);
      ExpectSameRound(sampling, state);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(SamplingCudaTest, GreedyProposalsAreTheCpus) {
  for (const GreedyCase& c : kGreedyCases) {
    SCOPED_TRACE("slots " + std::to_string(c.num_slots) + " vocab " + std::to_string(c.vocab_size));
    // The rows of the draft model's head may be longer than the verifier's.
    const int32_t stride = c.vocab_size + (c.misalign ? 3 : 4);
    for (const int32_t step : {0, 2}) {
      RoundState state = RandomRound(
          {.num_slots = c.num_slots, .vocab_size = c.vocab_size, .vocab_limit = c.vocab_limit},
          step + 30, 12);
      // Step 0: some sequences only catch up and have no logits.
      PlanDraftRowsCpu(cpu(),
                       {.control = state.control(),
                        .cursors = state.cursors.data(),
                        .rule = kRule,
                        .plan = state.plan()},
                       step, 8);
      const std::vector<float> logits = RandomValues(int64_t{c.num_slots} * stride, step + 40);
      const DeviceRound greedy(stream(), device(), state), sampling(stream(), device(), state);
      const auto device_logits = Upload(logits, c.misalign);
      const auto run = [&](ExecutionContext& ctx, const ControlBlock& control, const RowPlan& plan,
                           const float* from, bool sampling_launches) {
        DraftSample(ctx, {.control = control,
                          .plan = plan,
                          .logits = from,
                          .logits_stride = stride,
                          .step = step,
                          .sampling = sampling_launches});
      };
      run(ctx(), greedy.control(), greedy.plan(), device_logits.data(), false);
      run(ctx(), sampling.control(), sampling.plan(), device_logits.data(), true);
      run(cpu(), state.control(), state.plan(), logits.data(), false);
      ExpectSameRound(greedy.Download(), state);
      ExpectSameRound(sampling.Download(), state);
      if (HasFatalFailure()) return;
    }
  }
}

struct Filters {
  float temperature;
  int32_t top_k;
  float top_p, min_p;
};
constexpr Filters kFilters[] = {
    {1.0f, 0, 1.0f, 0.0f},  {0.7f, 0, 1.0f, 0.0f},   {1.0f, 1, 1.0f, 0.0f},
    {1.0f, 5, 1.0f, 0.0f},  {1.3f, 50, 1.0f, 0.0f},  {1.0f, 1 << 20, 1.0f, 0.0f},
    {1.0f, 0, 0.5f, 0.0f},  {0.8f, 0, 0.95f, 0.0f},  {1.0f, 0, 1e-6f, 0.0f},
    {1.0f, 0, 1.0f, 0.1f},  {1.0f, 0, 1.0f, 1.0f},   {1.2f, 40, 0.9f, 0.01f},
    {1e-4f, 0, 1.0f, 0.0f}, {1e-4f, 10, 0.9f, 0.1f}, {100.0f, 7, 0.5f, 0.0f}};

// A round of proposals drawn from `logits` [slots, vocab_size], one row a slot, for the slots'
// filters. Slots must be active with draft_limit > 0.
void PlanFirstStep(RoundState& state) {
  const int32_t n = state.shape.num_slots;
  state.counts = {n, n, n};
  for (int32_t i = 0; i < n; ++i) {
    state.sequences[i] = {.slot = i, .first_row = i, .num_rows = 1};
    state.logit_rows[i] = i;
  }
}

// One slot a row of filters.
RoundState FilteredRound(int32_t vocab_size, int32_t vocab_limit, int32_t max_draft) {
  RoundState state({.num_slots = static_cast<int32_t>(std::size(kFilters)),
                    .max_draft = max_draft,
                    .vocab_size = vocab_size,
                    .vocab_limit = vocab_limit,
                    .draft_probs = true});
  for (size_t i = 0; i < std::size(kFilters); ++i) {
    SlotControl& slot = state.slots[i];
    slot.temperature = kFilters[i].temperature;
    slot.top_k = kFilters[i].top_k;
    slot.top_p = kFilters[i].top_p;
    slot.min_p = kFilters[i].min_p;
    slot.active = 1;
    slot.num_tokens = 5;
    slot.draft_limit = 2;
    slot.seed = 17;
    slot.sequence = static_cast<uint32_t>(i);
  }
  return state;
}

// Whether the thresholds of a slot stand clear of the weights next to them, so that roundings
// cannot change which tokens are kept.
bool StandsClear(const SlotControl& slot, const float* logits, int32_t limit) {
  constexpr double kClear{1e-6};  // 6 u between two weights of one implementation and another
  std::vector<double> weights;
  const float max = *std::max_element(logits, logits + limit);
  for (int32_t i = 0; i < limit; ++i) {
    weights.push_back(std::exp(double{(logits[i] - max) * (1.0f / slot.temperature)}));
  }
  std::sort(weights.begin(), weights.end(), std::greater<>());
  const auto close = [&](double a, double b) { return a != b && std::abs(a - b) < kClear * a; };
  if (slot.top_k > 0 && slot.top_k < limit) {
    const double threshold = weights[slot.top_k - 1];
    for (const double weight : weights) {
      if (close(threshold, weight)) return false;
    }
    weights.erase(std::find_if(weights.begin(), weights.end(),
                               [&](double weight) { return weight < threshold; }),
                  weights.end());
  }
  if (slot.top_p < 1.0f) {
    double sum = 0.0, mass = 0.0;
    for (const double weight : weights) sum += weight;
    size_t kept = 0;
    while (kept < weights.size() && mass < slot.top_p * sum) {
      mass += weights[kept++];
      if (std::abs(mass - slot.top_p * sum) < kClear * sum) return false;
    }
    if (kept < weights.size() && close(weights[kept - 1], weights[kept])) return false;
    weights.resize(kept);
  }
  for (const double weight : weights) {
    if (std::abs(weight - slot.min_p) < kClear * weight && weight != 1.0) return false;
  }
  return true;
}

TEST_F(SamplingCudaTest, DistributionsAreTheCpus) {
  for (const auto& [vocab_size, vocab_limit, spread] :
       {std::tuple{12, 10, 4.0f}, std::tuple{1000, 1000, 8.0f}, std::tuple{1031, 1025, 8.0f},
        std::tuple{50280, 50277, 14.0f}, std::tuple{131072, 131072, 14.0f}}) {
    RoundState state = FilteredRound(vocab_size, vocab_limit, 3);
    PlanFirstStep(state);
    std::vector<float> logits;
    uint32_t seed = vocab_size;
    for (const SlotControl& slot : state.slots) {
      std::vector<float> row;
      do {
        row = RandomValues(vocab_size, ++seed, -spread, spread);
      } while (!StandsClear(slot, row.data(), vocab_limit));
      logits.insert(logits.end(), row.begin(), row.end());
    }
    const DeviceRound on_device(stream(), device(), state);
    constexpr int32_t kStep{1};
    const auto device_logits = Upload(logits);
    DraftSample(ctx(), {.control = on_device.control(),
                        .plan = on_device.plan(),
                        .logits = device_logits.data(),
                        .logits_stride = vocab_size,
                        .step = kStep});
    const RoundState drawn = on_device.Download();
    for (int32_t i = 0; i < state.shape.num_slots; ++i) {
      SCOPED_TRACE("vocab " + std::to_string(vocab_size) + " filters " + std::to_string(i));
      const float* row = logits.data() + int64_t{i} * vocab_size;
      std::vector<float> expected(vocab_size);
      SamplingDistribution(state.slots[i], row, vocab_size, vocab_limit, expected.data());
      const float* actual = drawn.draft_probs.data() + (int64_t{i} * 3 + kStep) * vocab_size;
      testing::ExpectWithin(actual, expected.data(), expected.data(), vocab_size,
                            DistributionRoundings(vocab_size), "probability");
      EXPECT_EQ(drawn.slots[i].num_drafted, kStep + 1);
      EXPECT_EQ(drawn.slots[i].draft_is_sampled, 1);
      EXPECT_GT(expected[drawn.slots[i].draft[kStep]], 0.0f);
      // Nothing beside the row of this step.
      EXPECT_EQ(actual[-1], 0.0f);
      EXPECT_EQ(actual[vocab_size], 0.0f);
    }
  }
}

// Equal logits: top_k keeps them all, top_p the lowest ids, over several tiles of the search.
TEST_F(SamplingCudaTest, TiesAreKeptByTheRules) {
  for (const int32_t vocab : {4, 1024, 5000}) {
    RoundState state = FilteredRound(vocab, vocab, 1);
    PlanFirstStep(state);
    const std::vector<float> logits(int64_t{state.shape.num_slots} * vocab, 2.5f);
    const DeviceRound on_device(stream(), device(), state);
    const auto device_logits = Upload(logits);
    DraftSample(ctx(), {.control = on_device.control(),
                        .plan = on_device.plan(),
                        .logits = device_logits.data(),
                        .logits_stride = vocab});
    const RoundState drawn = on_device.Download();
    for (int32_t i = 0; i < state.shape.num_slots; ++i) {
      SCOPED_TRACE("vocab " + std::to_string(vocab) + " filters " + std::to_string(i));
      std::vector<float> expected(vocab);
      SamplingDistribution(state.slots[i], logits.data(), vocab, vocab, expected.data());
      const float* actual = drawn.draft_probs.data() + int64_t{i} * vocab;
      ASSERT_EQ(std::vector<float>(actual, actual + vocab), expected);
    }
  }
}

// Rows without a usable number still give some token.
TEST_F(SamplingCudaTest, SurvivesLogitsThatAreNoNumbers) {
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    RoundState state = FilteredRound(100, 90, kMaxDraft);
    for (SlotControl& slot : state.slots) {
      slot.num_drafted = 2;
      slot.coupled = slot.sequence % 2;
    }
    PlanVerify(state);
    const RoundState judged = Judged(state, std::vector<float>(state.counts[0] * 100, value), true);
    for (int32_t i = 0; i < state.shape.num_slots; ++i) {
      const SlotControl& slot = judged.slots[i];
      ASSERT_EQ(slot.num_tokens, 5 + slot.num_accepted + 1);
      const int32_t next = judged.tokens[i * state.shape.max_tokens + slot.num_tokens - 1];
      EXPECT_TRUE(next >= 0 && next < 90) << next;
    }
  }
}

// Slots of every kind together, judged as the CPU judges them. A draw next to a boundary may come
// out differently: about one in a million, so of these hardly one.
TEST_F(SamplingCudaTest, VerdictsOfMixedSlotsAgreeWithTheCpu) {
  for (const auto& [num_slots, vocab] :
       {std::pair{1, 50280}, std::pair{7, 5003}, std::pair{256, 257}}) {
    SCOPED_TRACE("slots " + std::to_string(num_slots));
    int32_t different = 0;
    for (uint32_t seed = 0; seed < 4; ++seed) {
      RoundState state = RandomRound({.num_slots = num_slots,
                                      .max_draft = 6,
                                      .vocab_size = vocab,
                                      .vocab_limit = vocab - 2,
                                      .draft_probs = true},
                                     seed + 50, 0);
      state.draft_probs = RandomValues(static_cast<int64_t>(state.draft_probs.size()), seed, 0,
                                       2.0f / static_cast<float>(vocab));
      for (SlotControl& slot : state.slots) {
        const Filters& f = kFilters[(slot.drafted + seed) % std::size(kFilters)];
        slot.temperature = slot.drafted % 4 == 0 ? 0.0f : f.temperature;
        slot.top_k = f.top_k;
        slot.top_p = f.top_p;
        slot.min_p = f.min_p;
        slot.coupled = slot.accepted % 2;
        if (slot.accepted % 5 == 0) std::fill_n(slot.synthetic_acceptance, kMaxDraft, 0.6f);
      }
      PlanVerify(state);
      const std::vector<float> logits =
          RandomValues(int64_t{std::max(1, state.counts[0])} * vocab, seed + 60, -6, 6);
      const RoundState judged = Judged(state, logits, true);
      JudgeOnCpu(state, logits);
      for (int32_t i = 0; i < num_slots; ++i) {
        const auto text = [&](const RoundState& s) {
          const auto begin = s.tokens.begin() + int64_t{i} * s.shape.max_tokens;
          return std::vector<int32_t>(begin, begin + s.shape.max_tokens);
        };
        different += !SameSlot(judged.slots[i], state.slots[i]) || text(judged) != text(state);
      }
    }
    EXPECT_LE(different, 1);
  }
}

// A slot's verdict is the same to the bit whoever travels with it, and twice.
TEST_F(SamplingCudaTest, VerdictsDoNotDependOnTheBatch) {
  constexpr int32_t kSlots{37}, kVocab{3001};
  const auto shape_of = [](int32_t num_slots) {
    return RoundShape{.num_slots = num_slots,
                      .max_draft = 5,
                      .vocab_size = kVocab,
                      .vocab_limit = kVocab,
                      .draft_probs = true};
  };
  RoundState together = RandomRound(shape_of(kSlots), 70, 0);
  together.draft_probs =
      RandomValues(static_cast<int64_t>(together.draft_probs.size()), 71, 0, 2.0f / kVocab);
  for (SlotControl& slot : together.slots) {
    slot.temperature = slot.rounds % 3 == 0 ? 0.0f : 1.5f;
    slot.top_p = slot.rounds % 2 == 0 ? 0.9f : 1.0f;
    slot.coupled = slot.drafted % 2;
  }
  PlanVerify(together);
  const std::vector<float> logits = RandomValues(int64_t{together.counts[0]} * kVocab, 72, -6, 6);
  const RoundState judged = Judged(together, logits, true);
  ExpectSameRound(Judged(together, logits, true), judged);
  for (int32_t s = 0; s < together.counts[1]; ++s) {
    const SequenceRows& rows = together.sequences[s];
    RoundState alone(shape_of(1));
    alone.slots[0] = together.slots[rows.slot];
    const int64_t room = alone.shape.max_tokens;
    std::copy_n(together.tokens.begin() + rows.slot * room, room, alone.tokens.begin());
    const int64_t probs = static_cast<int64_t>(alone.draft_probs.size());
    std::copy_n(together.draft_probs.begin() + rows.slot * probs, probs, alone.draft_probs.begin());
    alone.cursors[0] = together.cursors[rows.slot];
    PlanVerify(alone);
    const auto first = logits.begin() + int64_t{rows.first_row} * kVocab;
    const RoundState by_itself =
        Judged(alone, std::vector<float>(first, first + int64_t{rows.num_rows} * kVocab), true);
    ASSERT_TRUE(SameSlot(by_itself.slots[0], judged.slots[rows.slot])) << "slot " << rows.slot;
    ASSERT_TRUE(std::equal(by_itself.tokens.begin(), by_itself.tokens.end(),
                           judged.tokens.begin() + rows.slot * room));
  }
}

struct DrawCase {
  const char* name;
  bool sampled;  // proposals are drawn from a distribution, or certain
  bool coupled;
  float spread;  // of the drafter's logits
};

class DrawTest : public SamplingCudaTest, public ::testing::WithParamInterface<DrawCase> {};

// Two proposals of many sequences at once, many times: the tokens at each position follow the
// verifier's distribution there.
TEST_P(DrawTest, FollowsTheVerifiersDistribution) {
  constexpr int32_t kSlots{4000}, kLaunches{50}, kVocab{12}, kRows{3};
  RoundState state({.num_slots = kSlots,
                    .max_draft = 2,
                    .max_tokens = 16,
                    .vocab_size = kVocab,
                    .vocab_limit = kVocab,
                    .draft_probs = true});
  RoundState drafting = state;
  const std::vector<float> verifier = RandomValues(kRows * kVocab, 80, -2, 2);
  const std::vector<float> drafter =
      RandomValues(2 * kVocab, 81, -GetParam().spread, GetParam().spread);
  std::vector<float> logits;
  std::vector<std::vector<float>> drafter_rows(2);
  for (int32_t i = 0; i < kSlots; ++i) {
    logits.insert(logits.end(), verifier.begin(), verifier.end());
    for (int32_t step = 0; step < 2; ++step) {
      drafter_rows[step].insert(drafter_rows[step].end(), drafter.begin() + step * kVocab,
                                drafter.begin() + (step + 1) * kVocab);
    }
  }
  const auto device_logits = Upload(logits);
  const auto first_step = Upload(drafter_rows[0]), second_step = Upload(drafter_rows[1]);

  PlanFirstStep(drafting);
  const DeviceRound draft_plan(stream(), device(), drafting);

  std::vector<std::vector<int64_t>> counts(kRows, std::vector<int64_t>(kVocab));
  for (uint32_t launch = 0; launch < kLaunches; ++launch) {
    for (int32_t i = 0; i < kSlots; ++i) {
      SlotControl& slot = state.slots[i];
      slot.active = 1;
      slot.temperature = 1.0f;
      slot.coupled = GetParam().coupled;
      slot.num_tokens = slot.round_start = 5;
      slot.draft_limit = 2;
      slot.num_drafted = GetParam().sampled ? 0 : 2;
      slot.draft[0] = 4;
      slot.draft[1] = 9;
      slot.seed = 90;
      slot.sequence = launch * kSlots + i;
      state.sequences[i] = {.slot = i, .first_row = kRows * i, .num_rows = kRows};
    }
    state.counts = {kRows * kSlots, kSlots, kRows * kSlots};
    const DeviceRound on_device(stream(), device(), state);
    for (int32_t step = 0; step < 2 && GetParam().sampled; ++step) {
      DraftSample(ctx(), {.control = on_device.control(),
                          .plan = draft_plan.plan(),
                          .logits = step == 0 ? first_step.data() : second_step.data(),
                          .logits_stride = kVocab,
                          .step = step});
    }
    FirstConflict(
        ctx(),
        {.control = on_device.control(), .plan = on_device.plan(), .logits = device_logits.data()});
    const RoundState judged = on_device.Download();
    for (int32_t i = 0; i < kSlots; ++i) {
      for (int32_t t = 5; t < judged.slots[i].num_tokens; ++t) {
        ++counts[t - 5][judged.tokens[i * judged.shape.max_tokens + t]];
      }
    }
  }
  const auto total = [&](int32_t row) {
    return std::accumulate(counts[row].begin(), counts[row].end(), int64_t{0});
  };
  EXPECT_EQ(total(0), int64_t{kSlots} * kLaunches);  // the first position is always committed
  for (int32_t row = 0; row < kRows; ++row) {
    if (total(row) < 1000) continue;
    std::vector<float> probs(kVocab);
    SamplingDistribution(state.slots[0], verifier.data() + row * kVocab, kVocab, kVocab,
                         probs.data());
    EXPECT_LT(ChiSquareSigmas(counts[row], std::vector<double>(probs.begin(), probs.end())),
              kChiSquareSigmas)
        << "position " << row;
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, DrawTest,
                         ::testing::Values(DrawCase{"Rejection", true, false, 2.0f},
                                           DrawCase{"SharpDrafter", true, false, 10.0f},
                                           DrawCase{"CertainProposals", false, false, 0.0f},
                                           DrawCase{"Coupled", true, true, 2.0f}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace sidewinder
