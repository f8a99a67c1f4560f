// `sidewinder generate`: continues a prompt.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "apps/sidewinder/command.h"
#include "apps/sidewinder/flags.h"
#include "apps/sidewinder/interrupt.h"
#include "apps/sidewinder/output.h"
#include "apps/sidewinder/stats_json.h"
#include "apps/sidewinder/token_text.h"
#include "apps/sidewinder/usage_error.h"
#include "runtime/status_macros.h"
#include "sidewinder/engine.h"

namespace sidewinder::cli {
namespace {

constexpr char kFooter[]{
    "Exactly one of --prompt, --prompt-file, --prompt-ids and --prompt-tokens; ids need no\n"
    "tokenizer. The text goes to standard output, figures to standard error. On a terminal green\n"
    "text was proposed by the draft and accepted. Ctrl-C ends the text; a second one ends the\n"
    "program.\n\n"
    "  sidewinder generate --model DIR --prompt 'Once upon a time'\n"
    "  sidewinder generate --model DIR --draft DIR --prompt-file story.txt --stream\n"
    "  sidewinder generate --model DIR --draft ngram --draft-tokens 6 --prompt-ids 1,2,3 --json\n"
    "  sidewinder generate --model DIR --draft DIR --prompt 'A' --temperature 0.8 --top-p 0.9\n"
    "  sidewinder generate --model synthetic:mamba-2.8b --draft synthetic:mamba-130m \\\n"
    "    --prompt-tokens 16 --max-new-tokens 512 --draft-tokens 4 --synthetic-acceptance 0.8"};

constexpr int kMaxSequences{1024};

struct Flags {
  ModelFlags model;
  EngineFlags engine;
  TextFlags prompt;
  Request request;
  std::string draft = "none";
  std::string draft_tokens = "auto";
  std::string color = "auto";
  int32_t num_sequences = 1;
  bool stream = false;
  bool json = false;
  bool echo = false;
  std::string save_state;
  std::string restore_state;
};

absl::Status CheckUsage(const Flags& flags) {
  const int prompts = flags.prompt.count();
  if (prompts > 1 || (prompts == 0 && flags.restore_state.empty())) {
    return UsageError(
        absl::StrCat("exactly one of --prompt, --prompt-file, --prompt-ids and --prompt-tokens is "
                     "needed, ",
                     prompts, " are given"));
  }
  if (flags.stream && flags.json) return UsageError("--stream and --json exclude each other");
  if (flags.num_sequences > 1) {
    if (flags.stream) return UsageError("--stream shows one sequence; --num-sequences must be 1");
    if (!flags.save_state.empty() || !flags.restore_state.empty()) {
      return UsageError("--save-state and --restore-state need --num-sequences 1");
    }
  }
  for (const std::string& text : flags.request.stop) {
    if (text.empty()) return UsageError("--stop: the text is empty");
  }
  return ParseDraftTokens(flags.draft_tokens).status();
}

ColorMode Color(const std::string& text) {
  return text == "always"  ? ColorMode::kAlways
         : text == "never" ? ColorMode::kNever
                           : ColorMode::kAuto;
}

// One generation, from loaded models to what was printed.
class Generation {
 public:
  Generation(const Flags& flags, std::shared_ptr<const Model> model)
      : flags_(flags), model_(std::move(model)) {}

  absl::Status Run();

 private:
  struct Sequence {
    TokenText text;
    std::string shown;  // held back until the end unless streamed
    bool running = true;
  };

  absl::Status Prepare();
  absl::Status Submit();
  absl::Status Decode();
  absl::Status Show(const RequestUpdate& update);
  absl::Status CancelAll();
  absl::Status End(RequestId id, Sequence& sequence);
  absl::Status PrintResult(const GenerateResult& result, Sequence& sequence);
  OrderedJson ResultJson(const GenerateResult& result) const;
  bool IsRetokenized() const { return cli::IsRetokenized(*model_, engine_->options().drafter); }

