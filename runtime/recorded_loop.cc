#include "runtime/recorded_loop.h"

#include "absl/strings/str_cat.h"
#include "kernels/common/check.h"
#include "runtime/status_macros.h"

namespace sidewinder {

absl::StatusOr<std::unique_ptr<RecordedLoop>> RecordedLoop::Record(
    Stream& stream, const std::function<void(uint64_t condition)>& body) {
  if constexpr (!kHasCuda) {
    return absl::UnimplementedError("this build records no loops: it has no CUDA backend");
  } else {
    auto recorded = std::unique_ptr<RecordedLoop>(new RecordedLoop());
    SW_RETURN_IF_ERROR(stream.Synchronize());
    CUstream_st* const cuda_stream = stream.context().cuda->stream;
    const auto failed = [](const char* what, CudaError error) {
      return absl::InternalError(absl::StrCat(what, ": ", cuda_driver::ErrorText(error)));
    };
    if (const CudaError error = cuda_driver::BeginLoop(cuda_stream, &recorded->loop_); error != 0) {
      return failed("recording a loop", error);
    }
    body(recorded->loop_.condition);
    const CudaError error = cuda_driver::EndLoop(cuda_stream, &recorded->loop_);
    SW_RETURN_IF_ERROR(stream.status());  // the op to blame, if there is one
    if (error != 0) return failed("making a recorded loop executable", error);
    return recorded;
  }
}

RecordedLoop::~RecordedLoop() {
  if constexpr (kHasCuda) cuda_driver::DestroyLoop(&loop_);
}

void RecordedLoop::Launch(ExecutionContext& ctx) const {
  Dispatch(
      ctx, "RecordedLoop", [] { SW_CHECK(false) << "the CPU runs no recorded loops"; },
      [&](auto& cuda) { return cuda_driver::LaunchLoop(cuda.stream, loop_); });
}

}  // namespace sidewinder
