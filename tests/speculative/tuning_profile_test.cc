// Profiles as files: what is written is read again, what is wrong is named, what does not fit is
// said.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "sidewinder/system.h"
#include "sidewinder/tuning.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/test_models.h"

namespace sidewinder {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::TestModel;

std::shared_ptr<const Model> Verifier() { return TestModel("mamba2_tied", "auto", "cpu"); }
std::shared_ptr<const Model> Draft() { return TestModel("mamba1_tied", "auto", "cpu"); }

TuningProfile Example() {
  TuningProfile p;
  p.device = Verifier()->info().device_description;
  p.threads = AvailableCores();
  p.driver = "580.1";
  p.model = ModelShape::Of(Verifier()->info());
  p.draft = ModelShape::Of(Draft()->info());
  p.date = "2025-01-31";
  p.sidewinder_version = "1.2.3";
  p.model_path = "a \"path\"";
  p.draft_path = "b";
  p.complete = true;
  p.read_bytes_per_second = 2.5e11;
  p.launch_us = {0.5, 0.25, 1};
  p.empty_round_us = {2, 1, 3};
  for (const int32_t k : {0, 1, 2, 4, 8}) {
    p.verify.push_back({.draft_tokens = k, .us = {100.0 + 5 * k, 100, 200}});
    p.rounds.push_back({.draft_tokens = k, .us = {100.0 + 15 * k, 100, 200}});
    p.verify.push_back({.batch = 4, .draft_tokens = k, .us = {110.0 + 20 * k, 100, 200}});
  }
  p.verify.push_back({.policy = CheckpointPolicy::kWhenLogFull,
                      .stride = 8,
                      .draft_tokens = 4,
                      .us = {60, 60, 60}});
  p.replay = {{.draft_tokens = 4, .rows = 4, .us = {130, 120, 140}}};
  p.prefill = {{.chunk = 64, .us_per_token = {3, 2, 4}}};
  p.checks = {{.batch = 1,
               .draft_tokens = kAutoDraftTokens,
               .acceptance = 0.8,
               .fitted = false,
               .predicted_us = 50,
               .measured_us = {51, 50, 52}}};
  p.prefill_chunk = 64;
  p.policies = {{.batch = 4, .policy = CheckpointPolicy::kSnapshotPerToken, .stride = 16}};
  return p;
}

TEST(TuningProfileTest, IsReadAsItWasWritten) {
  const std::string text = TuningProfileJson(Example());
  const auto read = ParseTuningProfile(text, "x");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(TuningProfileJson(*read), text);
  EXPECT_EQ(read->model, Example().model);
  EXPECT_EQ(read->draft, Example().draft);
  EXPECT_EQ(read->checks.front().draft_tokens, kAutoDraftTokens);
  EXPECT_EQ(read->policies.front().policy, CheckpointPolicy::kSnapshotPerToken);
  EXPECT_EQ(read->verify.back().stride, 8);
}

TEST(TuningProfileTest, HostileFilesAreNamedWithTheField) {
  const std::string good = TuningProfileJson(Example());
  const auto refuse = [&](const char* pointer, const nlohmann::json& value, const char* field) {
    nlohmann::json changed = nlohmann::json::parse(good);
    changed[nlohmann::json::json_pointer(pointer)] = value;
    const absl::Status status = ParseTuningProfile(changed.dump(), "p.json").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << pointer;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("p.json"), HasSubstr(field)));
  };
  refuse("/format", "other", "format");
  refuse("/version", 2, "version");
  refuse("/version", "1", "version");
  refuse("/device", 5, "device");
  refuse("/threads", -1, "threads");
  refuse("/threads", 1e300, "threads");
  refuse("/model", nullptr, "model");
  refuse("/model", {1, 2}, "model");
  refuse("/model/hidden_size", 0, "hidden_size");
  refuse("/model/weight_bytes", "many", "weight_bytes");
  refuse("/draft", 7, "draft");
  refuse("/read_bytes_per_second", -1, "read_bytes_per_second");
  refuse("/read_bytes_per_second", "Infinity", "read_bytes_per_second");
  refuse("/read_bytes_per_second", "NaN", "read_bytes_per_second");
  refuse("/launch_us/median", -5, "median");
  refuse("/verify", "none", "verify");
  refuse("/verify/0", 3, "verify");
  refuse("/verify/1/batch", 0, "batch");
  refuse("/verify/1/batch", 1 << 20, "batch");
  refuse("/verify/1/policy", "never", "never");
  refuse("/verify/1/stride", 5000, "stride");
  refuse("/verify/1/draft_tokens", 16, "draft_tokens");
  refuse("/verify/1/us/median", 0, "us");
  refuse("/rounds/0/us", nullptr, "us");
  refuse("/rounds/0/us/high", 1e300, "high");
  refuse("/replay/0/rows", -1, "rows");
  refuse("/prefill/0/chunk", 1e9, "chunk");
  refuse("/prefill_chunk", 5000, "prefill_chunk");
  refuse("/checks/0/acceptance", 1.5, "acceptance");
  refuse("/checks/0/fitted", 1, "fitted");
  refuse("/policies/0/policy", 1, "policy");
  refuse("/verify", std::vector<int>(5000, 1), "verify");
  for (size_t n = 0; n + 2 < good.size(); n += 7) {
    EXPECT_FALSE(ParseTuningProfile(good.substr(0, n), "cut").ok());
  }
  EXPECT_FALSE(ParseTuningProfile(std::string(100000, '['), "deep").ok());
}

