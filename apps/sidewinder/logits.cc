// `sidewinder logits`: the model's raw output at every position of a prompt.
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "apps/sidewinder/command.h"
#include "apps/sidewinder/flags.h"
#include "apps/sidewinder/output.h"
#include "apps/sidewinder/usage_error.h"
#include "runtime/npy.h"
#include "runtime/status_macros.h"

namespace sidewinder::cli {
namespace {

constexpr char kFooter[]{
    "Writes a NumPy file of float32, [tokens, vocab]: row t holds the logits of the token after\n"
    "token t. Rows are written as they are computed; the file appears when all are there.\n\n"
    "  sidewinder logits --model DIR --prompt-ids 1,2,3 --output logits.npy"};

struct Flags {
  ModelFlags model;
  TextFlags prompt;
  std::string output;
};

absl::Status RunLogits(const Flags& flags) {
  if (flags.prompt.count() != 1) {
    return UsageError("exactly one of --prompt-ids, --prompt and --prompt-file is needed");
  }
  SW_RETURN_IF_ERROR(CheckReplaceable("--output", flags.output));
  SW_ASSIGN_OR_RETURN(const std::shared_ptr<const Model> model, LoadModel(flags.model));
  SW_ASSIGN_OR_RETURN(const TokenizedText prompt,
                      ReadTokens(flags.prompt, *model, "--prompt-file"));
  if (prompt.ids.empty()) {
    return absl::InvalidArgumentError("the prompt is empty; give at least one token");
  }
  SW_ASSIGN_OR_RETURN(NpyWriter writer,
                      NpyWriter::Create(flags.output, static_cast<int64_t>(prompt.ids.size()),
                                        model->info().vocab_size));
  SW_RETURN_IF_ERROR(EvaluateLogits(
      *model, prompt.ids, flags.model.threads,
      [&](int64_t, absl::Span<const float> logits) { return writer.Append(logits); }));
  return writer.Finish();
}

}  // namespace

void AddLogits(CLI::App& app, Run& run) {
  CLI::App* sub = app.add_subcommand("logits", "Logits of every position of a prompt, as .npy");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*sub, flags->model);
  sub->add_option("--prompt-ids", flags->prompt.ids, "Token ids")->type_name("1,2,3");
  sub->add_option("--prompt", flags->prompt.text, "Text instead of ids")->type_name("TEXT");
  sub->add_option("--prompt-file", flags->prompt.file, "File that holds it; -: standard input")
      ->type_name("F");
  sub->add_option("--output", flags->output, "NumPy file to write")
      ->required()
      ->type_name("FILE.npy");
  sub->footer(kFooter);
  sub->callback([&run, flags] { run = [flags] { return RunLogits(*flags); }; });
}

}  // namespace sidewinder::cli
