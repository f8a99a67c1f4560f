// A row plan in ordinary memory, built by hand.
#ifndef SIDEWINDER_TESTS_TESTING_HOST_ROW_PLAN_H_
#define SIDEWINDER_TESTS_TESTING_HOST_ROW_PLAN_H_

#include <cstdint>
#include <vector>

#include "kernels/row_plan.h"

namespace sidewinder::testing {

class HostRowPlan {
 public:
  // `first_row` of the sequences is filled in.
  explicit HostRowPlan(std::vector<SequenceRows> sequences) : sequences_(std::move(sequences)) {
    for (SequenceRows& sequence : sequences_) {
      sequence.first_row = num_rows_;
      num_rows_ += sequence.num_rows;
    }
    num_sequences_ = static_cast<int32_t>(sequences_.size());
    tokens_.resize(num_rows_);
    for (int32_t r = 0; r < num_rows_; ++r) logit_rows_.push_back(r);
  }

  int32_t num_rows() const { return num_rows_; }
  const SequenceRows& sequence(int idx) const { return sequences_[idx]; }

  RowPlan plan() {
    return {.num_rows = &num_rows_,
            .num_sequences = &num_sequences_,
            .num_logit_rows = &num_rows_,
            .tokens = tokens_.data(),
            .sequences = sequences_.data(),
            .logit_rows = logit_rows_.data(),
            .max_rows = num_rows_,
            .max_sequences = num_sequences_};
  }

 private:
  std::vector<SequenceRows> sequences_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> logit_rows_;
  int32_t num_rows_ = 0;
  int32_t num_sequences_ = 0;
};

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_HOST_ROW_PLAN_H_