  const Flags& flags_;
  std::shared_ptr<const Model> model_;
  Request request_;
  std::unique_ptr<Engine> engine_;
  std::map<RequestId, Sequence> sequences_;  // in the order they were submitted
  Output output_;
};

absl::Status Generation::Run() {
  SW_RETURN_IF_ERROR(Prepare());
  SW_RETURN_IF_ERROR(Submit());
  if (flags_.echo && !flags_.json && model_->tokenizer() != nullptr) {
    SW_RETURN_IF_ERROR(output_.Write(model_->tokenizer()->Decode(request_.prompt)));
    if (flags_.stream) SW_RETURN_IF_ERROR(output_.Flush());
  }
  CatchInterrupt();
  SW_RETURN_IF_ERROR(Decode());
  for (auto& [id, sequence] : sequences_) SW_RETURN_IF_ERROR(End(id, sequence));
  return output_.Flush();
}

absl::Status Generation::Prepare() {
  request_ = flags_.request;
  if (flags_.prompt.count() == 1) {
    SW_ASSIGN_OR_RETURN(TokenizedText prompt,
                        ReadTokens(flags_.prompt, *model_, "--prompt-file",
                                   /*add_special_tokens=*/flags_.restore_state.empty()));
    request_.prompt = std::move(prompt.ids);
  }
  if (request_.prompt.empty() && flags_.restore_state.empty()) {
    if (model_->info().bos_token < 0) {
      return absl::InvalidArgumentError("the prompt is empty; give at least one token");
    }
    request_.prompt = {model_->info().bos_token};
  }
  if (!request_.stop.empty() && model_->tokenizer() == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("--stop: ", model_->info().path, " has no tokenizer.json"));
  }
  SW_RETURN_IF_ERROR(CheckReplaceable("--save-state", flags_.save_state));
  request_.keep_state = !flags_.save_state.empty();
  SW_ASSIGN_OR_RETURN(const int32_t draft_tokens, ParseDraftTokens(flags_.draft_tokens));
  SW_ASSIGN_OR_RETURN(
      EngineOptions options,
      MakeEngineOptions(flags_.draft == "none" ? 0 : draft_tokens, flags_.engine, flags_.model));
  options.model = model_;
  options.max_sequences = flags_.num_sequences;
  SW_ASSIGN_OR_RETURN(options.drafter, LoadDrafter(flags_.draft, flags_.model));
  SW_ASSIGN_OR_RETURN(engine_, Engine::Create(std::move(options)));
  if (!flags_.json) std::fputs(RetokenizedText(IsRetokenized()).c_str(), stderr);
  return absl::OkStatus();
}

absl::Status Generation::Submit() {
  const bool color = !flags_.json && UseColor(Color(flags_.color));
  for (int32_t i = 0; i < flags_.num_sequences; ++i) {
    Request request = request_;
    request.sequence = static_cast<uint32_t>(i);
    SW_ASSIGN_OR_RETURN(const RequestId id,
                        flags_.restore_state.empty()
                            ? engine_->Submit(std::move(request))
                            : engine_->RestoreState(flags_.restore_state, std::move(request)));
    sequences_.emplace(id, Sequence{TokenText(model_->tokenizer(), color), "", true});
  }
  return absl::OkStatus();
}

absl::Status Generation::Decode() {
  absl::Status shown;
  if (!Interrupted()) {
    SW_RETURN_IF_ERROR(engine_->Run([this, &shown](const RequestUpdate& update) {
      if (shown.ok()) shown = Show(update);
      return shown.ok() && !Interrupted();
    }));
  }
  SW_RETURN_IF_ERROR(shown);
  return CancelAll();  // what is left
}

absl::Status Generation::Show(const RequestUpdate& update) {
  Sequence& sequence = sequences_.at(update.id);
  if (update.finish != FinishReason::kNone) sequence.running = false;
  const std::string text = sequence.text.Add(update);
  if (!flags_.stream) {
    sequence.shown += text;
    return absl::OkStatus();
  }
  SW_RETURN_IF_ERROR(output_.Write(text));
  return output_.Flush();
}

absl::Status Generation::CancelAll() {
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.running) SW_RETURN_IF_ERROR(engine_->Cancel(id));
  }
  return absl::OkStatus();
}

absl::Status Generation::End(RequestId id, Sequence& sequence) {
  SW_ASSIGN_OR_RETURN(const GenerateResult result, engine_->TakeResult(id));
  SW_RETURN_IF_ERROR(PrintResult(result, sequence));
  if (flags_.save_state.empty()) return absl::OkStatus();
  SW_RETURN_IF_ERROR(engine_->SaveState(id, flags_.save_state));
  return engine_->Release(id);
}

absl::Status Generation::PrintResult(const GenerateResult& result, Sequence& sequence) {
  if (flags_.json) return output_.Write(DumpJson(ResultJson(result)) + "\n");
  SW_RETURN_IF_ERROR(output_.Write(sequence.shown + sequence.text.Finish(result.text) + "\n"));
  SW_RETURN_IF_ERROR(output_.Flush());
  std::fputs(StatsText(result.stats, result.finish).c_str(), stderr);
  std::fputs(flags_.engine.synthetic().Warning().c_str(), stderr);
  return absl::OkStatus();
}

