// The tiny checkpoints of tests/goldens/models with the logits and greedy texts they must give;
// tools/goldens/make_model_goldens.py and make_hybrid_goldens.py write them and say how they came
// about.
#ifndef SIDEWINDER_TESTS_TESTING_MODEL_GOLDENS_H_
#define SIDEWINDER_TESTS_TESTING_MODEL_GOLDENS_H_

#include <cstdint>
#include <fstream>
#include <iterator>
#include <ostream>
#include <string>
#include <vector>

#include "runtime/json.h"
#include "runtime/status_macros.h"
#include "tests/testing/npy_reader.h"
#include "tests/testing/source_dir.h"

namespace sidewinder::testing {

struct GoldenPrompt {
  std::vector<int32_t> tokens;
  std::vector<int64_t> positions;          // of `tokens`, ascending
  std::vector<std::vector<float>> logits;  // [positions][vocab_size], after the token there
};

struct GoldenGreedy {
  std::vector<int32_t> prompt;
  std::vector<int32_t> tokens;  // what follows; no end-of-text id among them
};

struct GoldenText {
  std::string text;
  std::vector<int32_t> tokens;  // without special ones
};

struct GoldenModel {
  std::string name;    // e.g. "mamba2_groups"
  std::string folder;  // path of the model folder
  std::string family;  // a name of ModelFamily
  int64_t vocab_size = 0;
  int64_t vocab_limit = 0;
  bool tied = false;         // no lm_head.weight in the folder
  double tolerance = 2e-4;   // of logits, as a share of max_abs_logit
  double max_abs_logit = 0;  // over the logits of all prompts
  double min_top_gap = 0;    // of the two largest logits in the greedy runs, share of max_abs_logit
  std::vector<GoldenPrompt> prompts;
  std::vector<GoldenGreedy> greedy;
  std::vector<GoldenText> texts;  // empty unless the folder has a tokenizer

  friend void PrintTo(const GoldenModel& model, std::ostream* out) { *out << model.name; }
};

// `list` is a file beside the folders.
inline std::vector<GoldenModel> ReadModelGoldens(const std::string& list) {
  const std::string root = SourceDir() + "/tests/goldens/models/";
  std::ifstream file(root + list);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const absl::StatusOr<Json> json = ParseJson(text, root + list);
  SW_CHECK(json.ok()) << json.status();
  std::vector<GoldenModel> models;
  for (const Json& entry : json->at("models")) {
    GoldenModel model;
    model.name = entry.at("name");
    model.folder = root + model.name;
    model.family = entry.at("family");
    model.vocab_size = entry.at("vocab_size");
    model.vocab_limit = entry.at("vocab_limit");
    model.tied = entry.at("tied");
    model.tolerance = entry.value("tolerance", model.tolerance);
    model.max_abs_logit = entry.at("max_abs_logit");
    model.min_top_gap = entry.at("min_top_gap");
    const NpyMatrix logits = ReadNpy(model.folder + "/golden_logits.npy");
    SW_CHECK(logits.cols == model.vocab_size) << model.name;
    for (const Json& item : entry.at("prompts")) {
      GoldenPrompt prompt{item.at("tokens"), item.at("positions"), {}};
      int64_t row = item.at("first_row");
      SW_CHECK(row + static_cast<int64_t>(prompt.positions.size()) <= logits.rows) << model.name;
      for (size_t i = 0; i < prompt.positions.size(); ++i, ++row) {
        prompt.logits.emplace_back(logits.row(row), logits.row(row) + logits.cols);
      }
      model.prompts.push_back(std::move(prompt));
    }
    for (const Json& item : entry.at("greedy")) {
      const size_t prompt = item.at("prompt");
      model.greedy.push_back({model.prompts.at(prompt).tokens, item.at("tokens")});
    }
    for (const Json& item : entry.value("texts", Json::array())) {
      model.texts.push_back({item.at("text"), item.at("tokens")});
    }
    models.push_back(std::move(model));
  }
  return models;
}

// Mamba-1 and Mamba-2, then the other families.
inline std::vector<GoldenModel> ReadModelGoldens() {
  std::vector<GoldenModel> models = ReadModelGoldens("cases.json");
  for (GoldenModel& model : ReadModelGoldens("hybrid_cases.json")) {
    models.push_back(std::move(model));
  }
  return models;
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_MODEL_GOLDENS_H_
