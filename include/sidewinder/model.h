// A language model loaded from a Hugging Face folder, ready to decode.
#ifndef SIDEWINDER_MODEL_H_
#define SIDEWINDER_MODEL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "sidewinder/tokenizer.h"

namespace sidewinder {

class Device;
class LanguageModel;

struct ModelOptions {
  std::string device = "auto";  // "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:<i>"
  std::string dtype = "auto";   // weights in memory: "auto" (as stored; mapped, not copied),
                                // "float32", "bfloat16" or "float16" (converted copies)
  // Keys and values of attention layers: "float32", "bfloat16", or "auto" (bfloat16 on a GPU with
  // 16-bit weights, else float32).
  std::string kv_dtype = "auto";
};

// Facts about a loaded model. Bytes of state are per sequence.
struct ModelInfo {
  std::string path;
  std::string family;  // the model_type of transformers: "mamba", "mamba2", "jamba", ...
  std::string device;  // "cpu", "cuda:0"
  // "NVIDIA H100 80GB HBM3, compute capability 9.0"; a CPU: as CpuDescription()
  std::string device_description;
  std::string dtype;  // of the matrices in memory
  int64_t num_layers = 0;
  int64_t hidden_size = 0;
  int64_t vocab_size = 0;         // rows of the head
  int64_t vocab_limit = 0;        // ids from here on are padding and are never produced
  int64_t num_parameters = 0;     // a tied head counts once
  int64_t weight_bytes = 0;       // read by one decoding pass
  int64_t state_bytes = 0;        // one checkpoint: the recurrent states of all layers
  int64_t conv_window_bytes = 0;  // the inputs a convolution looks back at
  int64_t log_row_bytes = 0;      // one position of the replay log
  int64_t kv_bytes = 0;           // keys and values of one position; 0 without attention
  std::string kv_dtype;           // "float32" or "bfloat16"
  std::vector<int32_t> eos_tokens;
  int32_t bos_token = -1;    // -1: none
  uint64_t fingerprint = 0;  // of the weights and the configuration
};

// Immutable; may be shared by several engines and used from several threads at once.
class Model {
 public:
  // `folder` is a Hugging Face folder, or "synthetic:<preset>" for random weights of a real model's
  // shape (no tokenizer then). Errors name file, field, value and what is legal: NotFound,
  // InvalidArgument, Unimplemented; ResourceExhausted if the device has no room.
  static absl::StatusOr<std::shared_ptr<const Model>> Load(const std::string& folder,
                                                           const ModelOptions& options = {});

  // Wraps a network. `tokenizer` may be null; `device` is where the network's weights are.
  Model(ModelInfo info, std::unique_ptr<const LanguageModel> network,
        std::shared_ptr<const Tokenizer> tokenizer, std::shared_ptr<const Device> device);
  ~Model();

  const ModelInfo& info() const { return info_; }  // lives as long as the model

  // Null if the folder has no tokenizer.json; token ids still work then.
  const std::shared_ptr<const Tokenizer>& tokenizer() const { return tokenizer_; }

  // The network behind it and where it lives, for code inside the source tree
  // (models/language_model.h, runtime/device.h).
  const LanguageModel& network() const { return *network_; }
  const Device& device() const { return *device_; }
  const std::shared_ptr<const Device>& shared_device() const { return device_; }

 private:
  ModelInfo info_;
  std::unique_ptr<const LanguageModel> network_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const Device> device_;
};

// Evaluates `tokens` from an empty state, in chunks of bounded memory. `on_rows` is called with the
// position of the first row and consecutive rows of float32 logits, [n, vocab_size]; an error it
// returns ends the evaluation. `num_threads` 0: one per core.
// InvalidArgument: no tokens, or an id outside [0, vocab_size).
absl::Status EvaluateLogits(
    const Model& model, absl::Span<const int32_t> tokens, int num_threads,
    const std::function<absl::Status(int64_t first, absl::Span<const float> logits)>& on_rows);

// How well the model predicts a text.
struct ScoreResult {
  int64_t num_tokens = 0;              // predicted tokens: all but the first
  double negative_log_likelihood = 0;  // summed, in nats
  double Perplexity() const;           // exp of the mean; 1 if nothing was predicted
};

// Negative log-likelihood of tokens[1..] given their prefixes. Errors as EvaluateLogits; at least
// two tokens are needed.
absl::StatusOr<ScoreResult> Score(const Model& model, absl::Span<const int32_t> tokens,
                                  int num_threads = 0);

}  // namespace sidewinder

#endif  // SIDEWINDER_MODEL_H_
