#include "apps/sidewinder/tune_report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "apps/sidewinder/bench/svg.h"
#include "apps/sidewinder/tune_text.h"

namespace sidewinder::cli {
namespace {

constexpr double kTypicalRate{0.8};

std::string Us(double us) {
  return us >= 1000 ? absl::StrFormat("%.0f", us) : absl::StrFormat("%.1f", us);
}
std::string Us(const MeasuredTime& us) {
  return absl::StrFormat("%s (%s to %s)", Us(us.median), Us(us.low), Us(us.high));
}
std::string Percent(double share) { return absl::StrFormat("%.1f %%", 100 * share); }
std::string Signed(double share) { return absl::StrFormat("%+.1f %%", 100 * share); }

std::string Length(int32_t draft_tokens) {
  return draft_tokens == kAutoDraftTokens ? "auto" : absl::StrCat(draft_tokens);
}

class Writer {
 public:
  explicit Writer(const TuningProfile& profile)
      : p_(profile),
        model_(
            CostModelOf(profile, CheckpointPolicy::kEveryRound, EngineOptions().checkpoint_stride)),
        gpu_(profile.threads == 0) {}

  TuneReport Write() {
    report_.title = absl::StrCat("Tuning report: ", p_.model_path, " on ", p_.device);
    Facts();
    if (model_.times.empty()) {
      report_.warnings.push_back("No rounds were measured: there was no time.");
      return std::move(report_);
    }
    if (!p_.complete) {
      report_.warnings.push_back(
          "Measuring ended early: what is missing here was not measured. `sidewinder tune "
          "--resume` goes on.");
    }
    Recommendation();
    RoundsByLength();
    Parts();
    BreakEven();
    Batches();
    Policies();
    Prefill();
    Replay();
    Checks();
    return std::move(report_);
  }

 private:
  void Fact(const std::string& name, const std::string& value) {
    report_.facts.emplace_back(name, value);
  }

  void Facts() {
    Fact("device", absl::StrCat(p_.device, gpu_ ? "" : absl::StrCat(", ", p_.threads, " threads"),
                                p_.driver.empty() ? "" : absl::StrCat(", driver ", p_.driver)));
    Fact("model", absl::StrCat(p_.model_path, ": ", p_.model.Text()));
    Fact("draft", p_.draft ? absl::StrCat(p_.draft_path, ": ", p_.draft->Text())
                           : "none: proposals cost nothing");
    Fact("measured", absl::StrCat(p_.date, ", sidewinder ", p_.sidewinder_version));
    Fact("read bandwidth",
         absl::StrFormat("%.1f GB/s over %.1f MB of weights", p_.read_bytes_per_second / 1e9,
                         static_cast<double>(p_.model.weight_bytes) / 1e6));
    if (p_.empty_round_us.median <= 0) return;
    Fact(gpu_ ? "one more small op in a round" : "an empty parallel region",
         absl::StrFormat("%.2f us (%.2f to %.2f)", p_.launch_us.median, p_.launch_us.low,
                         p_.launch_us.high));
    Fact("a round that does nothing", absl::StrFormat("%.2f us", p_.empty_round_us.median));
  }

  // Reading the weights once, and on a GPU the states once and writing them once.
  double FloorUs(int32_t batch) const {
    const double states = gpu_ ? 2.0 * static_cast<double>(p_.model.state_bytes) * batch : 0;
    return (static_cast<double>(p_.model.weight_bytes) + states) * 1e6 / p_.read_bytes_per_second;
  }

  const MeasuredTime* Measured(const std::vector<RoundMeasurement>& list, int32_t batch,
                               int32_t k) const {
    for (const RoundMeasurement& r : list) {
      if (r.batch == batch && r.draft_tokens == k && r.policy == CheckpointPolicy::kEveryRound) {
        return &r.us;
      }
    }
    return nullptr;
  }

