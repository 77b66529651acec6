// Goal: a template or request made to do harm ends with a typed error, soon, and with little
// memory.
#include <ctime>
#include <string>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/tokenizer/chat_template.h"

namespace moelight {
namespace {

// The contract is a second of CPU time. Sanitizers make everything some twenty times slower, so
// there the same templates meet a tenth of the steps.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kMaxCpuSeconds = 5;
constexpr ChatTemplateLimits kLimits = {
    .max_steps = 200'000, .max_depth = 128, .max_output_bytes = 16 << 20};
#else
constexpr double kMaxCpuSeconds = 1;
constexpr ChatTemplateLimits kLimits = {};
#endif

std::string Repeat(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

ChatPrompt Hello() {
  ChatPrompt prompt;
  prompt.messages.emplace_back().role = "user";
  prompt.messages.back().content = "hello";
  return prompt;
}

absl::Status RenderStatus(const std::string& source, const ChatPrompt& prompt = Hello(),
                          const ChatTemplateLimits& limits = kLimits) {
  const std::clock_t begin = std::clock();
  const auto chat_template = ChatTemplate::Parse(source, {}, limits);
  absl::Status status = chat_template.status();
  if (status.ok()) status = (*chat_template)->Render(prompt).status();
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, kMaxCpuSeconds);
  return status;
}

void ExpectStopped(const std::vector<std::string>& sources) {
  for (const std::string& source : sources) {
    SCOPED_TRACE(source.substr(0, 160));
    const absl::Status status = RenderStatus(source);
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  }
}

// 8 MB, made by a template.
const char kBig[] = "{% set s = 'ab' * 4000000 %}";

TEST(ChatTemplateHostileTest, EndlessLoopsAreStopped) {
  ExpectStopped({
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
      "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
      "{% for a in range(99999) if range(99999) | list %}{% endfor %}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
      "{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}",
      "{% macro f(a=f()) %}{% endmacro %}{{ f() }}",
  });
}

TEST(ChatTemplateHostileTest, HugeValuesAreRefused) {
  ExpectStopped({
      "{{ 'a' * 10**9 }}",
      "{{ 'a' * 10**18 }}",
      "{{ [0] * 10**9 }}",
      "{{ range(10**9) }}",
      "{{ range(-9223372036854775807, 9223372036854775807) }}",
      "{% set ns = namespace(s='ab') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(s='ab') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(64) %}{% set ns.l = ns.l + ns.l %}{% "
      "endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] %}{% "
      "endfor "
      "%}{{ ns.l }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] %}{% "
      "endfor "
      "%}{{ ns.l | tojson }}",
      "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(90) %}{% set ns.a = [ns.a, ns.a] "
      "%}{% "
      "set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor "
      "%}",
      "{% set ns = namespace(l={}) %}{% for i in range(99999) %}{% set ns.l = {'a': ns.l} %}{% "
      "endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% set ns.l = [ns.l].index %}{% "
      "endfor "
      "%}",
      "{% set ns = namespace(l=1) %}{% for i in range(99999) %}{% for j in [ns.l] %}{% set ns.l = "
      "loop "
      "%}{% endfor %}{% endfor %}",
      std::string(kBig) + "{% for i in range(99999) %}{% set t = s + 'x' %}{% endfor %}",
      std::string(kBig) + "{% for i in range(99999) %}{% set t = s | upper %}{% endfor %}",
      std::string(kBig) + "{% for i in range(99999) %}{% set t = s[1:] %}{% endfor %}",
      std::string(kBig) + "{% for i in range(99999) %}{{ s }}{% endfor %}",
      std::string(kBig) + "{{ s.split('a') }}",
      std::string(kBig) + "{{ s | list }}",
      std::string(kBig) + "{{ s.replace('a', s) }}",
      std::string(kBig) + "{{ s.replace('', s) }}",
      std::string(kBig) + "{{ (s, s, s) }}",
      std::string(kBig) + "{{ [s, s, s] | join(s) }}",
      "{{ 'a'.center(10**12) }}",
      "{{ 'a' | indent(10**12) }}",
      "{{ 'a'.zfill(10**12) }}",
  });
}

TEST(ChatTemplateHostileTest, SlowOperationsAreStopped) {
  ExpectStopped({
      std::string(kBig) + "{% for i in range(99999) %}{{ 'xyz' in s }}{% endfor %}",
      std::string(kBig) + "{% for i in range(99999) %}{{ s == s ~ '' }}{% endfor %}",
      std::string(kBig) + "{% for i in range(99999) %}{{ s.count('abab') }}{% endfor %}",
      std::string(kBig) + "{{ s.rfind('b' * 4000000) }}",
      std::string(kBig) + "{{ s.strip(s) }}",
      std::string(kBig) + "{{ s.rsplit('b') }}",
      std::string(kBig) + "{% for i in range(99999) %}{{ s.isdigit() or s.isalpha() }}{% endfor %}",
      "{% set l = range(99999) | list %}{% for i in range(99999) %}{{ l | sort | first }}{% endfor "
      "%}",
      "{% set l = range(99999) | list %}{% for i in range(99999) %}{{ -1 in l }}{% endfor %}",
      "{% set l = range(99999) | list %}{% for i in range(99999) %}{{ l | join | length }}{% "
      "endfor %}",
      "{% set l = range(99999) | list %}{% for i in range(99999) %}{% set m = l[::-1] %}{% endfor "
      "%}",
      "{% set l = range(99999) | list %}{% for i in range(99999) %}{% set m = l | list %}{% endfor "
      "%}",
  });
}

TEST(ChatTemplateHostileTest, DeepSourcesAreRefused) {
  ExpectStopped({
      "{{ " + Repeat("(", 100000) + "1" + Repeat(")", 100000) + " }}",
      "{{ " + Repeat("[", 100000) + Repeat("]", 100000) + " }}",
      "{{ " + Repeat("{1:", 100000) + "1" + Repeat("}", 100000) + " }}",
      "{{ " + Repeat("not ", 100000) + "1 }}",
      "{{ " + Repeat("-", 100000) + "1 }}",
      "{{ " + Repeat("1 if 1 else ", 50000) + "1 }}",
      "{{ 1" + Repeat(" if 1", 100000) + " }}",
      "{{ a" + Repeat("[a", 100000) + Repeat("]", 100000) + " }}",
      "{{ a" + Repeat("(a", 100000) + Repeat(")", 100000) + " }}",
      "{{ a" + Repeat("|f(a", 100000) + Repeat(")", 100000) + " }}",
      "{{ a is" + Repeat(" a (a is", 50000) + Repeat(")", 50000) + " }}",
      Repeat("{% if 1 %}", 50000) + Repeat("{% endif %}", 50000),
      Repeat("{% for i in x %}", 30000) + Repeat("{% endfor %}", 30000),
      "{% set " + Repeat("(", 100000) + "a" + Repeat(")", 100000) + " = 1 %}",
      "{# too large #}" + std::string(size_t{2} << 20, ' '),
  });
}

TEST(ChatTemplateHostileTest, LongChainsAreNotDeep) {
  const std::vector<std::string> sources = {
      "{{ 0" + Repeat(" + 1", 50000) + " }}",
      "{{ 'a'" + Repeat(" ~ 'b'", 2000) + " }}",
      "{{ 1" + Repeat(" and 1", 50000) + " }}",
      "{{ 1" + Repeat(" == 1", 50000) + " }}",
      "{{ 'a'" + Repeat(" | trim", 20000) + " }}",
      "{{ 'a'" + Repeat(".strip()", 20000) + " }}",
      "{% if 0 %}" + Repeat("{% elif 0 %}", 20000) + "{% endif %}",
      Repeat("{{ 1 }}", 50000),
      "{% set ns = namespace() %}{% for i in range(50000) %}{% set n = namespace(next=ns.next) "
      "%}{% "
      "set ns.next = n %}{% endfor %}",
      "{% set ns = namespace() %}{% set ns.me = ns %}{% macro f() %}{% endmacro %}{% set ns.f = f "
      "%}"
      "{% for i in range(20000) %}{% macro g() %}{{ f }}{% endmacro %}{% set ns.g = g %}{% endfor "
      "%}",
  };
  for (const std::string& source : sources) {
    SCOPED_TRACE(source.substr(0, 160));
    const absl::Status status = RenderStatus(source, Hello(), /*limits=*/{});
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST(ChatTemplateHostileTest, BadTemplatesAndNumbersAreInvalid) {
  const std::vector<std::string> sources = {
      "\xff\xfe",
      "{{ 99999999999999999999 }}",
      "{{ 9223372036854775807 + 1 }}",
      "{{ 9223372036854775807 * 2 }}",
      "{{ -9223372036854775807 - 2 }}",
      "{{ 10 ** 100 }}",
      "{{ (-9223372036854775807 - 1) // -1 }}",
      "{{ -(-9223372036854775807 - 1) }}",
      "{{ (-9223372036854775807 - 1) | abs }}",
      "{{ '\\ud800' }}",
      "{{ '\\U00110000' }}",
      "{{ '%99999999999999d' % 1 }}",
      "{{ '{:99999999999999}'.format(1) }}",
      "{{ '%.999999f' % 1 }}",
      "{{ strftime_now('%99999Y') }}",
      "{{ [1] | tojson(indent=10**9) }}",
      "{% include 'x' %}",
      "{% import 'x' as y %}",
      "{% extends 'x' %}",
  };
  for (const std::string& source : sources) {
    SCOPED_TRACE(source);
    const absl::Status status = RenderStatus(source);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  }
}

TEST(ChatTemplateHostileTest, BadRequestsAreRefusedByField) {
  struct Case {
    ChatPrompt prompt;
    std::string field;
  };
  std::vector<Case> cases;
  const auto add = [&cases](const std::string& field) -> ChatPrompt& {
    return cases.emplace_back(Case{Hello(), field}).prompt;
  };
  add("messages[0].content").messages[0].content = "a\xff";
  add("messages[0].role").messages[0].role = "\xc3";
  add("messages[0].name").messages[0].name = "\xed\xa0\x80";
  add("messages[0].tool_calls").messages[0].tool_calls_json = "[1, 2";
  add("messages[0].tool_calls").messages[0].tool_calls_json = "{}";
  add("tools").tools_json = "{}";
  add("tools").tools_json = "[\"\xff\"]";
  add("tools").tools_json = "[] []";
  add("tools").tools_json = Repeat("[", 65) + Repeat("]", 65);
  add("tools").tools_json = Repeat("[", 1000000);
  add("tools").tools_json = Repeat("{\"a\":", 1000000);
  add("tools").tools_json = "[\"\\ud800\"]";
  add("chat_template_kwargs").chat_template_kwargs_json = "[]";
  add("chat_template_kwargs").chat_template_kwargs_json = "nonsense";
  add("chat_template_kwargs").chat_template_kwargs_json = R"({"messages": []})";
  add("chat_template_kwargs").chat_template_kwargs_json = R"({"tools": []})";
  for (const Case& c : cases) {
    const absl::Status status = RenderStatus("{{ messages }}{{ tools }}", c.prompt);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), testing::StartsWith(c.field));
  }
}

TEST(ChatTemplateHostileTest, TheDeepestAllowedToolsRender) {
  ChatPrompt prompt = Hello();
  prompt.tools_json = Repeat("[", 64) + Repeat("]", 64);
  EXPECT_TRUE(
      RenderStatus("{{ tools }}{{ tools | tojson(indent=1) }}{{ tools == tools }}", prompt).ok());
}

TEST(ChatTemplateHostileTest, LimitsCanBeSet) {
  const ChatTemplateLimits limits = {.max_steps = 1000, .max_depth = 8, .max_output_bytes = 1024};
  const auto status = [&limits](const std::string& source) {
    const auto chat_template = ChatTemplate::Parse(source, {}, limits);
    return chat_template.ok() ? (*chat_template)->Render(Hello()).status() : chat_template.status();
  };
  EXPECT_TRUE(status("{% for i in range(10) %}.{% endfor %}").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(status("{% for i in range(600) %}.{% endfor %}")));
  EXPECT_TRUE(status("{{ 'a' * 1000 }}").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(status("{{ 'a' * 1025 }}")));
  EXPECT_TRUE(absl::IsResourceExhausted(status("{{ 'a' * 600 }}{{ 'a' * 600 }}")));
  EXPECT_TRUE(status("{{ ((1)) }}").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(status("{{ ((((((((1)))))))) }}")));
}

}  // namespace
}  // namespace moelight
