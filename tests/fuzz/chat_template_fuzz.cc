// Any template: an error that names it, or something that renders a conversation or refuses to.
#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/status_macros.h"
#include "sidewinder/chat_template.h"

// A namespace that a template makes hold itself stays alive (minja): a few hundred bytes that this
// is not about either.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto chat =
      sidewinder::ChatTemplate::Parse(text, {{"bos_token", "<s>"}, {"eos_token", "</s>"}}, "fuzz");
  if (!chat.ok()) {
    SW_CHECK(chat.status().message().find("fuzz") != absl::string_view::npos);
    return 0;
  }
  // A template may loop for as long as it likes; this is not about that.
  if (text.find("range") != std::string::npos || text.find('*') != std::string::npos) return 0;
  (void)(*chat)->Render({{"system", "Be brief."}, {"user", "Hello\nthere"}});
  return 0;
}
