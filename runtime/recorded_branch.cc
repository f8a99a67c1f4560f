#include "runtime/recorded_branch.h"

#include "runtime/cuda_driver.h"

namespace sidewinder {
namespace {

// The body of a branch that is being recorded: `cuda.stream` records it meanwhile.
[[maybe_unused]] CudaError RecordBody(CudaContext& cuda, uint64_t condition,
                                      const std::function<void()>& body) {
  CUstream_st* const outer = cuda.stream;
  CUstream_st* inner = nullptr;
  CudaError error = cuda_driver::CreateStream(cuda.device_index, &inner);
  if (error != 0) return error;
  error = cuda_driver::BeginBranch(outer, condition, inner);
  if (error == 0) {
    cuda.stream = inner;
    body();
    cuda.stream = outer;
    error = cuda_driver::EndBranch(inner);
  }
  cuda_driver::DestroyStream(cuda.device_index, inner);
  return error;
}

}  // namespace

void EnqueueBranch(ExecutionContext& ctx, const std::function<void(const BranchCondition&)>& decide,
                   const std::function<void()>& body) {
  BranchCondition condition;
  if constexpr (kHasCuda) {
    if (ctx.device == DeviceType::kCuda) {
      Dispatch(
          ctx, "BranchCondition", [] {},
          [&](auto& cuda) {
            return cuda_driver::CreateBranch(cuda.stream, &condition.recorded, &condition.handle);
          });
    }
  }
  decide(condition);
  if (!condition.recorded) {
    body();
    return;
  }
  if constexpr (kHasCuda) {
    Dispatch(
        ctx, "RecordedBranch", [] {},
        [&](auto& cuda) {
          const CudaError error = RecordBody(cuda, condition.handle, body);
          return cuda.failure != 0 ? cuda.failure : error;  // of an op of the body
        });
  }
}

}  // namespace sidewinder
