#include "runtime/state_store.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/common/check.h"
#include "kernels/common/copy.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

constexpr int64_t kAlignedFloats{128};  // arrays of a layer begin at multiples of 512 bytes

}  // namespace

StateStore::Layer StateStore::LayerShape(const RecurrentShape& shape) const {
  const int64_t log_rows = options_.snapshots ? 0 : rule_.log_rows;
  return {.checkpoint = {nullptr, options_.snapshots ? 0 : shape.state_elements},
          .log_x = {nullptr, log_rows * shape.x_dim},
          .log_delta = {nullptr, log_rows * shape.delta_dim},
          .log_b = {nullptr, log_rows * shape.b_dim},
          .snapshots = {nullptr, snapshot_rows_ * shape.state_elements},
          .conv = {nullptr, ConvRingRows(shape) * shape.conv_dim}};
}

absl::StatusOr<StateStore> StateStore::Create(const Device& device,
                                              std::vector<RecurrentShape> layers,
                                              const StateStoreOptions& options) {
  StateStore store;
  store.options_ = options;
  store.layers_ = std::move(layers);
  // Room for what was appended since the last checkpoint at worst, and behind it for one more
  // round, so that a pass never overwrites what it replays.
  const int32_t stride = options.every_round ? 1 : options.stride;
  store.rule_ = {.every_round = options.every_round || options.snapshots,
                 .stride = stride,
                 .log_rows = stride - 1 + 2 * options.max_rows,
                 .max_rows = options.max_rows};
  store.snapshot_rows_ = options.snapshots ? options.max_rows + 1 : 0;
  const std::string what =
      absl::StrFormat("the recurrent state of %d sequences", options.num_slots);
  for (const RecurrentShape& shape : store.layers_) {
    Layer layer = store.LayerShape(shape);
    SlotArray* const arrays[] = {&layer.checkpoint, &layer.log_x,     &layer.log_delta,
                                 &layer.log_b,      &layer.snapshots, &layer.conv};
    int64_t floats = 0;
    for (const SlotArray* array : arrays) {
      floats += (options.num_slots * array->elements + kAlignedFloats - 1) / kAlignedFloats *
                kAlignedFloats;
    }
    SW_ASSIGN_OR_RETURN(DeviceMemory memory, device.Allocate(floats * sizeof(float), what));
    float* next = memory.as<float>();
    for (SlotArray* array : arrays) {
      array->data = next;
      next += (options.num_slots * array->elements + kAlignedFloats - 1) / kAlignedFloats *
              kAlignedFloats;
    }
    store.storage_.push_back(layer);
    store.memory_.push_back(std::move(memory));
  }
  SW_ASSIGN_OR_RETURN(store.cursors_, device.Allocate(options.num_slots * sizeof(StateCursor),
                                                      "the cursors of sequences"));
  return store;
}

int64_t StateStore::ConvRingRows(const RecurrentShape& shape) const {
  return shape.conv_width - 1 + options_.max_rows;
}

int64_t StateStore::conv_ring_rows(int64_t layer) const { return ConvRingRows(layers_[layer]); }

RecurrentState StateStore::recurrent(int64_t layer) {
  const Layer& storage = storage_[layer];
  return {.checkpoint = storage.checkpoint.data,
          .log_x = storage.log_x.data,
          .log_delta = storage.log_delta.data,
          .log_b = storage.log_b.data,
          .snapshots = options_.snapshots ? storage.snapshots.data : nullptr,
          .log_rows = rule_.log_rows,
          .snapshot_rows = snapshot_rows_};
}

float* StateStore::conv_ring(int64_t layer) { return storage_[layer].conv.data; }

StateCursor StateStore::ReadCursor(ExecutionContext& ctx, int32_t slot) const {
  StateCursor cursor;
  CopyOut(ctx, &cursor, cursors() + slot, sizeof(cursor));
  return cursor;
}

void StateStore::Reset(ExecutionContext& ctx, int32_t slot) {
  for (const Layer& l : storage_) {  // of the log only what is committed is ever read
    for (const SlotArray* array : {&l.checkpoint, &l.snapshots, &l.conv}) {
      FillZero(ctx, array->slot(slot), array->bytes());
    }
  }
  FillZero(ctx, cursors() + slot, sizeof(StateCursor));
}

