// A host plan's copy in device memory.
#ifndef SIDEWINDER_TESTS_TESTING_DEVICE_ROW_PLAN_H_
#define SIDEWINDER_TESTS_TESTING_DEVICE_ROW_PLAN_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/row_plan.h"
#include "tests/testing/cuda_backend.h"

namespace sidewinder::testing {

class DeviceRowPlan {
 public:
  // `upload` copies a vector to a DeviceArray.
  template <class Upload>
  DeviceRowPlan(const RowPlan& host, const Upload& upload)
      : counts_(upload(
            std::vector<int32_t>{*host.num_rows, *host.num_sequences, *host.num_logit_rows})),
        tokens_(upload(std::vector<int32_t>(host.tokens, host.tokens + host.max_rows))),
        sequences_(
            upload(std::vector<SequenceRows>(host.sequences, host.sequences + host.max_sequences))),
        logit_rows_(upload(std::vector<int32_t>(host.logit_rows, host.logit_rows + host.max_rows))),
        max_rows_(host.max_rows),
        max_sequences_(host.max_sequences) {}

  RowPlan plan() const {
    return {.num_rows = counts_.data(),
            .num_sequences = counts_.data() + 1,
            .num_logit_rows = counts_.data() + 2,
            .tokens = tokens_.data(),
            .sequences = sequences_.data(),
            .logit_rows = logit_rows_.data(),
            .max_rows = max_rows_,
            .max_sequences = max_sequences_};
  }

 private:
  DeviceArray<int32_t> counts_, tokens_;
  DeviceArray<SequenceRows> sequences_;
  DeviceArray<int32_t> logit_rows_;
  int32_t max_rows_, max_sequences_;
};

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_DEVICE_ROW_PLAN_H_
