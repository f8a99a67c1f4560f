#include "apps/sidewinder/bench/svg.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace sidewinder::cli {
namespace {

// Units of the drawings; pages scale them to the width that there is.
constexpr double kWidth{440};
constexpr double kHeight{280};
constexpr double kLeft{60};
constexpr double kRight{20};
constexpr double kTop{12};
constexpr double kBottom{44};
constexpr double kRowHeight{26};
constexpr double kCharWidth{7};  // of labels, about
constexpr double kSideStep{5};   // between series that share an x, so that intervals stay apart
constexpr int kSurfaceColumns{40};

// Maps values to places along one direction.
struct Scale {
  double min, max;  // values
  double from, to;  // places
  double operator()(double value) const {
    return from + (value - min) / (max > min ? max - min : 1) * (to - from);
  }
};

std::string Open(double height, const std::string& title) {
  return absl::StrFormat("<svg viewBox=\"0 0 %g %g\" role=\"img\"><title>%s</title>", kWidth,
                         height, EscapeXml(title));
}

std::string Line(double x1, double y1, double x2, double y2, const char* kind) {
  return absl::StrFormat("<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>",
                         kind, x1, y1, x2, y2);
}

std::string Label(double x, double y, const char* anchor, absl::string_view text,
                  const char* kind = "label") {
  return absl::StrFormat("<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>",
                         kind, x, y, anchor, EscapeXml(text));
}

std::string Vertical(double x, double y, absl::string_view text) {
  return absl::StrFormat(
      "<text class=\"label\" transform=\"translate(%.1f %.1f) rotate(-90)\" "
      "text-anchor=\"middle\">%s</text>",
      x, y, EscapeXml(text));
}

std::string Color(int index) { return absl::StrCat("var(--c", index % kNumColors, ")"); }

std::string Tip(const std::string& note) {
  return note.empty() ? "" : absl::StrCat("<title>", EscapeXml(note), "</title>");
}

std::string Circle(double x, double y, const std::string& color, const std::string& note) {
  return absl::StrFormat(
      "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\" stroke=\"var(--card)\">%s</circle>", x,
      y, color, Tip(note));
}

std::string TickText(double value, bool percent) {
  return percent ? absl::StrFormat("%.0f %%", 100 * value) : absl::StrFormat("%g", value);
}

Scale XScale(const std::vector<PlotSeries>& series, bool integer) {
  double min = 1e300;
  double max = -1e300;
  for (const PlotSeries& one : series) {
    for (const PlotPoint& point : one.points) {
      min = std::min(min, point.x);
      max = std::max(max, point.x);
    }
  }
  if (min > max) min = max = 0;
  const double margin = integer ? 0.35 : 0;
  if (integer) min = std::floor(min), max = std::ceil(max);
  return {min - margin, max + margin, kLeft, kWidth - kRight};
}

Scale YScale(const LinePlotSpec& spec) {
  double min = spec.percent_y ? 0 : spec.reference.value_or(0);
  double max = spec.percent_y ? 1 : spec.reference.value_or(0);
  for (const PlotSeries& series : spec.series) {
    if (spec.percent_y) break;
    for (const PlotPoint& point : series.points) {
      min = std::min({min, point.y, point.interval ? point.interval->low : point.y});
      max = std::max({max, point.y, point.interval ? point.interval->high : point.y});
    }
  }
  const std::vector<double> ticks = NiceTicks(min, max);
  return {std::min(min, ticks.front()), std::max(max, ticks.back()), kHeight - kBottom, kTop};
}

std::string Frame(const LinePlotSpec& spec, const Scale& x, const Scale& y) {
  std::string svg;
  for (const double tick : NiceTicks(y.min, y.max)) {
    svg += Line(kLeft, y(tick), kWidth - kRight, y(tick), "grid");
    svg += Label(kLeft - 6, y(tick) + 4, "end", TickText(tick, spec.percent_y));
  }
  if (spec.integer_x) {
    for (double tick = std::ceil(x.min); tick <= x.max; tick += 1) {
      svg += Label(x(tick), kHeight - kBottom + 16, "middle", TickText(tick, false));
    }
  } else {
    for (const double tick : NiceTicks(x.min, x.max)) {
      svg += Label(x(tick), kHeight - kBottom + 16, "middle", TickText(tick, false));
    }
  }
  svg += Label((kLeft + kWidth - kRight) / 2, kHeight - 8, "middle", spec.x_title);
  svg += Vertical(14, (kTop + kHeight - kBottom) / 2, spec.y_title);
  if (spec.reference) {
    svg += Line(kLeft, y(*spec.reference), kWidth - kRight, y(*spec.reference), "reference");
  }
  return svg;
}

bool Dashed(const PlotSeries& series) { return series.dashed || series.color >= kNumColors; }

std::string DrawSeries(const PlotSeries& series, Scale x, const Scale& y, double shift) {
  x.from += shift;
  x.to += shift;
  std::string path;
  std::string marks;
  const std::string color = Color(series.color);
  for (const PlotPoint& point : series.points) {
    absl::StrAppendFormat(&path, "%s%.1f %.1f", path.empty() ? "M" : " L", x(point.x), y(point.y));
    if (point.interval) {
      absl::StrAppendFormat(
          &marks,
          "<path d=\"M%.1f %.1f V%.1f M%.1f %.1f h8 M%.1f %.1f h8\" stroke=\"%s\" "
          "stroke-width=\"1.5\" fill=\"none\"/>",
          x(point.x), y(point.interval->low), y(point.interval->high), x(point.x) - 4,
          y(point.interval->low), x(point.x) - 4, y(point.interval->high), color);
    }
    marks += Circle(x(point.x), y(point.y), color, point.note);
  }
  if (series.line && series.points.size() > 1) {
    path = absl::StrFormat("<path d=\"%s\" stroke=\"%s\" stroke-width=\"2\" fill=\"none\"%s/>",
                           path, color, Dashed(series) ? " stroke-dasharray=\"5 4\"" : "");
  } else {
    path.clear();
  }
  return path + marks;
}

// Left margin for the names of rows.
template <class Row>
double NameMargin(const std::vector<Row>& rows) {
  size_t longest = 4;
  for (const Row& row : rows) longest = std::max(longest, row.name.size());
  return std::min(170.0, 12 + kCharWidth * static_cast<double>(longest));
}

std::string CutName(const std::string& name) {
  constexpr size_t kHead{11};
  constexpr size_t kTail{10};  // what tells names apart comes last
  if (name.size() <= kHead + kTail) return name;
  return absl::StrCat(name.substr(0, kHead), "…", name.substr(name.size() - kTail));
}

// A horizontal axis below rows.
std::string RowAxis(const Scale& x, double bottom, const std::string& title) {
  std::string svg;
  for (const double tick : NiceTicks(x.min, x.max)) {
    if (tick > x.max * 1.0001) continue;
    svg += Line(x(tick), kTop, x(tick), bottom, "grid");
    svg += Label(x(tick), bottom + 16, "middle", TickText(tick, false));
  }
  return svg + Label((x.from + x.to) / 2, bottom + 36, "middle", title);
}

}  // namespace

