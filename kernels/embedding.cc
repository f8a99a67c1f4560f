#include "kernels/embedding.h"

namespace sidewinder {

void Embedding(ExecutionContext& ctx, const EmbeddingParams& params) {
  Dispatch(
      ctx, "Embedding", [&] { EmbeddingCpu(ctx, params); },
      [&](auto& cuda) { return LaunchEmbedding(cuda, params); });
}

}  // namespace sidewinder
