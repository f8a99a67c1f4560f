// State of many sequences: for each slot and recurrent layer a checkpoint, a replay log and a
// convolution window, for each slot the pages of its keys and values, and a cursor that serves both
// (kernels/row_plan.h, kernels/multistep.h, kernels/attention.h, docs/state-management.md).
#ifndef SIDEWINDER_RUNTIME_STATE_STORE_H_
#define SIDEWINDER_RUNTIME_STATE_STORE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/attention.h"
#include "kernels/common/dtype.h"
#include "kernels/common/execution.h"
#include "kernels/multistep.h"
#include "kernels/plan_rows.h"
#include "kernels/row_plan.h"
#include "runtime/device.h"

namespace sidewinder {

// What one recurrent layer keeps, in float32 elements.
struct RecurrentShape {
  int64_t state_elements;  // one recurrent state
  int64_t x_dim;           // log row: post-convolution x,
  int64_t delta_dim;       //   time steps,
  int64_t b_dim;           //   B
  int64_t conv_dim;        // channels of the convolution
  int64_t conv_width;      // taps; the window is the last conv_width - 1 inputs
  int32_t chunk = 1;       // positions that a prefill may evaluate as a whole (multistep.h)

  int64_t log_row_elements() const { return x_dim + delta_dim + b_dim; }
};

// What the attention layers keep, all alike.
struct KvShape {
  int64_t num_layers = 0;  // 0: the model has no attention
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;

  int64_t elements_per_position() const { return 2 * num_layers * num_kv_heads * head_dim; }
};

// What a StateStore must hold for a network.
struct StateShape {
  std::vector<RecurrentShape> recurrent;  // one entry a recurrent layer
  KvShape kv;
};

struct StateStoreOptions {
  int32_t num_slots = 1;
  int32_t max_rows = 1;     // most rows that one round appends to a sequence
  bool snapshots = false;   // a state per row instead of checkpoint and log
  bool every_round = true;  // checkpoint policy; else when the log is full, at multiples of
  int32_t stride = 1;       // this
  DType kv_dtype = DType::kFloat32;  // of keys and values: kFloat32 or kBFloat16
};

class StateStore {
 public:
  // All slots are empty sequences. ResourceExhausted if the memory cannot be had.
  static absl::StatusOr<StateStore> Create(std::shared_ptr<const Device> device, StateShape shape,
                                           const StateStoreOptions& options);

  // Recurrent layers.
  int64_t num_layers() const { return static_cast<int64_t>(layers_.size()); }
  const StateStoreOptions& options() const { return options_; }
  const CheckpointRule& rule() const { return rule_; }
  // Prompts are cut into passes at multiples of this, or bits would depend on the cuts
  // (multistep.h).
  int32_t prefill_multiple() const;

  // Views that ops take; valid as long as the store.
  RecurrentState recurrent(int64_t layer);
  float* conv_ring(int64_t layer);  // [slots, conv_ring_rows, conv_dim]
  int64_t conv_ring_rows(int64_t layer) const;
  StateCursor* cursors() const { return cursors_.as<StateCursor>(); }  // [slots], device memory
  KvCache kv(int64_t attention_layer) const;

  // No row of a pass is at a position >= this: what Reserve() has made room for in any slot,
  // rounded up so that it seldom changes. A recorded round is valid as long as it stays the same.
  int64_t max_position() const { return max_position_; }

  // Gives the slot the pages that `positions` positions take; those it has no use for become free.
  // Must come before any pass that reaches so far. ResourceExhausted if the memory cannot be had.
  absl::Status Reserve(ExecutionContext& ctx, int32_t slot, int64_t positions);

  // Makes the pages of a slot free for others.
  void Release(int32_t slot);

  // Where a slot stands; waits for the device.
  StateCursor ReadCursor(ExecutionContext& ctx, int32_t slot) const;

  // Makes the slot an empty sequence.
  void Reset(ExecutionContext& ctx, int32_t slot);

  // Makes `to` an exact copy of `from`, log and cursor included, with room for what `from` has
  // consumed at least. ResourceExhausted as Reserve.
  absl::Status Fork(ExecutionContext& ctx, int32_t from, int32_t to);

  // The state of a settled slot (empty log: checkpoint == consumed) as bytes: for each layer the
  // recurrent state, then the convolution window, oldest position first, zeros before position 0;
  // then the pages of keys and values, zeros behind the last position.
  // Two sequences that consumed the same tokens, the same of them as prompts, give the same bytes,
  // whatever was proposed on the way.
  std::string ExportSlot(ExecutionContext& ctx, int32_t slot) const;
  int64_t ExportBytes(int64_t consumed) const;

  // The reverse; the slot has then consumed `consumed` positions, for which it has room.
  // InvalidArgument on a wrong size.
  absl::Status ImportSlot(ExecutionContext& ctx, int32_t slot, absl::string_view bytes,
                          int32_t consumed);

  // Bytes of memory per slot.
  int64_t CheckpointBytes() const;  // checkpoints, windows and snapshots
  int64_t LogBytes() const;
  // Bytes of keys and values a position takes.
  int64_t KvBytesPerPosition() const;

 private:
  // An array [slots, elements] of floats.
  struct SlotArray {
    float* data;
    int64_t elements;
    float* slot(int32_t slot) const { return data + slot * elements; }
    size_t bytes() const { return elements * sizeof(float); }
  };
  // As in RecurrentState, and the ring of the convolution.
  struct Layer {
    SlotArray checkpoint, log_x, log_delta, log_b, snapshots, conv;
  };

  // The pages of a slot: what the table holds.
  struct SlotPages {
    std::vector<std::byte*> pages;
    DeviceMemory table;
  };

  StateStore() = default;
  int64_t PageBytes() const { return KvBytesPerPosition() * kKvPagePositions; }
  Layer LayerShape(const RecurrentShape& shape) const;  // elements alone
  float* StateAt(int64_t layer, int32_t slot, int32_t position) const;
  int64_t ConvRingRows(const RecurrentShape& shape) const;

  StateStoreOptions options_;
  CheckpointRule rule_;
  int64_t snapshot_rows_ = 0;
  std::vector<RecurrentShape> layers_;
  std::vector<Layer> storage_;
  std::vector<DeviceMemory> memory_;  // of the arrays of each layer
  DeviceMemory cursors_;

  std::shared_ptr<const Device> device_;
  KvShape kv_;
  int64_t max_position_ = 0;
  std::vector<SlotPages> slot_pages_;
  DeviceMemory tables_;  // [slots] device addresses of the tables
  std::vector<std::byte*> free_pages_;
  std::vector<DeviceMemory> slabs_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_RUNTIME_STATE_STORE_H_
