// Prompts longer than a chunk of the recurrence, on a model whose layers evaluate whole chunks on a
// GPU: how a prompt is cut changes no bit, and texts behind it are those of plain decoding.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/common/copy.h"
#include "models/model_runner.h"
#include "sidewinder/engine.h"
#include "tests/testing/test_models.h"

namespace sidewinder {
namespace {

const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new testing::NeedsTestDevice);

std::shared_ptr<const Model> Tiny(const std::string& dtype) {
  auto model = Model::Load("synthetic:mamba2-tiny:vocab=256",
                           {.device = testing::TestDevice(), .dtype = dtype});
  SW_CHECK(model.ok()) << model.status();
  return *std::move(model);
}

std::vector<int32_t> Prompt(int32_t length) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < length; ++i) tokens.push_back((17 + 7 * i + i * i * 5) % 256);
  return tokens;
}

// The settled state of a runner that consumed tokens[0, cuts[0]), tokens[cuts[0], cuts[1]), ...
std::string StateAfter(const std::shared_ptr<const Model>& model, const ModelRunnerOptions& options,
                       const std::vector<int32_t>& tokens, const std::vector<int32_t>& cuts,
                       bool in_token_order = false) {
  auto runner = ModelRunner::Create(model, options);
  SW_CHECK(runner.ok()) << runner.status();
  auto stream = model->device().CreateStream(1);
  SW_CHECK(stream.ok()) << stream.status();
  ExecutionContext& ctx = (*stream)->context();
  const absl::Status reserved = (*runner)->Reserve(ctx, 0, static_cast<int64_t>(tokens.size()));
  SW_CHECK(reserved.ok()) << reserved;
  auto on_device = model->device().Allocate(tokens.size() * sizeof(int32_t), "tokens");
  SW_CHECK(on_device.ok()) << on_device.status();
  CopyIn(ctx, on_device->data(), tokens.data(), on_device->size());
  int32_t begin = 0;
  for (const int32_t end : cuts) {
    if (in_token_order) {  // as rows whose logits are wanted
      (*runner)->PrefillChunk(ctx, 0, on_device->as<int32_t>(), end - begin, /*logits=*/true);
    } else {
      (*runner)->Prefill(ctx, 0, on_device->as<int32_t>(), begin, end);
    }
    begin = end;
  }
  (*runner)->Settle(ctx, 0);
  std::string state = (*runner)->store().ExportSlot(ctx, 0);
  const absl::Status done = (*stream)->Synchronize();
  EXPECT_TRUE(done.ok()) << done;
  return state;
}

TEST(PrefillTest, CutsChangeNothing) {
  const std::shared_ptr<const Model> model = Tiny("auto");
  for (const int32_t length : {63, 64, 65, 200, 320}) {
    SCOPED_TRACE("length " + std::to_string(length));
    const std::vector<int32_t> tokens = Prompt(length);
    const std::string expected = StateAfter(model, {.prefill_chunk = 512}, tokens, {length});
    for (const int32_t prefill_chunk : {1, 64, 100, 192}) {
      SCOPED_TRACE("prefill_chunk " + std::to_string(prefill_chunk));
      ModelRunnerOptions options{.prefill_chunk = prefill_chunk};
      EXPECT_EQ(StateAfter(model, options, tokens, {length}), expected);
      for (const int32_t stride : {1, 16, 48, 100}) {
        options.state.every_round = false;
        options.state.stride = stride;
        EXPECT_EQ(StateAfter(model, options, tokens, {length}), expected) << "stride " << stride;
      }
      if (length > 128) {
        EXPECT_EQ(StateAfter(model, options, tokens, {64, 128, length}), expected);
      }
    }
  }
}

// Whole chunks are as accurate as float32 in token order; a model in float32 is held to 2e-4 of its
// largest value.
TEST(PrefillTest, WholeChunksAreCloseToTokenOrder) {
  const std::shared_ptr<const Model> model = Tiny("float32");
  const std::vector<int32_t> tokens = Prompt(320);
  const ModelRunnerOptions options{.prefill_chunk = 320, .prefill_logits = true};
  const std::string whole = StateAfter(model, options, tokens, {320});
  const std::string in_order = StateAfter(model, options, tokens, {320}, /*in_token_order=*/true);
  ASSERT_EQ(whole.size(), in_order.size());
  float largest = 0, worst = 0;
  for (size_t i = 0; i < whole.size(); i += sizeof(float)) {
    float a, b;
    std::memcpy(&a, whole.data() + i, sizeof(a));
    std::memcpy(&b, in_order.data() + i, sizeof(b));
    ASSERT_TRUE(std::isfinite(a) && std::isfinite(b));
    largest = std::max(largest, std::abs(b));
    worst = std::max(worst, std::abs(a - b));
  }
  EXPECT_LE(worst, 2e-4f * largest);
  EXPECT_EQ(worst > 0, testing::TestDevice() != "cpu");  // the CPU has token order alone
}

std::vector<std::vector<int32_t>> Texts(EngineOptions options) {
  auto engine = Engine::Create(std::move(options));
  SW_CHECK(engine.ok()) << engine.status();
  std::vector<RequestId> ids;
  for (const int32_t length : {64, 65, 66, 150, 257}) {
    auto id = (*engine)->Submit({.prompt = Prompt(length), .max_new_tokens = 90});
    SW_CHECK(id.ok()) << id.status();
    ids.push_back(*id);
  }
  const absl::Status ran = (*engine)->Run();
  SW_CHECK(ran.ok()) << ran;
  std::vector<std::vector<int32_t>> texts;
  for (const RequestId id : ids) texts.push_back((*engine)->TakeResult(id)->tokens);
  return texts;
}

TEST(PrefillTest, SpeculationChangesNothing) {
  const std::shared_ptr<const Model> model = Tiny("auto");
  const std::vector<std::vector<int32_t>> plain = Texts({.model = model, .num_threads = 1});
  for (const CheckpointPolicy policy :
       {CheckpointPolicy::kEveryRound, CheckpointPolicy::kWhenLogFull,
        CheckpointPolicy::kSnapshotPerToken}) {
    for (const DrafterOptions& drafter :
         {DrafterOptions::None(), DrafterOptions::Ngram(), DrafterOptions::FromModel(model)}) {
      for (const int32_t slots : {1, 5}) {
        EXPECT_EQ(Texts({.model = model,
                         .drafter = drafter,
                         .max_sequences = slots,
                         .checkpoint_policy = policy,
                         .checkpoint_stride = 48,
                         .prefill_chunk = slots == 1 ? 100 : 0,
                         .num_threads = 1}),
                  plain)
            << "policy " << static_cast<int>(policy) << " slots " << slots;
      }
    }
  }
}

}  // namespace
}  // namespace sidewinder
