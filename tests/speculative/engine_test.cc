// The public engine: requests that join and leave, every way a text ends, state files, forks,
// errors.
#include "sidewinder/engine.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sidewinder/tuning.h"
#include "tests/testing/scripted_drafter.h"
#include "tests/testing/test_models.h"

namespace sidewinder {
namespace {

const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new testing::NeedsTestDevice);

using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using testing::Script;
using testing::ScriptedDrafter;
using testing::TestModel;

constexpr const char* kModel{"mamba2_tied"};

std::unique_ptr<Engine> MakeEngine(EngineOptions options) {
  if (options.model == nullptr) options.model = TestModel(kModel);
  options.num_threads = 1;
  auto engine = Engine::Create(std::move(options));
  SW_CHECK(engine.ok()) << engine.status();
  return *std::move(engine);
}

GenerateResult Complete(Engine& engine, const Request& request) {
  auto result = engine.Generate(request);
  SW_CHECK(result.ok()) << result.status();
  return *std::move(result);
}

const std::vector<int32_t> kPrompt = {42, 1, 36, 41, 39};

GenerateResult Plain(const Request& request, const char* model = kModel) {
  return Complete(*MakeEngine({.model = TestModel(model)}), request);
}

// A drafter that is right, wrong, or both, about greedy texts of `request`.
DrafterOptions Scripted(Script script, const Request& request) {
  Request longer = request;
  longer.max_new_tokens = 64;
  longer.ignore_eos = true;
  longer.stop_tokens.clear();
  std::vector<int32_t> text = request.prompt;
  const GenerateResult plain = Plain(longer);
  text.insert(text.end(), plain.tokens.begin(), plain.tokens.end());
  DrafterOptions options;
  options.kind = DrafterOptions::Kind::kCustom;
  options.factory = [script, text] {
    return std::make_unique<ScriptedDrafter>(script,
                                             std::map<uint32_t, std::vector<int32_t>>{{0, text}});
  };
  return options;
}

// A profile that fits the test model here: rounds of 100 us, and so much more for each proposal.
TuningProfile ProfileOfRounds(double proposal_us) {
  const ModelInfo& info = TestModel(kModel)->info();
  TuningProfile profile;
  profile.device = info.device_description;
  profile.threads = info.device == "cpu" ? 1 : 0;
  profile.model = ModelShape::Of(info);
  for (int32_t k = 0; k <= kMaxDraftTokens; ++k) {
    const double us = 100 + k * proposal_us;
    profile.verify.push_back({.draft_tokens = k, .us = {us, us, us}});
  }
  return profile;
}

TEST(EngineTest, EndsAtEveryLengthWhateverWasProposed) {
  const Request request{.prompt = kPrompt, .ignore_eos = true};
  const DrafterOptions drafter = Scripted(Script::kRight, request);
  auto engine = MakeEngine({.drafter = drafter, .draft_tokens = 5});
  for (int32_t length = 1; length <= 20; ++length) {
    Request cut = request;
    cut.max_new_tokens = length;
    const GenerateResult result = Complete(*engine, cut);
    EXPECT_EQ(result.finish, FinishReason::kLength);
    EXPECT_THAT(result.tokens, ElementsAreArray(Plain(cut).tokens));
    EXPECT_EQ(result.stats.new_tokens, length);
    EXPECT_EQ(result.stats.rounds + result.stats.accepted, length);
  }
}

TEST(EngineTest, EndsAtAStopTokenAnywhereInARound) {
  Request request{.prompt = kPrompt, .max_new_tokens = 40, .ignore_eos = true};
  const std::vector<int32_t> text = Plain(request).tokens;
  const DrafterOptions drafter = Scripted(Script::kRight, request);
  for (int32_t k = 1; k <= 8; ++k) {
    auto engine = MakeEngine({.drafter = drafter, .draft_tokens = k});
    for (const int32_t stop : std::vector<int32_t>(text.begin(), text.begin() + 12)) {
      request.stop_tokens = {stop};
      const GenerateResult plain = Plain(request);
      const GenerateResult result = Complete(*engine, request);
      EXPECT_EQ(result.finish, FinishReason::kStop);
      EXPECT_EQ(result.tokens.back(), stop);
      EXPECT_THAT(result.tokens, ElementsAreArray(plain.tokens));
      EXPECT_LE(result.stats.accepted, static_cast<int64_t>(result.tokens.size()));
    }
  }
}

TEST(EngineTest, EosEndsATextUnlessIgnored) {
  // mamba2_groups has eos 0 and 2; a prompt whose greedy text runs into one of them is looked for.
  auto engine = MakeEngine({.model = TestModel("mamba2_groups")});
  bool met = false;
  for (int32_t first = 1; first < 80 && !met; ++first) {
    const GenerateResult ignoring =
        Complete(*engine, {.prompt = {first, 5}, .max_new_tokens = 60, .ignore_eos = true});
    const GenerateResult heeding = Complete(*engine, {.prompt = {first, 5}, .max_new_tokens = 60});
    EXPECT_EQ(ignoring.tokens.size(), 60u);
    if (heeding.finish == FinishReason::kStop) {
      met = true;
      EXPECT_THAT(heeding.tokens.back(), ::testing::AnyOf(0, 2));
      EXPECT_EQ(std::vector<int32_t>(ignoring.tokens.begin(),
                                     ignoring.tokens.begin() + heeding.tokens.size()),
                heeding.tokens);
    }
  }
  EXPECT_TRUE(met) << "no greedy text met an eos token; the test needs another model";
}

TEST(EngineTest, StatisticsCountWhatHappened) {
  const Request request{.prompt = kPrompt, .max_new_tokens = 30, .ignore_eos = true};
  const GenerateResult right = Complete(
      *MakeEngine({.drafter = Scripted(Script::kRight, request), .draft_tokens = 4}), request);
  EXPECT_EQ(right.stats.rounds, 6);
  EXPECT_EQ(right.stats.drafted, 24);
  EXPECT_EQ(right.stats.accepted, 24);
  EXPECT_DOUBLE_EQ(right.stats.AcceptanceRate(), 1.0);
  EXPECT_DOUBLE_EQ(right.stats.MeanAcceptanceLength(), 5.0);
  EXPECT_THAT(right.stats.AcceptanceByPosition(), ElementsAreArray({1.0, 1.0, 1.0, 1.0}));
  EXPECT_EQ(right.stats.prompt_tokens, 5);
  EXPECT_EQ(right.stats.first_round_tokens, 5);

  const GenerateResult wrong = Complete(
      *MakeEngine({.drafter = Scripted(Script::kWrong, request), .draft_tokens = 4}), request);
  EXPECT_EQ(wrong.stats.rounds, 30);
  EXPECT_EQ(wrong.stats.accepted, 0);
  // The last rounds have room for fewer: 3, 2, 1, 0 proposals.
  EXPECT_EQ(wrong.stats.drafted, 26 * 4 + 3 + 2 + 1);
  EXPECT_EQ(wrong.tokens, right.tokens);
}

TEST(EngineTest, RequestsJoinAndLeaveBetweenRounds) {
  std::vector<Request> requests;
  std::vector<std::vector<int32_t>> alone;
  for (int32_t i = 0; i < 9; ++i) {
    Request request{.prompt = {i + 1, 7, 3 * i}, .max_new_tokens = 5 + 6 * i, .ignore_eos = true};
    if (i % 2 == 1) {
      request.sampling = {.temperature = 0.9f, .top_k = 20, .seed = 5};
      request.sequence = i;
    }
    alone.push_back(Plain(request).tokens);
    requests.push_back(request);
  }
  // Ngram proposals are the same alone and together, so sampled texts may be compared with a run of
  // their own; greedy ones with plain decoding.
  for (const bool coupled : {false, true}) {
    EngineOptions options{.drafter = DrafterOptions::Ngram(), .draft_tokens = 3};
    options.acceptance = coupled ? AcceptanceMethod::kCoupled : AcceptanceMethod::kRejection;
    std::vector<std::vector<int32_t>> expected;
    for (const Request& request : requests) {
      expected.push_back(Complete(*MakeEngine(options), request).tokens);
      if (request.sampling.temperature == 0.0f) {
        EXPECT_EQ(expected.back(), alone[expected.size() - 1]);
      }
    }
    options.max_sequences = 3;
    auto engine = MakeEngine(options);
    std::vector<RequestId> ids;
    for (const Request& request : requests) ids.push_back(*engine->Submit(request));
    std::map<RequestId, std::vector<int32_t>> streamed;
    while (!engine->idle()) {
      auto updates = engine->Step();
      ASSERT_TRUE(updates.ok()) << updates.status();
      EXPECT_LE(updates->size(), 3u);
      for (const RequestUpdate& update : *updates) {
        for (const NewToken& token : update.tokens) streamed[update.id].push_back(token.id);
      }
    }
    for (size_t i = 0; i < ids.size(); ++i) {
      auto result = engine->TakeResult(ids[i]);
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->tokens, expected[i]) << "request " << i;
      EXPECT_EQ(streamed[ids[i]], expected[i]) << "request " << i;
      EXPECT_EQ(engine->TakeResult(ids[i]).status().code(), absl::StatusCode::kNotFound);
    }
  }
}

