// The report as one page: facts, plots, tables. It loads nothing and runs no script; colours follow
// the reader's choice of light or dark.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "apps/sidewinder/bench/report.h"
#include "apps/sidewinder/bench/svg.h"
#include "apps/sidewinder/flags.h"

namespace sidewinder::cli {
namespace {

constexpr char kStyle[]{R"css(
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1a2230;--muted:#5b6675;--grid:#dfe3e8;
--warn:#fff3d6;--warn-ink:#7a4b00;--faster:#1668dc;--slower:#d4380d;
--c0:#1668dc;--c1:#d97706;--c2:#0a8f5b;--c3:#b5179e;--c4:#d4380d;--c5:#0e8aa5;--c6:#6b8e00;--c7:#6d4fd0}
@media (prefers-color-scheme:dark){:root{--page:#12161c;--card:#1b2129;--ink:#e6eaf0;--muted:#9aa6b5;
--grid:#323b47;--warn:#3b2d0d;--warn-ink:#ffd27d;--faster:#4c9aff;--slower:#ff7a45;
--c0:#4c9aff;--c1:#ffab40;--c2:#3ecf8e;--c3:#f06ad6;--c4:#ff7a45;--c5:#4dd0e1;--c6:#b5d334;--c7:#a58bff}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:76rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem}
h3{font-size:1rem;margin:0 0 .25rem}
p{margin:.4rem 0;color:var(--muted)}
.warn{background:var(--warn);color:var(--warn-ink);padding:.6rem .8rem;border-radius:.5rem;font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.5rem 0}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
code{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,25rem),1fr));gap:1rem;margin-bottom:1.5rem}
.card{background:var(--card);border:1px solid var(--grid);border-radius:.6rem;padding:.8rem;min-width:0}
.card p{font-size:.85rem}
svg{display:block;width:100%;height:auto}
svg .label{fill:var(--muted);font-size:12px}svg .level{fill:var(--ink);font-size:11px;font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
.grid{stroke:var(--grid)}.reference{stroke:var(--muted);stroke-dasharray:3 3}
.contour{fill:none;stroke:var(--ink);stroke-width:1;opacity:.55}.even{stroke-width:2.5;opacity:1}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.4rem 0 0;padding:0;font-size:.85rem}
.key{display:inline-block;width:1.4rem;border-top:3px solid;vertical-align:middle;margin-right:.4rem}
.dashed{border-top-style:dashed}
.scroll{overflow-x:auto;margin-bottom:1rem}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--grid)}
th{color:var(--muted);font-weight:500}th:first-child,td:first-child{text-align:left}
tr.plain td{color:var(--muted)}
@media (max-width:40rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.4rem}}
)css"};

std::string Element(const char* tag, const std::string& text) {
  return absl::StrCat("<", tag, ">", EscapeXml(text), "</", tag, ">");
}

std::string Card(const std::string& title, const std::string& text, const std::string& drawing) {
  return absl::StrCat("<section class=\"card\">", Element("h3", title), drawing,
                      text.empty() ? "" : Element("p", text), "</section>\n");
}

std::string Table(const std::vector<std::string>& head,
                  const std::vector<std::vector<std::string>>& rows) {
  std::string html = "<div class=\"scroll\"><table><thead><tr>";
  for (const std::string& cell : head) html += Element("th", cell);
  html += "</tr></thead><tbody>";
  for (const std::vector<std::string>& row : rows) {
    html += row.front() == "plain" ? "<tr class=\"plain\">" : "<tr>";
    for (const std::string& cell : row) html += Element("td", cell);
    html += "</tr>";
  }
  return html + "</tbody></table></div>\n";
}

std::string Fact(const std::string& name, const std::string& value) {
  return Element("dt", name) + Element("dd", value);
}