void StateStore::Fork(ExecutionContext& ctx, int32_t from, int32_t to) {
  for (const Layer& l : storage_) {
    for (const SlotArray* array :
         {&l.checkpoint, &l.log_x, &l.log_delta, &l.log_b, &l.snapshots, &l.conv}) {
      CopyWithin(ctx, array->slot(to), array->slot(from), array->bytes());
    }
  }
  CopyWithin(ctx, cursors() + to, cursors() + from, sizeof(StateCursor));
}

float* StateStore::StateAt(int64_t layer, int32_t slot, int32_t position) const {
  const Layer& l = storage_[layer];
  if (!options_.snapshots) return l.checkpoint.slot(slot);
  return l.snapshots.slot(slot) + position % snapshot_rows_ * layers_[layer].state_elements;
}

int64_t StateStore::ExportBytes() const {
  int64_t elements = 0;
  for (const RecurrentShape& shape : layers_) {
    elements += shape.state_elements + (shape.conv_width - 1) * shape.conv_dim;
  }
  return elements * static_cast<int64_t>(sizeof(float));
}

std::string StateStore::ExportSlot(ExecutionContext& ctx, int32_t slot) const {
  const StateCursor cursor = ReadCursor(ctx, slot);
  SW_CHECK(options_.snapshots || cursor.checkpoint == cursor.consumed) << "slot is not settled";
  std::string bytes(ExportBytes(), '\0');
  char* next = bytes.data();
  for (int64_t i = 0; i < num_layers(); ++i) {
    const RecurrentShape& shape = layers_[i];
    CopyOut(ctx, next, StateAt(i, slot, cursor.consumed), shape.state_elements * sizeof(float));
    next += shape.state_elements * sizeof(float);
    const int64_t ring = ConvRingRows(shape);
    const size_t row_bytes = shape.conv_dim * sizeof(float);
    for (int64_t back = shape.conv_width - 1; back >= 1; --back, next += row_bytes) {
      const int64_t position = cursor.consumed - back;
      if (position < 0) continue;
      CopyOut(ctx, next, storage_[i].conv.slot(slot) + position % ring * shape.conv_dim, row_bytes);
    }
  }
  return bytes;
}

absl::Status StateStore::ImportSlot(ExecutionContext& ctx, int32_t slot, absl::string_view bytes,
                                    int32_t consumed) {
  if (static_cast<int64_t>(bytes.size()) != ExportBytes()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "recurrent state has %d bytes; this model has %d", bytes.size(), ExportBytes()));
  }
  Reset(ctx, slot);
  const StateCursor cursor = {.checkpoint = consumed, .consumed = consumed};
  CopyIn(ctx, cursors() + slot, &cursor, sizeof(cursor));
  const char* next = bytes.data();
  for (int64_t i = 0; i < num_layers(); ++i) {
    const RecurrentShape& shape = layers_[i];
    CopyIn(ctx, StateAt(i, slot, consumed), next, shape.state_elements * sizeof(float));
    next += shape.state_elements * sizeof(float);
    const int64_t ring = ConvRingRows(shape);
    const size_t row_bytes = shape.conv_dim * sizeof(float);
    for (int64_t back = shape.conv_width - 1; back >= 1; --back, next += row_bytes) {
      const int64_t row = (consumed - back + ring) % ring;
      CopyIn(ctx, storage_[i].conv.slot(slot) + row * shape.conv_dim, next, row_bytes);
    }
  }
  return absl::OkStatus();
}

int64_t StateStore::CheckpointBytes() const {
  int64_t bytes = 0;
  for (const Layer& l : storage_)
    bytes += l.checkpoint.bytes() + l.snapshots.bytes() + l.conv.bytes();
  return bytes;
}

int64_t StateStore::LogBytes() const {
  int64_t bytes = 0;
  for (const Layer& l : storage_) bytes += l.log_x.bytes() + l.log_delta.bytes() + l.log_b.bytes();
  return bytes;
}

}  // namespace sidewinder
