// How a chat model wants a conversation written: the Jinja template of its folder.
#ifndef SIDEWINDER_CHAT_TEMPLATE_H_
#define SIDEWINDER_CHAT_TEMPLATE_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sidewinder {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// Immutable; may be used from several threads at once.
class ChatTemplate {
 public:
  // The template of a model folder: chat_template.jinja, else "chat_template" of
  // tokenizer_config.json (of several named ones, "default"). Null if the folder has none.
  // InvalidArgument names file and field.
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Load(const std::string& folder);

  // The same from a template's text. `special_tokens` are names a template may use, as in
  // {"bos_token", "<s>"}; `name` stands for the file in error messages.
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Parse(
      absl::string_view text, std::map<std::string, std::string> special_tokens,
      const std::string& name);

  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // The conversation as text, begun for the model's answer if `add_generation_prompt`. It holds the
  // special tokens already: encode it with add_special_tokens = false. InvalidArgument if the
  // template refuses the messages (roles that must alternate, for instance), with what it says.
  absl::StatusOr<std::string> Render(absl::Span<const ChatMessage> messages,
                                     bool add_generation_prompt = true) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_CHAT_TEMPLATE_H_
