// `sidewinder inspect`: what a model is, and how fast this machine can decode with it at best.
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "apps/sidewinder/command.h"
#include "apps/sidewinder/flags.h"
#include "apps/sidewinder/output.h"
#include "runtime/status_macros.h"
#include "sidewinder/system.h"
#include "sidewinder/tuning.h"

namespace sidewinder::cli {
namespace {

constexpr char kFooter[]{
    "The limit: decoding one sequence reads every weight once a pass, so tokens/s cannot exceed "
    "the\n"
    "measured read bandwidth over the bytes of the weights. Bytes of state are per sequence.\n\n"
    "  sidewinder inspect --model DIR\n"
    "  sidewinder inspect --model DIR --threads 1 --json"};

struct Flags {
  ModelFlags model;
  std::string draft = "none";
  std::string profile;
  bool json = false;
};

struct Limit {
  int threads;  // 0: the device has none
  double bytes_per_second;
  double tokens_per_second;
};

OrderedJson InspectJson(const Model& model, const Limit& limit, const RoundCostModel& costs) {
  const ModelInfo& info = model.info();
  return {
      {"path", info.path},
      {"family", info.family},
      {"layers", info.num_layers},
      {"hidden_size", info.hidden_size},
      {"vocab_size", info.vocab_size},
      {"parameters", info.num_parameters},
      {"device", info.device},
      {"dtype", info.dtype},
      {"weight_bytes", info.weight_bytes},
      {"state_bytes", info.state_bytes},
      {"conv_window_bytes", info.conv_window_bytes},
      {"log_row_bytes", info.log_row_bytes},
      {"kv_bytes_per_token", info.kv_bytes},
      {"kv_dtype", info.kv_bytes > 0 ? OrderedJson(info.kv_dtype) : OrderedJson(nullptr)},
      {"bos_token", info.bos_token < 0 ? OrderedJson(nullptr) : OrderedJson(info.bos_token)},
      {"eos_tokens", info.eos_tokens},
      {"tokenizer", model.tokenizer() != nullptr},
      {"fingerprint", absl::StrFormat("%016x", info.fingerprint)},
      {"machine", info.device_description},
      {"threads", limit.threads > 0 ? OrderedJson(limit.threads) : OrderedJson(nullptr)},
      {"read_bytes_per_second", limit.bytes_per_second},
      {"limit_tokens_per_second", limit.tokens_per_second},
      {"tuning", costs.source},
      {"tuning_measured", costs.measured},
      {"tuning_notes", costs.notes},
  };
}

std::string InspectTable(const Model& model, const Limit& limit, const RoundCostModel& costs) {
  const ModelInfo& info = model.info();
  std::string table;
  const auto row = [&table](const char* name, const std::string& value) {
    absl::StrAppendFormat(&table, "%-14s %s\n", name, value);
  };
  row("model", info.path);
  row("family", info.family);
  row("layers", absl::StrFormat("%d, hidden size %d", info.num_layers, info.hidden_size));
  row("vocabulary", absl::StrFormat("%d, %s", info.vocab_size,
                                    model.tokenizer() ? "with tokenizer" : "no tokenizer.json"));
  row("special tokens",
      absl::StrFormat("bos %s, eos %s", info.bos_token < 0 ? "none" : absl::StrCat(info.bos_token),
                      info.eos_tokens.empty() ? "none" : absl::StrJoin(info.eos_tokens, " ")));
  row("parameters", absl::StrFormat("%d", info.num_parameters));
  row("weights",
      absl::StrFormat("%d bytes a pass, %s on %s", info.weight_bytes, info.dtype, info.device));
  row("state", absl::StrFormat("%d bytes, convolution window %d bytes", info.state_bytes,
                               info.conv_window_bytes));
  row("log row", absl::StrFormat("%d bytes", info.log_row_bytes));
  if (info.kv_bytes > 0) {
    row("keys, values", absl::StrFormat("%d bytes a token, %s", info.kv_bytes, info.kv_dtype));
  }
  row("fingerprint", absl::StrFormat("%016x", info.fingerprint));
  row("machine", MachineText(info, limit.threads));
  row("limit",
      absl::StrFormat("%.0f tokens/s: %.1f GB/s measured over %.1f MB", limit.tokens_per_second,
                      limit.bytes_per_second / 1e9, static_cast<double>(info.weight_bytes) / 1e6));
  row("tuning", costs.source);
  for (const std::string& note : costs.notes) row("", note);
  return table;
}

absl::Status RunInspect(const Flags& flags) {
  SW_ASSIGN_OR_RETURN(const std::shared_ptr<const Model> model, LoadModel(flags.model));
  Limit limit;
  limit.threads = NumThreads(flags.model, *model);
  SW_ASSIGN_OR_RETURN(limit.bytes_per_second,
                      MeasureReadBandwidth(*model, model->info().weight_bytes, limit.threads));
  limit.tokens_per_second =
      limit.bytes_per_second / static_cast<double>(model->info().weight_bytes);
  EngineOptions options;
  options.model = model;
  SW_ASSIGN_OR_RETURN(options.drafter, LoadDrafter(flags.draft, flags.model));
  options.num_threads = flags.model.threads;
  options.tuning_profile = flags.profile;
  SW_ASSIGN_OR_RETURN(const RoundCostModel costs, FindCostModel(options));
  return flags.json ? PrintJson(InspectJson(*model, limit, costs), /*indent=*/2)
                    : PrintText(InspectTable(*model, limit, costs));
}

}  // namespace

void AddInspect(CLI::App& app, Run& run) {
  CLI::App* sub = app.add_subcommand("inspect", "What a model is, and the limit on this machine");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*sub, flags->model);
  sub->add_option("--draft", flags->draft,
                  "The draft that a tuning profile should be for, as of generate")
      ->capture_default_str()
      ->type_name("DIR|ngram|none");
  sub->add_option("--profile", flags->profile, "Tuning profile; default: the one in the cache")
      ->type_name("FILE.json");
  sub->add_flag("--json", flags->json, "Print one JSON object");
  sub->footer(kFooter);
  sub->callback([&run, flags] { run = [flags] { return RunInspect(*flags); }; });
}

}  // namespace sidewinder::cli
