// What is computed from measurements, and the forms in which it is shown.
#include "apps/sidewinder/bench/report.h"

#include <string>

#include "apps/sidewinder/bench/svg.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sidewinder::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CostModelTest, FindsTheLineBehindExactRounds) {
  const auto model = FitCostModel({{0, 2.0}, {1, 2.5}, {2, 3.0}, {4, 4.0}});
  ASSERT_TRUE(model.has_value());
  EXPECT_NEAR(model->base_ms, 2.0, 1e-9);
  EXPECT_NEAR(model->proposal_ms, 0.5, 1e-9);
  EXPECT_NEAR(model->worst_error, 0, 1e-9);
  // Everything accepted: 3 tokens a round of 3 ms, against one in 2.
  EXPECT_NEAR(model->SpeedUp(1, 2), 2.0, 1e-9);
  EXPECT_NEAR(model->SpeedUp(0, 2), 2.0 / 3, 1e-9);
  // 1 + p = 2.5 / 2.
  EXPECT_NEAR(*model->BreakEven(1), 0.25, 1e-9);
}

TEST(CostModelTest, NeedsTwoNumbersOfProposals) {
  EXPECT_FALSE(FitCostModel({{0, 2.0}}).has_value());
  EXPECT_FALSE(FitCostModel({{0, 2.0}, {0, 2.1}}).has_value());
  EXPECT_FALSE(FitCostModel({{0, 0.0}, {2, 0.0}}).has_value());
}

TEST(CostModelTest, BreakEvenMayNotExist) {
  const auto model = FitCostModel({{0, 1.0}, {1, 3.0}});
  EXPECT_FALSE(model->BreakEven(1).has_value());  // no acceptance gives 3 tokens in a round of 2
}

TEST(SyntheticAcceptanceTest, ParsesItsThreeForms) {
  EXPECT_FALSE(SyntheticAcceptance::Parse("")->on());
  EXPECT_THAT(*SyntheticAcceptance::Parse("0.8")->Rates(4), ElementsAre(0.8));
  EXPECT_THAT(*SyntheticAcceptance::Parse("0.9,0.5")->Rates(4), ElementsAre(0.9, 0.5));
  EXPECT_EQ(SyntheticAcceptance::Parse("0.9,0.5")->ToString(), "0.9,0.5");
  EXPECT_EQ(SyntheticAcceptance::Parse("0")->ToJson(), 0.0);
  EXPECT_TRUE(SyntheticAcceptance::Parse("0")->on());
  const auto by_length = *SyntheticAcceptance::Parse("length:3.2");
  EXPECT_EQ(by_length.ToJson(), "length:3.2");
  for (const int32_t k : {3, 4, 8}) {
    EXPECT_NEAR(MeanAcceptanceLength(by_length.Rates(k)->front(), k), 3.2, 1e-9) << k;
  }
  EXPECT_THAT(std::string(by_length.Rates(2).status().message()),
              HasSubstr("with 2 draft tokens a round commits at most 3 tokens"));
  EXPECT_THAT(std::string(by_length.Rates(kAutoDraftTokens).status().message()), HasSubstr("auto"));
  EXPECT_TRUE(by_length.Rates(0).ok());  // plain decoding
  for (const char* text : {"1.5", "nan", "0.5,", "0.5,x", "length:0.5", "length:17",
                           "length:", "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"}) {
    EXPECT_FALSE(SyntheticAcceptance::Parse(text).ok()) << text;
  }
}

TEST(SyntheticAcceptanceTest, LengthsAreGeometricSums) {
  EXPECT_DOUBLE_EQ(MeanAcceptanceLength(0.5, 3), 1.875);
  EXPECT_DOUBLE_EQ(MeanAcceptanceLength(1, 4), 5);
  EXPECT_NEAR(AcceptanceForLength(1.875, 3), 0.5, 1e-12);
  EXPECT_NEAR(AcceptanceForLength(9, 3), 1, 1e-12);
  EXPECT_NEAR(AcceptanceForLength(0, 3), 0, 1e-12);
}

