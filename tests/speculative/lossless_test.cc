// Speculation on equals speculation off, to the bit: for every family, dtype, drafter, number of
// draft tokens, batch and checkpoint policy, tokens and logits of every committed position and the
// recurrent state after every round are those of plain decoding, compared with ==.
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/common/copy.h"
#include "speculative/decoder.h"
#include "speculative/drafters/model_drafter.h"
#include "speculative/drafters/ngram_drafter.h"
#include "speculative/drafters/null_drafter.h"
#include "tests/testing/scripted_drafter.h"
#include "tests/testing/test_models.h"

namespace sidewinder {
namespace {

using testing::Script;
using testing::ScriptedDrafter;
using testing::TestModel;

// A text with everything that must not depend on how it was decoded.
struct Trace {
  std::vector<int32_t> tokens;                   // prompt included
  std::map<int32_t, std::vector<float>> logits;  // by position of the token they follow
  std::map<int32_t, std::string> states;         // by positions consumed, after each round
};

struct Prompt {
  std::vector<int32_t> tokens;
  int32_t max_tokens;
};

// Lengths around the window of the convolution, a prefill chunk (8 here) and its multiples.
std::vector<Prompt> Prompts(int64_t vocab) {
  std::vector<Prompt> prompts;
  for (const int32_t length : {1, 3, 8, 9, 26}) {
    Prompt prompt{{}, length + 25};
    for (int32_t i = 0; i < length; ++i) {
      prompt.tokens.push_back((11 + 7 * length + i * i * 5) % static_cast<int32_t>(vocab));
    }
    prompts.push_back(prompt);
  }
  return prompts;
}

struct Policy {
  const char* name;
  bool snapshots;
  bool every_round;
  int32_t stride;
};
constexpr Policy kPolicies[] = {{"every round", false, true, 1},
                                {"when full, stride 1", false, false, 1},
                                {"when full, stride 4", false, false, 4},
                                {"when full, stride 16", false, false, 16},
                                {"snapshots", true, true, 1}};

std::string StateAt(ExecutionContext& ctx, Decoder& decoder, int32_t slot, int32_t spare) {
  // Settling moves the checkpoint, so a copy is settled.
  const absl::Status forked = decoder.verifier().store().Fork(ctx, slot, spare);
  EXPECT_TRUE(forked.ok()) << forked;
  return decoder.ExportState(ctx, spare);
}

std::vector<SequenceRows> SequencesOf(ExecutionContext& ctx, const RowPlan& plan) {
  int32_t count = 0;
  CopyOut(ctx, &count, plan.num_sequences, sizeof(count));
  std::vector<SequenceRows> sequences(count);
  CopyOut(ctx, sequences.data(), plan.sequences, count * sizeof(SequenceRows));
  return sequences;
}

// Decodes prompts[first..first+count) together, one joining a round after the other.
std::vector<Trace> Decode(Stream& stream, const std::shared_ptr<const Model>& model,
                          std::unique_ptr<Drafter> drafter, const Policy& policy,
                          int32_t draft_tokens, const std::vector<Prompt>& prompts, size_t first,
                          size_t count) {
  const int32_t slots =
      static_cast<int32_t>(count) + 1;  // the last one is spare, for settled copies
  const int32_t spare = slots - 1;
  DecoderOptions options;
  options.model = model;
  options.drafter = std::move(drafter);
  options.state.num_slots = slots;
  options.state.snapshots = policy.snapshots;
  options.state.every_round = policy.every_round;
  options.state.stride = policy.stride;
  options.max_draft = draft_tokens == kAutoDraft ? 8 : draft_tokens;
  options.prefill_chunk = 8;
  auto created = Decoder::Create(std::move(options));
  EXPECT_TRUE(created.ok()) << created.status();
  Decoder& decoder = **created;
  ExecutionContext& ctx = stream.context();
  const int64_t vocab = model->info().vocab_size;

  std::vector<Trace> traces(count);
  std::vector<bool> done(count, false);
  for (size_t round = 0; std::count(done.begin(), done.end(), false) > 0; ++round) {
    if (round < count) {
      const Prompt& prompt = prompts[first + round];
      const absl::Status begun = decoder.Begin(stream, static_cast<int32_t>(round),
                                               {.tokens = prompt.tokens,
                                                .max_tokens = prompt.max_tokens,
                                                .draft_tokens = draft_tokens,
                                                .sequence = static_cast<uint32_t>(first + round)});
      EXPECT_TRUE(begun.ok()) << begun;
    }
    decoder.Run(1);
    const absl::StatusOr<bool> advanced = decoder.Next(stream);
    EXPECT_TRUE(advanced.ok() && *advanced) << advanced.status();
    if (!advanced.ok() || !*advanced) break;
    const absl::Status paused = decoder.Pause(stream);
    EXPECT_TRUE(paused.ok()) << paused;
    // Copied, because settling plans a pass of its own.
    const std::vector<SequenceRows> sequences = SequencesOf(ctx, decoder.verifier().plan());
    for (const SequenceRows& sequence : sequences) {
      const SlotControl& slot = decoder.slot(sequence.slot);
      Trace& trace = traces[sequence.slot];
      trace.tokens.assign(slot.tokens, slot.tokens + slot.num_tokens);
      for (int32_t r = 0; sequence.consumed + r < slot.num_tokens - 1; ++r) {
        std::vector<float>& logits = trace.logits[sequence.consumed + r];
        logits.resize(vocab);
        CopyOut(ctx, logits.data(), decoder.verifier().logits() + (sequence.first_row + r) * vocab,
                vocab * sizeof(float));
      }
    }
    for (const SequenceRows& sequence : sequences) {
      const SlotControl& slot = decoder.slot(sequence.slot);
      traces[sequence.slot].states[slot.num_tokens - 1] =
          StateAt(ctx, decoder, sequence.slot, spare);
      done[sequence.slot] = !slot.active;
    }
  }
  return traces;
}

::testing::AssertionResult Same(const Trace& plain, const Trace& speculative) {
  if (plain.tokens != speculative.tokens) return ::testing::AssertionFailure() << "tokens differ";
  if (plain.logits.size() != speculative.logits.size()) {
    return ::testing::AssertionFailure() << "other positions have logits";
  }
  for (const auto& [position, logits] : plain.logits) {
    const auto it = speculative.logits.find(position);
    if (it == speculative.logits.end() ||
        std::memcmp(it->second.data(), logits.data(), logits.size() * sizeof(float)) != 0) {
      return ::testing::AssertionFailure() << "logits differ at position " << position;
    }
  }
  for (const auto& [consumed, state] : speculative.states) {
    const auto it = plain.states.find(consumed);
    if (it == plain.states.end() || it->second != state) {
      return ::testing::AssertionFailure() << "state differs after " << consumed << " positions";
    }
  }
  return ::testing::AssertionSuccess();
}

struct ModelCase {
  const char* name;
  const char* dtype;
  const char* draft;  // another model with the same vocabulary
};

enum class DrafterKind {
  kNone,
  kSameModel,
  kOtherModel,
  kNgram,
  kRight,
  kWrong,
  kAlternating,
  kEmpty,
  kRandom
};
constexpr const char* kDrafterNames[] = {"None",  "SameModel",   "OtherModel", "Ngram", "Right",
                                         "Wrong", "Alternating", "Empty",      "Random"};

class LosslessTest
    : public ::testing::TestWithParam<std::tuple<const char*, ModelCase, DrafterKind>> {
 protected:
  void SetUp() override {
    const std::string why_not = testing::WhyNot(DeviceName());
    if (!why_not.empty()) GTEST_SKIP() << why_not;
    model_ = TestModel(Case().name, Case().dtype, DeviceName());
    auto stream = model_->device().CreateStream(/*num_threads=*/1);
    ASSERT_TRUE(stream.ok()) << stream.status();
    stream_ = *std::move(stream);
    prompts_ = Prompts(model_->info().vocab_limit);
    for (size_t i = 0; i < prompts_.size(); ++i) {
      plain_.push_back(Decode(*stream_, model_, std::make_unique<NullDrafter>(), kPolicies[0], 0,
                              prompts_, i, 1)[0]);
      texts_[i] = plain_.back().tokens;
    }
  }

  const char* DeviceName() const { return std::get<0>(GetParam()); }
  const ModelCase& Case() const { return std::get<1>(GetParam()); }
  DrafterKind Kind() const { return std::get<2>(GetParam()); }

  std::unique_ptr<Drafter> MakeDrafter(const Policy& policy, int32_t draft_tokens, size_t slots) {
    const auto scripted = [this](Script script) {
      return std::make_unique<ScriptedDrafter>(script, texts_);
    };
    switch (Kind()) {
      case DrafterKind::kNone:
        return std::make_unique<NullDrafter>();
      case DrafterKind::kNgram:
        return std::make_unique<NgramDrafter>(1, 3);
      case DrafterKind::kRight:
        return scripted(Script::kRight);
      case DrafterKind::kWrong:
        return scripted(Script::kWrong);
      case DrafterKind::kAlternating:
        return scripted(Script::kAlternating);
      case DrafterKind::kEmpty:
        return scripted(Script::kEmpty);
      case DrafterKind::kRandom:
        return scripted(Script::kRandom);
      default:
        break;
    }
    ModelDrafterOptions options;
    options.model =
        Kind() == DrafterKind::kSameModel ? model_ : TestModel(Case().draft, "auto", DeviceName());
    options.num_slots = static_cast<int32_t>(slots);
    options.max_draft = draft_tokens == kAutoDraft ? 8 : draft_tokens;
    options.state.snapshots = policy.snapshots;
    options.state.every_round = policy.every_round;
    options.state.stride = policy.stride;
    options.prefill_chunk = 8;
    options.cost_per_proposal = 0.1f;
    options.skips_steps = draft_tokens == kAutoDraft;
    auto drafter = ModelDrafter::Create(options);
    EXPECT_TRUE(drafter.ok()) << drafter.status();
    return *std::move(drafter);
  }

  std::unique_ptr<Stream> stream_;
  std::shared_ptr<const Model> model_;
  std::vector<Prompt> prompts_;
  std::vector<Trace> plain_;
  std::map<uint32_t, std::vector<int32_t>> texts_;
};

TEST_P(LosslessTest, AloneAndTogether) {
  for (const Policy& policy : kPolicies) {
    // Every K where the checkpoint moves each round; the other policies see the small, the odd, the
    // largest and the changing ones.
    const std::vector<int32_t> lengths = &policy == &kPolicies[0]
                                             ? std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8}
                                             : std::vector<int32_t>{1, 4, 7, kMaxDraft, kAutoDraft};
    for (const int32_t k : lengths) {
      // All together; and alone, a different prompt for every K.
      for (const auto& [first, batch] :
           {std::pair(size_t{0}, prompts_.size()),
            std::pair(static_cast<size_t>(k + 1) % prompts_.size(), size_t{1})}) {
        const std::vector<Trace> traces = Decode(
            *stream_, model_, MakeDrafter(policy, k, batch + 1), policy, k, prompts_, first, batch);
        for (size_t i = 0; i < batch; ++i) {
          ASSERT_TRUE(Same(plain_[first + i], traces[i]))
              << policy.name << ", K " << k << ", batch " << batch << ", prompt " << first + i;
        }
      }
    }
  }
}

constexpr ModelCase kModels[] = {
    {"mamba1_tied", "float32", "mamba2_limit"},   {"mamba1_tied", "bfloat16", "mamba2_tied"},
    {"mamba1_conv2", "float32", "mamba1_conv3"},  {"mamba2_tied", "float32", "mamba1_tied"},
    {"mamba2_tied", "float16", "mamba2_sharded"}, {"mamba2_groups", "bfloat16", "mamba2_groups"}};

// The other families; each draft is of another one.
constexpr ModelCase kHybrids[] = {{"falcon_mamba_tied", "bfloat16", "mamba1_bias"},
                                  {"zamba2_two_blocks", "float32", "falcon_mamba_tied"},
                                  {"zamba2_one_block", "bfloat16", "mamba1_tied"},
                                  {"jamba_experts", "bfloat16", "llama_llama3"},
                                  {"mamba2_in_llama", "bfloat16", "mamba2_tied"},
                                  {"mamba_in_llama", "bfloat16", "mamba_in_llama"},
                                  {"llama_llama3", "float32", "jamba_experts"},
                                  {"mistral_window", "bfloat16", "mistral_window"},
                                  {"bamba_groups", "float32", "falcon_h1_norm_first"},
                                  {"granite_experts", "bfloat16", "bamba_plain"},
                                  {"nemotron_experts", "bfloat16", "granite_experts"},
                                  {"falcon_h1_norm_last", "bfloat16", "falcon_h1_norm_last"},
                                  {"qwen3_next_experts", "float32", "nemotron_mlp"}};

constexpr DrafterKind kDrafters[] = {
    DrafterKind::kNone,        DrafterKind::kSameModel, DrafterKind::kOtherModel,
    DrafterKind::kNgram,       DrafterKind::kRight,     DrafterKind::kWrong,
    DrafterKind::kAlternating, DrafterKind::kEmpty,     DrafterKind::kRandom};

std::string CaseName(const ::testing::TestParamInfo<LosslessTest::ParamType>& info) {
  const ModelCase& model = std::get<1>(info.param);
  return std::string(std::get<0>(info.param)) + "_" + model.name + "_" + model.dtype + "_" +
         kDrafterNames[static_cast<int>(std::get<2>(info.param))];
}

INSTANTIATE_TEST_SUITE_P(Matrix, LosslessTest,
                         ::testing::Combine(::testing::ValuesIn(testing::kDevices),
                                            ::testing::ValuesIn(kModels),
                                            ::testing::ValuesIn(kDrafters)),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(Hybrids, LosslessTest,
                         ::testing::Combine(::testing::ValuesIn(testing::kDevices),
                                            ::testing::ValuesIn(kHybrids),
                                            ::testing::ValuesIn(kDrafters)),
                         CaseName);

}  // namespace
}  // namespace sidewinder
