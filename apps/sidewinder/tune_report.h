// The tuning report: what a profile measured, what follows from it, and how well it predicts. The
// same content as a page of Markdown and as one HTML page that loads nothing and runs no script.
#ifndef SIDEWINDER_APPS_SIDEWINDER_TUNE_REPORT_H_
#define SIDEWINDER_APPS_SIDEWINDER_TUNE_REPORT_H_

#include <string>
#include <vector>

#include "sidewinder/tuning.h"

namespace sidewinder::cli {

struct ReportSection {
  std::string title;
  std::vector<std::string> paragraphs;
  std::vector<std::string> head;  // of the table; empty: there is none
  std::vector<std::vector<std::string>> rows;
  std::string drawing;  // SVG and its legend; HTML alone
};

struct TuneReport {
  std::string title;
  std::vector<std::string> warnings;
  std::vector<std::pair<std::string, std::string>> facts;
  std::vector<ReportSection> sections;
};

TuneReport MakeTuneReport(const TuningProfile& profile);

std::string ToMarkdown(const TuneReport& report);
std::string ToHtml(const TuneReport& report);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_TUNE_REPORT_H_
