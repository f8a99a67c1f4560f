// Drafts of another vocabulary: the text is the verifier's, whatever they say; and a draft that
// would be accepted with the verifier's vocabulary is accepted with another.
#include "speculative/drafters/retokenizing_drafter.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/registry.h"
#include "models/synthetic.h"
#include "models/weight_loader.h"
#include "sidewinder/engine.h"
#include "speculative/drafters/host_bridge.h"
#include "tests/runtime/tokenizer/golden.h"
#include "tests/testing/permuted_model.h"
#include "tests/testing/test_models.h"

namespace sidewinder {
namespace {

const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new testing::NeedsTestDevice);

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using testing::TestModel;

// Bytes and special tokens in the text, characters that are cut, texts of one token.
std::vector<std::vector<int32_t>> Prompts(const Model& model) {
  const Tokenizer& tokenizer = *model.tokenizer();
  const auto limit = static_cast<int32_t>(model.info().vocab_limit);
  std::vector<int32_t> mixed = tokenizer.Encode("the draft");
  for (int32_t i = 0; i < 40; ++i) mixed.push_back((7 + i * i * 5) % limit);
  std::vector<int32_t> cut = tokenizer.Encode("words \u00e9\U0001F40D");
  if (cut.size() > 3) cut.pop_back();
  return {tokenizer.Encode("the model reads a word and then"), {limit / 2}, mixed, cut, {0, 0}};
}

// A model of random weights that speaks.
std::shared_ptr<const Model> SyntheticWithTokenizer(const std::string& preset) {
  const std::string name = absl::StrCat(kSyntheticPrefix, preset);
  const auto silent = Model::Load(name, {.device = testing::TestDevice()});
  SW_CHECK(silent.ok()) << silent.status();
  auto network = CreateLanguageModel(
      *SyntheticConfig(preset),
      WeightLoader(SyntheticWeights{name}, {.device = (*silent)->shared_device()}));
  SW_CHECK(network.ok()) << network.status();
  auto tokenizer = testing::GoldenTokenizer("llama3");
  ModelInfo info = (*silent)->info();
  info.vocab_limit = std::min<int64_t>(info.vocab_limit, tokenizer->vocab_size());
  return std::make_shared<const Model>(info, *std::move(network), std::move(tokenizer),
                                       (*silent)->shared_device());
}

class RetokenizingTest : public ::testing::Test {
 protected:
  // Every text of every prompt, decoded `batch` at a time.
  static std::vector<std::vector<int32_t>> Texts(EngineOptions options, int32_t batch,
                                                 const SamplingParams& sampling, DecodeStats* stats,
                                                 int32_t max_new_tokens = 40) {
    options.max_sequences = batch;
    options.num_threads = 1;
    const auto prompts = Prompts(*options.model);
    auto engine = Engine::Create(std::move(options));
    SW_CHECK(engine.ok()) << engine.status();
    std::vector<RequestId> ids;
    for (size_t i = 0; i < prompts.size(); ++i) {
      ids.push_back(*(*engine)->Submit({.prompt = prompts[i],
                                        .max_new_tokens = max_new_tokens,
                                        .sampling = sampling,
                                        .ignore_eos = true,
                                        .sequence = static_cast<uint32_t>(i)}));
    }
    const absl::Status run = (*engine)->Run();
    SW_CHECK(run.ok()) << run;
    std::vector<std::vector<int32_t>> texts;
    for (const RequestId id : ids) {
      const GenerateResult result = *(*engine)->TakeResult(id);
      stats->Add(result.stats);
      texts.push_back(result.tokens);
    }
    return texts;
  }

