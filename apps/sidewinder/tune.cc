// `sidewinder tune`: measures rounds on this machine and writes a tuning profile and a report.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/sidewinder/command.h"
#include "apps/sidewinder/flags.h"
#include "apps/sidewinder/interrupt.h"
#include "apps/sidewinder/output.h"
#include "apps/sidewinder/tune_report.h"
#include "apps/sidewinder/tune_text.h"
#include "apps/sidewinder/usage_error.h"
#include "runtime/status_macros.h"
#include "sidewinder/tuning.h"

namespace sidewinder::cli {
namespace {

constexpr char kFooter[]{
    "Measures what rounds take on this device for these models: by rows, with the draft, in\n"
    "batches, with each checkpoint policy; prefill chunks, replay, bandwidth. generate and bench\n"
    "find the profile by themselves; --draft-tokens auto decides by it. What matters most is\n"
    "measured first, and each measurement is saved: an interrupted run goes on with --resume.\n\n"
    "  sidewinder tune --model DIR --draft DIR\n"
    "  sidewinder tune --model DIR --draft DIR --time-budget 60 --report report/\n"
    "  sidewinder tune --model synthetic:mamba-2.8b --draft synthetic:mamba-130m --device cuda\n"
    "  sidewinder tune --model DIR --draft DIR --resume"};

struct Flags {
  ModelFlags model;
  std::string draft = "none";
  double time_budget = TuneOptions().time_budget;
  std::string output;
  std::string report;
  bool resume = false;
  bool json = false;
};

// One line that is written over on a terminal, about ten lines elsewhere.
void ShowProgress(const TuneProgress& progress) {
  const bool terminal = isatty(STDERR_FILENO) == 1;
  const bool last = progress.done == progress.total;
  if (!terminal && !last &&
      progress.done * 10 / progress.total == (progress.done - 1) * 10 / progress.total) {
    return;
  }
  std::fprintf(stderr, "%smeasurement %d of %d, %.0f s: %s%s", terminal ? "\r\033[K" : "",
               progress.done, progress.total, progress.seconds, progress.what,
               terminal && !last ? "" : "\n");
}

// The profile to go on with, if --resume is given and there is one.
absl::StatusOr<std::optional<TuningProfile>> ProfileToResume(const Flags& flags,
                                                             const std::string& path) {
  std::error_code error;
  if (!flags.resume || !std::filesystem::exists(path, error)) return std::optional<TuningProfile>();
  SW_ASSIGN_OR_RETURN(TuningProfile profile, ReadTuningProfile(path));
  return std::optional<TuningProfile>(std::move(profile));
}

absl::Status WriteFile(const std::filesystem::path& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  const auto failed = [&] {
    return absl::ErrnoToStatus(errno, absl::StrCat("--report: ", path.string()));
  };
  if (file == nullptr) return failed();
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return std::fclose(file) == 0 && written ? absl::OkStatus() : failed();
}

// report.md, report.html and profile.json.
absl::Status WriteReport(const std::string& folder, const TuningProfile& profile) {
  const TuneReport report = MakeTuneReport(profile);
  const std::filesystem::path path(folder);
  SW_RETURN_IF_ERROR(WriteFile(path / "report.md", ToMarkdown(report)));
  SW_RETURN_IF_ERROR(WriteFile(path / "report.html", ToHtml(report)));
  return WriteTuningProfile((path / "profile.json").string(), profile);
}

absl::Status MakeReportFolder(const std::string& folder) {
  if (folder.empty()) return absl::OkStatus();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!error && std::filesystem::is_directory(folder, error)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--report: ", folder, ": cannot be made a folder",
                                                 error ? absl::StrCat(": ", error.message()) : ""));
}

absl::Status RunTune(const Flags& flags) {
  TuneOptions options;
  SW_ASSIGN_OR_RETURN(options.model, LoadModel(flags.model));
  SW_ASSIGN_OR_RETURN(const DrafterOptions drafter, LoadDrafter(flags.draft, flags.model));
  options.draft = drafter.model;
  options.num_threads = flags.model.threads;
  options.time_budget = flags.time_budget;
  options.program_version = SIDEWINDER_VERSION;

  std::string path = flags.output;
  if (path.empty()) {
    const std::string folder = ProfileFolder();
    if (folder.empty()) {
      return UsageError("--output: neither XDG_CACHE_HOME nor HOME says where profiles are kept");
    }
    path = absl::StrCat(folder, "/",
                        ProfileFileName(*options.model, options.draft.get(),
                                        NumThreads(flags.model, *options.model)));
  }
  SW_RETURN_IF_ERROR(CheckReplaceable("--output", path));
  SW_RETURN_IF_ERROR(MakeReportFolder(flags.report));
  SW_ASSIGN_OR_RETURN(options.resume, ProfileToResume(flags, path));

  CatchInterrupt();
  options.on_progress = [&](const TuneProgress& progress) -> absl::Status {
    ShowProgress(progress);
    SW_RETURN_IF_ERROR(WriteTuningProfile(path, progress.profile));
    if (!Interrupted()) return absl::OkStatus();
    return absl::CancelledError(
        absl::StrCat("interrupted; ", path, " has what was measured, --resume goes on"));
  };
  SW_ASSIGN_OR_RETURN(const TuningProfile profile, Tune(options));
  SW_RETURN_IF_ERROR(WriteTuningProfile(path, profile));
  if (!flags.report.empty()) SW_RETURN_IF_ERROR(WriteReport(flags.report, profile));
  if (flags.json) return PrintText(TuningProfileJson(profile));
  return PrintText(absl::StrCat(TuneTable(profile), "\nprofile        ", path, "\n"));
}

}  // namespace

void AddTune(CLI::App& app, Run& run) {
  CLI::App* sub = app.add_subcommand("tune", "Measure this machine for --draft-tokens auto");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*sub, flags->model);
  sub->add_option("--draft", flags->draft,
                  "What proposes: a folder or synthetic:<preset>; none or ngram:\n"
                  "proposals that cost nothing")
      ->capture_default_str()
      ->type_name("DIR|ngram|none");
  sub->add_option("--time-budget", flags->time_budget, "Seconds; no measurement begins afterwards")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str()
      ->type_name("SECONDS");
  sub->add_option("--output", flags->output,
                  "The profile; default: where generate and bench find it")
      ->type_name("FILE.json");
  sub->add_option("--report", flags->report,
                  "Write report.md, report.html (one page that needs no network) and\n"
                  "profile.json")
      ->type_name("DIR");
  sub->add_flag("--resume", flags->resume, "Keep what the profile already has");
  sub->add_flag("--json", flags->json, "Print the profile");
  sub->footer(kFooter);
  sub->callback([&run, flags] { run = [flags] { return RunTune(*flags); }; });
}

}  // namespace sidewinder::cli
