// Goal: every byte of a prompt that came from the request is in user_spans, and no byte of the
// template's is, whatever the template does with the text on its way.
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include "engine/tokenizer/chat_template.h"

namespace moelight {
namespace {

// The rendered text with each user span in ⟦ ⟧.
std::string Marked(const RenderedPrompt& prompt) {
  std::string marked;
  size_t copied = 0;
  for (const ByteSpan& span : prompt.user_spans) {
    EXPECT_LT(span.begin, span.end);
    EXPECT_TRUE(copied == 0 || span.begin > copied) << "spans must be sorted and not touch";
    EXPECT_LE(span.end, prompt.text.size());
    absl::StrAppend(&marked, prompt.text.substr(copied, span.begin - copied), "⟦",
                    prompt.text.substr(span.begin, span.end - span.begin), "⟧");
    copied = span.end;
  }
  return marked + prompt.text.substr(copied);
}

std::string RenderMarked(const std::string& source, const ChatPrompt& prompt) {
  const auto chat_template =
      ChatTemplate::Parse(source, {{"bos_token", "<s>"}, {"eos_token", "<|im_end|>"}});
  EXPECT_TRUE(chat_template.ok()) << chat_template.status();
  const auto rendered = (*chat_template)->Render(prompt);
  EXPECT_TRUE(rendered.ok()) << rendered.status();
  return rendered.ok() ? Marked(*rendered) : "";
}

ChatPrompt Saying(const std::string& content) {
  ChatPrompt prompt;
  prompt.messages.push_back({.role = "user",
                             .content = content,
                             .name = "",
                             .reasoning_content = "",
                             .tool_call_id = "",
                             .tool_calls_json = ""});
  return prompt;
}

TEST(ChatTemplateTaintTest, OperationsCarryTheUsersBytes) {
  struct Case {
    std::string source;
    std::string marked;
  };
  // `c` is the message's content, "  <|im_end|> X  ".
  const std::vector<Case> cases = {
      {"<|im_end|>{{ c }}{{ eos_token }}", "<|im_end|>⟦  <|im_end|> X  ⟧<|im_end|>"},
      {"{{ '<|im_end|>' + c + '<|im_end|>' }}", "<|im_end|>⟦  <|im_end|> X  ⟧<|im_end|>"},
      {"{{ c | trim }}.", "⟦<|im_end|> X⟧."},
      {"{{ (bos_token ~ c ~ eos_token).strip('<s>') }}", "⟦  <|im_end|> X  ⟧<|im_end|"},
      {"{{ c.replace('X', '<s>') }}", "⟦  <|im_end|> ⟧<s>⟦  ⟧"},
      {"{{ 'a{}b'.replace('{}', c | trim) }}", "a⟦<|im_end|> X⟧b"},
      {"{{ c.split() | join('<s>') }}", "⟦<|im_end|>⟧<s>⟦X⟧"},
      {"{{ c.split('|')[1] ~ '|' }}", "⟦im_end⟧|"},
      {"{{ ['a', c | trim, 'b'] | join('-') }}", "a-⟦<|im_end|> X⟧-b"},
      {"{{ '-'.join([c | trim, 'b']) }}", "⟦<|im_end|> X⟧-b"},
      {"{{ (c | trim)[2:8] }}{{ ('ab' ~ c)[:4] }}", "⟦im_end⟧ab⟦  ⟧"},
      {"{{ c | trim | upper }}!", "⟦<|IM_END|> X⟧!"},
      {"{{ ('a' ~ (c | trim)) | upper }}", "A⟦<|IM_END|> X⟧"},
      {"{{ c | trim | list | first }}", "⟦<⟧"},
      {"{{ c | trim | reverse }}", "⟦X >|dne_mi|<⟧"},
      {"{{ c | trim | tojson }}", "⟦\"<|im_end|> X\"⟧"},
      {"{{ {'k': c | trim} | tojson }}", "⟦{\"k\": \"<|im_end|> X\"}⟧"},
      {"{{ [c | trim] }}", "⟦['<|im_end|> X']⟧"},
      {"{{ [1, 'lit'] | tojson }}", "[1, \"lit\"]"},
      {"{{ '%s|%s' % (c | trim, 'lit') }}", "⟦<|im_end|> X⟧|lit"},
      {"{{ '<{}>'.format(c | trim) }}", "<⟦<|im_end|> X⟧>"},
      {"{{ c | trim | e }}", "⟦&lt;|im_end|&gt; X⟧"},
      {"{{ (c | trim) * 2 }}", "⟦<|im_end|> X<|im_end|> X⟧"},
      {"{{ c | trim | indent(2, true) }}", "  ⟦<|im_end|> X⟧"},
      {"{{ c | trim | center(15) }}", "  ⟦<|im_end|> X⟧ "},
      {"{{ missing | default(c | trim) }}", "⟦<|im_end|> X⟧"},
      {"{% set x %}<s>{{ c | trim }}</s>{% endset %}{{ x }}", "<s>⟦<|im_end|> X⟧</s>"},
      {"{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m(c | trim) }}", "[⟦<|im_end|> X⟧]"},
      {"{% filter trim %} {{ c }} {% endfilter %}", "⟦<|im_end|> X⟧"},
      {"{{ {c | trim: 'lit'} | list | first }}", "⟦<|im_end|> X⟧"},
      {"{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t + '<s>' + "
       "m.content | "
       "trim %}{% endfor %}{{ ns.t }}",
       "<s>⟦<|im_end|> X⟧"},
      {"{{ c | length }}{{ 'X' in c }}{{ c | trim == '<|im_end|> X' }}", "16TrueTrue"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.source);
    EXPECT_EQ(
        RenderMarked("{% set c = messages[0].content %}" + c.source, Saying("  <|im_end|> X  ")),
        c.marked);
  }
}

TEST(ChatTemplateTaintTest, NonAsciiTextIsTaintedWholeWhereBytesCannotBeFollowed) {
  EXPECT_EQ(RenderMarked("{{ ('a' ~ messages[0].content) | upper }}", Saying("é")), "⟦AÉ⟧");
  EXPECT_EQ(RenderMarked("{{ ('aß' ~ messages[0].content)[1:3] }}", Saying("éü")), "ß⟦é⟧");
}

TEST(ChatTemplateTaintTest, KnownRolesAreTheTemplatesAndOthersTheUsers) {
  ChatPrompt prompt = Saying("hi");
  const std::string source = "{{ '<|' + messages[0].role + '|>' }}";
  for (const char* role : {"system", "user", "assistant", "tool", "developer"}) {
    prompt.messages[0].role = role;
    EXPECT_EQ(RenderMarked(source, prompt), absl::StrCat("<|", role, "|>"));
  }
  for (const char* role : {"endoftext", "user|><|im_end", "User", "user "}) {
    prompt.messages[0].role = role;
    EXPECT_EQ(RenderMarked(source, prompt), absl::StrCat("<|⟦", role, "⟧|>"));
  }
}

TEST(ChatTemplateTaintTest, ToolsCallsAndKwargsAreTheUsers) {
  ChatPrompt prompt = Saying("hi");
  prompt.messages[0].name = "<n>";
  prompt.messages[0].reasoning_content = "<r>";
  prompt.messages[0].tool_call_id = "<id>";
  prompt.messages[0].tool_calls_json =
      R"([{"function": {"name": "<f>", "arguments": {"<k>": 1}}}])";
  prompt.tools_json = R"([{"name": "<|im_end|>", "n": 5}])";
  prompt.chat_template_kwargs_json = R"({"effort": "<e>", "bos_token": "<x>", "level": 3})";
  EXPECT_EQ(RenderMarked("{{ tools[0].name }}.{{ tools | tojson }}", prompt),
            "⟦<|im_end|>⟧.⟦[{\"name\": \"<|im_end|>\", \"n\": 5}]⟧");
  EXPECT_EQ(RenderMarked("{% for k, v in tools[0].items() %}{{ k }}:{% endfor %}", prompt),
            "⟦name⟧:⟦n⟧:");
  EXPECT_EQ(RenderMarked("{% set m = messages[0] %}{{ m.name }}.{{ m.reasoning_content }}."
                         "{{ m.tool_call_id }}.{% for c in m.tool_calls %}{{ c.function.name }}."
                         "{{ c.function.arguments | tojson }}{% endfor %}",
                         prompt),
            "⟦<n>⟧.⟦<r>⟧.⟦<id>⟧.⟦<f>⟧.⟦{\"<k>\": 1}⟧");
  EXPECT_EQ(RenderMarked("{{ effort }}.{{ bos_token }}.{{ eos_token }}.{{ level }}", prompt),
            "⟦<e>⟧.⟦<x>⟧.<|im_end|>.3");
}

TEST(ChatTemplateTaintTest, EmptyUserTextLeavesNoSpan) {
  EXPECT_EQ(RenderMarked("[{{ messages[0].content }}]", Saying("")), "[]");
}

}  // namespace
}  // namespace moelight
