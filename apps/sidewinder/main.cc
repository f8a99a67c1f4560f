// The command line: `sidewinder <subcommand> ...`. Exit status 0; 1 for an error, with one line on
// stderr; 2 for wrong usage, likewise.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "apps/sidewinder/command.h"
#include "apps/sidewinder/output.h"
#include "apps/sidewinder/usage_error.h"

namespace sidewinder::cli {
namespace {

constexpr int kExitError{1};
constexpr int kExitUsage{2};

constexpr char kDescription[]{
    "Speculative decoding for Mamba language models: a small draft proposes tokens, the verifier\n"
    "checks them all in one pass. Greedy output is identical, to the bit, with any draft or none."};

constexpr char kFooter[]{
    "Models are Hugging Face folders (config.json, *.safetensors, tokenizer.json).\n"
    "`sidewinder <subcommand> --help` lists the flags of a subcommand, with examples.\n"
    "Exit status: 0; 1 for an error, 2 for wrong usage, each with one line on stderr.\n\n"
    "  sidewinder generate --model DIR --draft DIR --prompt 'Once upon a time' --stream\n"
    "  sidewinder bench --model DIR --draft DIR --prompts prompts.jsonl --draft-tokens 1,2,3,4"};

// A standard stream that is closed gets a descriptor on which every use fails, so that no file
// opened later takes its number.
void OccupyStandardStreams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) != -1) continue;
    if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
  }
}

int Fail(std::string message, int status) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  std::fprintf(stderr, "sidewinder: %s\n", message.c_str());
  return status;
}

int FailUsage(const CLI::App& app, const std::string& message) {
  const auto chosen = app.get_subcommands();
  const std::string command = chosen.empty() ? "" : " " + chosen[0]->get_name();
  return Fail(message + " (see sidewinder" + command + " --help)", kExitUsage);
}

// As typed, with quotes where a shell needs them and the program by its name.
std::string CommandLine(int argc, char** argv) {
  std::string line = "sidewinder";
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool plain =
        !argument.empty() && argument.find_first_not_of(
                                 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                 "-_=+,./:@%") == std::string::npos;
    absl::StrAppend(
        &line, " ",
        plain ? argument : absl::StrCat("'", absl::StrReplaceAll(argument, {{"'", "'\\''"}}), "'"));
  }
  return line;
}

int Main(int argc, char** argv) {
  OccupyStandardStreams();
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is reported by the write
  CLI::App app(kDescription, "sidewinder");
  app.set_version_flag("--version", "sidewinder " SIDEWINDER_VERSION);
  app.require_subcommand(1);
  app.footer(kFooter);
  app.get_formatter()->column_width(34);
  app.set_help_flag("-h,--help", "Print this help and exit");
  Run run;
  AddGenerate(app, run);
  AddLogits(app, run);
  AddScore(app, run);
  AddTokenize(app, run);
  AddBench(app, run, CommandLine(argc, argv));
  AddInspect(app, run);
  AddTune(app, run);
  absl::Status status;
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app.get_subcommands();
    status = PrintText(chosen.empty() ? app.help() : chosen[0]->help("sidewinder"));
    return status.ok() ? 0 : Fail(std::string(status.message()), kExitError);
  } catch (const CLI::CallForVersion& version) {
    status = PrintText(std::string(version.what()) + "\n");
    return status.ok() ? 0 : Fail(std::string(status.message()), kExitError);
  } catch (const CLI::ParseError& error) {
    if (app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-') {
      return FailUsage(app, absl::StrCat("'", argv[1], "' is not a subcommand"));
    }
    return FailUsage(app, error.what());
  }
  try {
    status = run();
  } catch (const std::bad_alloc&) {
    return Fail("out of memory", kExitError);
  } catch (const std::exception& error) {
    return Fail(error.what(), kExitError);
  }
  if (status.ok()) return 0;
  if (IsUsageError(status)) return FailUsage(app, std::string(status.message()));
  return Fail(std::string(status.message()), kExitError);
}

}  // namespace
}  // namespace sidewinder::cli

int main(int argc, char** argv) { return sidewinder::cli::Main(argc, argv); }
