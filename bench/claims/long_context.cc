// Time and memory of long texts, piece by piece, on random weights of a real shape or a model
// folder. Prints one JSON object a line: a piece of the text each, then the summary.
//
//   long_context generate MODEL TOKENS [--prompt N] [--draft MODEL] [--draft-tokens K]
//                [--acceptance P] [--every N] [--device D] [--save FILE] [--restore FILE]
//   long_context prefill MODEL TOKENS [--every N] [--chunk N] [--device D]
//
// A text that takes longer than a machine is at hand is decoded in parts: --save writes its state
// where a part ends, --restore goes on from there; --prompt is then the length of the text so far.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "kernels/common/copy.h"
#include "models/model_runner.h"
#include "runtime/device.h"
#include "runtime/status_macros.h"
#include "sidewinder/engine.h"
#include "sidewinder/model.h"

namespace sidewinder {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string model;
  std::string draft;
  std::string device = "auto";
  int32_t tokens = 0;
  int32_t prompt = 16;
  int32_t draft_tokens = 4;
  int32_t every = 1000;
  int32_t chunk = 512;
  double acceptance = -1.0;
  std::string save, restore;
};

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void PrintPiece(int64_t position, int64_t tokens, double seconds) {
  absl::PrintF("{\"position\": %d, \"tokens_per_second\": %.1f, \"memory_bytes\": %d}\n", position,
               tokens / seconds, Device::memory_use().now);
  std::fflush(stdout);
}

void PrintSummary(const Model& model, int64_t tokens, double seconds, const std::string& more) {
  absl::PrintF(
      "{\"model\": \"%s\", \"machine\": \"%s\", \"tokens\": %d, \"seconds\": %.3f, "
      "\"tokens_per_second\": %.1f, \"weight_bytes\": %d, \"state_bytes\": %d, "
      "\"kv_bytes_per_token\": %d, \"peak_memory_bytes\": %d%s}\n",
      model.info().path, model.info().device_description, tokens, seconds, tokens / seconds,
      model.info().weight_bytes, model.info().state_bytes, model.info().kv_bytes,
      Device::memory_use().peak, more);
}

std::vector<int32_t> MadeUpTokens(const Model& model, int32_t count) {
  std::vector<int32_t> tokens(count);
  uint32_t state = 1;
  for (int32_t& token : tokens) {
    state = state * 1664525u + 1013904223u;
    token = static_cast<int32_t>((state >> 8) % static_cast<uint32_t>(model.info().vocab_limit));
  }
  return tokens;
}

absl::Status Generate(const Options& options) {
  SW_ASSIGN_OR_RETURN(const auto model, Model::Load(options.model, {.device = options.device}));
  EngineOptions engine_options;
  engine_options.model = model;
  engine_options.draft_tokens = 0;
  if (!options.draft.empty()) {
    SW_ASSIGN_OR_RETURN(auto draft, Model::Load(options.draft, {.device = options.device}));
    engine_options.drafter = DrafterOptions::FromModel(std::move(draft));
    engine_options.draft_tokens = options.draft_tokens;
    if (options.acceptance >= 0.0) {
      engine_options.synthetic_acceptance.assign(options.draft_tokens, options.acceptance);
    }
  }
  SW_ASSIGN_OR_RETURN(const auto engine, Engine::Create(engine_options));
  const Clock::time_point begin = Clock::now();
  Clock::time_point piece_begin = begin;
  int64_t tokens = 0, piece_tokens = 0;
  bool first = true;
  double ttft = 0;
  Request request = {
      .max_new_tokens = options.tokens, .ignore_eos = true, .keep_state = !options.save.empty()};
  if (options.restore.empty()) request.prompt = MadeUpTokens(*model, options.prompt);
  SW_ASSIGN_OR_RETURN(const RequestId id, options.restore.empty()
                                              ? engine->Submit(request)
                                              : engine->RestoreState(options.restore, request));
  SW_RETURN_IF_ERROR(engine->Run([&](const RequestUpdate& update) {
    tokens += static_cast<int64_t>(update.tokens.size());
    if (first) {
      ttft = SecondsSince(begin);
      piece_begin = Clock::now();
      piece_tokens = tokens;
      first = false;
    } else if (tokens - piece_tokens >= options.every) {
      PrintPiece(options.prompt + tokens, tokens - piece_tokens, SecondsSince(piece_begin));
      piece_begin = Clock::now();
      piece_tokens = tokens;
    }
    return true;
  }));
  const double seconds = SecondsSince(begin) - ttft;
  if (!options.save.empty()) SW_RETURN_IF_ERROR(engine->SaveState(id, options.save));
  SW_ASSIGN_OR_RETURN(const GenerateResult result, engine->TakeResult(id));
  PrintSummary(*model, tokens, seconds,
               absl::StrFormat(", \"prompt_tokens\": %d, \"ttft_ms\": %.2f, \"rounds\": %d, "
                               "\"acceptance_rate\": %.4f, \"synthetic_acceptance\": %g",
                               options.prompt, ttft * 1e3, result.stats.rounds,
                               result.stats.AcceptanceRate(), options.acceptance));
  return absl::OkStatus();
}