  static void ExpectLossless(const std::shared_ptr<const Model>& verifier,
                             const std::shared_ptr<const Model>& draft) {
    ASSERT_FALSE(SharesVocabulary(*verifier, *draft));
    DecodeStats none, all;
    const auto plain = Texts({.model = verifier}, 3, {}, &none);
    for (const int32_t k : {1, 2, 3, 4, 5, 6, 7, 8, kMaxDraftTokens, kAutoDraftTokens}) {
      for (const int32_t batch : {1, 3}) {
        const auto texts = Texts(
            {.model = verifier, .drafter = DrafterOptions::FromModel(draft), .draft_tokens = k},
            batch, {}, &all);
        EXPECT_EQ(texts, plain) << "K " << k << ", batch " << batch;
      }
    }
    EXPECT_GT(all.drafted, 0);
    // With shared noise the text of a seed is the verifier's, too.
    const SamplingParams sampling = {.temperature = 0.9f, .top_p = 0.95f, .seed = 3};
    const auto sampled =
        Texts({.model = verifier, .acceptance = AcceptanceMethod::kCoupled}, 1, sampling, &none);
    EXPECT_EQ(Texts({.model = verifier,
                     .drafter = DrafterOptions::FromModel(draft),
                     .acceptance = AcceptanceMethod::kCoupled},
                    3, sampling, &all),
              sampled);
    // By rejection the text may be another one; certain proposals have no distribution.
    Texts({.model = verifier, .drafter = DrafterOptions::FromModel(draft)}, 3, sampling, &all);
  }
};

TEST_F(RetokenizingTest, PiecesDraftForBytes) {
  ExpectLossless(TestModel("mamba2_text"), TestModel("mamba1_pieces"));
}

TEST_F(RetokenizingTest, BytesDraftForPieces) {
  ExpectLossless(TestModel("mamba1_pieces"), TestModel("mamba2_text"));
}

TEST_F(RetokenizingTest, TheSameNetworkDraftsForItself) {
  const testing::TempFolder folder;
  ExpectLossless(
      TestModel("mamba2_text"),
      testing::PermutedModel(testing::SourceDir() + "/tests/goldens/models/mamba2_text", folder));
}

// Their keys and values take room, and how much is an estimate at first.
TEST_F(RetokenizingTest, ModelsWithAttentionDraft) {
  const auto verifier = TestModel("mamba2_text");
  DecodeStats none, all;
  const auto plain = Texts({.model = verifier}, 3, {}, &none, 300);
  for (const char* preset : {"jamba-tiny", "llama-tiny"}) {
    const auto draft = SyntheticWithTokenizer(preset);
    ASSERT_GT(draft->info().kv_bytes, 0);
    EXPECT_EQ(
        Texts({.model = verifier, .drafter = DrafterOptions::FromModel(draft)}, 3, {}, &all, 300),
        plain);
  }
  EXPECT_GT(all.drafted, 0);
}

TEST_F(RetokenizingTest, AllPoliciesGiveTheSameText) {
  DecodeStats stats;
  const auto plain = Texts({.model = TestModel("mamba2_text")}, 1, {}, &stats);
  for (const CheckpointPolicy policy :
       {CheckpointPolicy::kEveryRound, CheckpointPolicy::kWhenLogFull,
        CheckpointPolicy::kSnapshotPerToken}) {
    EXPECT_EQ(Texts({.model = TestModel("mamba2_text"),
                     .drafter = DrafterOptions::FromModel(TestModel("mamba1_pieces")),
                     .checkpoint_policy = policy},
                    2, {}, &stats),
              plain);
  }
}

// What a GPU's rounds put between the decoder and a drafter on the host.
TEST_F(RetokenizingTest, TheBridgeChangesNothing) {
  const auto verifier = TestModel("mamba2_text");
  if (testing::TestDevice() != "cpu") {
    GTEST_SKIP() << "on a GPU every drafter on the host has its bridge, and one is no host memory "
                    "for another";
  }
  const auto draft = TestModel("mamba1_pieces");
  DrafterOptions bridged;
  bridged.kind = DrafterOptions::Kind::kCustom;
  bridged.factory = [&]() -> std::unique_ptr<Drafter> {
    auto drafter =
        RetokenizingDrafter::Create({.verifier = verifier, .model = draft, .num_slots = 3});
    SW_CHECK(drafter.ok()) << drafter.status();
    return std::make_unique<HostBridge>(*std::move(drafter));
  };
  DecodeStats direct_stats, bridged_stats;
  const auto direct =
      Texts({.model = verifier, .drafter = DrafterOptions::FromModel(draft)}, 3, {}, &direct_stats);
  EXPECT_EQ(Texts({.model = verifier, .drafter = bridged}, 3, {}, &bridged_stats), direct);
  EXPECT_EQ(bridged_stats.drafted, direct_stats.drafted);
  EXPECT_EQ(bridged_stats.accepted, direct_stats.accepted);
}

TEST_F(RetokenizingTest, ForksAndSavedStatesGoOn) {
  const auto verifier = TestModel("mamba2_text");
  const Request request = {.prompt = Prompts(*verifier)[0],
                           .max_new_tokens = 30,
                           .ignore_eos = true,
                           .keep_state = true};
  const auto continued = [&](const DrafterOptions& drafter) {
    auto engine = Engine::Create(
        {.model = verifier, .drafter = drafter, .max_sequences = 3, .num_threads = 1});
    SW_CHECK(engine.ok()) << engine.status();
    const RequestId first = *(*engine)->Submit(request);
    SW_CHECK((*engine)->Run().ok());
    const testing::TempFolder folder;
    SW_CHECK((*engine)->SaveState(first, folder / "state").ok());
    Request more = request;
    more.prompt = verifier->tokenizer()->Encode(" words");
    more.keep_state = false;
    const RequestId ids[] = {*(*engine)->Fork(first, more),
                             *(*engine)->RestoreState(folder / "state", more)};
    SW_CHECK((*engine)->Run().ok());
    std::vector<std::vector<int32_t>> texts;
    for (const RequestId id : ids) texts.push_back((*engine)->TakeResult(id)->tokens);
    return texts;
  };
  const auto plain = continued(DrafterOptions::None());
  EXPECT_EQ(plain[0], plain[1]);
  EXPECT_EQ(continued(DrafterOptions::FromModel(TestModel("mamba1_pieces"))), plain);
}

TEST_F(RetokenizingTest, PairsWithoutTokenizersAreRefused) {
  const absl::Status status =
      Engine::Create({.model = TestModel("mamba2_text"),
                      .drafter = DrafterOptions::FromModel(TestModel("mamba2_odd"))})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("vocabulary mismatch"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("mamba2_odd has no tokenizer.json"));
}

// The trained pair, whose texts are those that tokenizers make.
class TrainedPairTest : public ::testing::Test {
 protected:
  static std::shared_ptr<const Model> Load(const std::string& folder) {
    auto model = Model::Load(folder, {.device = testing::TestDevice()});
    SW_CHECK(model.ok()) << model.status();
    return *std::move(model);
  }
  static GenerateResult Complete(const std::shared_ptr<const Model>& verifier,
                                 const DrafterOptions& drafter, const Request& request) {
    auto engine = Engine::Create({.model = verifier, .drafter = drafter, .num_threads = 1});
    SW_CHECK(engine.ok()) << engine.status();
    auto result = (*engine)->Generate(request);
    SW_CHECK(result.ok()) << result.status();
    return *std::move(result);
  }

