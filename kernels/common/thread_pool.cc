#include "kernels/common/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace sidewinder {
namespace {

// How long a thread that waits keeps its core. Regions of one decode step follow each other within
// a few microseconds; between steps a caller samples or prints, which takes tens of them.
constexpr std::chrono::microseconds kSpinTime{60};
// With more threads than cores the thread that is waited for needs the core of the one that waits.
constexpr std::chrono::microseconds kSpinTimeOversubscribed{2};
constexpr int kPausesPerClockRead{16};
// Bytes apart: no cache line in common, nor the pair of lines that some processors fetch together.
constexpr size_t kSeparate{128};

inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A counter that one thread raises and one thread waits for.
class Signal {
 public:
  uint32_t value() const { return value_.load(std::memory_order_acquire); }

  void Set(uint32_t value) {
    // Sequentially consistent on both sides, so that either the waiter sees the value before it
    // sleeps or the setter sees that somebody sleeps.
    value_.store(value, std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_seq_cst)) value_.notify_one();
  }

  // Whether the value is other than `old` before `spin_time` is over.
  bool SpinWhile(uint32_t old, std::chrono::microseconds spin_time) const {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if (value() != old) return true;
      Pause();
    }
    const auto deadline = std::chrono::steady_clock::now() + spin_time;
    while (std::chrono::steady_clock::now() < deadline) {
      for (int i = 0; i < kPausesPerClockRead; ++i) {
        if (value() != old) return true;
        Pause();
      }
    }
    return false;
  }

  // Returns when the value is other than `old`; the core is free for others meanwhile.
  void SleepWhile(uint32_t old) {
    sleeping_.store(true, std::memory_order_seq_cst);
    while (value_.load(std::memory_order_seq_cst) == old) {
      value_.wait(old, std::memory_order_seq_cst);
    }
    sleeping_.store(false, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint32_t> value_{0};
  std::atomic<bool> sleeping_{false};
};

// The cores that the scheduler and the control group leave to this process.
int AvailableCores() {
  int cores = std::max(1u, std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = std::max(1, CPU_COUNT(&set));
  std::ifstream file("/sys/fs/cgroup/cpu.max");  // "<quota or max> <period>", microseconds
  std::string quota;
  int64_t period = 0;
  if (file >> quota >> period && quota != "max" && period > 0) {
    const int64_t limit = (std::atoll(quota.c_str()) + period - 1) / period;
    if (limit >= 1) cores = static_cast<int>(std::min<int64_t>(cores, limit));
  }
#endif
  return cores;
}

int CurrentCore() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

// Moves `thread` off the caller's core and leaves it free to go anywhere again. Where other
// processes keep all cores busy, a scheduler lets two threads of a pool share one for seconds, and
// then each region takes as long as both of them spin.
void MoveElsewhere([[maybe_unused]] std::thread& thread) {
#if defined(__linux__)
  cpu_set_t all;
  const pthread_t handle = thread.native_handle();
  if (pthread_getaffinity_np(handle, sizeof(all), &all) != 0 || CPU_COUNT(&all) < 2) return;
  cpu_set_t others = all;
  CPU_CLR(CurrentCore(), &others);
  if (pthread_setaffinity_np(handle, sizeof(others), &others) == 0) {
    pthread_setaffinity_np(handle, sizeof(all), &all);
  }
#endif
}

}  // namespace

struct ThreadPool::Impl {
  // One mailbox a worker: a region that needs few workers touches no other, and a worker that is
  // left out cannot read the fields of the next region while they are written. What a core polls
  // disturbs nobody else, and the transfer that tells a worker to start brings what it is to run.
  struct Mailbox {
    alignas(kSeparate) Signal start;
    Body body = nullptr;  // null asks the worker to end
    const void* fn = nullptr;
    int64_t begin = 0;
    int64_t end = 0;
    alignas(kSeparate) Signal done;
    alignas(kSeparate) std::atomic<int> core = -1;  // where the worker was last seen
    alignas(kSeparate) uint32_t count = 0;  // regions handed to this worker; owned by the caller
  };

  explicit Impl(int n) : num_threads(n), mailboxes(n - 1) {
    spread = n <= AvailableCores();
    spin_time = spread ? kSpinTime : kSpinTimeOversubscribed;
    threads.reserve(mailboxes.size());
    for (size_t i = 0; i < mailboxes.size(); ++i) {
      threads.emplace_back([this, i] { Work(mailboxes[i], static_cast<int>(i) + 1); });
    }
  }

  ~Impl() {
    for (Mailbox& mailbox : mailboxes) {
      mailbox.body = nullptr;
      mailbox.start.Set(++mailbox.count);
    }
    for (std::thread& thread : threads) thread.join();
  }

  void Work(Mailbox& mailbox, int thread_idx) {
    for (uint32_t seen = 0;; ++seen) {
      mailbox.core.store(CurrentCore(), std::memory_order_relaxed);
      if (!mailbox.start.SpinWhile(seen, spin_time)) mailbox.start.SleepWhile(seen);
      if (mailbox.body == nullptr) return;
      mailbox.body(mailbox.fn, mailbox.begin, mailbox.end, thread_idx);
      mailbox.done.Set(seen + 1);
    }
  }

  // The caller's wait for worker `idx`.
  void Join(int idx) {
    Mailbox& mailbox = mailboxes[idx];
    const uint32_t old = mailbox.count - 1;
    if (mailbox.done.SpinWhile(old, spin_time)) return;
    if (spread && mailbox.core.load(std::memory_order_relaxed) == CurrentCore()) {
      MoveElsewhere(threads[idx]);
    }
    mailbox.done.SleepWhile(old);
  }

  int num_threads;
  bool spread = false;  // there is a core for every thread
  std::chrono::microseconds spin_time{};
  std::vector<Mailbox> mailboxes;
  std::vector<std::thread> threads;
};

ThreadPool::ThreadPool(int num_threads)
    : impl_(std::make_unique<Impl>(num_threads > 0 ? num_threads : AvailableCores())) {}

ThreadPool::~ThreadPool() = default;

int ThreadPool::num_threads() const { return impl_->num_threads; }

void ThreadPool::Run(int64_t n, int64_t grain, int64_t lead, Body body, const void* fn) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t chunks = (n + grain - 1) / grain;
  const int64_t lead_chunks = std::min(lead / grain, chunks - 1);
  const int64_t shared = chunks - lead_chunks;
  const int parts = static_cast<int>(std::min<int64_t>(impl_->num_threads, shared));
  const auto start_of = [&](int part) {
    // Rounded up: of an uneven number the caller takes the larger half.
    return std::min(n, (lead_chunks + (shared * part + parts - 1) / parts) * grain);
  };
  for (int part = 1; part < parts; ++part) {
    Impl::Mailbox& mailbox = impl_->mailboxes[part - 1];
    mailbox.body = body;
    mailbox.fn = fn;
    mailbox.begin = start_of(part);
    mailbox.end = start_of(part + 1);
    mailbox.start.Set(++mailbox.count);
  }
  body(fn, 0, parts > 1 ? start_of(1) : n, 0);
  for (int part = 1; part < parts; ++part) impl_->Join(part - 1);
}

}  // namespace sidewinder