std::string Facts(const BenchReport& report) {
  std::string html = "<dl>";
  html += Fact("machine", MachineText(report.model, report.threads));
  html += Fact("model", ModelText(report.model));
  for (const DraftReport& draft : report.drafts) {
    html += Fact("draft", draft.model ? ModelText(*draft.model) : draft.name);
  }
  html += Fact("prompts", RunText(report, report.settings.front()));
  html += Fact("chat template", report.chat_template ? "applied" : "none");
  html += Fact("floor of plain decoding",
               absl::StrFormat("%.1f tokens/s, at %.2f GB/s measured in this run",
                               PlainFloor(report, report.settings.front().setting),
                               report.read_bandwidth / 1e9));
  html += Fact("measured", absl::StrCat(report.date, ", sidewinder " SIDEWINDER_VERSION));
  html += Element("dt", "command") + "<dd>" + Element("code", report.command) + "</dd>";
  return html + "</dl>\n";
}

std::string Warnings(const BenchReport& report) {
  std::string html;
  const auto warn = [&html](const std::string& text) {
    absl::StrAppend(&html, "<div class=\"warn\">", EscapeXml(text), "</div>\n");
  };
  if (report.synthetic.on()) warn(report.synthetic.Warning());
  if (report.interrupted) warn("Interrupted: this is what had been measured by then.");
  if (!report.difference.empty()) {
    warn(absl::StrCat("Speculative and plain decoding differ, first at ", report.difference,
                      ". Figures of a wrong text mean nothing."));
  }
  return html;
}

std::string Percent(double share) { return absl::StrFormat("%.1f %%", 100 * share); }

std::string IntervalText(const std::optional<Interval>& interval) {
  return interval ? absl::StrFormat("%.2f–%.2f", interval->low, interval->high) : "–";
}

// The speed-ups of a draft over its numbers of draft tokens; auto stands where it proposed.
PlotSeries SpeedUpSeries(const SettingReport& setting, int32_t draft) {
  PlotSeries series;
  for (const ConfigReport& config : setting.configs) {
    if (config.draft != draft || config.is_plain() || config.draft_tokens < 0) continue;
    series.points.push_back(
        {.x = static_cast<double>(config.draft_tokens),
         .y = config.all.speedup,
         .interval = config.all.speedup_interval,
         .note = absl::StrFormat("%d draft tokens: %.3f (95 %%: %s)", config.draft_tokens,
                                 config.all.speedup, IntervalText(config.all.speedup_interval))});
  }
  std::sort(series.points.begin(), series.points.end(),
            [](const PlotPoint& a, const PlotPoint& b) { return a.x < b.x; });
  return series;
}

PlotSeries AutoSeries(const SettingReport& setting, int32_t draft) {
  PlotSeries series;
  series.line = false;
  for (const ConfigReport& config : setting.configs) {
    if (config.draft != draft || config.draft_tokens >= 0) continue;
    series.points.push_back(
        {.x = config.all.ProposalsPerRound(),
         .y = config.all.speedup,
         .interval = config.all.speedup_interval,
         .note = absl::StrFormat("auto, %.2f proposals a round on average: %.3f (95 %%: %s)",
                                 config.all.ProposalsPerRound(), config.all.speedup,
                                 IntervalText(config.all.speedup_interval))});
  }
  return series;
}

// Of these settings, a series for each draft and setting.
std::string SpeedUpPlot(const BenchReport& report, absl::Span<const SettingReport> settings) {
  LinePlotSpec spec{.title = "Speed-up against draft tokens",
                    .x_title = "draft tokens K",
                    .y_title = "speed-up",
                    .reference = 1.0};
  int color = 0;
  for (const SettingReport& setting : settings) {
    for (size_t draft = 0; draft < report.drafts.size(); ++draft, ++color) {
      std::string name = ShortName(report.drafts[draft].name);
      if (settings.size() > 1) {
        absl::StrAppend(&name, ", ", SettingText(report.sweep, setting.setting));
      }
      for (PlotSeries series : {SpeedUpSeries(setting, static_cast<int32_t>(draft)),
                                AutoSeries(setting, static_cast<int32_t>(draft))}) {
        if (series.points.empty()) continue;
        series.name = series.line ? name : absl::StrCat(name, ", auto");
        series.color = color;
        series.dashed = !series.line;
        spec.series.push_back(std::move(series));
      }
    }
  }
  if (spec.series.empty()) return "";
  return Card("Speed-up against draft tokens",
              "Tokens per second over plain decoding of the same prompts. Bars: 95 % confidence. "
              "Plain decoding is 1; auto stands at the proposals it made on average.",
              LinePlot(spec) + Legend(spec.series));
}

