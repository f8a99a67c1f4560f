// `sidewinder bench`: plain and speculative decoding of the same prompts, in turn, in one run.
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "apps/sidewinder/bench/runner.h"
#include "apps/sidewinder/command.h"
#include "apps/sidewinder/flags.h"
#include "apps/sidewinder/output.h"
#include "apps/sidewinder/result_file.h"
#include "runtime/status_macros.h"

namespace sidewinder::cli {
namespace {

constexpr char kFooter[]{
    "Every prompt is decoded by each configuration before the next prompt, in rotating order, so\n"
    "that noise of the machine hits all alike. Tokens/s counts the time after the first token; "
    "the\n"
    "interval of the speed-up is a bootstrap over prompts and repeats. The floor is what reading\n"
    "the weights alone would take at the bandwidth measured now: of one pass for plain decoding;\n"
    "of one verifier pass and the draft's passes, at the acceptance seen, else. On a GPU it "
    "counts\n"
    "the recurrent states too. Greedy texts are compared with plain decoding's; a difference is "
    "an\n"
    "error. With --batch the figures are of all prompts of a batch together.\n\n"
    "Flags that take lists are swept: every combination is run, each with plain decoding of its\n"
    "own. Ctrl-C ends a run; what was measured by then is printed.\n\n"
    "Prompts are JSON lines with \"turns\" (a list of texts: MT-Bench, Spec-Bench), \"prompt\"\n"
    "(HumanEval), \"question\" (GSM8K), \"text\" or \"prompt_ids\", and perhaps a \"category\". A\n"
    "later turn sees the model's answers to those before. The chat template of the model is\n"
    "applied to all but \"text\" and \"prompt_ids\". Without --prompts a few built-in ones are "
    "used.\n\n"
    "  sidewinder bench --model DIR --draft DIR\n"
    "  sidewinder bench --model DIR --draft DIR,ngram --prompts heldout.jsonl \\\n"
    "    --draft-tokens 2,3,auto --repeat 3 --report report.html\n"
    "  sidewinder bench --model DIR --draft ngram --batch 1,4,16 --csv figures.csv --json\n"
    "  sidewinder bench --model synthetic:mamba2-2.7b --draft synthetic:mamba2-130m --batch 32 \\\n"
    "    --prompt-tokens 16 --draft-tokens 4 --synthetic-acceptance 0.8"};

struct Flags {
  BenchOptions options;
  std::string categories;
  bool no_chat_template = false;
  bool no_time_split = false;
  bool json = false;
  std::string csv;
  std::string report;
};

absl::Status RunBenchCommand(const Flags& flags) {
  BenchOptions options = flags.options;
  options.chat_template = !flags.no_chat_template;
  options.profile = !flags.no_time_split;
  if (!flags.categories.empty()) {
    options.filter.categories = absl::StrSplit(flags.categories, ',');
  }
  SW_ASSIGN_OR_RETURN(ResultFile csv, ResultFile::Create("--csv", flags.csv));
  SW_ASSIGN_OR_RETURN(ResultFile page, ResultFile::Create("--report", flags.report));
  SW_ASSIGN_OR_RETURN(const BenchReport report, RunBench(options));
  if (csv.wanted()) SW_RETURN_IF_ERROR(csv.Finish(BenchCsv(report)));
  if (page.wanted()) SW_RETURN_IF_ERROR(page.Finish(BenchHtml(report)));
  SW_RETURN_IF_ERROR(flags.json ? PrintJson(BenchJson(report), /*indent=*/2)
                                : PrintText(BenchTable(report)));
  if (report.difference.empty()) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("speculative and plain decoding differ, first at ", report.difference));
}

void AddSweepFlags(CLI::App& app, SweepFlags& sweep) {
  const auto list = [&app](const char* flag, std::string& value, const std::string& text,
                           const char* type) {
    app.add_option(flag, value, text)->capture_default_str()->type_name(type)->group("Sweep");
  };
  list("--draft", sweep.draft,
       "What proposes: folders, synthetic:<preset>, ngram; none: only plain decoding",
       "DIR|ngram|none,...");
  list("--draft-tokens", sweep.draft_tokens,
       absl::StrCat("Proposals a round, 1 to ", kMaxDraftTokens, " and auto"), "K,...");
  list("--batch", sweep.batch, "Prompts decoded together; they come again to fill the last batch",
       "N,...");
  list("--temperature", sweep.temperature, "0: greedy; else sample", "T,...");
  list("--context", sweep.context, "Pad prompts to N tokens by repetition; 0: as they are",
       "N,...");
  list("--checkpoint-policy", sweep.checkpoint_policy,
       "Write recurrent states every-round, when-full (the replay log) or\n"
       "snapshot (a state per row, as most engines do)",
       "POLICY,...");
}

void AddPromptFlags(CLI::App& app, Flags& flags) {
  BenchOptions& options = flags.options;
  CLI::Option* const prompts =
      app.add_option("--prompts", options.prompts,
                     "JSON lines; -: standard input; may be given several times")
          ->allow_extra_args(false)
          ->type_name("FILE.jsonl");
  app.add_option("--prompt-tokens", options.prompt_tokens,
                 "Prompts of N made-up tokens, as many as --limit or else --batch says")
      ->check(Between(1, kMaxMadeUpIds))
      ->excludes(prompts)
      ->type_name("N");
  app.add_option("--category", flags.categories, "Only prompts of these categories")
      ->type_name("NAME,...");
  app.add_option("--limit", options.filter.limit, "Use the first N prompts; 0: all")
      ->check(AtLeast(0))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--limit-per-category", options.filter.limit_per_category,
                 "Use the first N prompts of each category; 0: all")
      ->check(AtLeast(0))
      ->capture_default_str()
      ->type_name("N");
  app.add_flag("--no-chat-template", flags.no_chat_template,
               "Give prompts to the model as they stand");
}

