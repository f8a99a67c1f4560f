// Continues a prompt with a verifier and a draft: generate VERIFIER DRAFT PROMPT
#include <cstdio>
#include <string>

#include "sidewinder/sidewinder.h"

namespace sw = sidewinder;

static int Fail(const absl::Status& status) {
  std::fprintf(stderr, "generate: %s\n", std::string(status.message()).c_str());
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 4) return Fail(absl::InvalidArgumentError("arguments: VERIFIER DRAFT PROMPT"));
  auto verifier = sw::Model::Load(argv[1]);
  if (!verifier.ok()) return Fail(verifier.status());
  auto draft = sw::Model::Load(argv[2]);
  if (!draft.ok()) return Fail(draft.status());
  const auto& tokenizer = (*verifier)->tokenizer();
  if (tokenizer == nullptr) return Fail(absl::NotFoundError("the verifier has no tokenizer.json"));

  auto engine =
      sw::Engine::Create({.model = *verifier, .drafter = sw::DrafterOptions::FromModel(*draft)});
  if (!engine.ok()) return Fail(engine.status());
  const auto stream = [](const sw::RequestUpdate& update) {
    std::fputs(update.text.c_str(), stdout);
    return std::fflush(stdout) == 0;  // false cancels the request
  };
  auto result = (*engine)->Generate({.prompt = tokenizer->Encode(argv[3])}, stream);
  if (!result.ok()) return Fail(result.status());
  std::printf("\n%.0f %% of the draft's tokens accepted, %.2f tokens a round\n",
              100 * result->stats.AcceptanceRate(), result->stats.MeanAcceptanceLength());
}