  void Recommendation() {
    ReportSection section{.title = "What to do"};
    section.paragraphs.push_back(
        "Leave the number of draft tokens to --draft-tokens auto: it decides by this profile and "
        "by "
        "the acceptance it sees, and decodes plainly where nothing pays. If it has to be fixed, "
        "the "
        "best number depends on how many proposals are accepted once those ahead of them are:");
    section.head = {"accepted", "best K", "tokens a round", "predicted speed-up"};
    for (const double rate : kReportedRates) {
      const int32_t k = model_.BestDraftTokens(1, {rate}, kReportedLengths);
      section.rows.push_back({Percent(rate), absl::StrCat(k),
                              absl::StrFormat("%.2f", RoundCostModel::ExpectedTokens({rate}, k)),
                              absl::StrFormat("%.2f", model_.SpeedUp(1, {rate}, k))});
    }
    std::vector<std::string> settings;
    if (p_.prefill_chunk > 0)
      settings.push_back(absl::StrCat("--prefill-chunk ", p_.prefill_chunk));
    for (const PolicyChoice& choice : p_.policies) {
      settings.push_back(absl::StrFormat("%s at %d sequences",
                                         PolicyText(choice.policy, choice.stride), choice.batch));
    }
    if (!settings.empty()) {
      section.paragraphs.insert(
          section.paragraphs.begin(),
          absl::StrCat("Fastest of what was tried: ", absl::StrJoin(settings, "; "),
                       ". The engine takes the prefill chunk from this profile by itself; the "
                       "checkpoint policy "
                       "is chosen with --checkpoint-policy."));
    }
    report_.sections.push_back(std::move(section));
  }

  void RoundsByLength() {
    ReportSection section{.title = "Time of a round against rows"};
    section.paragraphs.push_back(absl::StrFormat(
        "One sequence, state written every round, in microseconds: median (10 %% to 90 %% of the "
        "samples). A round with K proposals verifies K + 1 rows. Reading the weights%s once takes "
        "%s us at the bandwidth above: the floor of a pass.",
        gpu_ ? " and the state, and writing the state," : "", Us(FloorUs(1))));
    section.head = {"K", "rows", "verify", "of the floor", "more than K = 0"};
    if (p_.draft) {
      section.head.insert(section.head.end(), {"with the draft", "drafting", "a proposal"});
    }
    const RoundTimes& one = model_.At(1);
    for (int32_t k = 0; k <= kMaxDraftTokens; ++k) {
      const MeasuredTime* verify = Measured(p_.verify, 1, k);
      const MeasuredTime* round = Measured(p_.rounds, 1, k);
      if (verify == nullptr && round == nullptr) continue;
      const double us = one.verify_us[k];
      section.rows.push_back({absl::StrCat(k), absl::StrCat(k + 1),
                              verify != nullptr ? Us(*verify) : "-", Percent(FloorUs(1) / us),
                              Percent(us / one.verify_us[0] - 1)});
      if (!p_.draft) continue;
      const double drafting = one.round_us[k] - us;
      std::vector<std::string>& row = section.rows.back();
      row.push_back(round != nullptr ? Us(*round) : "-");
      row.push_back(round != nullptr ? Us(drafting) : "-");
      row.push_back(round != nullptr && k > 0 ? Us(drafting / k) : "-");
    }
    section.drawing = RoundsPlot();
    report_.sections.push_back(std::move(section));
  }

  PlotSeries MeasuredSeries(const std::vector<RoundMeasurement>& list, const char* name,
                            int color) const {
    PlotSeries series{.name = name, .color = color};
    for (const RoundMeasurement& r : list) {
      if (r.batch != 1 || r.policy != CheckpointPolicy::kEveryRound) continue;
      series.points.push_back(
          {.x = static_cast<double>(r.draft_tokens + 1),
           .y = r.us.median,
           .interval = Interval{r.us.low, r.us.high},
           .note = absl::StrCat(r.draft_tokens, " proposals: ", Us(r.us), " us")});
    }
    std::sort(series.points.begin(), series.points.end(),
              [](const PlotPoint& a, const PlotPoint& b) { return a.x < b.x; });
    return series;
  }

  std::string RoundsPlot() const {
    LinePlotSpec spec{.title = "Time of a round against rows",
                      .x_title = "rows verified, K + 1",
                      .y_title = "microseconds",
                      .reference = FloorUs(1)};
    spec.series.push_back(MeasuredSeries(p_.verify, "verifying", 0));
    if (p_.draft) spec.series.push_back(MeasuredSeries(p_.rounds, "with the draft", 1));
    return LinePlot(spec) + Legend(spec.series);
  }

