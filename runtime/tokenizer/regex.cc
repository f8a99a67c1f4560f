#include "runtime/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/status_macros.h"
#include "runtime/tokenizer/unicode.h"

namespace sidewinder::tok {
namespace {

constexpr size_t kMaxPatternBytes{16384};
constexpr uint32_t kMatchLimit{200000};   // backtracking steps from one start position
constexpr uint32_t kDepthLimit{20000};    // only without JIT
constexpr uint32_t kHeapLimitKib{16384};  // only without JIT
constexpr size_t kJitStackStart{32 * 1024};
constexpr size_t kJitStackMax{512 * 1024};

struct CompileContext {
  CompileContext() : context(pcre2_compile_context_create(nullptr)) {
    SW_CHECK(context != nullptr) << "out of memory";
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_bsr(context, PCRE2_BSR_UNICODE);
  }
  ~CompileContext() { pcre2_compile_context_free(context); }
  CompileContext(const CompileContext&) = delete;
  CompileContext& operator=(const CompileContext&) = delete;
  pcre2_compile_context* context;
};

// One per thread: matching needs scratch memory, and patterns are shared between threads.
struct MatchScratch {
  MatchScratch()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr)) {
    SW_CHECK(data != nullptr && context != nullptr) << "out of memory";
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_depth_limit(context, kDepthLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchScratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    if (stack != nullptr) pcre2_jit_stack_free(stack);
  }
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;
  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;  // null where JIT is not built in
};

}  // namespace

struct Regex::Code {
  explicit Code(pcre2_code* compiled) : pcre(compiled) {}
  ~Code() { pcre2_code_free(pcre); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  pcre2_code* pcre;
  bool has_jit = false;
};

absl::StatusOr<Regex> Regex::Compile(absl::string_view onig, const std::string& name) {
  if (onig.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": the pattern has ", onig.size(),
                                                   " bytes; at most ", kMaxPatternBytes,
                                                   " are supported"));
  }
  SW_ASSIGN_OR_RETURN(const std::string pattern, TranslatePattern(onig, name));
  const CompileContext compile;
  int error = 0;
  size_t offset = 0;
  // MULTILINE: in Ruby syntax ^ and $ always match at line ends.
  pcre2_code* pcre =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                    &offset, compile.context);
  if (pcre == nullptr) {
    PCRE2_UCHAR text[256] = {0};
    pcre2_get_error_message(error, text, sizeof(text));
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": bad regular expression \"", onig.substr(0, 200),
                     "\": ", reinterpret_cast<const char*>(text), " at offset ", offset));
  }
  auto code = std::make_shared<Code>(pcre);
  code->has_jit = pcre2_jit_compile(pcre, PCRE2_JIT_COMPLETE) == 0;
  return Regex(std::move(code));
}

void Regex::FindAll(absl::string_view text, std::vector<Span>* spans) const {
  static thread_local MatchScratch scratch;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const size_t* found = pcre2_get_ovector_pointer(scratch.data);
  const auto match = code_->has_jit ? pcre2_jit_match : pcre2_match;
  size_t prev = 0;  // end of the last match
  size_t from = 0;
  bool matched = false;
  while (from <= text.size()) {
    const int rc = match(code_->pcre, subject, text.size(), from, PCRE2_NO_UTF_CHECK, scratch.data,
                         scratch.context);
    if (rc < 0 || found[0] < prev || found[1] < found[0]) break;
    if (found[0] == found[1] && matched && found[1] == prev) {
      // An empty match right behind the last one does not count.
      from += from < text.size() ? CharLength(text[from]) : 1;
      continue;
    }
    if (found[0] > prev) spans->push_back({prev, found[0], false});
    spans->push_back({found[0], found[1], true});
    prev = from = found[1];
    matched = true;
  }
  if (prev < text.size()) spans->push_back({prev, text.size(), false});
}

}  // namespace sidewinder::tok