std::string EscapeXml(absl::string_view text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

std::vector<double> NiceTicks(double min, double max) {
  if (!(max > min)) max = min + 1;
  constexpr double kWanted{5};
  const double rough = (max - min) / kWanted;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = power * 10;
  for (const double candidate : {1.0, 2.0, 2.5, 5.0}) {
    if (candidate * power >= rough) {
      step = candidate * power;
      break;
    }
  }
  std::vector<double> ticks;
  const double slack = 1e-9 * step;
  for (double i = std::floor(min / step + 1e-9);; ++i) {
    const double tick = i * step;
    ticks.push_back(std::abs(tick) < slack ? 0 : tick);
    if (tick >= max - slack) return ticks;
  }
}

std::string LinePlot(const LinePlotSpec& spec) {
  const Scale x = XScale(spec.series, spec.integer_x);
  const Scale y = YScale(spec);
  std::string svg = Open(kHeight, spec.title) + Frame(spec, x, y);
  const auto count = static_cast<double>(spec.series.size());
  const double step = std::min(kSideStep, 3 * kSideStep / std::max(count, 1.0));
  for (size_t i = 0; i < spec.series.size(); ++i) {
    const double shift = spec.percent_y ? 0 : (static_cast<double>(i) - (count - 1) / 2) * step;
    svg += DrawSeries(spec.series[i], x, y, shift);
  }
  return svg + "</svg>";
}

std::string StackedBars(const StackedBarsSpec& spec) {
  const double bottom = kTop + kRowHeight * static_cast<double>(spec.bars.size());
  double max = 0;
  for (const Bar& bar : spec.bars) {
    double sum = 0;
    for (const double part : bar.parts) sum += part;
    max = std::max(max, sum);
  }
  const Scale x{0, max > 0 ? max : 1, NameMargin(spec.bars), kWidth - kRight - 44};
  std::string svg = Open(bottom + kBottom, spec.title) + RowAxis(x, bottom, spec.x_title);
  for (size_t i = 0; i < spec.bars.size(); ++i) {
    const Bar& bar = spec.bars[i];
    const double top = kTop + kRowHeight * static_cast<double>(i);
    svg += Label(x.from - 6, top + 17, "end", CutName(bar.name));
    double sum = 0;
    for (size_t p = 0; p < bar.parts.size(); ++p) {
      const double from = x(sum);
      sum += bar.parts[p];
      absl::StrAppendFormat(
          &svg, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\">%s</rect>",
          from, top + 4, std::max(0.0, x(sum) - from), kRowHeight - 8, Color(static_cast<int>(p)),
          Tip(absl::StrFormat("%s, %s: %.4g", bar.name, spec.parts[p], bar.parts[p])));
    }
    svg += Label(x(sum) + 5, top + 17, "start", absl::StrFormat("%.3g", sum));
  }
  return svg + "</svg>";
}

std::string DotPlot(const DotPlotSpec& spec) {
  const double bottom = kTop + kRowHeight * static_cast<double>(spec.rows.size());
  double max = spec.reference.value_or(0);
  double min = 0;
  for (const DotRow& row : spec.rows) {
    max = std::max({max, row.value, row.interval ? row.interval->high : row.value});
  }
  const Scale x{min, max * 1.02, NameMargin(spec.rows), kWidth - kRight - 40};
  std::string svg = Open(bottom + kBottom, spec.title) + RowAxis(x, bottom, spec.x_title);
  if (spec.reference)
    svg += Line(x(*spec.reference), kTop, x(*spec.reference), bottom, "reference");
  for (size_t i = 0; i < spec.rows.size(); ++i) {
    const DotRow& row = spec.rows[i];
    const double y = kTop + kRowHeight * (static_cast<double>(i) + 0.5);
    svg += Label(x.from - 6, y + 4, "end", CutName(row.name));
    if (row.interval) {
      absl::StrAppendFormat(&svg,
                            "<path d=\"M%.1f %.1f H%.1f M%.1f %.1f v8 M%.1f %.1f v8\" "
                            "stroke=\"var(--c0)\" stroke-width=\"1.5\" fill=\"none\"/>",
                            x(row.interval->low), y, x(row.interval->high), x(row.interval->low),
                            y - 4, x(row.interval->high), y - 4);
    }
    svg += Circle(x(row.value), y, Color(0), row.name);
    svg += Label(kWidth - kRight, y + 4, "end", absl::StrFormat("%.2f", row.value));
  }
  return svg + "</svg>";
}

std::string Surface(const SurfaceSpec& spec) {
  const Scale x{0, 1, kLeft, kWidth - kRight};
  const double row_height = (kHeight - kTop - kBottom) / spec.num_rows;
  // Row r is centred at r.
  const Scale y{0.5, spec.num_rows + 0.5, kHeight - kBottom, kTop};
  std::string svg = Open(kHeight, spec.title) + "<g shape-rendering=\"crispEdges\">";
  for (int row = 1; row <= spec.num_rows; ++row) {
    for (int c = 0; c < kSurfaceColumns; ++c) {
      const double value = spec.value((c + 0.5) / kSurfaceColumns, row);
      // Three times as fast, or as slow, is as deep as a colour gets.
      const double depth = std::min(1.0, std::abs(std::log(std::max(value, 1e-3))) / std::log(3.0));
      absl::StrAppendFormat(
          &svg,
          "<rect x=\"%.5g\" y=\"%.5g\" width=\"%.5g\" height=\"%.5g\" fill=\"%s\" "
          "opacity=\"%.2f\"/>",
          x(double{1} * c / kSurfaceColumns), y(row) - row_height / 2,
          (x.to - x.from) / kSurfaceColumns, row_height,
          value >= 1 ? "var(--faster)" : "var(--slower)", 0.85 * depth);
    }
  }
  svg += "</g>";
  for (int row = 1; row <= spec.num_rows; ++row) {
    svg += Label(kLeft - 6, y(row) + 4, "end", absl::StrCat(row));
  }
  for (size_t i = 0; i < spec.contours.size(); ++i) {
    const double level = spec.contours[i];
    // Labels of neighbours stand in different rows.
    const int label_row = spec.num_rows - static_cast<int>(i % 3) * std::max(1, spec.num_rows / 6);
    std::string path;
    double label_x = 0, label_y = 0;
    for (int row = 1; row <= spec.num_rows; ++row) {
      const std::optional<double> at = spec.contour_x(level, row);
      if (!at || *at <= 0) continue;
      if (row <= label_row || path.empty()) label_x = x(*at), label_y = y(row);
      absl::StrAppendFormat(&path, "%s%.1f %.1f", path.empty() ? "M" : " L", x(*at), y(row));
    }
    if (path.empty()) continue;
    absl::StrAppendFormat(&svg, "<path class=\"contour%s\" d=\"%s\"/>", level == 1 ? " even" : "",
                          path);
    svg += Label(std::min(label_x, x.to - 14), label_y + 4, "middle", absl::StrFormat("%g×", level),
                 "level");
  }
  for (int tick = 0; tick <= 100; tick += 20) {
    svg += Label(x(tick / 100.0), kHeight - kBottom + 16, "middle", absl::StrFormat("%d %%", tick));
  }
  for (const PlotPoint& point : spec.points) {
    svg += Circle(x(point.x), y(point.y), "var(--ink)", point.note);
    const bool right = point.x < 0.8;
    svg += Label(x(point.x) + (right ? 7 : -7), y(point.y) + 4, right ? "start" : "end", point.note,
                 "level");
  }
  svg += Label((kLeft + kWidth - kRight) / 2, kHeight - 8, "middle", spec.x_title);
  return svg + Vertical(14, (kTop + kHeight - kBottom) / 2, spec.y_title) + "</svg>";
}

std::string Legend(const std::vector<PlotSeries>& series) {
  std::string html = "<ul class=\"legend\">";
  for (const PlotSeries& one : series) {
    absl::StrAppendFormat(&html, "<li><span class=\"%s\" style=\"border-color:%s\"></span>%s</li>",
                          Dashed(one) ? "key dashed" : "key", Color(one.color),
                          EscapeXml(one.name));
  }
  return html + "</ul>";
}

}  // namespace sidewinder::cli
