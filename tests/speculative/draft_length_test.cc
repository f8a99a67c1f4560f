// The automatic draft length over simulated texts. Rounds take what a table says and proposals are
// accepted with given probabilities, so what a choice is worth is known: a round with K proposals
// is counted with the tokens it commits on average. Only what the choice learns from is a lot, the
// same in every run.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/begin_round.h"
#include "kernels/common/thread_pool.h"
#include "kernels/round_rules.h"
#include "sidewinder/tuning.h"

namespace sidewinder {
namespace {

constexpr int32_t kMaxLength{8};  // of the engine's automatic choice
constexpr int32_t kMaxCatchUp{5};
constexpr int32_t kTokens{256};  // of a text

// Acceptance of a position once it is reached; the last one applies behind, too.
struct Category {
  const char* name;
  std::vector<double> rates;
};

const Category kCategories[] = {
    {"code", {0.93, 0.94, 0.94, 0.95}},
    {"chat", {0.75, 0.78, 0.8}},
    {"math", {0.85, 0.8, 0.75, 0.7}},
    {"verse", {0.5, 0.55}},
    {"names", {0.2, 0.3}},
    {"useless", {0.0}},
};

struct Machine {
  const char* name;
  double plain_us, row_us, draft_us;
  int32_t cheap_rows;  // rows beyond these cost step_us more, once
  double step_us;
};

const Machine kMachines[] = {
    {"2.8b + 130m on a GPU", 2340, 80, 350, 16, 0},
    {"7b + 130m on a GPU", 5200, 60, 350, 8, 300},
    {"10m + 1m on a CPU", 187, 15, 48, 16, 0},
    {"the same, five rows in a tile", 540, 20, 100, 5, 250},
    {"prompt lookup", 2340, 80, 0, 16, 0},
};

double RoundUs(const Machine& machine, int32_t k) {
  const double step = 1 + k > machine.cheap_rows ? machine.step_us : 0;
  return machine.plain_us + k * (machine.row_us + machine.draft_us) + step;
}

double FixedTokensPerUs(const Machine& machine, const Category& category, int32_t k) {
  return RoundCostModel::ExpectedTokens(category.rates, k) / RoundUs(machine, k);
}

// One sequence after the other on a machine.
class Simulation {
 public:
  explicit Simulation(const Machine& machine) : machine_(machine) {
    RoundCosts& costs = drafting_.costs[0];
    costs.num_slots = 1;
    for (int32_t k = 0; k <= kMaxDraft; ++k) {
      costs.round_us[k] = static_cast<float>(RoundUs(machine, k));
      costs.row_us[k] = static_cast<float>(machine.row_us);
    }
    costs.catch_up_us = static_cast<float>(machine.draft_us);
    drafting_.num_costs = 1;
    control_ = {.slots = &slot_,
                .drafting = &drafting_,
                .num_slots = 1,
                .max_draft = kMaxLength,
                .vocab_size = 2,
                .vocab_limit = 2};
  }

  // Microseconds that a text of kTokens tokens takes.
  double Generate(const Category& category) {
    slot_ = {};
    slot_.tokens = tokens_.data();
    slot_.max_tokens = 1 << 30;
    slot_.draft_tokens = kAutoDraft;
    slot_.sequence = sequence_++;
    slot_.num_tokens = 1;
    slot_.probe_interval = kFirstProbeInterval;
    slot_.probe_allowance = kFirstAllowance;
    slot_.active = 1;
    cursor_.consumed = 0;
    double us = 0;
    for (double tokens = 0; tokens < kTokens;) tokens += Round(category, us);
    return us;
  }

 private:
  // Tokens that the round commits on average; adds its time.
  double Round(const Category& category, double& us) {
    BeginRound(ctx_, {.control = control_,
                      .draft_cursors = machine_.draft_us > 0 ? &cursor_ : nullptr,
                      .max_catch_up = kMaxCatchUp});
    const int32_t unseen = slot_.num_tokens - cursor_.consumed;
    const bool behind = machine_.draft_us > 0 && unseen > kMaxCatchUp;
    const bool drafts = slot_.draft_limit > 0 && !behind;
    us += RoundUs(machine_, drafts ? slot_.draft_limit : 0);
    if (slot_.draft_limit > 0 && behind) us += machine_.draft_us;
    if (slot_.draft_limit > 0) cursor_.consumed += std::min(unseen, kMaxCatchUp);

    slot_.num_drafted = drafts ? slot_.draft_limit : 0;
    int32_t accepted = 0;
    while (accepted < slot_.num_drafted && Lot() < RateAt(category, accepted)) ++accepted;
    slot_.num_accepted = accepted;
    slot_.num_tokens += accepted + 1;
    CountRound(slot_);
    if (drafts) cursor_.consumed = slot_.num_tokens - 1;
    return RoundCostModel::ExpectedTokens(category.rates, slot_.num_drafted);
  }

