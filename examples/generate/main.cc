// Continues a prompt with a verifier and a draft: generate VERIFIER DRAFT PROMPT
#include <cstdio>

#include "sidewinder/sidewinder.h"

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "usage: generate VERIFIER DRAFT PROMPT\n"), 2;
  auto verifier = sidewinder::Model::Load(argv[1]);
  auto draft = sidewinder::Model::Load(argv[2]);
  for (const absl::Status& status : {verifier.status(), draft.status()}) {
    if (!status.ok()) return std::fprintf(stderr, "%s\n", status.ToString().c_str()), 1;
  }
  const auto& tokenizer = (*verifier)->tokenizer();
  if (tokenizer == nullptr) return std::fprintf(stderr, "%s: no tokenizer.json\n", argv[1]), 1;
  auto engine = sidewinder::Engine::Create(
      {.model = *verifier, .drafter = sidewinder::DrafterOptions::FromModel(*draft)});
  if (!engine.ok()) return std::fprintf(stderr, "%s\n", engine.status().ToString().c_str()), 1;
  auto result = (*engine)->Generate(
      {.prompt = tokenizer->Encode(argv[3]), .max_new_tokens = 64},
      [](const sidewinder::RequestUpdate& update) {
        std::fputs(update.text.c_str(), stdout);
        return std::fflush(stdout) == 0;
      });
  if (!result.ok()) return std::fprintf(stderr, "%s\n", result.status().ToString().c_str()), 1;
  std::printf("\n%.0f %% of the draft's tokens accepted, %.2f tokens a round\n",
              100 * result->stats.AcceptanceRate(), result->stats.MeanAcceptanceLength());
}
