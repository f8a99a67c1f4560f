// Fork-join over a fixed set of threads, built for parallel regions of a few microseconds: workers
// spin for a while before they sleep, so that a decode step of dozens of ops pays about a
// microsecond an op.
#ifndef SIDEWINDER_KERNELS_COMMON_THREAD_POOL_H_
#define SIDEWINDER_KERNELS_COMMON_THREAD_POOL_H_

#include <cstdint>
#include <memory>
#include <type_traits>

namespace sidewinder {

class ThreadPool {
 public:
  // `num_threads` counts the calling thread; 0 means one per available core. At least 1.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  // Calls fn(begin, end, thread_idx) on disjoint ranges that cover [0, n), at most one range per
  // thread, ranges starting at multiples of `grain`; returns when all are done. Which thread gets
  // which range depends on the arguments and num_threads alone. Runs inline when one range
  // suffices.
  //
  // `lead`: how much of n the caller gets done until a worker has begun and has fetched what the
  // caller wrote last (some microseconds); workers get that much less, and none if nothing is left.
  // Not reentrant, and one caller at a time.
  template <class Fn>
  void ParallelFor(int64_t n, int64_t grain, const Fn& fn, int64_t lead = 0) {
    Run(
        n, grain, lead,
        [](const void* f, int64_t begin, int64_t end, int thread_idx) {
          (*static_cast<const Fn*>(f))(begin, end, thread_idx);
        },
        &fn);
  }

 private:
  using Body = void (*)(const void* fn, int64_t begin, int64_t end, int thread_idx);
  void Run(int64_t n, int64_t grain, int64_t lead, Body body, const void* fn);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_THREAD_POOL_H_