TEST(SweepTest, EveryCombination) {
  const auto sweep = ParseSweep({.draft = "none,a,ngram,a",
                                 .draft_tokens = "0,2,auto",
                                 .batch = "1,4",
                                 .temperature = "0,0.7",
                                 .context = "0,512",
                                 .checkpoint_policy = "every-round,snapshot"});
  ASSERT_TRUE(sweep.ok()) << sweep.status();
  EXPECT_THAT(sweep->drafts, ElementsAre("a", "ngram"));
  EXPECT_THAT(sweep->draft_tokens, ElementsAre(2, kAutoDraftTokens));
  EXPECT_EQ(sweep->settings.size(), 16u);
  EXPECT_EQ(SettingText(*sweep, sweep->settings.back()),
            "batch 4, temperature 0.7, context 512, snapshot");
  EXPECT_EQ(SettingText(*ParseSweep({}), ParseSweep({})->settings.front()), "");
  for (const SweepFlags& flags :
       {SweepFlags{.draft = "a,,b"}, SweepFlags{.draft_tokens = "16"}, SweepFlags{.batch = "0"},
        SweepFlags{.temperature = "warm"}, SweepFlags{.temperature = "-1"},
        SweepFlags{.context = "-5"}, SweepFlags{.checkpoint_policy = "never"}}) {
    EXPECT_FALSE(ParseSweep(flags).ok());
  }
}

// With two proposals a round, or none if nothing is accepted.
GenerateResult Result(int64_t rounds, int64_t accepted, double decode_ms) {
  GenerateResult result;
  DecodeStats& stats = result.stats;
  stats.rounds = rounds;
  const int64_t drafting = accepted > 0 ? rounds : 0;
  stats.drafted = drafting * 2;
  stats.accepted = accepted;
  stats.drafted_at = {drafting, drafting};
  stats.accepted_at = {accepted, 0};
  stats.reached_at = {drafting, accepted};
  stats.new_tokens = rounds + accepted;
  stats.first_round_tokens = 1;
  stats.ttft_ms = 3;
  stats.decode_ms = decode_ms;
  return result;
}

TEST(MeasurementTest, AddsUpMedians) {
  const std::vector<GenerateResult> slow_pair{Result(11, 0, 20), Result(6, 0, 10)};
  const std::vector<GenerateResult> fast_pair{Result(11, 5, 10), Result(6, 0, 6)};
  const std::vector<BatchSeries> plain{{"a", {BatchRun::Of(slow_pair)}}};
  const std::vector<BatchSeries> fast{
      {"a", {BatchRun::Of(fast_pair), BatchRun::Of(fast_pair), BatchRun::Of(fast_pair)}}};
  const Measurement m = Measure(fast, plain);
  EXPECT_EQ(m.batches, 1);
  EXPECT_EQ(m.rounds, 11);        // the longer request's
  EXPECT_EQ(m.stats.rounds, 17);  // of both
  EXPECT_EQ(m.stats.decode_ms, 10);
  EXPECT_THAT(m.ms_per_token, ElementsAre(10.0 / 15, 6.0 / 5));
  EXPECT_DOUBLE_EQ(m.TokensPerSecond(), 1e3 * 20 / 10);  // all but the first round's two
  EXPECT_DOUBLE_EQ(m.speedup, (20.0 / 10) / (15.0 / 20));
  EXPECT_DOUBLE_EQ(m.MsPerRound(), 1);
  EXPECT_DOUBLE_EQ(m.TokensPerRound(), 22.0 / 17);
  EXPECT_DOUBLE_EQ(Measure(plain, plain).speedup, 1);
  EXPECT_TRUE(OfCategory(plain, "b").empty());
}