absl::Status Prefill(const Options& options) {
  SW_ASSIGN_OR_RETURN(const auto model, Model::Load(options.model, {.device = options.device}));
  SW_ASSIGN_OR_RETURN(const auto runner,
                      ModelRunner::Create(model, {.prefill_chunk = options.chunk}));
  SW_ASSIGN_OR_RETURN(const auto stream, model->device().CreateStream());
  ExecutionContext& ctx = stream->context();
  SW_RETURN_IF_ERROR(runner->Reserve(ctx, 0, options.tokens));
  const std::vector<int32_t> tokens = MadeUpTokens(*model, options.tokens);
  SW_ASSIGN_OR_RETURN(const DeviceMemory on_device,
                      model->device().Allocate(tokens.size() * sizeof(int32_t), "tokens"));
  CopyIn(ctx, on_device.data(), tokens.data(), on_device.size());
  SW_RETURN_IF_ERROR(stream->Synchronize());
  const Clock::time_point begin = Clock::now();
  Clock::time_point piece_begin = begin;
  int32_t piece = 0;
  for (int32_t at = 0; at < options.tokens; at += options.chunk) {
    const int32_t rows = std::min(options.chunk, options.tokens - at);
    runner->PrefillChunk(ctx, 0, on_device.as<int32_t>(), rows, /*logits=*/false);
    piece += rows;
    if (piece >= options.every || at + rows == options.tokens) {
      SW_RETURN_IF_ERROR(stream->Synchronize());
      PrintPiece(at + rows, piece, SecondsSince(piece_begin));
      piece_begin = Clock::now();
      piece = 0;
    }
  }
  PrintSummary(*model, options.tokens, SecondsSince(begin),
               absl::StrFormat(", \"prefill_chunk\": %d", options.chunk));
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app("Time and memory of long texts, piece by piece");
  app.require_subcommand(1);
  Options options;
  CLI::App* const generate = app.add_subcommand("generate", "decode, plain or speculative");
  CLI::App* const prefill = app.add_subcommand("prefill", "consume a prompt");
  for (CLI::App* const sub : {generate, prefill}) {
    sub->add_option("model", options.model)->required();
    sub->add_option("tokens", options.tokens)->required()->check(CLI::Range(1, 1 << 24));
    sub->add_option("--every", options.every, "tokens a piece")->check(CLI::Range(1, 1 << 24));
    sub->add_option("--device", options.device);
  }
  generate->add_option("--prompt", options.prompt)->check(CLI::Range(1, 1 << 24));
  generate->add_option("--draft", options.draft);
  generate->add_option("--draft-tokens", options.draft_tokens)->check(CLI::Range(1, 15));
  generate->add_option("--acceptance", options.acceptance)->check(CLI::Range(0.0, 1.0));
  generate->add_option("--save", options.save, "write the state behind the last token");
  generate->add_option("--restore", options.restore, "go on behind such a state");
  prefill->add_option("--chunk", options.chunk)->check(CLI::Range(1, 4096));
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = generate->parsed() ? Generate(options) : Prefill(options);
  if (status.ok()) return 0;
  absl::FPrintF(stderr, "long_context: %s\n", status.message());
  return 1;
}

}  // namespace
}  // namespace sidewinder

int main(int argc, char** argv) { return sidewinder::Main(argc, argv); }