  const std::string verifier_folder_ = testing::SourceDir() + "/checkpoints/sidewinder-10m";
  const std::string draft_folder_ = testing::SourceDir() + "/checkpoints/sidewinder-draft-1m";
  const testing::TempFolder folder_;
  const std::shared_ptr<const Model> permuted_ = testing::PermutedModel(draft_folder_, folder_);
};

TEST_F(TrainedPairTest, AnotherVocabularyCostsHardlyAnyAcceptance) {
  const auto verifier = Load(verifier_folder_);
  const auto draft = Load(draft_folder_);
  DecodeStats same, other;
  for (const char* prompt : {"Once upon a time there was", "The old man said:", "Far away"}) {
    const Request request = {
        .prompt = verifier->tokenizer()->Encode(prompt), .max_new_tokens = 120, .ignore_eos = true};
    const GenerateResult with_same = Complete(verifier, DrafterOptions::FromModel(draft), request);
    const GenerateResult with_other =
        Complete(verifier, DrafterOptions::FromModel(permuted_), request);
    EXPECT_EQ(with_other.tokens, with_same.tokens);
    same.Add(with_same.stats);
    other.Add(with_other.stats);
  }
  EXPECT_GT(same.AcceptanceRate(), 0.4);
  EXPECT_NEAR(other.AcceptanceRate(), same.AcceptanceRate(), 0.03);
  EXPECT_NEAR(other.MeanAcceptanceLength(), same.MeanAcceptanceLength(), 0.1);
}

TEST_F(TrainedPairTest, ANetworkAgreesWithItselfInAnotherVocabulary) {
  const auto draft = Load(draft_folder_);
  const Request request = {.prompt = draft->tokenizer()->Encode("Once upon a time there was"),
                           .max_new_tokens = 200,
                           .ignore_eos = true};
  const GenerateResult result = Complete(draft, DrafterOptions::FromModel(permuted_), request);
  EXPECT_GT(result.stats.AcceptanceRate(), 0.97);
  EXPECT_GT(result.stats.MeanAcceptanceLength(), 4.8);
}

// A rollback leaves no trace: a round accepts as much as the same round of a drafter that has just
// read the text.
TEST_F(TrainedPairTest, ARoundDependsOnTheTextAlone) {
  const auto verifier = Load(verifier_folder_);
  const DrafterOptions drafter = DrafterOptions::FromModel(permuted_);
  auto engine = Engine::Create({.model = verifier, .drafter = drafter, .num_threads = 1});
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::vector<int32_t> text = verifier->tokenizer()->Encode("Once upon a time there was a");
  int32_t left = 80;
  ASSERT_TRUE((*engine)->Submit({.prompt = text, .max_new_tokens = left, .ignore_eos = true}).ok());
  int same = 0, rounds = 0;
  while (!(*engine)->idle()) {
    const auto updates = (*engine)->Step();
    ASSERT_TRUE(updates.ok()) << updates.status();
    std::vector<int32_t> tokens;
    for (const NewToken& token : updates->at(0).tokens) tokens.push_back(token.id);
    auto fresh = Engine::Create({.model = verifier, .drafter = drafter, .num_threads = 1});
    ASSERT_TRUE(fresh.ok()) << fresh.status();
    ASSERT_TRUE(
        (*fresh)->Submit({.prompt = text, .max_new_tokens = left, .ignore_eos = true}).ok());
    same += (*fresh)->Step()->at(0).tokens.size() == tokens.size();
    ++rounds;
    text.insert(text.end(), tokens.begin(), tokens.end());
    left -= static_cast<int32_t>(tokens.size());
  }
  EXPECT_EQ(same, rounds);
}

}  // namespace
}  // namespace sidewinder
