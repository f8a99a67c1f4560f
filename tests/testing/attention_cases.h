// Passes of Attention with random inputs over a paged cache, in ordinary memory, and how far a
// backend may be from the reference.
#ifndef SIDEWINDER_TESTS_TESTING_ATTENTION_CASES_H_
#define SIDEWINDER_TESTS_TESTING_ATTENTION_CASES_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "kernels/common/reference.h"
#include "tests/testing/host_row_plan.h"
#include "tests/testing/random_values.h"
#include "tests/testing/tolerance.h"

namespace sidewinder::testing {

struct AttentionShape {
  int64_t num_heads, num_kv_heads, head_dim;
  int64_t rotary_dim = 0;
  int64_t window = 0;
  bool norms = false;
  DType dtype = DType::kFloat32;
};

inline std::ostream& operator<<(std::ostream& out, const AttentionShape& s) {
  return out << "heads " << s.num_heads << "/" << s.num_kv_heads << " x " << s.head_dim
             << " rotary " << s.rotary_dim << " window " << s.window << " norms " << s.norms << " "
             << Name(s.dtype);
}

// Shapes of real models and hostile ones.
inline std::vector<AttentionShape> AttentionShapes() {
  return {{1, 1, 2, 2},         {6, 2, 6, 4, 5, true},     {4, 1, 20, 0, 1},
          {3, 3, 64, 64},       {5, 1, 80, 32, 300, true}, {8, 2, 128, 128, 0, true},
          {2, 1, 160, 80, 130}, {4, 4, 224, 112, 0},       {9, 1, 256, 256, 64, true}};
}

inline SequenceRows AttentionRows(int32_t slot, int32_t num_rows, int32_t consumed) {
  return {.slot = slot, .first_row = 0, .num_rows = num_rows, .consumed = consumed};
}

// Pages of all slots in one piece of memory, in an order that is not that of positions. Bytes that
// hold nothing yet are 0xff: NaN of either type.
class KvPages {
 public:
  KvPages(const AttentionShape& shape, int64_t slots, int64_t positions)
      : shape_(shape),
        slots_(slots),
        slot_pages_((positions + kKvPagePositions - 1) / kKvPagePositions) {
    const int64_t part = shape.num_kv_heads * kKvPagePositions * row_bytes();
    key_offset_ = kLine;  // the gaps are guards
    value_offset_ = (2 * kLine + part + kLine - 1) / kLine * kLine;
    page_bytes_ = (value_offset_ + part + 2 * kLine - 1) / kLine * kLine;
    lines_.resize(slots * slot_pages_ * page_bytes_ / kLine);
    std::memset(data(), 0xff, size());
  }

  char* data() { return lines_.data()->bytes; }
  int64_t size() const { return static_cast<int64_t>(lines_.size()) * kLine; }
  int64_t key_offset() const { return key_offset_; }
  int64_t value_offset() const { return value_offset_; }
  int64_t slots() const { return slots_; }

  // Pages of a slot if the memory begins at `base`.
  std::vector<void*> Table(char* base, int64_t slot) const {
    std::vector<void*> pages(slot_pages_);
    for (int64_t j = 0; j < slot_pages_; ++j) pages[j] = base + PageOffset(slot, j);
    return pages;
  }

  // The vector of a position in the part that begins at `part_offset` of a page.
  char* At(int64_t slot, int64_t position, int64_t part_offset, int64_t kv_head) {
    return data() + PageOffset(slot, position / kKvPagePositions) + part_offset +
           (kv_head * kKvPagePositions + position % kKvPagePositions) * row_bytes();
  }

  void Fill(int64_t slot, int64_t position, int64_t part_offset, const float* values) {
    for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
      char* to = At(slot, position, part_offset, g);
      for (int64_t i = 0; i < shape_.head_dim; ++i) {
        ReferenceStore(to, shape_.dtype, i, values[g * shape_.head_dim + i]);
      }
    }
  }

