// Sampling is exact: what is committed follows the verifier's own distribution, whatever the
// drafter proposes. Chi-square at fixed seeds, over enough draws that one per cent of misplaced
// probability fails; a test of the test shows that it would.
#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/common/philox.h"
#include "kernels/common/thread_pool.h"
#include "sidewinder/engine.h"
#include "tests/testing/chi_square.h"
#include "tests/testing/test_models.h"

namespace sidewinder {
namespace {

using testing::ChiSquareSigmas;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using testing::TestModel;

constexpr int32_t kVocab{12};
constexpr int32_t kDraws{200'000};
constexpr double kSigmas{testing::kChiSquareSigmas};

std::vector<float> Logits(uint32_t salt, float spread) {
  std::vector<float> logits(kVocab);
  for (int32_t i = 0; i < kVocab; ++i) {
    logits[i] = spread * (RandomUniform(salt, 0, 0, RandomPurpose::kSample, i) - 0.5f);
  }
  return logits;
}

// A slot, its control block and a plan of one sequence: what FirstConflict needs.
struct OneSlot {
  explicit OneSlot(int32_t num_drafted) {
    tokens.resize(64);
    slot.tokens = tokens.data();
    slot.max_tokens = 64;
    slot.temperature = 1.0f;
    slot.top_p = 1.0f;
    slot.seed = 1234;
    slot.synthetic_acceptance[0] = -1.0f;
    draft_probs.resize(kMaxDraft * kVocab);
    control = {.slots = &slot,
               .draft_probs = draft_probs.data(),
               .num_slots = 1,
               .max_draft = kMaxDraft,
               .vocab_size = kVocab,
               .vocab_limit = kVocab};
    sequence = {.slot = 0, .first_row = 0, .num_rows = num_drafted + 1};
    counts[0] = counts[2] = num_drafted + 1;
    counts[1] = 1;
    plan = {.num_rows = &counts[0],
            .num_sequences = &counts[1],
            .num_logit_rows = &counts[2],
            .tokens = nullptr,
            .sequences = &sequence,
            .logit_rows = rows,
            .max_rows = 16,
            .max_sequences = 1};
  }

  // A fresh round at position 5 of the sequence numbered `draw`.
  void Reset(uint32_t draw, int32_t num_drafted) {
    slot.active = 1;
    slot.finish = SlotFinish::kRunning;
    slot.num_tokens = slot.round_start = 5;
    slot.sequence = draw;
    slot.num_drafted = num_drafted;
  }

  std::vector<int32_t> tokens;
  std::vector<float> draft_probs;
  SlotControl slot = {};
  ControlBlock control = {};
  SequenceRows sequence = {};
  RowPlan plan = {};
  int32_t counts[3] = {};
  int32_t rows[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
};

struct DraftCase {
  const char* name;
  bool sampled;   // drawn from a distribution, or certain
  uint32_t salt;  // of the drafter's logits
  float spread;
};

class RejectionTest : public ::testing::TestWithParam<DraftCase> {};

// Two proposals: the first token must follow p1; the second, given the first proposal was accepted,
// p2; behind a rejected first there is none.
TEST_P(RejectionTest, CommitsTheVerifiersDistribution) {
  ThreadPool pool(1);
  ExecutionContext ctx{.pool = &pool};
  const std::vector<std::vector<float>> verifier = {Logits(1, 4.0f), Logits(2, 3.0f),
                                                    Logits(3, 5.0f)};
  std::vector<float> logits;
  for (const auto& row : verifier) logits.insert(logits.end(), row.begin(), row.end());

  OneSlot one(2);
  const std::vector<std::vector<float>> draft = {Logits(GetParam().salt, GetParam().spread),
                                                 Logits(GetParam().salt + 1, GetParam().spread)};
  std::vector<std::vector<int64_t>> counts(3, std::vector<int64_t>(kVocab));
  for (uint32_t draw = 0; draw < kDraws; ++draw) {
    one.Reset(draw, 0);
    for (int32_t step = 0; step < 2; ++step) {
      if (GetParam().sampled) {
        int32_t draft_counts[3] = {1, 1, 1};
        SequenceRows sequence{.slot = 0, .first_row = 0, .num_rows = 1};
        RowPlan plan = one.plan;
        plan.num_rows = &draft_counts[0];
        plan.num_sequences = &draft_counts[1];
        plan.num_logit_rows = &draft_counts[2];
        plan.sequences = &sequence;
        DraftSample(ctx, {.control = one.control,
                          .plan = plan,
                          .logits = draft[step].data(),
                          .logits_stride = kVocab,
                          .step = step});
      } else {
        one.slot.draft[step] = static_cast<int32_t>((GetParam().salt + step) % kVocab);
        one.slot.draft_is_sampled = 0;
        one.slot.num_drafted = step + 1;
      }
    }
    FirstConflict(ctx, {.control = one.control, .plan = one.plan, .logits = logits.data()});
    for (int32_t i = 5; i < one.slot.num_tokens; ++i) ++counts[i - 5][one.tokens[i]];
  }
  for (int32_t position = 0; position < 3; ++position) {
    std::vector<float> probs(kVocab);
    SamplingDistribution(one.slot, verifier[position].data(), kVocab, kVocab, probs.data());
    if (std::accumulate(counts[position].begin(), counts[position].end(), int64_t{0}) < 1000)
      continue;
    EXPECT_LT(ChiSquareSigmas(counts[position], std::vector<double>(probs.begin(), probs.end())),
              kSigmas)
        << "position " << position;
  }
  // The first position is committed in every round.
  EXPECT_EQ(std::accumulate(counts[0].begin(), counts[0].end(), int64_t{0}), kDraws);
}

INSTANTIATE_TEST_SUITE_P(
    Drafters, RejectionTest,
    ::testing::Values(DraftCase{"SameShape", true, 1, 4.0f}, DraftCase{"Different", true, 7, 4.0f},
                      DraftCase{"Sharp", true, 9, 30.0f}, DraftCase{"Flat", true, 11, 0.0f},
                      DraftCase{"Certain0", false, 0, 0.0f}, DraftCase{"Certain5", false, 5, 0.0f},
                      DraftCase{"Certain9", false, 9, 0.0f}),
    [](const auto& info) { return info.param.name; });

// The statistic fails when one per cent of the probability is in the wrong place.
TEST(ChiSquareTest, NoticesOnePerCentOfBias) {
  OneSlot one(0);
  std::vector<float> probs(kVocab);
  SamplingDistribution(one.slot, Logits(1, 4.0f).data(), kVocab, kVocab, probs.data());
  const std::vector<double> exact(probs.begin(), probs.end());
  std::vector<double> biased = exact;
  const size_t from = std::max_element(biased.begin(), biased.end()) - biased.begin();
  biased[from] -= 0.01;
  biased[(from + 1) % kVocab] += 0.01;
  std::vector<int64_t> counts(kVocab);
  for (uint32_t draw = 0; draw < kDraws; ++draw) {
    double mass = 0.0;
    const double u = RandomUniform(5, draw, 0, RandomPurpose::kSample);
    int32_t token = -1;
    while (mass <= u && token + 1 < kVocab) mass += biased[++token];
    ++counts[token];
  }
  EXPECT_GT(ChiSquareSigmas(counts, exact), kSigmas);
  EXPECT_LT(ChiSquareSigmas(counts, biased), kSigmas);
}

// By lot: each proposal is accepted with the given probability, whatever it is, and behind the
// first one that is not stands the verifier's own token.
TEST(SyntheticAcceptanceTest, CountsFollowTheProbability) {
  ThreadPool pool(1);
  ExecutionContext ctx{.pool = &pool};
  constexpr int32_t kDrafted{3};
  constexpr int32_t kRounds{20'000};
  std::vector<float> logits((kDrafted + 1) * kVocab);
  for (int32_t j = 0; j <= kDrafted; ++j) logits[j * kVocab + 7] = 1.0f;  // the verifier says 7
  for (const float temperature : {0.0f, 0.01f}) {
    for (const float p : {0.0f, 0.3f, 0.8f, 1.0f}) {
      OneSlot one(kDrafted);
      one.slot.temperature = temperature;
      std::fill_n(one.slot.synthetic_acceptance, kMaxDraft, p);
      std::vector<int64_t> counts(kDrafted + 1);
      for (uint32_t round = 0; round < kRounds; ++round) {
        one.Reset(round, kDrafted);
        for (int32_t j = 0; j < kDrafted; ++j) one.slot.draft[j] = j;
        FirstConflict(ctx, {.control = one.control, .plan = one.plan, .logits = logits.data()});
        ASSERT_EQ(one.slot.num_tokens, 5 + one.slot.num_accepted + 1);
        for (int32_t j = 0; j < one.slot.num_accepted; ++j) ASSERT_EQ(one.tokens[5 + j], j);
        ASSERT_EQ(one.tokens[5 + one.slot.num_accepted], 7);
        ++counts[one.slot.num_accepted];
      }
      if (p == 0.0f || p == 1.0f) {
        EXPECT_EQ(counts[p == 0.0f ? 0 : kDrafted], kRounds);
        continue;
      }
      std::vector<double> probs;
      for (int32_t j = 0; j < kDrafted; ++j) probs.push_back(std::pow(double{p}, j) * (1.0 - p));
      probs.push_back(std::pow(double{p}, kDrafted));
      EXPECT_LT(ChiSquareSigmas(counts, probs), kSigmas) << p;
    }
  }
}

TEST(SamplingDistributionTest, FiltersInOrder) {
  SlotControl slot = {};
  slot.temperature = 1.0f;
  slot.top_p = 1.0f;
  // Probabilities 0.4, 0.3, 0.2, 0.1 at shuffled ids; the last two ids are padding.
  const std::vector<float> p = {0.2f, 0.4f, 0.1f, 0.3f};
  std::vector<float> logits;
  for (const float value : p) logits.push_back(std::log(value) + 3.0f);
  logits.insert(logits.end(), {100.0f, 100.0f});
  const auto run = [&] {
    std::vector<float> probs(6, -1.0f);
    SamplingDistribution(slot, logits.data(), 6, 4, probs.data());
    for (float& value : probs) value = std::round(value * 1e5f) / 1e5f;
    return probs;
  };
  EXPECT_THAT(run(), ElementsAre(0.2f, 0.4f, 0.1f, 0.3f, 0.0f, 0.0f));
  slot.top_k = 3;
  EXPECT_THAT(run(), ElementsAre(0.22222f, 0.44444f, 0.0f, 0.33333f, 0.0f, 0.0f));
  slot.top_p = 0.5f;  // of what top_k left: 0.444 is too little, 0.777 enough
  EXPECT_THAT(run(), ElementsAre(0.0f, 0.57143f, 0.0f, 0.42857f, 0.0f, 0.0f));
  slot.min_p = 0.8f;
  EXPECT_THAT(run(), ElementsAre(0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f));
  slot = {};
  slot.top_p = 1.0f;
  slot.temperature = 0.5f;  // squares: 0.04, 0.16, 0.01, 0.09 of 0.30
  EXPECT_THAT(run(), ElementsAre(0.13333f, 0.53333f, 0.03333f, 0.3f, 0.0f, 0.0f));
  slot.temperature = 1e-4f;
  EXPECT_THAT(run(), ElementsAre(0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f));
}

TEST(SamplingDistributionTest, KeepsTiesOfTopKAndOneOfTopP) {
  SlotControl slot = {};
  slot.temperature = 1.0f;
  slot.top_p = 1e-6f;
  const std::vector<float> equal(4, 0.0f);
  std::vector<float> probs(4);
  SamplingDistribution(slot, equal.data(), 4, 4, probs.data());
  EXPECT_THAT(probs, ElementsAre(1.0f, 0.0f, 0.0f, 0.0f));
  slot.top_p = 1.0f;
  slot.top_k = 1;
  SamplingDistribution(slot, equal.data(), 4, 4, probs.data());
  EXPECT_THAT(probs, ElementsAre(0.25f, 0.25f, 0.25f, 0.25f));
}

// Whole engine: joint distribution of two sampled tokens, drafted by another model, against the
// product of the model's own conditional distributions.
TEST(SamplingTest, EngineFollowsTheModel) {
  const auto model = TestModel("mamba2_tied");
  const std::vector<int32_t> prompt = {3, 14, 15};
  const SamplingParams sampling{.temperature = 1.5f, .top_k = 6, .seed = 99};
  SlotControl slot = {};
  slot.temperature = sampling.temperature;
  slot.top_k = sampling.top_k;
  slot.top_p = 1.0f;
  const int32_t vocab = static_cast<int32_t>(model->info().vocab_size);
  const auto next = [&](const std::vector<int32_t>& tokens) {
    std::vector<float> probs(vocab);
    const absl::Status status =
        EvaluateLogits(*model, tokens, 1, [&](int64_t, absl::Span<const float> logits) {
          SamplingDistribution(slot, logits.data() + logits.size() - vocab, vocab, vocab,
                               probs.data());
          return absl::OkStatus();
        });
    SW_CHECK(status.ok()) << status;
    return probs;
  };
  const std::vector<float> first = next(prompt);
  std::vector<double> joint;
  for (int32_t a = 0; a < vocab; ++a) {
    if (first[a] == 0.0f) continue;
    std::vector<int32_t> longer = prompt;
    longer.push_back(a);
    const std::vector<float> second = next(longer);
    for (int32_t b = 0; b < vocab; ++b) joint.push_back(double{first[a]} * second[b]);
  }
  std::map<int32_t, int32_t> row_of;
  for (int32_t a = 0; a < vocab; ++a) {
    if (first[a] > 0.0f) row_of.emplace(a, static_cast<int32_t>(row_of.size()));
  }

  for (const AcceptanceMethod method : {AcceptanceMethod::kRejection, AcceptanceMethod::kCoupled}) {
    auto engine = Engine::Create({.model = model,
                                  .drafter = DrafterOptions::FromModel(TestModel("mamba1_tied")),
                                  .draft_tokens = 2,
                                  .max_sequences = 32,
                                  .acceptance = method,
                                  .num_threads = 1});
    ASSERT_TRUE(engine.ok()) << engine.status();
    constexpr uint32_t kTexts{8000};
    std::vector<RequestId> ids;
    for (uint32_t sequence = 0; sequence < kTexts; ++sequence) {
      ids.push_back(*(*engine)->Submit({.prompt = prompt,
                                        .max_new_tokens = 3,
                                        .sampling = sampling,
                                        .ignore_eos = true,
                                        .sequence = sequence}));
    }
    while (!(*engine)->idle()) ASSERT_TRUE((*engine)->Step().ok());
    std::vector<int64_t> counts(joint.size());
    for (const RequestId id : ids) {
      const std::vector<int32_t> tokens = (*engine)->TakeResult(id)->tokens;
      ++counts.at(row_of.at(tokens[0]) * vocab + tokens[1]);
    }
    EXPECT_LT(ChiSquareSigmas(counts, joint), kSigmas) << static_cast<int>(method);
  }
}

// Test vectors of the Random123 library.
TEST(PhiloxTest, MatchesPublishedVectors) {
  EXPECT_THAT(Philox4x32({{0, 0, 0, 0}}, {{0, 0}}).words,
              ElementsAreArray({0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_THAT(Philox4x32({{0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}},
                         {{0xffffffffu, 0xffffffffu}})
                  .words,
              ElementsAreArray({0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_THAT(Philox4x32({{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}},
                         {{0xa4093822u, 0x299f31d0u}})
                  .words,
              ElementsAreArray({0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

}  // namespace
}  // namespace sidewinder