TEST(SvgTest, TicksSpanTheValues) {
  EXPECT_THAT(NiceTicks(0, 1), ElementsAre(0, 0.2, 0.4, ::testing::DoubleNear(0.6, 1e-9), 0.8, 1));
  EXPECT_EQ(NiceTicks(0.9, 1.7).front(), 0.8);
  EXPECT_GE(NiceTicks(0.9, 1.7).back(), 1.7);
  EXPECT_GE(NiceTicks(5, 5).size(), 2u);
  EXPECT_EQ(EscapeXml("<a & 'b' \"c\">"), "&lt;a &amp; &#39;b&#39; &quot;c&quot;&gt;");
}

// One setting with everything in it that a report can show.
BenchReport Report() {
  BenchReport report;
  report.command = "sidewinder bench --model '<a & b>'";
  report.model.path = "<model>";
  report.model.device = "cpu";
  report.model.weight_bytes = 1000;
  report.model.state_bytes = 100;
  report.model.log_row_bytes = 10;
  report.read_bandwidth = 1e6;
  report.sweep = *ParseSweep({.draft = "x/d\"raft", .draft_tokens = "2"});
  report.drafts.push_back({.name = "x/d\"raft", .model = report.model, .pair_bandwidth = 1e6});
  report.prompts_name = "a,b.jsonl";
  report.synthetic = *SyntheticAcceptance::Parse("0.9,0.8");
  report.interrupted = true;
  report.difference = "prompt 1 <here>";
  SettingReport& setting = report.settings.emplace_back();
  const std::vector<BatchSeries> plain{{"a & b", {BatchRun::Of({Result(11, 0, 20)})}},
                                       {"c,\"d\"", {BatchRun::Of({Result(11, 0, 20)})}}};
  const std::vector<BatchSeries> fast{{"a & b", {BatchRun::Of({Result(11, 5, 12)})}},
                                      {"c,\"d\"", {BatchRun::Of({Result(11, 5, 13)})}}};
  for (const auto& [draft, k, series] : {std::tuple{-1, 0, plain}, std::tuple{0, 2, fast}}) {
    ConfigReport config{.draft = draft, .draft_tokens = k, .all = Measure(series, plain)};
    if (k == 0) config.all = Measure(plain, plain);
    for (const BatchSeries& one : series) {
      config.by_category.emplace_back(
          one.category, Measure(OfCategory(series, one.category), OfCategory(plain, one.category)));
    }
    config.profile = RoundProfile{.rounds = 10,
                                  .draft_ms = 5,
                                  .verify_ms = 10,
                                  .judge_ms = 1,
                                  .sequences = 10,
                                  .rows = 30,
                                  .logged_rows = 20,
                                  .replayed_rows = 5,
                                  .states_written = 10};
    CountBytes(report, setting.setting, config);
    setting.configs.push_back(std::move(config));
  }
  setting.num_prompts = setting.num_requests = 2;
  return report;
}

TEST(ReportTest, BytesAreCounted) {
  const BenchReport report = Report();
  const ConfigReport& config = report.settings[0].configs[1];
  EXPECT_DOUBLE_EQ(config.floor_bytes.weights, 1000);
  EXPECT_DOUBLE_EQ(config.floor_bytes.draft_weights, 2000);  // two proposals a round
  EXPECT_DOUBLE_EQ(config.floor_bytes.states, 0);            // a CPU
  EXPECT_DOUBLE_EQ(config.moved->states_read, 100);
  EXPECT_DOUBLE_EQ(config.moved->states_written, 100);
  EXPECT_DOUBLE_EQ(config.moved->log_read, 5);
  EXPECT_DOUBLE_EQ(config.moved->log_written, 20);
  EXPECT_DOUBLE_EQ(config.moved->draft_states, 300);
}

TEST(ReportTest, JsonHasAllFigures) {
  const OrderedJson json = BenchJson(Report());
  const OrderedJson& row = json.at("results").at(1);
  EXPECT_EQ(row.at("draft_tokens"), 2);
  EXPECT_EQ(row.at("conditional_acceptance_by_position").size(), 1 + 1u);
  EXPECT_EQ(row.at("speedup_interval").size(), 2u);
  EXPECT_EQ(row.at("categories").size(), 2u);
  EXPECT_DOUBLE_EQ(row.at("time_split").at("draft_ms"), 0.5);
  EXPECT_EQ(row.at("rollback").at("bytes_copied"), 0);
  EXPECT_EQ(json.at("synthetic_acceptance"), OrderedJson({0.9, 0.8}));
  EXPECT_EQ(json.at("cost_models").size(), 1u);
  EXPECT_EQ(json.at("interrupted"), true);
  EXPECT_EQ(json.at("identical"), false);
}