  void Parts() {
    ReportSection section{.title = "Where the time of a round goes"};
    section.paragraphs.push_back(
        "Of one sequence, in microseconds: reading at the measured bandwidth; what else a pass of "
        "one "
        "row takes (launches, recurrences, the gaps between them); the rows of the proposals; "
        "making "
        "them.");
    section.head = {"K", "floor", "rest of one row", "more rows", "drafting", "round"};
    StackedBarsSpec bars{.title = "Where the time of a round goes",
                         .x_title = "microseconds a round",
                         .parts = {"floor", "rest of one row", "more rows", "drafting"}};
    const RoundTimes& one = model_.At(1);
    for (int32_t k = 0; k <= kReportedLengths; ++k) {
      const double floor = std::min(FloorUs(1), one.verify_us[0]);
      const std::vector<double> parts = {floor, one.verify_us[0] - floor,
                                         std::max(0.0, one.verify_us[k] - one.verify_us[0]),
                                         one.round_us[k] - one.verify_us[k]};
      std::vector<std::string> row = {absl::StrCat(k)};
      for (const double part : parts) row.push_back(Us(part));
      row.push_back(Us(one.round_us[k]));
      section.rows.push_back(std::move(row));
      bars.bars.push_back({.name = absl::StrCat("K = ", k), .parts = parts});
    }
    std::vector<PlotSeries> legend;
    for (size_t i = 0; i < bars.parts.size(); ++i) {
      legend.push_back({.name = bars.parts[i], .color = static_cast<int>(i)});
    }
    section.drawing = StackedBars(bars) + Legend(legend);
    report_.sections.push_back(std::move(section));
  }

  void BreakEven() {
    ReportSection section{.title = "Break-even and predicted speed-up"};
    section.paragraphs.push_back(
        "Over plain decoding, one sequence, if every proposal is accepted with the given "
        "probability "
        "once those ahead of it are: (1 + p + ... + p^K) round(0) / round(K). Break-even is the p "
        "where that is 1.");
    section.head = {"K", "break-even"};
    for (const double rate : kReportedRates)
      section.head.push_back(absl::StrFormat("p = %g", rate));
    LinePlotSpec spec{.title = "Predicted speed-up",
                      .x_title = "draft tokens K",
                      .y_title = "speed-up",
                      .reference = 1.0};
    for (size_t i = 0; i < std::size(kReportedRates); ++i) {
      PlotSeries series{.name = absl::StrFormat("p = %g", kReportedRates[i]),
                        .color = static_cast<int>(i)};
      for (int32_t k = 0; k <= kReportedLengths; ++k) {
        const double speedup = model_.SpeedUp(1, {kReportedRates[i]}, k);
        series.points.push_back(
            {.x = static_cast<double>(k), .y = speedup, .note = absl::StrFormat("%.2f", speedup)});
      }
      spec.series.push_back(std::move(series));
    }
    for (int32_t k = 1; k <= kReportedLengths; ++k) {
      const std::optional<double> even = model_.BreakEven(1, k);
      std::vector<std::string> row = {absl::StrCat(k), even ? Percent(*even) : "never"};
      for (const double rate : kReportedRates) {
        row.push_back(absl::StrFormat("%.2f", model_.SpeedUp(1, {rate}, k)));
      }
      section.rows.push_back(std::move(row));
    }
    section.drawing = LinePlot(spec) + Legend(spec.series);
    report_.sections.push_back(std::move(section));
  }

  void Batches() {
    if (model_.times.size() < 2) return;
    ReportSection section{.title = "Batches"};
    section.paragraphs.push_back(absl::StrFormat(
        "Rounds of several sequences, in microseconds, and the predicted tokens a second of all of "
        "them if a proposal is accepted with probability %g: plain, and with the best K.",
        kTypicalRate));
    section.head = {"sequences",      "K = 0",  "K = 1",    "K = 4",   "K = 8",
                    "plain tokens/s", "best K", "tokens/s", "speed-up"};
    for (const RoundTimes& times : model_.times) {
      const int32_t best = model_.BestDraftTokens(times.batch, {kTypicalRate}, kReportedLengths);
      const double plain = times.batch * 1e6 / times.round_us[0];
      const double speedup = model_.SpeedUp(times.batch, {kTypicalRate}, best);
      section.rows.push_back({absl::StrCat(times.batch), Us(times.round_us[0]),
                              Us(times.round_us[1]), Us(times.round_us[4]), Us(times.round_us[8]),
                              absl::StrFormat("%.0f", plain), absl::StrCat(best),
                              absl::StrFormat("%.0f", plain * speedup),
                              absl::StrFormat("%.2f", speedup)});
    }
    report_.sections.push_back(std::move(section));
  }

