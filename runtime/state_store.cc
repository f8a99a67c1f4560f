#include "runtime/state_store.h"

#include <algorithm>
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

absl::StatusOr<StateStore> StateStore::Create(std::shared_ptr<const Device> device,
                                              StateShape shape_of_model,
                                              const StateStoreOptions& options) {
  StateStore store;
  store.options_ = options;
  store.device_ = std::move(device);
  store.layers_ = std::move(shape_of_model.recurrent);
  store.kv_ = shape_of_model.kv;
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
    SW_ASSIGN_OR_RETURN(DeviceMemory memory, store.device_->Allocate(floats * sizeof(float), what));
    float* next = memory.as<float>();
    for (SlotArray* array : arrays) {
      array->data = next;
      next += (options.num_slots * array->elements + kAlignedFloats - 1) / kAlignedFloats *
              kAlignedFloats;
    }
    store.storage_.push_back(layer);
    store.memory_.push_back(std::move(memory));
  }
  SW_ASSIGN_OR_RETURN(
      store.cursors_,
      store.device_->Allocate(options.num_slots * sizeof(StateCursor), "the cursors of sequences"));
  store.slot_pages_.resize(options.num_slots);
  SW_ASSIGN_OR_RETURN(store.tables_, store.device_->Allocate(options.num_slots * sizeof(void*),
                                                             "the page tables of sequences"));
  return store;
}

int64_t StateStore::ConvRingRows(const RecurrentShape& shape) const {
  return shape.conv_width - 1 + options_.max_rows;
}

int64_t StateStore::conv_ring_rows(int64_t layer) const { return ConvRingRows(layers_[layer]); }

int32_t StateStore::prefill_multiple() const {
  int32_t multiple = 1;
  for (const RecurrentShape& shape : layers_) multiple = std::max(multiple, shape.chunk);
  return multiple;
}

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

KvCache StateStore::kv(int64_t attention_layer) const {
  const int64_t half = PageBytes() / (2 * kv_.num_layers);
  return {.tables = tables_.as<void* const* const>(),
          .key_offset = 2 * attention_layer * half,
          .value_offset = (2 * attention_layer + 1) * half,
          .dtype = options_.kv_dtype};
}

absl::Status StateStore::Reserve(ExecutionContext& ctx, int32_t slot, int64_t positions) {
  if (kv_.num_layers == 0) return absl::OkStatus();
  SlotPages& mine = slot_pages_[slot];
  const size_t wanted = (positions + kKvPagePositions - 1) / kKvPagePositions;
  for (; mine.pages.size() > wanted; mine.pages.pop_back()) {
    free_pages_.push_back(mine.pages.back());
  }
  const size_t missing = wanted - mine.pages.size();
  if (missing > free_pages_.size()) {
    const size_t count = missing - free_pages_.size();
    SW_ASSIGN_OR_RETURN(
        DeviceMemory slab,
        device_->Allocate(count * PageBytes(),
                          absl::StrFormat("keys and values of %d positions", positions)));
    for (size_t i = 0; i < count; ++i) {
      free_pages_.push_back(slab.as<std::byte>() + i * PageBytes());
    }
    slabs_.push_back(std::move(slab));
  }
  for (; mine.pages.size() < wanted; free_pages_.pop_back()) {
    mine.pages.push_back(free_pages_.back());
  }
  if (missing > 0) {
    const size_t bytes = wanted * sizeof(void*);
    if (mine.table.size() < bytes) {
      SW_ASSIGN_OR_RETURN(DeviceMemory table, device_->Allocate(2 * bytes, "a page table"));
      void* const address = table.data();
      CopyIn(ctx, tables_.as<void*>() + slot, &address, sizeof(address));
      mine.table = std::move(table);
    }
    CopyIn(ctx, mine.table.data(), mine.pages.data(), bytes);
  }
  constexpr int64_t kLeastPositions{4096};
  max_position_ = std::max(max_position_, kLeastPositions);
  while (max_position_ < positions) max_position_ *= 2;
  return absl::OkStatus();
}

void StateStore::Release(int32_t slot) {
  std::vector<std::byte*>& pages = slot_pages_[slot].pages;
  free_pages_.insert(free_pages_.end(), pages.begin(), pages.end());
  pages.clear();
}

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

