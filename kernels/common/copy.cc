#include "kernels/common/copy.h"

#include <cstring>

namespace sidewinder {

void CopyIn(ExecutionContext& ctx, void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  Dispatch(
      ctx, "CopyIn", [&] { std::memcpy(to, from, bytes); },
      [&](auto& cuda) { return LaunchCopyIn(cuda, to, from, bytes); });
}

void CopyOut(ExecutionContext& ctx, void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  Dispatch(
      ctx, "CopyOut", [&] { std::memcpy(to, from, bytes); },
      [&](auto& cuda) { return LaunchCopyOut(cuda, to, from, bytes); });
}

void CopyWithin(ExecutionContext& ctx, void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  Dispatch(
      ctx, "CopyWithin", [&] { std::memcpy(to, from, bytes); },
      [&](auto& cuda) { return LaunchCopyWithin(cuda, to, from, bytes); });
}

void FillZero(ExecutionContext& ctx, void* to, size_t bytes) {
  if (bytes == 0) return;
  Dispatch(
      ctx, "FillZero", [&] { std::memset(to, 0, bytes); },
      [&](auto& cuda) { return LaunchFillZero(cuda, to, bytes); });
}

}  // namespace sidewinder