// The configuration of a draft that proposes most: it has all positions. Auto, which proposes much
// where much is accepted, only if there is nothing else.
const ConfigReport* LongestDraft(const SettingReport& setting, int32_t draft) {
  const ConfigReport* longest = nullptr;
  for (const ConfigReport& config : setting.configs) {
    if (config.draft != draft || config.is_plain()) continue;
    if (longest == nullptr || config.draft_tokens > longest->draft_tokens) longest = &config;
  }
  return longest;
}

std::string PositionPlot(const BenchReport& report, const SettingReport& setting) {
  LinePlotSpec spec{.title = "Acceptance by position",
                    .x_title = "position in the draft",
                    .y_title = "accepted",
                    .percent_y = true};
  const auto add = [&spec](const std::string& name, const std::vector<double>& rates, int color,
                           bool dashed) {
    PlotSeries series{.name = name, .color = color, .dashed = dashed};
    for (size_t j = 0; j < rates.size(); ++j) {
      const auto position = static_cast<double>(j + 1);
      series.points.push_back({.x = position, .y = rates[j], .note = Percent(rates[j])});
    }
    spec.series.push_back(std::move(series));
  };
  for (size_t draft = 0; draft < report.drafts.size(); ++draft) {
    const ConfigReport* config = LongestDraft(setting, static_cast<int32_t>(draft));
    if (config == nullptr) continue;
    const std::string name = absl::StrCat(ShortName(report.drafts[draft].name),
                                          ", K = ", DraftTokensText(config->draft_tokens));
    const DecodeStats& stats = config->all.stats;
    add(name, stats.AcceptanceByPosition(), static_cast<int>(draft), false);
    add(name + ", once reached", stats.ConditionalAcceptanceByPosition(), static_cast<int>(draft),
        true);
  }
  if (spec.series.empty()) return "";
  return Card("Acceptance by position",
              "Solid: of all proposals at a position. Dashed: of those whose predecessors in the "
              "round were all accepted.",
              LinePlot(spec) + Legend(spec.series));
}

std::string TimeSplitPlot(const BenchReport& report, const SettingReport& setting) {
  StackedBarsSpec spec{
      .title = "Time of a round", .x_title = "ms a round", .parts = {"draft", "verify", "commit"}};
  for (const ConfigReport& config : setting.configs) {
    if (!config.profile) continue;
    const RoundProfile& p = *config.profile;
    const auto rounds = static_cast<double>(p.rounds);
    spec.bars.push_back(
        {ConfigName(report, config),
         {Ratio(p.draft_ms, rounds), Ratio(p.verify_ms, rounds), Ratio(p.commit_ms(), rounds)}});
  }
  if (spec.bars.empty()) return "";
  std::vector<PlotSeries> legend;
  for (size_t i = 0; i < spec.parts.size(); ++i) {
    legend.push_back({.name = spec.parts[i], .color = static_cast<int>(i)});
  }
  const char* const how =
      report.CountsStates()
          ? "From a pass of its own whose rounds are enqueued one by one and waited for phase by "
            "phase: recorded loops cannot be looked into, and are faster."
          : "From a pass of its own, with a look at the clock behind every phase.";
  return Card("Where the time of a round goes", how, StackedBars(spec) + Legend(legend));
}