TEST(EngineTest, RunDecodesUntilNothingIsLeft) {
  auto engine = MakeEngine({.drafter = DrafterOptions::Ngram(), .max_sequences = 2});
  std::vector<Request> requests;
  std::vector<RequestId> ids;
  for (int32_t i = 0; i < 5; ++i) {
    requests.push_back({.prompt = {i + 1, 7}, .max_new_tokens = 20 + 9 * i, .ignore_eos = true});
    ids.push_back(*engine->Submit(requests.back()));
  }
  std::map<RequestId, std::vector<int32_t>> seen;
  int updates = 0;
  const auto see = [&](const RequestUpdate& update) {
    for (const NewToken& token : update.tokens) seen[update.id].push_back(token.id);
    return ++updates != 4;
  };
  ASSERT_TRUE(engine->Run(see).ok());  // ended by the fourth update
  EXPECT_FALSE(engine->idle());
  for (const RequestId id : ids) {
    EXPECT_EQ(engine->Stats(id)->new_tokens, static_cast<int64_t>(seen[id].size()));
  }
  ASSERT_TRUE(engine->Run(see).ok());
  EXPECT_TRUE(engine->idle());
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::vector<int32_t> tokens = engine->TakeResult(ids[i])->tokens;
    EXPECT_EQ(tokens, Plain(requests[i]).tokens) << "request " << i;
    EXPECT_EQ(seen[ids[i]], tokens) << "request " << i;
  }
  ASSERT_TRUE(engine->Run().ok());  // nothing to do
}

