// Runs a benchmark: every setting of a sweep, and in each plain decoding and every configuration in
// turn over the same prompts.
#ifndef SIDEWINDER_APPS_SIDEWINDER_BENCH_RUNNER_H_
#define SIDEWINDER_APPS_SIDEWINDER_BENCH_RUNNER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/sidewinder/bench/prompts.h"
#include "apps/sidewinder/bench/report.h"
#include "apps/sidewinder/bench/sweep.h"
#include "apps/sidewinder/flags.h"
#include "sidewinder/engine.h"

namespace sidewinder::cli {

struct BenchOptions {
  std::string command;  // for the report
  ModelFlags model;
  EngineFlags engine;  // its checkpoint policy is the sweep's
  Request request;     // its prompt and temperature are filled in
  SweepFlags sweep;
  std::vector<std::string> prompts;  // files; empty: the built-in ones
  PromptFilter filter;
  int32_t prompt_tokens = 0;  // of made-up prompts; 0: none
  bool chat_template = true;  // if the model has one
  bool profile = true;        // also measure where the time of rounds goes, in passes of their own
  int32_t repeat = 1;
};

// Progress goes to standard error. Ctrl-C ends the run; the report then has what was measured until
// then (Cancelled if that is nothing).
absl::StatusOr<BenchReport> RunBench(const BenchOptions& options);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_RUNNER_H_