  void Policies() {
    ReportSection section{.title = "Checkpoint policies"};
    for (const PolicyChoice& choice : p_.policies) {
      double best = 0;
      const auto is_candidate = [&](const RoundMeasurement& r) {
        return r.batch == choice.batch && r.draft_tokens == 4;
      };
      if (std::count_if(p_.verify.begin(), p_.verify.end(), is_candidate) < 2) continue;
      for (const RoundMeasurement& r : p_.verify) {
        if (is_candidate(r) && r.policy == choice.policy && r.stride == choice.stride) {
          best = r.us.median;
        }
      }
      for (const RoundMeasurement& r : p_.verify) {
        if (!is_candidate(r)) continue;
        const bool won = r.policy == choice.policy && r.stride == choice.stride;
        section.rows.push_back({absl::StrCat(r.batch), PolicyText(r.policy, r.stride), Us(r.us),
                                won ? "chosen" : Signed(r.us.median / best - 1)});
      }
    }
    if (section.rows.empty()) return;
    section.paragraphs.push_back(
        "Rounds of 5 rows a sequence, 4 of them proposals that cost nothing, in microseconds. "
        "Snapshots, a state per row, are what most engines do; here they are a baseline. Replaying "
        "every round is chosen unless another policy gains 3 %.");
    section.head = {"sequences", "policy", "round", "against the chosen"};
    report_.sections.push_back(std::move(section));
  }

  void Prefill() {
    if (p_.prefill.empty()) return;
    ReportSection section{.title = "Prefill chunks"};
    section.paragraphs.push_back(
        "Microseconds a prompt token by the tokens that are evaluated at once. The smallest chunk "
        "within 2 % of the fastest is taken: it needs less memory.");
    section.head = {"chunk", "us a token", "tokens/s", "taken"};
    for (const PrefillMeasurement& m : p_.prefill) {
      section.rows.push_back({absl::StrCat(m.chunk), Us(m.us_per_token),
                              absl::StrFormat("%.0f", 1e6 / m.us_per_token.median),
                              m.chunk == p_.prefill_chunk ? "yes" : ""});
    }
    report_.sections.push_back(std::move(section));
  }

  void Replay() {
    std::map<int32_t, std::pair<const ReplayMeasurement*, const ReplayMeasurement*>> by_length;
    for (const ReplayMeasurement& r : p_.replay) {
      (r.rows == 0 ? by_length[r.draft_tokens].first : by_length[r.draft_tokens].second) = &r;
    }
    ReportSection section{.title = "Replay"};
    for (const auto& [k, pair] : by_length) {
      if (pair.first == nullptr || pair.second == nullptr) continue;
      const double none = pair.first->us.median, all = pair.second->us.median;
      section.rows.push_back({absl::StrCat(k), Us(pair.first->us), Us(pair.second->us),
                              absl::StrFormat("%.2f", (all - none) / k)});
    }
    if (section.rows.empty()) return;
    section.paragraphs.push_back(
        "What it costs to have accepted proposals: the next round replays their rows on top of the "
        "checkpoint. Microseconds of a round with K proposals of which none or all were accepted.");
    section.head = {"K", "none", "all", "a replayed row"};
    report_.sections.push_back(std::move(section));
  }

  void Checks() {
    if (p_.checks.empty()) return;
    ReportSection section{.title = "Prediction against measurement"};
    section.paragraphs.push_back(
        "Microseconds a token of generations whose proposals are accepted by lot (SYNTHETIC "
        "ACCEPTANCE: speed alone, the text is meaningless). Predicted is round(K) over the "
        "tokens a round that the lots gave; for auto, of the K the model thinks best over what it "
        "expects. \"Fitted\": rounds of this K are among "
        "the "
        "measurements above.");
    section.head = {"K", "accepted", "fitted", "predicted", "measured", "error"};
    for (const PredictionCheck& c : p_.checks) {
      section.rows.push_back({Length(c.draft_tokens), Percent(c.acceptance),
                              c.fitted ? "yes" : "no", Us(c.predicted_us), Us(c.measured_us),
                              Signed(c.predicted_us / c.measured_us.median - 1)});
    }
    report_.sections.push_back(std::move(section));
  }