TEST(EngineTest, SyntheticAcceptanceCountsAsAsked) {
  const Request request{.prompt = kPrompt, .max_new_tokens = 1000, .ignore_eos = true};
  for (const double probability : {0.0, 0.75, 1.0}) {
    auto engine = MakeEngine({.drafter = DrafterOptions::FromModel(TestModel("mamba1_tied")),
                              .draft_tokens = 3,
                              .synthetic_acceptance = {probability}});
    const GenerateResult result = Complete(*engine, request);
    EXPECT_EQ(result.tokens.size(), 1000u);
    ASSERT_FALSE(result.stats.AcceptanceByPosition().empty());
    // The share of some 400 lots: a standard deviation is 0.02.
    EXPECT_NEAR(result.stats.AcceptanceByPosition().front(), probability, 0.1);
  }
}

TEST(EngineTest, SyntheticAcceptanceGoesByPosition) {
  const std::vector<double> rates{0.9, 0.6, 0.3};  // the last one for the fourth, too
  auto engine = MakeEngine({.drafter = DrafterOptions::FromModel(TestModel("mamba1_tied")),
                            .draft_tokens = 4,
                            .synthetic_acceptance = rates});
  const GenerateResult result =
      Complete(*engine, {.prompt = kPrompt, .max_new_tokens = 6000, .ignore_eos = true});
  const std::vector<double> given_reached = result.stats.ConditionalAcceptanceByPosition();
  const std::vector<double> by_position = result.stats.AcceptanceByPosition();
  ASSERT_EQ(given_reached.size(), 4u);
  double product = 1;
  for (int j = 0; j < 4; ++j) {
    // Some 2000 lots for the first, 300 for the last: standard deviations of 0.007 and 0.03.
    const double rate = rates[std::min(j, 2)];
    EXPECT_NEAR(given_reached[j], rate, j < 2 ? 0.04 : 0.1) << j;
    EXPECT_NEAR(by_position[j], product *= rate, 0.05) << j;
    EXPECT_LE(result.stats.reached_at[j], result.stats.drafted_at[j]);
  }
  EXPECT_EQ(result.stats.reached_at[0], result.stats.drafted_at[0]);
}