  // Keys and values of [begin, end) of a slot to what memory holds that nothing was stored in.
  void Poison(int64_t slot, int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
        std::memset(At(slot, p, key_offset_, g), 0xff, row_bytes());
        std::memset(At(slot, p, value_offset_, g), 0xff, row_bytes());
      }
    }
  }

  // Makes all values (not keys) of [0, positions) of a slot positive.
  void MakeValuesPositive(int64_t slot, int64_t positions) {
    for (int64_t p = 0; p < positions; ++p) {
      for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
        char* at = At(slot, p, value_offset_, g);
        for (int64_t i = 0; i < shape_.head_dim; ++i) {
          ReferenceStore(at, shape_.dtype, i,
                         static_cast<float>(std::abs(ReferenceLoad(at, shape_.dtype, i))));
        }
      }
    }
  }

 private:
  static constexpr int64_t kLine{128};
  struct alignas(kLine) Line {
    char bytes[kLine];
  };
  int64_t PageOffset(int64_t slot, int64_t page) const {
    return (slots_ * (slot_pages_ - page) - 1 - slot) * page_bytes_;
  }
  int64_t row_bytes() const { return shape_.head_dim * static_cast<int64_t>(SizeOf(shape_.dtype)); }

  AttentionShape shape_;
  int64_t slots_, slot_pages_;
  int64_t key_offset_, value_offset_, page_bytes_;
  std::vector<Line> lines_;
};

// One pass; queries, keys and values lie beside each other as a projection leaves them.
class AttentionPass {
 public:
  // The positions before a sequence's rows are in the cache. `round_queries`: they lose nothing
  // when they are rounded to bfloat16 (if the op does not change them before).
  // `min_slots`, `min_positions`: what the cache has room for even if the sequences need less.
  AttentionPass(const AttentionShape& shape, std::vector<SequenceRows> sequences, uint32_t seed,
                bool round_queries = false, int64_t min_slots = 1, int64_t min_positions = 1)
      : shape_(shape),
        plan_(std::move(sequences)),
        cache_(shape, std::max(min_slots, Slots(plan_)), std::max(min_positions, Positions(plan_))),
        stride_((shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim + 3),
        output_stride_(shape.num_heads * shape.head_dim + 2),
        inputs_(RandomValues(std::max(1, plan_.num_rows()) * stride_, seed)),
        query_norm_(RandomValues(shape.head_dim, seed + 1, 0.5f, 1.5f)),
        key_norm_(RandomValues(shape.head_dim, seed + 2, 0.5f, 1.5f)),
        output_(plan_.num_rows() * output_stride_, 77) {
    for (int64_t i = 0; i < shape.rotary_dim / 2; ++i) {
      inv_freq_.push_back(static_cast<float>(
          std::pow(1e4, -2.0 * static_cast<double>(i) / static_cast<double>(shape.rotary_dim))));
    }
    const int64_t kv_dim = shape.num_kv_heads * shape.head_dim;
    for (int32_t s = 0; s < num_sequences(); ++s) {
      const SequenceRows& seq = plan_.sequence(s);
      const std::vector<float> past = RandomValues(2 * kv_dim * seq.consumed, seed + 3 + seq.slot);
      for (int64_t p = 0; p < seq.consumed; ++p) {
        cache_.Fill(seq.slot, p, cache_.key_offset(), past.data() + 2 * p * kv_dim);
        cache_.Fill(seq.slot, p, cache_.value_offset(), past.data() + (2 * p + 1) * kv_dim);
      }
    }
    for (int64_t r = 0; round_queries && r < plan_.num_rows(); ++r) {
      for (int64_t i = 0; i < shape.num_heads * shape.head_dim; ++i) {
        float& value = inputs_[r * stride_ + i];
        ReferenceStore(&value, DType::kBFloat16, 1, value);  // little-endian: the upper half
        ReferenceStore(&value, DType::kBFloat16, 0, 0.0f);
      }
    }
  }

  // Pointers into this object.
  AttentionParams Params() {
    tables_.clear();
    table_pointers_.clear();
    for (int64_t slot = 0; slot < cache_.slots(); ++slot) {
      tables_.push_back(cache_.Table(cache_.data(), slot));
    }
    for (const std::vector<void*>& table : tables_) table_pointers_.push_back(table.data());
    return {.query = inputs_.data(),
            .key = inputs_.data() + shape_.num_heads * shape_.head_dim,
            .value = inputs_.data() + (shape_.num_heads + shape_.num_kv_heads) * shape_.head_dim,
            .query_norm = shape_.norms ? query_norm_.data() : nullptr,
            .key_norm = shape_.norms ? key_norm_.data() : nullptr,
            .inv_freq = shape_.rotary_dim > 0 ? inv_freq_.data() : nullptr,
            .output = output_.data(),
            .num_heads = shape_.num_heads,
            .num_kv_heads = shape_.num_kv_heads,
            .head_dim = shape_.head_dim,
            .rotary_dim = shape_.rotary_dim,
            .window = shape_.window,
            .scale = scale(),
            .norm_eps = 1e-6f,
            .query_stride = stride_,
            .key_stride = stride_,
            .value_stride = stride_,
            .output_stride = output_stride_,
            .cache = {.tables = table_pointers_.data(),
                      .key_offset = cache_.key_offset(),
                      .value_offset = cache_.value_offset(),
                      .dtype = shape_.dtype},
            .max_position = Positions(plan_),
            .plan = plan_.plan()};
  }

  const AttentionShape& shape() const { return shape_; }
  int32_t num_sequences() { return *plan_.plan().num_sequences; }
  int32_t num_rows() const { return plan_.num_rows(); }
  HostRowPlan& plan() { return plan_; }
  KvPages& cache() { return cache_; }
  std::vector<float>& inputs() { return inputs_; }
  std::vector<float>& output() { return output_; }
  int64_t stride() const { return stride_; }
  int64_t output_stride() const { return output_stride_; }
  const std::vector<float>& query_norm() const { return query_norm_; }
  const std::vector<float>& key_norm() const { return key_norm_; }
  const std::vector<float>& inv_freq() const { return inv_freq_; }

  // Rows [begin, begin + num_rows) of the one sequence of this pass, after it was run, as a pass of
  // their own over the cache that it left, behind other sequences in other slots. The cache holds
  // nothing of them yet.
  AttentionPass Part(int32_t begin, int32_t num_rows, std::vector<SequenceRows> others,
                     uint32_t seed) const {
    const SequenceRows& seq = plan_.sequence(0);
    const int64_t end = seq.consumed + seq.num_rows;
    others.push_back(AttentionRows(seq.slot, num_rows, seq.consumed + begin));
    AttentionPass part(shape_, std::move(others), seed, false, cache_.slots(), end);
    part.cache_ = cache_;
    part.cache_.Poison(seq.slot, seq.consumed + begin, end);
    part.query_norm_ = query_norm_;
    part.key_norm_ = key_norm_;
    std::copy_n(inputs_.begin() + begin * stride_, num_rows * stride_,
                part.inputs_.end() - num_rows * stride_);
    return part;
  }

  // That the last sequence of `part`, which was run, has the bits of this pass.
  void ExpectSameBits(AttentionPass& part, int32_t begin, int32_t num_rows) {
    EXPECT_EQ(std::memcmp(part.output_.data() + (part.num_rows() - num_rows) * output_stride_,
                          output_.data() + begin * output_stride_,
                          num_rows * output_stride_ * sizeof(float)),
              0)
        << "output of rows " << begin << " to " << begin + num_rows;
    const SequenceRows& seq = plan_.sequence(0);
    for (int64_t p = seq.consumed + begin; p < seq.consumed + begin + num_rows; ++p) {
      for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
        for (const int64_t offset : {cache_.key_offset(), cache_.value_offset()}) {
          EXPECT_EQ(
              std::memcmp(part.cache_.At(seq.slot, p, offset, g), cache_.At(seq.slot, p, offset, g),
                          shape_.head_dim * SizeOf(shape_.dtype)),
              0)
              << "cache of position " << p;
        }
      }
    }
  }