OrderedJson Generation::ResultJson(const GenerateResult& result) const {
  const int32_t draft_tokens = engine_->options().draft_tokens;
  return {
      {"prompt_tokens", result.stats.prompt_tokens},
      {"token_ids", result.tokens},
      {"text", result.text},
      {"finish_reason", Name(result.finish)},
      {"stats", StatsJson(result.stats, engine_->memory())},
      {"model", model_->info().path},
      {"draft", flags_.draft},
      {"draft_is_retokenized", IsRetokenized()},
      {"draft_tokens", DraftTokensJson(flags_.draft == "none" ? 0 : draft_tokens)},
      {"device", model_->info().device},
      {"dtype", model_->info().dtype},
      {"seed", flags_.request.sampling.seed},
      {"synthetic_acceptance", flags_.engine.synthetic().ToJson()},
  };
}

void AddPromptFlags(CLI::App& app, Flags& flags) {
  app.add_option("--prompt", flags.prompt.text, "Text to continue")->type_name("TEXT");
  app.add_option("--prompt-file", flags.prompt.file,
                 "File that holds it, used as it stands; -: standard input")
      ->type_name("F");
  app.add_option("--prompt-ids", flags.prompt.ids, "Its token ids")->type_name("1,2,3");
  app.add_option("--prompt-tokens", flags.prompt.made_up,
                 "Continue N made-up tokens, the same in every run: for benchmarks")
      ->check(Between(1, kMaxMadeUpIds))
      ->type_name("N");
}

void AddDraftFlags(CLI::App& app, Flags& flags) {
  app.add_option("--draft", flags.draft,
                 "Folder (or synthetic:<preset>) of the model that proposes; ngram: what\n"
                 "followed the last tokens before; none: plain decoding")
      ->capture_default_str()
      ->type_name("DIR|ngram|none");
  app.add_option("--draft-tokens", flags.draft_tokens,
                 absl::StrCat("Proposals a round, 0 to ", kMaxDraftTokens,
                              "; auto: by the acceptance so far"))
      ->capture_default_str()
      ->type_name("K|auto");
}

void AddStopFlags(CLI::App& app, Flags& flags) {
  app.add_option("--max-new-tokens", flags.request.max_new_tokens, "Tokens to generate at most")
      ->check(AtLeast(1))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--stop", flags.request.stop, "End before this text; may be given several times")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  app.add_flag("--ignore-eos", flags.request.ignore_eos, "Do not end at the end-of-text token");
}

void AddOutputFlags(CLI::App& app, Flags& flags) {
  app.add_flag("--stream", flags.stream, "Print the text as it comes");
  app.add_flag("--json", flags.json, "Print one JSON object instead of the text");
  app.add_flag("--echo", flags.echo, "Print the prompt before the text");
  app.add_option("--color", flags.color,
                 "Colour accepted draft tokens: auto (on a terminal, unless NO_COLOR\n"
                 "is set), always or never")
      ->check(OneOf({"auto", "always", "never"}))
      ->capture_default_str()
      ->type_name("WHEN");
  app.add_option("--num-sequences", flags.num_sequences,
                 "Texts to generate at once, each with random numbers of its own")
      ->check(Between(1, kMaxSequences))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--save-state", flags.save_state, "Save the state at the end to this file")
      ->type_name("F")
      ->group("State");
  app.add_option("--restore-state", flags.restore_state,
                 "Continue the text saved in this file; a prompt is appended to it")
      ->type_name("F")
      ->group("State");
}

absl::Status RunGenerate(const Flags& flags) {
  SW_RETURN_IF_ERROR(CheckUsage(flags));
  SW_ASSIGN_OR_RETURN(std::shared_ptr<const Model> model, LoadModel(flags.model));
  return Generation(flags, std::move(model)).Run();
}

}  // namespace

void AddGenerate(CLI::App& app, Run& run) {
  CLI::App* sub = app.add_subcommand("generate", "Continue a prompt");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*sub, flags->model);
  AddDraftFlags(*sub, *flags);
  AddPromptFlags(*sub, *flags);
  AddStopFlags(*sub, *flags);
  AddSamplingFlags(*sub, flags->request.sampling);
  AddOutputFlags(*sub, *flags);
  AddEngineFlags(*sub, flags->engine);
  sub->footer(kFooter);
  sub->callback([&run, flags] { run = [flags] { return RunGenerate(*flags); }; });
}

}  // namespace sidewinder::cli