TEST(TuningProfileTest, SaysWhyItDoesNotFit) {
  const auto why = [](const TuningProfile& profile, const Model* draft = Draft().get()) {
    return WhyUnfit(profile, *Verifier(), draft, AvailableCores());
  };
  EXPECT_EQ(why(Example()), "");
  EXPECT_EQ(why(Example(), nullptr), "");  // what it says of the model alone is still true
  TuningProfile other = Example();
  other.device = "toaster";
  EXPECT_THAT(why(other), HasSubstr("toaster"));
  other = Example();
  ++other.threads;
  EXPECT_THAT(why(other), HasSubstr("threads"));
  other = Example();
  ++other.model.hidden_size;
  EXPECT_THAT(why(other), HasSubstr("model of another shape"));
  other = Example();
  ++other.draft->num_layers;
  EXPECT_THAT(why(other), HasSubstr("draft of another shape"));
  other = Example();
  other.draft.reset();
  EXPECT_THAT(why(other), HasSubstr("without a draft"));
  other = Example();
  other.rounds.clear();
  EXPECT_THAT(why(other), HasSubstr("too early"));
}

TEST(TuningProfileTest, IsFoundInTheCache) {
  const testing::TempFolder cache;
  setenv("XDG_CACHE_HOME", cache.path().c_str(), 1);
  EngineOptions options;
  options.model = Verifier();
  options.drafter = DrafterOptions::FromModel(Draft());
  auto model = FindCostModel(options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_FALSE(model->measured);
  EXPECT_THAT(model->source, HasSubstr("built-in"));
  EXPECT_THAT(model->notes, IsEmpty());

  const std::string folder = ProfileFolder();
  EXPECT_THAT(folder, HasSubstr(cache.path()));
  const std::string path =
      folder + "/" + ProfileFileName(*Verifier(), Draft().get(), AvailableCores());
  ASSERT_TRUE(WriteTuningProfile(path, Example()).ok());  // makes the folder
  model = FindCostModel(options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->measured);
  EXPECT_THAT(model->source, HasSubstr(path));
  EXPECT_EQ(model->prefill_chunk, 64);

  // One that is broken and one that is for other threads: noted, not used.
  TuningProfile other = Example();
  other.threads = AvailableCores() + 1;
  ASSERT_TRUE(WriteTuningProfile(path, other).ok());
  std::ofstream(folder + "/broken.json") << "{";
  model = FindCostModel(options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_FALSE(model->measured);
  EXPECT_THAT(model->notes, SizeIs(2));
  options.tuning_profile = "builtin";
  EXPECT_THAT(FindCostModel(options)->notes, IsEmpty());
  options.tuning_profile = folder + "/broken.json";
  EXPECT_EQ(FindCostModel(options).status().code(), absl::StatusCode::kInvalidArgument);
  unsetenv("XDG_CACHE_HOME");
}

TEST(CostModelTest, FillsWhatWasNotMeasured) {
  const RoundCostModel model = CostModelOf(Example(), CheckpointPolicy::kEveryRound, 16);
  ASSERT_THAT(model.times, SizeIs(2));
  EXPECT_DOUBLE_EQ(model.At(1).round_us[4], 160);
  EXPECT_DOUBLE_EQ(model.At(1).round_us[3], 145);    // between two
  EXPECT_DOUBLE_EQ(model.At(1).verify_us[15], 175);  // beyond the last two
  // Batch 4 was measured without the draft: its cost is that of batch 1.
  EXPECT_DOUBLE_EQ(model.At(2).verify_us[2], 150);
  EXPECT_DOUBLE_EQ(model.At(4).round_us[2], 170);
  EXPECT_EQ(&model.At(100), &model.At(4));
  // Another policy was measured at one length: the others keep their shape.
  const RoundCostModel full = CostModelOf(Example(), CheckpointPolicy::kWhenLogFull, 8);
  EXPECT_DOUBLE_EQ(full.At(1).verify_us[4], 60);
  EXPECT_DOUBLE_EQ(full.At(1).verify_us[0], 50);
}

TEST(CostModelTest, PredictsSpeedUpAndBreakEven) {
  const RoundCostModel model = CostModelOf(Example(), CheckpointPolicy::kEveryRound, 16);
  EXPECT_DOUBLE_EQ(RoundCostModel::ExpectedTokens({0.5}, 3), 1.875);
  EXPECT_DOUBLE_EQ(RoundCostModel::ExpectedTokens({0.5, 0.0}, 3), 1.5);
  EXPECT_DOUBLE_EQ(model.SpeedUp(1, {1.0}, 4), 5 / 1.6);
  EXPECT_EQ(model.BestDraftTokens(1, {0.1}, 8), 0);
  EXPECT_EQ(model.BestDraftTokens(1, {1.0}, 8), 8);
  const std::optional<double> even = model.BreakEven(1, 2);
  ASSERT_TRUE(even.has_value());
  EXPECT_NEAR(model.SpeedUp(1, {*even}, 2), 1, 1e-9);
  EXPECT_FALSE(model.BreakEven(1, 0).has_value());
}

TEST(CostModelTest, BuiltInFiguresSayWhetherTheyWereMeasured) {
  for (const DeviceFigures& figures : BuiltInFigures()) {
    EXPECT_GT(figures.read_bytes_per_second, 0) << figures.name;
    EXPECT_FALSE(figures.origin.empty()) << figures.name;
    const bool at_hand = figures.name != "A100" && figures.name != "RTX 3090";
    EXPECT_LE(figures.measured, at_hand) << figures.name;
  }
}

}  // namespace
}  // namespace sidewinder
