// The subcommands. Each adds itself and its flags to the command line; parsing leaves in `run` what
// the chosen one does.
#ifndef SIDEWINDER_APPS_SIDEWINDER_COMMAND_H_
#define SIDEWINDER_APPS_SIDEWINDER_COMMAND_H_

#include <functional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace sidewinder::cli {

using Run = std::function<absl::Status()>;

void AddGenerate(CLI::App& app, Run& run);
void AddLogits(CLI::App& app, Run& run);
void AddScore(CLI::App& app, Run& run);
void AddTokenize(CLI::App& app, Run& run);
// `command_line` is the whole of it, for reports.
void AddBench(CLI::App& app, Run& run, const std::string& command_line);
void AddInspect(CLI::App& app, Run& run);
void AddTune(CLI::App& app, Run& run);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_COMMAND_H_