  // What the reference makes of a copy: outputs and cache.
  AttentionPass Expected() const {
    AttentionPass copy = *this;
    AttentionRef(copy.Params());
    return copy;
  }

  // The weighted sums of absolute values, in the layout of the output.
  std::vector<float> Magnitude() const {
    AttentionPass copy = *this;
    const int64_t values = (shape_.num_heads + shape_.num_kv_heads) * shape_.head_dim;
    for (int64_t r = 0; r < num_rows(); ++r) {
      for (int64_t i = r * stride_ + values; i < (r + 1) * stride_; ++i) {
        copy.inputs_[i] = std::abs(copy.inputs_[i]);
      }
    }
    for (int32_t s = 0; s < copy.num_sequences(); ++s) {
      const SequenceRows& seq = plan_.sequence(s);
      copy.cache_.MakeValuesPositive(seq.slot, seq.consumed);
    }
    AttentionRef(copy.Params());
    return copy.output_;
  }

  // The largest scale * sum_i |q_i k_i| there can be (by Cauchy and Schwarz).
  double MaxExponent() {
    const double normed = 1.5 * std::sqrt(static_cast<double>(shape_.head_dim));
    double query = shape_.norms ? normed : 0, key = query;
    for (int64_t r = 0; r < num_rows(); ++r) {
      for (int64_t h = 0; h < shape_.num_heads + shape_.num_kv_heads; ++h) {
        double squares = 0;
        for (int64_t i = 0; i < shape_.head_dim; ++i) {
          const double x = inputs_[r * stride_ + h * shape_.head_dim + i];
          squares += x * x;
        }
        double& largest = h < shape_.num_heads ? query : key;
        if (!shape_.norms) largest = std::max(largest, std::sqrt(squares));
      }
    }
    for (int32_t s = 0; s < num_sequences(); ++s) {
      const SequenceRows& seq = plan_.sequence(s);
      for (int64_t p = 0; p < seq.consumed; ++p) {
        for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
          double squares = 0;
          const char* at = cache_.At(seq.slot, p, cache_.key_offset(), g);
          for (int64_t i = 0; i < shape_.head_dim; ++i) {
            const double x = ReferenceLoad(at, shape_.dtype, i);
            squares += x * x;
          }
          key = std::max(key, std::sqrt(squares));
        }
      }
    }
    return scale() * query * key;
  }

  AttentionError Error() {
    return {.head_dim = shape_.head_dim,
            .segments = (Positions(plan_) + kKvSegment - 1) / kKvSegment,
            .max_exponent = MaxExponent(),
            .prepared = shape_.norms || shape_.rotary_dim > 0,
            .narrow_cache = shape_.dtype == DType::kBFloat16};
  }

  // That this pass, run by a backend, left the cache as the reference did: new keys within their
  // roundings, all else to the bit.
  void ExpectCache(AttentionPass& expected) {
    for (int32_t s = 0; s < num_sequences(); ++s) {
      const SequenceRows& seq = plan_.sequence(s);
      for (int64_t p = seq.consumed; p < seq.consumed + seq.num_rows; ++p) {
        for (int64_t g = 0; g < shape_.num_kv_heads; ++g) ExpectKey(expected, seq.slot, p, g);
      }
    }
    EXPECT_EQ(std::memcmp(cache_.data(), expected.cache_.data(), cache_.size()), 0)
        << "values, or what is not of the new positions";
  }

 private:
  static int64_t Slots(const HostRowPlan& plan) {
    int64_t slots = 0;
    for (const SequenceRows& seq : AllOf(plan)) slots = std::max<int64_t>(slots, seq.slot + 1);
    return slots;
  }
  static int64_t Positions(const HostRowPlan& plan) {
    int64_t positions = 1;
    for (const SequenceRows& seq : AllOf(plan)) {
      positions = std::max<int64_t>(positions, seq.consumed + seq.num_rows);
    }
    return positions;
  }
  static std::vector<SequenceRows> AllOf(const HostRowPlan& plan) {
    HostRowPlan copy = plan;
    const RowPlan p = copy.plan();
    return {p.sequences, p.sequences + *p.num_sequences};
  }
  float scale() const { return static_cast<float>(1 / std::sqrt(double(shape_.head_dim))); }

  // Compares one new key and takes over the expected bits.
  void ExpectKey(AttentionPass& expected, int64_t slot, int64_t position, int64_t kv_head) {
    char* actual_at = cache_.At(slot, position, cache_.key_offset(), kv_head);
    const char* expected_at = expected.cache_.At(slot, position, cache_.key_offset(), kv_head);
    const size_t bytes = shape_.head_dim * SizeOf(shape_.dtype);
    if (shape_.norms || shape_.rotary_dim > 0) {
      double largest = 0;
      for (int64_t i = 0; i < shape_.head_dim; ++i) {
        largest = std::max(largest, std::abs(ReferenceLoad(expected_at, shape_.dtype, i)));
      }
      const double bound = 2 * largest * kUnitRoundoff * PreparedHeadRoundings(shape_.head_dim);
      for (int64_t i = 0; i < shape_.head_dim; ++i) {
        const double e = ReferenceLoad(expected_at, shape_.dtype, i);
        const double step = shape_.dtype == DType::kBFloat16 ? 0x1p-7 * std::abs(e) : 0;
        EXPECT_NEAR(ReferenceLoad(actual_at, shape_.dtype, i), e, bound + step)
            << "key of position " << position << " element " << i;
      }
      std::memcpy(actual_at, expected_at, bytes);
    }
    EXPECT_EQ(std::memcmp(actual_at, expected_at, bytes), 0) << "key of position " << position;
  }

  AttentionShape shape_;
  HostRowPlan plan_;
  KvPages cache_;
  int64_t stride_, output_stride_;
  std::vector<float> inputs_, query_norm_, key_norm_, inv_freq_, output_;
  std::vector<std::vector<void*>> tables_;
  std::vector<void* const*> table_pointers_;
};

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_ATTENTION_CASES_H_