TEST(EngineTest, ProfileOfRounds) {
  const Request request{.prompt = kPrompt, .max_new_tokens = 40, .ignore_eos = true};
  for (const CheckpointPolicy policy :
       {CheckpointPolicy::kEveryRound, CheckpointPolicy::kWhenLogFull,
        CheckpointPolicy::kSnapshotPerToken}) {
    auto engine = MakeEngine({.drafter = DrafterOptions::FromModel(TestModel("mamba1_tied")),
                              .draft_tokens = 3,
                              .max_sequences = 2,
                              .checkpoint_policy = policy,
                              .profile_rounds = true});
    const GenerateResult result = Complete(*engine, request);
    EXPECT_EQ(result.tokens, Plain(request).tokens);
    const RoundProfile& profile = engine->profile();
    EXPECT_EQ(profile.rounds, result.stats.rounds);
    EXPECT_EQ(profile.sequences, profile.rounds);
    EXPECT_EQ(profile.rows, result.stats.drafted + result.stats.rounds);
    EXPECT_GT(profile.draft_ms, 0);
    EXPECT_GT(profile.verify_ms, 0);
    EXPECT_GT(profile.commit_ms(), 0);
    EXPECT_LE(profile.total_ms(), result.stats.ttft_ms + result.stats.decode_ms);
    if (policy == CheckpointPolicy::kSnapshotPerToken) {
      EXPECT_EQ(profile.states_written, profile.rows);
      EXPECT_EQ(profile.logged_rows, 0);
    } else if (policy == CheckpointPolicy::kEveryRound) {
      // Every pass folds what was committed, the pending token included, and logs the proposals.
      EXPECT_EQ(profile.states_written, profile.rounds);
      EXPECT_EQ(profile.logged_rows, result.stats.drafted);
      EXPECT_LE(profile.replayed_rows, result.stats.accepted);
    } else {
      EXPECT_LT(profile.states_written, profile.rounds);
      EXPECT_GT(profile.replayed_rows, result.stats.accepted);
    }
    engine->ResetProfile();
    EXPECT_EQ(engine->profile().rounds, 0);
  }
  auto engine = MakeEngine({});
  Complete(*engine, request);
  EXPECT_EQ(engine->profile().rounds, 0);  // not asked for
}

TEST(EngineTest, CoupledSamplingIsTheSameForEveryDrafter) {
  for (const uint64_t seed : {1, 2, 3}) {
    const Request request{.prompt = kPrompt,
                          .max_new_tokens = 40,
                          .sampling = {.temperature = 1.1f, .top_p = 0.95f, .seed = seed},
                          .ignore_eos = true};
    std::vector<std::vector<int32_t>> texts;
    for (const DrafterOptions& drafter :
         {DrafterOptions::None(), DrafterOptions::Ngram(), Scripted(Script::kRandom, request),
          DrafterOptions::FromModel(TestModel(kModel)),
          DrafterOptions::FromModel(TestModel("mamba1_tied"))}) {
      for (const int32_t k : {1, 4, 8, kAutoDraftTokens}) {
        texts.push_back(Complete(*MakeEngine({.drafter = drafter,
                                              .draft_tokens = k,
                                              .acceptance = AcceptanceMethod::kCoupled}),
                                 request)
                            .tokens);
        EXPECT_EQ(texts.back(), texts.front());
      }
    }
  }
}

TEST(EngineTest, SeedsReproduceAndDiffer) {
  const auto text = [](uint64_t seed, uint32_t sequence) {
    return Complete(*MakeEngine({.drafter = DrafterOptions::FromModel(TestModel("mamba1_tied"))}),
                    {.prompt = kPrompt,
                     .max_new_tokens = 30,
                     .sampling = {.temperature = 1.0f, .seed = seed},
                     .ignore_eos = true,
                     .sequence = sequence})
        .tokens;
  };
  EXPECT_EQ(text(1, 0), text(1, 0));
  EXPECT_NE(text(1, 0), text(2, 0));
  EXPECT_NE(text(1, 0), text(1, 1));
}