  const TuningProfile& p_;
  const RoundCostModel model_;
  const bool gpu_;
  TuneReport report_;
};

constexpr char kStyle[]{R"css(
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1a2230;--muted:#5b6675;--grid:#dfe3e8;
--warn:#fff3d6;--warn-ink:#7a4b00;
--c0:#1668dc;--c1:#d97706;--c2:#0a8f5b;--c3:#b5179e;--c4:#d4380d;--c5:#0e8aa5;--c6:#6b8e00;--c7:#6d4fd0}
@media (prefers-color-scheme:dark){:root{--page:#12161c;--card:#1b2129;--ink:#e6eaf0;--muted:#9aa6b5;
--grid:#323b47;--warn:#3b2d0d;--warn-ink:#ffd27d;
--c0:#4c9aff;--c1:#ffab40;--c2:#3ecf8e;--c3:#f06ad6;--c4:#ff7a45;--c5:#4dd0e1;--c6:#b5d334;--c7:#a58bff}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:.5rem 0;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:0 0 .5rem}
p{margin:.4rem 0;color:var(--muted)}
.warn{background:var(--warn);color:var(--warn-ink);padding:.6rem .8rem;border-radius:.5rem;font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.5rem 0}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
section{background:var(--card);border:1px solid var(--grid);border-radius:.6rem;padding:.8rem;margin:1rem 0}
svg{display:block;width:100%;max-width:38rem;height:auto}
svg .label{fill:var(--muted);font-size:12px}
.grid{stroke:var(--grid)}.reference{stroke:var(--muted);stroke-dasharray:3 3}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.4rem 0 .8rem;padding:0;font-size:.85rem}
.key{display:inline-block;width:1.4rem;border-top:3px solid;vertical-align:middle;margin-right:.4rem}
.dashed{border-top-style:dashed}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--grid)}
th{color:var(--muted);font-weight:500}th:first-child,td:first-child{text-align:left}
@media (max-width:40rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.4rem}}
)css"};

std::string Element(const char* tag, const std::string& text) {
  return absl::StrCat("<", tag, ">", EscapeXml(text), "</", tag, ">");
}

std::string HtmlTable(const ReportSection& section) {
  if (section.head.empty()) return "";
  std::string html = "<div class=\"scroll\"><table><thead><tr>";
  for (const std::string& cell : section.head) html += Element("th", cell);
  html += "</tr></thead><tbody>\n";
  for (const std::vector<std::string>& row : section.rows) {
    html += "<tr>";
    for (const std::string& cell : row) html += Element("td", cell);
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

// A cell may hold what names of files hold.
std::string MarkdownCell(const std::string& cell) {
  std::string escaped;
  for (const char c : cell) {
    if (c == '|') escaped += '\\';
    escaped += c == '\n' ? ' ' : c;
  }
  return escaped;
}

std::string MarkdownRow(const std::vector<std::string>& cells) {
  std::string row = "|";
  for (const std::string& cell : cells) absl::StrAppend(&row, " ", MarkdownCell(cell), " |");
  return row + "\n";
}

}  // namespace

TuneReport MakeTuneReport(const TuningProfile& profile) { return Writer(profile).Write(); }

std::string ToMarkdown(const TuneReport& report) {
  std::string text = absl::StrCat("# ", report.title, "\n");
  for (const std::string& warning : report.warnings) {
    absl::StrAppend(&text, "\n**", warning, "**\n");
  }
  text += "\n";
  for (const auto& [name, value] : report.facts)
    absl::StrAppend(&text, "- ", name, ": ", value, "\n");
  for (const ReportSection& section : report.sections) {
    absl::StrAppend(&text, "\n## ", section.title, "\n");
    for (const std::string& paragraph : section.paragraphs) {
      absl::StrAppend(&text, "\n", paragraph, "\n");
    }
    if (section.head.empty()) continue;
    absl::StrAppend(&text, "\n", MarkdownRow(section.head),
                    MarkdownRow(std::vector<std::string>(section.head.size(), "---:")));
    for (const std::vector<std::string>& row : section.rows) text += MarkdownRow(row);
  }
  return text + "\nFormulas and definitions: docs/tuning.md of the project.\n";
}

std::string ToHtml(const TuneReport& report) {
  std::string html = absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>",
      Element("title", report.title), "<style>", kStyle, "</style></head><body><main>\n",
      Element("h1", report.title));
  for (const std::string& warning : report.warnings) {
    absl::StrAppend(&html, "<div class=\"warn\">", EscapeXml(warning), "</div>\n");
  }
  html += "<dl>";
  for (const auto& [name, value] : report.facts) {
    html += Element("dt", name) + Element("dd", value);
  }
  html += "</dl>\n";
  for (const ReportSection& section : report.sections) {
    absl::StrAppend(&html, "<section>", Element("h2", section.title), "\n");
    for (const std::string& paragraph : section.paragraphs) html += Element("p", paragraph) + "\n";
    absl::StrAppend(&html, section.drawing, HtmlTable(section), "</section>\n");
  }
  return html + Element("p", "Formulas and definitions: docs/tuning.md of the project.") +
         "</main></body></html>\n";
}

}  // namespace sidewinder::cli
