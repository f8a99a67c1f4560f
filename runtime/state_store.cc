#include "runtime/state_store.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_format.h"
#include "runtime/status_macros.h"

namespace sidewinder {
namespace {

// Entries [slot * n, (slot + 1) * n) of a per-slot array.
template <class Fn>
void ForEachArray(std::vector<float>* const (&arrays)[6], int32_t num_slots, const Fn& fn) {
  for (std::vector<float>* array : arrays) fn(*array, array->size() / num_slots);
}

}  // namespace

absl::StatusOr<StateStore> StateStore::Create(std::vector<RecurrentShape> layers,
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
  const size_t slots = options.num_slots;
  const size_t log_rows = options.snapshots ? 0 : store.rule_.log_rows;
  try {
    for (const RecurrentShape& shape : store.layers_) {
      Layer layer{.shape = shape};
      layer.checkpoint.resize(options.snapshots ? 0 : slots * shape.state_elements);
      layer.log_x.resize(slots * log_rows * shape.x_dim);
      layer.log_delta.resize(slots * log_rows * shape.delta_dim);
      layer.log_b.resize(slots * log_rows * shape.b_dim);
      layer.snapshots.resize(slots * store.snapshot_rows_ * shape.state_elements);
      layer.conv.resize(slots * store.ConvRingRows(shape) * shape.conv_dim);
      store.storage_.push_back(std::move(layer));
    }
    store.cursors_.resize(slots);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("no memory for the recurrent state of %d sequences", options.num_slots));
  }
  return store;
}

int64_t StateStore::ConvRingRows(const RecurrentShape& shape) const {
  return shape.conv_width - 1 + options_.max_rows;
}

int64_t StateStore::conv_ring_rows(int64_t layer) const { return ConvRingRows(layers_[layer]); }

RecurrentState StateStore::recurrent(int64_t layer) {
  Layer& storage = storage_[layer];
  return {.checkpoint = storage.checkpoint.data(),
          .log_x = storage.log_x.data(),
          .log_delta = storage.log_delta.data(),
          .log_b = storage.log_b.data(),
          .snapshots = options_.snapshots ? storage.snapshots.data() : nullptr,
          .log_rows = rule_.log_rows,
          .snapshot_rows = snapshot_rows_};
}

float* StateStore::conv_ring(int64_t layer) { return storage_[layer].conv.data(); }

void StateStore::Reset(int32_t slot) {
  for (Layer& l : storage_) {
    ForEachArray({&l.checkpoint, &l.log_x, &l.log_delta, &l.log_b, &l.snapshots, &l.conv},
                 options_.num_slots, [slot](std::vector<float>& array, size_t n) {
                   std::fill_n(array.begin() + slot * n, n, 0.0f);
                 });
  }
  cursors_[slot] = {};
}

void StateStore::Fork(int32_t from, int32_t to) {
  for (Layer& l : storage_) {
    ForEachArray({&l.checkpoint, &l.log_x, &l.log_delta, &l.log_b, &l.snapshots, &l.conv},
                 options_.num_slots, [from, to](std::vector<float>& array, size_t n) {
                   std::copy_n(array.begin() + from * n, n, array.begin() + to * n);
                 });
  }
  cursors_[to] = cursors_[from];
}

const float* StateStore::StateOf(const Layer& layer, int32_t slot) const {
  const int64_t n = layer.shape.state_elements;
  if (!options_.snapshots) return layer.checkpoint.data() + slot * n;
  const int64_t entry = cursors_[slot].consumed % snapshot_rows_;
  return layer.snapshots.data() + (slot * snapshot_rows_ + entry) * n;
}

int64_t StateStore::ExportBytes() const {
  int64_t elements = 0;
  for (const RecurrentShape& shape : layers_) {
    elements += shape.state_elements + (shape.conv_width - 1) * shape.conv_dim;
  }
  return elements * static_cast<int64_t>(sizeof(float));
}

std::string StateStore::ExportSlot(int32_t slot) const {
  const StateCursor& cursor = cursors_[slot];
  SW_CHECK(options_.snapshots || cursor.checkpoint == cursor.consumed) << "slot is not settled";
  std::string bytes;
  bytes.reserve(ExportBytes());
  const auto append = [&bytes](const float* values, int64_t n) {
    bytes.append(reinterpret_cast<const char*>(values), n * sizeof(float));
  };
  for (const Layer& layer : storage_) {
    append(StateOf(layer, slot), layer.shape.state_elements);
    const int64_t ring = ConvRingRows(layer.shape);
    for (int64_t back = layer.shape.conv_width - 1; back >= 1; --back) {
      const int64_t position = cursor.consumed - back;
      const int64_t row = slot * ring + (position + ring) % ring;
      if (position >= 0) {
        append(layer.conv.data() + row * layer.shape.conv_dim, layer.shape.conv_dim);
      } else {
        bytes.append(layer.shape.conv_dim * sizeof(float), '\0');
      }
    }
  }
  return bytes;
}

absl::Status StateStore::ImportSlot(int32_t slot, absl::string_view bytes, int32_t consumed) {
  if (static_cast<int64_t>(bytes.size()) != ExportBytes()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "recurrent state has %d bytes; this model has %d", bytes.size(), ExportBytes()));
  }
  Reset(slot);
  cursors_[slot] = {.checkpoint = consumed, .consumed = consumed};
  const char* source = bytes.data();
  const auto take = [&source](float* values, int64_t n) {
    std::memcpy(values, source, n * sizeof(float));
    source += n * sizeof(float);
  };
  for (Layer& layer : storage_) {
    take(const_cast<float*>(StateOf(layer, slot)), layer.shape.state_elements);
    const int64_t ring = ConvRingRows(layer.shape);
    for (int64_t back = layer.shape.conv_width - 1; back >= 1; --back) {
      const int64_t row = slot * ring + (consumed - back + ring) % ring;
      take(layer.conv.data() + row * layer.shape.conv_dim, layer.shape.conv_dim);
    }
  }
  return absl::OkStatus();
}

int64_t StateStore::CheckpointBytes() const {
  int64_t elements = 0;
  for (const RecurrentShape& shape : layers_) {
    const int64_t states = options_.snapshots ? snapshot_rows_ : 1;
    elements += states * shape.state_elements + ConvRingRows(shape) * shape.conv_dim;
  }
  return elements * static_cast<int64_t>(sizeof(float));
}

int64_t StateStore::LogBytes() const {
  int64_t elements = 0;
  if (!options_.snapshots) {
    for (const RecurrentShape& shape : layers_)
      elements += rule_.log_rows * shape.log_row_elements();
  }
  return elements * static_cast<int64_t>(sizeof(float));
}

}  // namespace sidewinder
