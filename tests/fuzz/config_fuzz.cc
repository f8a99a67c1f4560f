// Any text as a config.json: an error that names the file, or a config within its limits that is
// written and read back as itself.
#include <cstddef>
#include <cstdint>

#include "models/config.h"
#include "runtime/json.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

void CheckLimits(const ModelConfig& config) {
  for (const int64_t dim : {config.hidden_size, config.vocab_size, config.vocab_limit,
                            config.inner_size, config.state_size, config.conv_kernel}) {
    SW_CHECK(dim >= 1 && dim <= 2 * kMaxDim) << dim;
  }
  SW_CHECK(config.num_layers >= 1 && config.num_layers <= kMaxLayers);
  SW_CHECK(config.vocab_limit <= config.vocab_size);
  SW_CHECK(config.bos_token_id < config.vocab_size);
  SW_CHECK(config.norm_eps > 0.0f && config.norm_eps <= 1.0f);
  SW_CHECK(config.conv_dim() <= 3 * kMaxDim);
  if (config.family == ModelFamily::kMamba2) {
    SW_CHECK(config.num_heads * config.head_dim == config.inner_size);
    SW_CHECK(config.num_heads % config.num_groups == 0);
    SW_CHECK(config.inner_size % config.gated_norm_group == 0);
    SW_CHECK(config.time_step_min >= 0.0f && config.time_step_min <= config.time_step_max);
  } else {
    SW_CHECK(config.time_step_rank >= 1 && config.time_step_rank <= kMaxDim);
  }
}

}  // namespace
}  // namespace sidewinder

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sidewinder;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<Json> json = ParseJson(text, "fuzz");
  if (!json.ok()) return 0;
  const absl::StatusOr<ModelConfig> config = ParseConfig(*json, "fuzz");
  if (!config.ok()) {
    SW_CHECK(config.status().message().find("fuzz") != absl::string_view::npos) << config.status();
    return 0;
  }
  CheckLimits(*config);
  const Json written = ToJson(*config);
  const absl::StatusOr<ModelConfig> again = ParseConfig(written, "again");
  SW_CHECK(again.ok() && *again == *config) << again.status() << "\n" << written.dump();
  return 0;
}
