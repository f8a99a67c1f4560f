// Ctrl-C ends a generation between rounds; a second one ends the program.
#ifndef SIDEWINDER_APPS_SIDEWINDER_INTERRUPT_H_
#define SIDEWINDER_APPS_SIDEWINDER_INTERRUPT_H_

#include <csignal>

namespace sidewinder::cli {

inline volatile std::sig_atomic_t g_interrupted{0};

// Once per process.
inline void CatchInterrupt() {
  struct sigaction action = {};
  action.sa_handler = [](int) { g_interrupted = 1; };
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
}

inline bool Interrupted() { return g_interrupted != 0; }

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_INTERRUPT_H_