  double Lot() { return RandomUniform(7, slot_.sequence, lots_++, RandomPurpose::kSynthetic, 0); }
  static double RateAt(const Category& category, int32_t j) {
    return category.rates[std::min<size_t>(j, category.rates.size() - 1)];
  }

  Machine machine_;
  ThreadPool pool_{1};
  ExecutionContext ctx_{.pool = &pool_};
  std::vector<int32_t> tokens_ = {0};
  SlotControl slot_ = {};
  StateCursor cursor_ = {};
  DraftControl drafting_ = {};
  ControlBlock control_ = {};
  uint32_t sequence_ = 0;
  uint32_t lots_ = 0;
};

class DraftLengthTest : public ::testing::TestWithParam<Machine> {};

TEST_P(DraftLengthTest, IsCloseToTheBestFixedLengthInEveryCategory) {
  constexpr int kTexts{40};
  for (const Category& category : kCategories) {
    Simulation simulation(GetParam());
    double us = 0;
    for (int i = 0; i < kTexts; ++i) us += simulation.Generate(category);
    const double rate = kTexts * kTokens / us;
    double best = 0;
    int32_t best_length = 0;
    for (int32_t k = 0; k <= kMaxLength; ++k) {
      const double fixed = FixedTokensPerUs(GetParam(), category, k);
      if (fixed > best) best = fixed, best_length = k;
    }
    EXPECT_GT(rate, 0.97 * best) << category.name << ": " << best_length << " is best";
  }
}

TEST_P(DraftLengthTest, IsFasterThanEveryFixedLengthOnAMixedStream) {
  constexpr int kTexts{120};
  Simulation simulation(GetParam());
  double us = 0;
  double fixed_us[kMaxLength + 1] = {};
  for (int i = 0; i < kTexts; ++i) {
    const Category& category = kCategories[i * 5 % std::size(kCategories)];
    us += simulation.Generate(category);
    for (int32_t k = 0; k <= kMaxLength; ++k) {
      fixed_us[k] += kTokens / FixedTokensPerUs(GetParam(), category, k);
    }
  }
  for (int32_t k = 0; k <= kMaxLength; ++k) {
    EXPECT_LT(us, fixed_us[k]) << "with " << k;
  }
}

TEST_P(DraftLengthTest, HardlyEverCostsMoreThanPlainDecoding) {
  constexpr int kTexts{20};
  Simulation simulation(GetParam());
  double us = 0;
  for (int i = 0; i < kTexts; ++i) {
    us += simulation.Generate({"useless", {0.0}});
    const double plain_us = (i + 1) * kTokens * GetParam().plain_us;
    if (i > 0) {
      EXPECT_LT(us, 1.02 * plain_us) << i + 1 << " texts";
    }
  }
}

TEST_P(DraftLengthTest, RecoversWhenProposalsBecomeGood) {
  Simulation simulation(GetParam());
  for (int i = 0; i < 40; ++i) simulation.Generate({"useless", {0.0}});
  const Category good = {"good", {0.9}};
  double us = 0;
  for (int i = 0; i < 4; ++i) us = simulation.Generate(good);
  EXPECT_LT(us, 0.75 * kTokens * GetParam().plain_us);
}

INSTANTIATE_TEST_SUITE_P(Machines, DraftLengthTest, ::testing::ValuesIn(kMachines),
                         [](const ::testing::TestParamInfo<Machine>& info) {
                           std::string name;
                           for (const char c : std::string(info.param.name)) {
                             if (std::isalnum(static_cast<unsigned char>(c))) name += c;
                           }
                           return name;
                         });

}  // namespace
}  // namespace sidewinder
