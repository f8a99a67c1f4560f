#include "kernels/plan_rows.h"

namespace sidewinder {

void PlanVerifyRows(ExecutionContext& ctx, const PlanRowsParams& params) {
  Dispatch(
      ctx, "PlanVerifyRows", [&] { PlanVerifyRowsCpu(ctx, params); },
      [&](auto& cuda) { return LaunchPlanVerifyRows(cuda, params); });
}

void PlanDraftRows(ExecutionContext& ctx, const PlanRowsParams& params, int32_t step,
                   int32_t max_catch_up) {
  Dispatch(
      ctx, "PlanDraftRows", [&] { PlanDraftRowsCpu(ctx, params, step, max_catch_up); },
      [&](auto& cuda) { return LaunchPlanDraftRows(cuda, params, step, max_catch_up); });
}

void PlanPrefillRows(ExecutionContext& ctx, const PlanPrefillParams& params) {
  Dispatch(
      ctx, "PlanPrefillRows", [&] { PlanPrefillRowsCpu(ctx, params); },
      [&](auto& cuda) { return LaunchPlanPrefillRows(cuda, params); });
}

void AdvanceCursors(ExecutionContext& ctx, const RowPlan& plan, StateCursor* cursors) {
  Dispatch(
      ctx, "AdvanceCursors", [&] { AdvanceCursorsCpu(ctx, plan, cursors); },
      [&](auto& cuda) { return LaunchAdvanceCursors(cuda, plan, cursors); });
}

void RollBackCursors(ExecutionContext& ctx, const ControlBlock& control, StateCursor* cursors) {
  Dispatch(
      ctx, "RollBackCursors", [&] { RollBackCursorsCpu(ctx, control, cursors); },
      [&](auto& cuda) { return LaunchRollBackCursors(cuda, control, cursors); });
}

}  // namespace sidewinder
