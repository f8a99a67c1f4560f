#include "sidewinder/chat_template.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/json.h"

namespace sidewinder {
namespace {

using ::testing::HasSubstr;

const std::vector<ChatMessage> kHello{{"user", "Hello"}};

Json Goldens() {
  std::ifstream file(std::string(SW_SOURCE_DIR) + "/tests/goldens/chat_template/cases.json");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  return *ParseJson(text, "cases.json");
}

TEST(ChatTemplateTest, RendersAsTransformersDoes) {
  const Json goldens = Goldens();
  ASSERT_GE(goldens["cases"].size(), 36u);
  const auto tokens = goldens["special_tokens"].get<std::map<std::string, std::string>>();
  for (const Json& golden : goldens["cases"]) {
    SCOPED_TRACE(golden["name"].get<std::string>() + " " + golden["messages"].dump());
    const auto chat =
        ChatTemplate::Parse(golden["template"].get<std::string>(), tokens, "the template");
    ASSERT_TRUE(chat.ok()) << chat.status();
    std::vector<ChatMessage> messages;
    for (const Json& message : golden["messages"]) {
      messages.push_back({message["role"], message["content"]});
    }
    const auto text = (*chat)->Render(messages, golden["add_generation_prompt"]);
    if (golden.contains("error")) {
      ASSERT_FALSE(text.ok());
      EXPECT_THAT(std::string(text.status().message()),
                  HasSubstr(golden["error"].get<std::string>()));
    } else {
      ASSERT_TRUE(text.ok()) << text.status();
      EXPECT_EQ(*text, golden["text"].get<std::string>());
    }
  }
}

TEST(ChatTemplateTest, KnowsTheDay) {
  const auto chat = ChatTemplate::Parse("{{ strftime_now('%Y') }}", {}, "the template");
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_THAT(*(*chat)->Render(kHello), ::testing::MatchesRegex("2[0-9][0-9][0-9]"));
}

TEST(ChatTemplateTest, ErrorsNameTheTemplate) {
  std::string deep(1000, '(');
  for (const std::string& text :
       {std::string("{% for m in messages %}"), std::string("{{ 1 + }}"), "{{ " + deep + "1 }}",
        std::string(300 << 10, 'x'), "{{ '" + std::string(20 << 10, 'x') + "' }}", [] {
          std::string blocks;
          for (int i = 0; i < 10'000; ++i) blocks += "{% if true %}";
          return blocks;
        }()}) {
    const auto chat = ChatTemplate::Parse(text, {}, "the template");
    ASSERT_FALSE(chat.ok()) << text.substr(0, 40);
    EXPECT_EQ(chat.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(chat.status().message()), HasSubstr("the template: "));
  }
}

class FolderTest : public ::testing::Test {
 protected:
  FolderTest() : folder_(::testing::TempDir() + "chat_template_test") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~FolderTest() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }
  std::string Hello() {
    const auto chat = ChatTemplate::Load(folder_);
    if (!chat.ok()) return std::string(chat.status().message());
    return *chat == nullptr ? "none" : (*chat)->Render(kHello).value_or("refused");
  }
  std::string folder_;
};

TEST_F(FolderTest, FindsTheTemplate) {
  EXPECT_EQ(Hello(), "none");
  Write("tokenizer_config.json", R"({"bos_token": "<s>"})");
  EXPECT_EQ(Hello(), "none");
  Write("tokenizer_config.json", R"({"bos_token": {"content": "<b>", "special": true},
      "chat_template": "{{ bos_token }}{{ messages[0].content }}"})");
  EXPECT_EQ(Hello(), "<b>Hello");
  Write("tokenizer_config.json", R"({"chat_template": [
      {"name": "tool_use", "template": "tools"}, {"name": "default", "template": "{{ eos_token }}"}]})");
  Write("special_tokens_map.json", R"({"eos_token": "</s>"})");
  EXPECT_EQ(Hello(), "</s>");
  Write("chat_template.jinja", "from a file: {{ messages[0].role }}");
  EXPECT_EQ(Hello(), "from a file: user");
}

TEST_F(FolderTest, ErrorsNameFileAndField) {
  Write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THAT(Hello(), HasSubstr("tokenizer_config.json: \"chat_template\" is 5; legal are"));
  Write("tokenizer_config.json", R"({"chat_template": "{{ 1 + }}"})");
  EXPECT_THAT(Hello(), HasSubstr("tokenizer_config.json: chat_template: "));
  Write("tokenizer_config.json", "[]");
  EXPECT_THAT(Hello(), HasSubstr("tokenizer_config.json: is not a JSON object"));
}

}  // namespace
}  // namespace sidewinder