std::string SurfacePlot(const BenchReport& report, const SettingReport& setting, int32_t draft) {
  const std::optional<CostModel> model = CostModelOf(setting, draft);
  if (!model) return "";
  SurfaceSpec spec{.title = "Predicted speed-up",
                   .x_title = "acceptance of a proposal, once reached",
                   .y_title = "draft tokens K",
                   .contours = {1, 1.25, 1.5, 2, 3, 4, 6, 8}};
  for (const ConfigReport& config : setting.configs) {
    const int32_t k = config.draft_tokens;
    if (config.draft != draft || k <= 0) continue;
    spec.num_rows = std::max(spec.num_rows, k);
    // The single probability that gives the mean length that was measured.
    spec.points.push_back({.x = AcceptanceForLength(config.all.stats.MeanAcceptanceLength(), k),
                           .y = static_cast<double>(k),
                           .note = absl::StrFormat("%.2f", config.all.speedup)});
  }
  spec.value = [&](double acceptance, int k) { return model->SpeedUp(acceptance, k); };
  spec.contour_x = [&](double level, int k) -> std::optional<double> {
    const double length = level * Ratio(model->RoundMs(k), model->plain_ms);
    if (length > k + 1 || length <= 1) return std::nullopt;
    return AcceptanceForLength(length, k);
  };
  const std::string text = absl::StrFormat(
      "Model: a round takes %.4g ms and %.4g ms for each proposal, fitted to the measured rounds "
      "(within %.1f %%); plain %.4g ms. Bold: break-even. Points: measured speed-ups, at the one "
      "acceptance that gives the measured mean length.",
      model->base_ms, model->proposal_ms, 100 * model->worst_error, model->plain_ms);
  return Card(
      absl::StrCat(
          "Speed-up by acceptance and draft tokens",
          report.drafts.size() > 1 ? absl::StrCat(": ", ShortName(report.drafts[draft].name)) : ""),
      text, Surface(spec));
}

// Speed-ups by category, of the configuration that is fastest in all.
std::string CategoryPlot(const BenchReport& report, const SettingReport& setting) {
  const ConfigReport* best = nullptr;
  for (const ConfigReport& config : setting.configs) {
    if (config.is_plain() || config.by_category.empty()) continue;
    if (best == nullptr || config.all.speedup > best->all.speedup) best = &config;
  }
  if (best == nullptr) return "";
  DotPlotSpec spec{.title = "Speed-up by category", .x_title = "speed-up", .reference = 1.0};
  spec.rows.push_back({"all", best->all.speedup, best->all.speedup_interval});
  for (const auto& [category, measured] : best->by_category) {
    spec.rows.push_back({category, measured.speedup, measured.speedup_interval});
  }
  return Card("Speed-up by category",
              absl::StrCat("With ", ConfigName(report, *best),
                           " draft tokens, the fastest in all. Bars: 95 % confidence."),
              DotPlot(spec));
}

std::string ResultsTable(const BenchReport& report, const SettingReport& setting) {
  std::vector<std::vector<std::string>> rows;
  for (const ConfigReport& config : setting.configs) {
    const Measurement& m = config.all;
    const bool plain = config.is_plain();
    rows.push_back(
        {ConfigName(report, config), absl::StrFormat("%.1f", m.TokensPerSecond()),
         absl::StrFormat("%.1f–%.1f", Quantile(m.tokens_per_second, 0.1),
                         Quantile(m.tokens_per_second, 0.9)),
         absl::StrFormat("%.2f", m.speedup), plain ? "–" : IntervalText(m.speedup_interval),
         absl::StrFormat("%.2f", m.end_to_end_speedup),
         plain ? "–" : Percent(m.stats.AcceptanceRate()),
         absl::StrFormat("%.2f", m.stats.MeanAcceptanceLength()),
         absl::StrFormat("%.2f", m.TokensPerRound()), absl::StrFormat("%.2f", Mean(m.ttft_ms)),
         absl::StrFormat("%.3f", Mean(m.ms_per_token)), absl::StrFormat("%.3f", m.MsPerRound()),
         Percent(config.FractionOfFloor()), Percent(m.repeat_spread),
         plain || !config.identical ? "–"
         : *config.identical        ? "yes"
                                    : "NO"});
  }
  return Table({"draft tokens", "tokens/s", "10–90 % of prompts", "speed-up", "95 %",
                "with the prompt", "accepted", "mean length", "tokens a round", "TTFT ms",
                "ms a token", "ms a round", "of floor", "spread of repeats", "same text"},
               rows);
}