absl::Status StateStore::Fork(ExecutionContext& ctx, int32_t from, int32_t to) {
  const int64_t consumed = kv_.num_layers == 0 ? 0 : ReadCursor(ctx, from).consumed;
  const size_t used = (consumed + kKvPagePositions - 1) / kKvPagePositions;
  if (slot_pages_[to].pages.size() < used) SW_RETURN_IF_ERROR(Reserve(ctx, to, consumed));
  for (const Layer& l : storage_) {
    for (const SlotArray* array :
         {&l.checkpoint, &l.log_x, &l.log_delta, &l.log_b, &l.snapshots, &l.conv}) {
      CopyWithin(ctx, array->slot(to), array->slot(from), array->bytes());
    }
  }
  CopyWithin(ctx, cursors() + to, cursors() + from, sizeof(StateCursor));
  for (size_t i = 0; i < used; ++i) {
    CopyWithin(ctx, slot_pages_[to].pages[i], slot_pages_[from].pages[i], PageBytes());
  }
  return absl::OkStatus();
}

float* StateStore::StateAt(int64_t layer, int32_t slot, int32_t position) const {
  const Layer& l = storage_[layer];
  if (!options_.snapshots) return l.checkpoint.slot(slot);
  return l.snapshots.slot(slot) + position % snapshot_rows_ * layers_[layer].state_elements;
}

int64_t StateStore::ExportBytes(int64_t consumed) const {
  int64_t elements = 0;
  for (const RecurrentShape& shape : layers_) {
    elements += shape.state_elements + (shape.conv_width - 1) * shape.conv_dim;
  }
  const int64_t pages = (consumed + kKvPagePositions - 1) / kKvPagePositions;
  return elements * static_cast<int64_t>(sizeof(float)) + pages * PageBytes();
}

std::string StateStore::ExportSlot(ExecutionContext& ctx, int32_t slot) const {
  const StateCursor cursor = ReadCursor(ctx, slot);
  SW_CHECK(options_.snapshots || cursor.checkpoint == cursor.consumed) << "slot is not settled";
  std::string bytes(ExportBytes(cursor.consumed), '\0');
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
  if (kv_.num_layers == 0) return bytes;
  const size_t page_bytes = PageBytes();
  for (int64_t first = 0; first < cursor.consumed; first += kKvPagePositions, next += page_bytes) {
    CopyOut(ctx, next, slot_pages_[slot].pages[first / kKvPagePositions], page_bytes);
    const int64_t used = std::min(kKvPagePositions, cursor.consumed - first);
    const size_t row_bytes = kv_.head_dim * SizeOf(options_.kv_dtype);
    for (size_t head = 0; head < page_bytes; head += kKvPagePositions * row_bytes) {
      std::memset(next + head + used * row_bytes, 0, (kKvPagePositions - used) * row_bytes);
    }
  }
  return bytes;
}

absl::Status StateStore::ImportSlot(ExecutionContext& ctx, int32_t slot, absl::string_view bytes,
                                    int32_t consumed) {
  if (static_cast<int64_t>(bytes.size()) != ExportBytes(consumed)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the state has %d bytes; this model's has %d after %d positions",
                        bytes.size(), ExportBytes(consumed), consumed));
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
  if (kv_.num_layers == 0) return absl::OkStatus();
  for (int64_t first = 0; first < consumed; first += kKvPagePositions, next += PageBytes()) {
    CopyIn(ctx, slot_pages_[slot].pages[first / kKvPagePositions], next, PageBytes());
  }
  return absl::OkStatus();
}

int64_t StateStore::CheckpointBytes() const {
  int64_t bytes = 0;
  for (const Layer& l : storage_)
    bytes += l.checkpoint.bytes() + l.snapshots.bytes() + l.conv.bytes();
  return bytes;
}

int64_t StateStore::KvBytesPerPosition() const {
  return kv_.elements_per_position() * static_cast<int64_t>(SizeOf(options_.kv_dtype));
}

int64_t StateStore::LogBytes() const {
  int64_t bytes = 0;
  for (const Layer& l : storage_) bytes += l.log_x.bytes() + l.log_delta.bytes() + l.log_b.bytes();
  return bytes;
}

}  // namespace sidewinder