TEST(EngineTest, AutomaticDraftLengthFollowsAcceptance) {
  const Request request{.prompt = kPrompt, .max_new_tokens = 200, .ignore_eos = true};
  const std::string profile = ::testing::TempDir() + "engine_test_profile.json";
  ASSERT_TRUE(WriteTuningProfile(profile, ProfileOfRounds(/*proposal_us=*/10)).ok());
  const GenerateResult wrong = Complete(*MakeEngine({.drafter = Scripted(Script::kWrong, request),
                                                     .draft_tokens = kAutoDraftTokens,
                                                     .tuning_profile = profile}),
                                        request);
  // Proposals that are never right are given up, but for a probe now and then.
  EXPECT_LT(wrong.stats.drafted, 40);
  EXPECT_GT(wrong.stats.drafted, 5);
  Request short_request = request;
  short_request.max_new_tokens = 60;
  const GenerateResult right =
      Complete(*MakeEngine({.drafter = Scripted(Script::kRight, short_request),
                            .draft_tokens = kAutoDraftTokens,
                            .tuning_profile = profile}),
               short_request);
  EXPECT_GT(right.stats.MeanAcceptanceLength(), 5.0);
}

TEST(EngineTest, AProfileThatDoesNotFitIsRefused) {
  const std::string path = ::testing::TempDir() + "engine_test_other_profile.json";
  TuningProfile profile = ProfileOfRounds(10);
  profile.device = "another machine";
  ASSERT_TRUE(WriteTuningProfile(path, profile).ok());
  const auto refused =
      Engine::Create({.model = TestModel(kModel), .num_threads = 1, .tuning_profile = path});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()),
              AllOf(HasSubstr(path), HasSubstr("another machine")));
  EXPECT_EQ(Engine::Create({.model = TestModel(kModel), .tuning_profile = path + ".missing"})
                .status()
                .code(),
            absl::StatusCode::kNotFound);
}

TEST(EngineTest, SavedStateContinuesToTheBit) {
  const std::string path = ::testing::TempDir() + "engine_test.state";
  Request whole{.prompt = kPrompt, .max_new_tokens = 40, .ignore_eos = true};
  const std::vector<int32_t> text = Plain(whole).tokens;
  for (const CheckpointPolicy policy :
       {CheckpointPolicy::kEveryRound, CheckpointPolicy::kWhenLogFull,
        CheckpointPolicy::kSnapshotPerToken}) {
    auto engine = MakeEngine({.drafter = Scripted(Script::kAlternating, whole),
                              .draft_tokens = 3,
                              .checkpoint_policy = policy});
    Request part = whole;
    part.max_new_tokens = 17;
    part.keep_state = true;
    auto id = engine->Submit(part);
    ASSERT_TRUE(id.ok()) << id.status();
    while (!engine->idle()) ASSERT_TRUE(engine->Step().ok());
    ASSERT_TRUE(engine->SaveState(*id, path).ok());

    Request rest{.max_new_tokens = 23, .ignore_eos = true};
    auto other = MakeEngine({.drafter = DrafterOptions::Ngram()});
    auto restored = other->RestoreState(path, rest);
    ASSERT_TRUE(restored.ok()) << restored.status();
    while (!other->idle()) ASSERT_TRUE(other->Step().ok());
    EXPECT_EQ(other->TakeResult(*restored)->tokens,
              std::vector<int32_t>(text.begin() + 17, text.end()));

    // A longer prompt behind the saved text is the same as the whole prompt at once.
    rest.prompt = {9, 8, 7};
    restored = other->RestoreState(path, rest);
    ASSERT_TRUE(restored.ok()) << restored.status();
    while (!other->idle()) ASSERT_TRUE(other->Step().ok());
    Request at_once = rest;
    at_once.prompt = kPrompt;
    at_once.prompt.insert(at_once.prompt.end(), text.begin(), text.begin() + 17);
    at_once.prompt.insert(at_once.prompt.end(), {9, 8, 7});
    EXPECT_EQ(other->TakeResult(*restored)->tokens, Plain(at_once).tokens);
  }
  std::remove(path.c_str());
}

