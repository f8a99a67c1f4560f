// A piece of work that a GPU repeats by itself: recorded once, launched once, it runs until an op
// in it says that it is enough (PublishRound). CUDA only.
#ifndef SIDEWINDER_RUNTIME_RECORDED_LOOP_H_
#define SIDEWINDER_RUNTIME_RECORDED_LOOP_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/cuda_driver.h"
#include "runtime/device.h"

namespace sidewinder {

class RecordedLoop {
 public:
  // Records what `body` enqueues on the stream; `condition` is what PublishRound takes. Internal
  // names the op that could not be recorded.
  static absl::StatusOr<std::unique_ptr<RecordedLoop>> Record(
      Stream& stream, const std::function<void(uint64_t condition)>& body);
  ~RecordedLoop();
  RecordedLoop(const RecordedLoop&) = delete;
  RecordedLoop& operator=(const RecordedLoop&) = delete;

  // Enqueues the loop; failures are recorded in the context.
  void Launch(ExecutionContext& ctx) const;

 private:
  RecordedLoop() = default;
  cuda_driver::Loop loop_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_RUNTIME_RECORDED_LOOP_H_
