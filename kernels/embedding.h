// output[r] = scale * table[tokens[r]], widened to float32.
#ifndef SIDEWINDER_KERNELS_EMBEDDING_H_
#define SIDEWINDER_KERNELS_EMBEDDING_H_

#include <cstdint>

#include "kernels/common/dtype.h"
#include "kernels/common/execution.h"

namespace sidewinder {

struct EmbeddingParams {
  const void* table;  // [vocab, dim], stored as LinearParams::weight: it may be the head as well
  DType table_dtype;
  const int32_t* tokens;  // [rows], each in [0, vocab): checked where tokens enter the system
  float* output;          // [rows, dim]
  int64_t dim;
  int64_t output_stride;  // elements between rows
  float scale = 1.0f;
  const int32_t* num_rows;  // [1]
  int32_t max_rows;         // *num_rows never exceeds this; sizes launches (CUDA)
};

void Embedding(ExecutionContext& ctx, const EmbeddingParams& params);
void EmbeddingCpu(ExecutionContext& ctx, const EmbeddingParams& params);
CudaError LaunchEmbedding(CudaContext& ctx, const EmbeddingParams& params);
void EmbeddingRef(const EmbeddingParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_EMBEDDING_H_