TEST(EngineTest, ForksContinueIndependently) {
  const Request whole{.prompt = kPrompt, .max_new_tokens = 40, .ignore_eos = true};
  const std::vector<int32_t> text = Plain(whole).tokens;
  for (const DrafterOptions& drafter :
       {DrafterOptions::Ngram(), DrafterOptions::FromModel(TestModel("mamba1_tied"))}) {
    auto engine = MakeEngine({.drafter = drafter, .draft_tokens = 3, .max_sequences = 3});
    const RequestId id = *engine->Submit(whole);
    ASSERT_TRUE(engine->Step().ok());
    ASSERT_TRUE(engine->Step().ok());
    const int64_t so_far = engine->Stats(id)->new_tokens;
    auto same = engine->Fork(id, {.max_new_tokens = 20, .ignore_eos = true});
    auto other = engine->Fork(id, {.prompt = {3, 3}, .max_new_tokens = 20, .ignore_eos = true});
    ASSERT_TRUE(same.ok() && other.ok()) << same.status() << other.status();
    EXPECT_EQ(engine->Fork(id, {}).status().code(), absl::StatusCode::kResourceExhausted);
    while (!engine->idle()) ASSERT_TRUE(engine->Step().ok());
    EXPECT_EQ(engine->TakeResult(id)->tokens, text);
    EXPECT_EQ(engine->TakeResult(*same)->tokens,
              std::vector<int32_t>(text.begin() + so_far, text.begin() + so_far + 20));
    Request at_once{.prompt = kPrompt, .max_new_tokens = 20, .ignore_eos = true};
    at_once.prompt.insert(at_once.prompt.end(), text.begin(), text.begin() + so_far);
    at_once.prompt.insert(at_once.prompt.end(), {3, 3});
    EXPECT_EQ(engine->TakeResult(*other)->tokens, Plain(at_once).tokens);
  }
}