TEST(ReportTest, TableIsStamped) {
  const std::string table = BenchTable(Report());
  EXPECT_THAT(table, HasSubstr("SYNTHETIC ACCEPTANCE: every proposal is accepted by lot, with "
                               "probabilities 0.9,0.8 by position"));
  EXPECT_THAT(table, HasSubstr("INTERRUPTED"));
  EXPECT_THAT(table, HasSubstr("break-even"));
}

// Splits a CSV line, quotes undone.
std::vector<std::string> Cells(const std::string& line) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"') {
      cells.back() += line[i++];
    } else if (line[i] == '"') {
      quoted = !quoted;
    } else if (line[i] == ',' && !quoted) {
      cells.emplace_back();
    } else {
      cells.back() += line[i];
    }
  }
  return cells;
}

TEST(ReportTest, CsvIsRectangular) {
  const std::string csv = BenchCsv(Report());
  std::vector<std::vector<std::string>> lines;
  for (size_t at = 0; at < csv.size();) {
    const size_t end = csv.find("\r\n", at);
    ASSERT_NE(end, std::string::npos);
    lines.push_back(Cells(csv.substr(at, end - at)));
    at = end + 2;
  }
  ASSERT_EQ(lines.size(), 1 + 2 * 3u);
  const auto column = [&](const std::string& name) {
    return std::find(lines[0].begin(), lines[0].end(), name) - lines[0].begin();
  };
  for (size_t i = 1; i < lines.size(); ++i) {
    ASSERT_EQ(lines[i].size(), lines[0].size()) << i;
    EXPECT_EQ(lines[i][column("synthetic_acceptance")], "0.9,0.8");
  }
  EXPECT_EQ(lines[4][column("category")], "all");
  EXPECT_EQ(lines[4][column("draft")], "x/d\"raft");
  EXPECT_EQ(lines[6][column("category")], "c,\"d\"");
  EXPECT_EQ(lines[6][column("draft_ms")], "");
}

TEST(ReportTest, PageIsWellFormedAndStandsAlone) {
  const std::string page = BenchHtml(Report());
  for (const char* outside :
       {"http://", "https://", "<script", "<link", "<img", "@import", "url(", "src=", "href="}) {
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  }
  for (const char* text :
       {"Speed-up against draft tokens", "Acceptance by position", "Where the time of a round goes",
        "Speed-up by acceptance and draft tokens", "Speed-up by category", "SYNTHETIC ACCEPTANCE",
        "Interrupted", "differ, first at prompt 1 &lt;here&gt;", "&lt;a &amp; b&gt;",
        "prefers-color-scheme:dark", "width=device-width"}) {
    EXPECT_NE(page.find(text), std::string::npos) << text;
  }
  // Every element that is opened is closed, innermost first.
  std::vector<std::string> open;
  for (size_t at = page.find('<'); at != std::string::npos; at = page.find('<', at + 1)) {
    const size_t end = page.find('>', at);
    ASSERT_NE(end, std::string::npos);
    if (page[at + 1] == '!') continue;
    if (page[at + 1] == '/') {
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(page.substr(at + 2, end - at - 2), open.back());
      open.pop_back();
    } else if (page[end - 1] != '/') {
      const size_t name_end = page.find_first_of(" >", at);
      open.push_back(page.substr(at + 1, name_end - at - 1));
    }
  }
  EXPECT_TRUE(open.empty());
  for (const char* number : {"\"nan", "\"-nan", "\"inf", "\"-inf"}) {
    EXPECT_EQ(page.find(number), std::string::npos) << number;
  }
}

}  // namespace
}  // namespace sidewinder::cli
