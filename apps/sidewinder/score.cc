// `sidewinder score`: how well a model predicts a text.
#include <cmath>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/sidewinder/command.h"
#include "apps/sidewinder/flags.h"
#include "apps/sidewinder/output.h"
#include "apps/sidewinder/usage_error.h"
#include "runtime/status_macros.h"

namespace sidewinder::cli {
namespace {

constexpr char kFooter[]{
    "The first token is not predicted: it has nothing before it. Bits per byte divides by the "
    "bytes\n"
    "of the whole text. The text is read in one pass, of any length, in bounded memory.\n\n"
    "  sidewinder score --model DIR --text-file story.txt\n"
    "  sidewinder score --model DIR --text-file - --json < story.txt"};

struct Flags {
  ModelFlags model;
  TextFlags text;
  bool json = false;
};

std::string ScoreTable(const ScoreResult& score, const TokenizedText& text, double bits_per_byte) {
  std::string table = absl::StrFormat(
      "tokens                   %d, %d of them predicted\n"
      "negative log-likelihood  %.4f nats, %.6f a token\n"
      "perplexity               %.4f\n",
      text.ids.size(), score.num_tokens, score.negative_log_likelihood,
      score.negative_log_likelihood / static_cast<double>(score.num_tokens), score.Perplexity());
  if (!text.bytes) return table + "bits per byte            unknown: no tokenizer\n";
  return table + absl::StrFormat("bits per byte            %.4f over %d bytes\n", bits_per_byte,
                                 *text.bytes);
}

OrderedJson ScoreJson(const ScoreResult& score, const TokenizedText& text, double bits_per_byte) {
  OrderedJson json = {
      {"tokens", text.ids.size()},
      {"predicted_tokens", score.num_tokens},
      {"negative_log_likelihood", score.negative_log_likelihood},
      {"perplexity", score.Perplexity()},
      {"bits_per_byte", nullptr},
      {"bytes", nullptr},
  };
  if (text.bytes) {
    json["bits_per_byte"] = bits_per_byte;
    json["bytes"] = *text.bytes;
  }
  return json;
}

absl::Status RunScore(const Flags& flags) {
  if (flags.text.count() != 1) {
    return UsageError("exactly one of --text-file and --prompt-ids is needed");
  }
  SW_ASSIGN_OR_RETURN(const std::shared_ptr<const Model> model, LoadModel(flags.model));
  SW_ASSIGN_OR_RETURN(const TokenizedText text, ReadTokens(flags.text, *model, "--text-file"));
  if (text.ids.size() < 2) {
    return absl::InvalidArgumentError(absl::StrCat("the text has ", text.ids.size(),
                                                   " tokens; at least 2 are needed for a score"));
  }
  SW_ASSIGN_OR_RETURN(const ScoreResult score, Score(*model, text.ids, flags.model.threads));
  const double bits = score.negative_log_likelihood / std::log(2.0);
  const double bits_per_byte =
      text.bytes && *text.bytes > 0 ? bits / static_cast<double>(*text.bytes) : 0.0;
  return flags.json ? PrintJson(ScoreJson(score, text, bits_per_byte))
                    : PrintText(ScoreTable(score, text, bits_per_byte));
}

}  // namespace

void AddScore(CLI::App& app, Run& run) {
  CLI::App* sub = app.add_subcommand("score", "Perplexity and bits per byte of a text");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*sub, flags->model);
  sub->add_option("--text-file", flags->text.file, "File to score; -: standard input")
      ->type_name("F");
  sub->add_option("--prompt-ids", flags->text.ids, "Token ids to score instead")
      ->type_name("1,2,3");
  sub->add_flag("--json", flags->json, "Print one JSON object");
  sub->footer(kFooter);
  sub->callback([&run, flags] { run = [flags] { return RunScore(*flags); }; });
}

}  // namespace sidewinder::cli