void AddRunFlags(CLI::App& app, Flags& flags) {
  BenchOptions& options = flags.options;
  app.add_option("--repeat", options.repeat, "Runs of each prompt; the median counts")
      ->check(Between(1, 1000))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--max-new-tokens", options.request.max_new_tokens, "Tokens a turn, at most")
      ->check(AtLeast(1))
      ->capture_default_str()
      ->type_name("N");
  app.add_flag("--ignore-eos", options.request.ignore_eos, "Do not end at the end-of-text token");
  app.add_flag("--no-time-split", flags.no_time_split,
               "Leave out the passes that measure draft, verify and commit");
}

void AddOutputFlags(CLI::App& app, Flags& flags) {
  app.add_flag("--json", flags.json, "Print one JSON object instead of a table");
  app.add_option("--csv", flags.csv, "Write a line for each configuration and category")
      ->type_name("FILE.csv");
  app.add_option("--report", flags.report, "Write a page with plots that needs nothing else")
      ->type_name("FILE.html");
}

}  // namespace

void AddBench(CLI::App& app, Run& run, const std::string& command_line) {
  CLI::App* sub = app.add_subcommand("bench", "Plain against speculative decoding, in turn");
  auto flags = std::make_shared<Flags>();
  flags->options.command = command_line;
  AddModelFlags(*sub, flags->options.model);
  AddSweepFlags(*sub, flags->options.sweep);
  AddPromptFlags(*sub, *flags);
  AddRunFlags(*sub, *flags);
  AddSamplingFilterFlags(*sub, flags->options.request.sampling);
  AddEngineFlagsBesidePolicy(*sub, flags->options.engine);
  AddOutputFlags(*sub, *flags);
  sub->footer(kFooter);
  sub->callback([&run, flags] { run = [flags] { return RunBenchCommand(*flags); }; });
}

}  // namespace sidewinder::cli
