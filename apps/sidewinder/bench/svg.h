// Plots as inline SVG. Colours are CSS variables of the page (--c0 to --c7, --ink, --muted,
// --grid), so that one drawing serves light and dark; legends are HTML beside the drawing.
#ifndef SIDEWINDER_APPS_SIDEWINDER_BENCH_SVG_H_
#define SIDEWINDER_APPS_SIDEWINDER_BENCH_SVG_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "apps/sidewinder/bench/statistics.h"

namespace sidewinder::cli {

inline constexpr int kNumColors{8};

// For text and attributes of HTML and SVG.
std::string EscapeXml(absl::string_view text);

// Four to eight round numbers that span [min, max].
std::vector<double> NiceTicks(double min, double max);

struct PlotPoint {
  double x = 0;
  double y = 0;
  std::optional<Interval> interval;  // of y
  std::string note;                  // shown when pointed at
};

struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;
  int color = 0;  // any; dashes tell series apart once colours repeat
  bool line = true;
  bool dashed = false;
};

struct LinePlotSpec {
  std::string title;
  std::string x_title;
  std::string y_title;
  std::vector<PlotSeries> series;
  std::optional<double> reference;  // a horizontal line
  bool integer_x = true;            // a tick at every integer
  bool percent_y = false;           // y from 0 to 1, shown as 0 to 100 %
};
std::string LinePlot(const LinePlotSpec& spec);

// Horizontal bars, each the sum of its parts.
struct Bar {
  std::string name;
  std::vector<double> parts;
};
struct StackedBarsSpec {
  std::string title;
  std::string x_title;
  std::vector<std::string> parts;
  std::vector<Bar> bars;
};
std::string StackedBars(const StackedBarsSpec& spec);

// A row for each value, with its interval.
struct DotRow {
  std::string name;
  double value = 0;
  std::optional<Interval> interval;
};
struct DotPlotSpec {
  std::string title;
  std::string x_title;
  std::vector<DotRow> rows;
  std::optional<double> reference;  // a vertical line
};
std::string DotPlot(const DotPlotSpec& spec);

// value(x, row) over x in [0, 1] and rows from 1 up; faster than 1 in one colour, slower in
// another.
struct SurfaceSpec {
  std::string title;
  std::string x_title;
  std::string y_title;
  int num_rows = 8;
  std::function<double(double x, int row)> value;
  std::vector<double> contours;
  // Where a row reaches a value; nullopt: nowhere.
  std::function<std::optional<double>(double value, int row)> contour_x;
  std::vector<PlotPoint> points;
};
std::string Surface(const SurfaceSpec& spec);

// <ul> of names with their colours.
std::string Legend(const std::vector<PlotSeries>& series);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_SVG_H_