std::string CategoryTable(const BenchReport& report, const SettingReport& setting) {
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < setting.configs.front().by_category.size(); ++i) {
    for (const ConfigReport& config : setting.configs) {
      const auto& [category, m] = config.by_category[i];
      const bool plain = config.is_plain();
      rows.push_back({category, ConfigName(report, config), absl::StrCat(m.ttft_ms.size()),
                      absl::StrFormat("%.1f", m.TokensPerSecond()),
                      absl::StrFormat("%.2f", m.speedup),
                      plain ? "–" : IntervalText(m.speedup_interval),
                      plain ? "–" : Percent(m.stats.AcceptanceRate()),
                      absl::StrFormat("%.2f", m.stats.MeanAcceptanceLength()),
                      absl::StrFormat("%.2f", Mean(m.ttft_ms)),
                      absl::StrFormat("%.3f", Mean(m.ms_per_token))});
    }
  }
  if (rows.empty()) return "";
  return absl::StrCat(Element("h3", "By category"),
                      Table({"category", "draft tokens", "requests", "tokens/s", "speed-up", "95 %",
                             "accepted", "mean length", "TTFT ms", "ms a token"},
                            rows));
}

std::string Megabytes(double bytes) { return absl::StrFormat("%.3f", bytes / 1e6); }

std::string BytesTable(const BenchReport& report, const SettingReport& setting) {
  std::vector<std::vector<std::string>> rows;
  for (const ConfigReport& config : setting.configs) {
    if (!config.moved || !config.profile) continue;
    const MovedBytes& moved = *config.moved;
    const double bandwidth = Ratio(moved.total() * 1e3, config.all.MsPerRound());
    const RoundProfile& p = *config.profile;
    rows.push_back(
        {ConfigName(report, config), Megabytes(moved.weights), Megabytes(moved.draft_weights),
         Megabytes(moved.states_read), Megabytes(moved.states_written), Megabytes(moved.log_read),
         Megabytes(moved.log_written), Megabytes(moved.draft_states), Megabytes(moved.total()),
         absl::StrFormat("%.2f", bandwidth / 1e9),
         Megabytes(static_cast<double>(config.memory.state_bytes)),
         Megabytes(static_cast<double>(config.memory.replay_bytes)),
         absl::StrFormat("%.2f", 1e3 * Ratio(p.roll_back_ms, static_cast<double>(p.rounds)))});
  }
  if (rows.empty()) return "";
  return absl::StrCat(Element("h3", "Bytes moved a round and held for a request, in MB"),
                      Table({"draft tokens", "weights", "draft weights", "states read",
                             "states written", "log read", "log written", "draft states", "total",
                             "GB/s", "states held", "log held", "roll back µs"},
                            rows));
}

std::string SettingSection(const BenchReport& report, const SettingReport& setting) {
  const std::string name = SettingText(report.sweep, setting.setting);
  std::string html = Element("h2", name.empty() ? "Results" : name);
  if (!name.empty()) html += Element("p", RunText(report, setting));
  html += ResultsTable(report, setting);
  html += "<div class=\"plots\">\n";
  html += SpeedUpPlot(report, absl::MakeConstSpan(&setting, 1));
  html += PositionPlot(report, setting);
  html += TimeSplitPlot(report, setting);
  for (size_t draft = 0; draft < report.drafts.size(); ++draft) {
    html += SurfacePlot(report, setting, static_cast<int32_t>(draft));
  }
  html += CategoryPlot(report, setting);
  html += "</div>\n";
  return html + CategoryTable(report, setting) + BytesTable(report, setting);
}

}  // namespace

std::string BenchHtml(const BenchReport& report) {
  std::string html = absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>",
      Element("title", absl::StrCat("sidewinder bench: ", ShortName(report.model.path))), "<style>",
      kStyle, "</style></head><body><main>\n",
      Element("h1",
              absl::StrCat("Speculative against plain decoding: ", ShortName(report.model.path))),
      Warnings(report), Facts(report));
  if (report.settings.size() > 1) {
    html += Element("h2", "All settings") + "<div class=\"plots\">" +
            SpeedUpPlot(report, report.settings) + "</div>\n";
  }
  for (const SettingReport& setting : report.settings) html += SettingSection(report, setting);
  html += Element("p", "Definitions of all figures: docs/benchmarking.md of the project.");
  return html + "</main></body></html>\n";
}

}  // namespace sidewinder::cli