TEST(EngineTest, DamagedStateFilesAreRefused) {
  const std::string path = ::testing::TempDir() + "engine_test_damaged.state";
  auto engine = MakeEngine({});
  const RequestId id =
      *engine->Submit({.prompt = kPrompt, .max_new_tokens = 5, .keep_state = true});
  while (!engine->idle()) ASSERT_TRUE(engine->Step().ok());
  ASSERT_TRUE(engine->SaveState(id, path).ok());
  std::ifstream in(path, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), {});
  const auto refuse = [&](std::string bytes, const char* why) {
    std::ofstream(path, std::ios::binary) << bytes;
    const absl::Status status = engine->RestoreState(path, {.max_new_tokens = 1}).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(path), HasSubstr(why)));
  };
  for (size_t n = 1; n < good.size(); n += n < 64 ? 1 : 97) refuse(good.substr(0, n), "");
  refuse(good + "x", "truncated or too long");
  refuse("not a state file at all", "SWSTATE");
  for (size_t i = 0; i < good.size(); i += 131) {
    std::string flipped = good;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x20);
    refuse(flipped, "");
  }
  std::string version = good;
  version[8] = 9;
  refuse(version, "version 9");
  std::ofstream(path, std::ios::binary) << good;
  EXPECT_TRUE(engine->RestoreState(path, {.max_new_tokens = 1}).ok());
  auto stranger = MakeEngine({.model = TestModel("mamba2_limit")});
  EXPECT_THAT(std::string(stranger->RestoreState(path, {}).status().message()),
              HasSubstr("another model"));
  std::filesystem::remove(path);
  EXPECT_EQ(engine->RestoreState(path, {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(engine->SaveState(id, "/nonexistent-folder/x").ok());
}

TEST(EngineTest, CancelKeepsWhatIsThere) {
  auto engine = MakeEngine({.max_sequences = 1});
  const RequestId running = *engine->Submit({.prompt = kPrompt, .ignore_eos = true});
  const RequestId waiting = *engine->Submit({.prompt = kPrompt, .ignore_eos = true});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(engine->Step().ok());
  EXPECT_EQ(engine->TakeResult(running).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(engine->Cancel(running).ok());
  EXPECT_TRUE(engine->Cancel(waiting).ok());
  EXPECT_TRUE(engine->idle());
  const auto result = engine->TakeResult(running);
  EXPECT_EQ(result->finish, FinishReason::kCancelled);
  EXPECT_EQ(result->tokens.size(), 3u);
  EXPECT_TRUE(engine->TakeResult(waiting)->tokens.empty());
  EXPECT_EQ(engine->Cancel(99).code(), absl::StatusCode::kNotFound);

  int rounds = 0;
  const auto stopped = engine->Generate({.prompt = kPrompt, .ignore_eos = true},
                                        [&](const RequestUpdate&) { return ++rounds < 4; });
  EXPECT_EQ(stopped->finish, FinishReason::kCancelled);
  EXPECT_EQ(stopped->tokens.size(), 4u);
}

TEST(EngineTest, BadRequestsAreRefusedAndNothingIsLost) {
  auto engine = MakeEngine({});
  const auto refuse = [&](const Request& request, const char* why) {
    const absl::Status status = engine->Submit(request).status();
    EXPECT_FALSE(status.ok()) << why;
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  };
  refuse({}, "at least one");
  refuse({.prompt = {1, 64}}, "64 at position 1; legal are 0 to 63");
  refuse({.prompt = {-1}}, "-1");
  refuse({.prompt = {1}, .max_new_tokens = 0}, "max_new_tokens is 0");
  refuse({.prompt = {1}, .max_new_tokens = 2'000'000'000}, "legal are 1 to 16777216");
  refuse({.prompt = {1}, .sampling = {.temperature = -1.0f}}, "temperature is -1");
  refuse({.prompt = {1}, .sampling = {.temperature = std::nanf("")}}, "temperature");
  refuse({.prompt = {1}, .sampling = {.top_k = -3}}, "top_k is -3");
  refuse({.prompt = {1}, .sampling = {.top_p = 0.0f}}, "top_p is 0");
  refuse({.prompt = {1}, .sampling = {.min_p = 1.0f}}, "min_p is 1");
  refuse({.prompt = {1}, .stop_tokens = std::vector<int32_t>(40, 1)}, "stop tokens");
  refuse({.prompt = {1}, .stop = {"x"}}, "tokenizer");
  EXPECT_TRUE(engine->idle());
  EXPECT_EQ(Complete(*engine, {.prompt = kPrompt, .max_new_tokens = 5}).tokens.size(), 5u);
}

TEST(EngineTest, BadOptionsAreRefused) {
  const auto refuse = [](EngineOptions options, const char* why) {
    const absl::Status status = Engine::Create(std::move(options)).status();
    EXPECT_FALSE(status.ok()) << why;
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  };
  const auto model = TestModel(kModel);
  refuse({}, "no model");
  refuse({.model = model, .draft_tokens = 16}, "draft_tokens is 16; legal are 0 to 15");
  refuse({.model = model, .draft_tokens = -2}, "draft_tokens");
  refuse({.model = model, .max_sequences = 0}, "max_sequences is 0");
  refuse({.model = model, .checkpoint_stride = 0}, "checkpoint_stride");
  refuse({.model = model, .prefill_chunk = -1}, "prefill_chunk");
  refuse({.model = model, .num_threads = -1}, "num_threads");
  refuse({.model = model, .synthetic_acceptance = {0.5, 1.5}}, "synthetic_acceptance is 1.5");
  refuse({.model = model, .synthetic_acceptance = {std::nan("")}}, "synthetic_acceptance");
  refuse({.model = model, .drafter = DrafterOptions::Ngram(0, 3)}, "ngram");
  refuse({.model = model, .drafter = DrafterOptions::FromModel(nullptr)}, "no draft model");
  refuse({.model = model, .drafter = DrafterOptions::FromModel(TestModel("mamba2_odd"))},
         "vocabulary mismatch");
}

TEST(EngineTest, MemoryTellsPoliciesApart) {
  const auto memory = [](CheckpointPolicy policy) {
    return MakeEngine(
               {.drafter = DrafterOptions::Ngram(), .draft_tokens = 7, .checkpoint_policy = policy})
        ->memory();
  };
  const EngineMemory replay = memory(CheckpointPolicy::kEveryRound);
  const EngineMemory snapshots = memory(CheckpointPolicy::kSnapshotPerToken);
  EXPECT_GT(replay.replay_bytes, 0);
  EXPECT_EQ(snapshots.replay_bytes, 0);
  const ModelInfo& info = TestModel(kModel)->info();
  EXPECT_EQ(snapshots.state_bytes - replay.state_bytes, 8 * info.state_bytes);
}

}  // namespace
}  // namespace sidewinder
