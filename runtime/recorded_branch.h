// Work of a round that is left out when an op ahead of it says so. In a recorded loop
// (recorded_loop.h) it becomes a branch of the graph; elsewhere it is simply enqueued, and its ops
// have nothing to do.
#ifndef SIDEWINDER_RUNTIME_RECORDED_BRANCH_H_
#define SIDEWINDER_RUNTIME_RECORDED_BRANCH_H_

#include <functional>

#include "kernels/common/execution.h"
#include "kernels/plan_rows.h"

namespace sidewinder {

// Enqueues decide(condition), which hands the condition to the op that decides, and then what
// body() enqueues. Bodies may have branches of their own. Failures are recorded in the context.
void EnqueueBranch(ExecutionContext& ctx, const std::function<void(const BranchCondition&)>& decide,
                   const std::function<void()>& body);

}  // namespace sidewinder

#endif  // SIDEWINDER_RUNTIME_RECORDED_BRANCH_H_
