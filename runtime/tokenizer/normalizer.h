// The "normalizer" of a tokenizer.json.
#ifndef SIDEWINDER_RUNTIME_TOKENIZER_NORMALIZER_H_
#define SIDEWINDER_RUNTIME_TOKENIZER_NORMALIZER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/component.h"

namespace sidewinder::tok {

// A text on its way through the normalizers. The first `origin_end` bytes derive from the first
// character of the whole input; Metaspace's prepend_scheme "first" asks for that.
struct NormalizedText {
  std::string text;
  size_t origin_end = 0;
};

class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  virtual void Apply(NormalizedText* text) const = 0;
  virtual Growth growth() const = 0;
};

class Normalizer {
 public:
  static absl::StatusOr<Normalizer> Read(const JsonReader& root);
  bool empty() const { return steps_.empty(); }
  void Apply(NormalizedText* text) const {
    for (const auto& step : steps_) step->Apply(text);
  }

 private:
  std::vector<std::unique_ptr<const NormalizerStep>> steps_;
};

}  // namespace sidewinder::tok

#endif  // SIDEWINDER_RUNTIME_TOKENIZER_NORMALIZER_H_
