// ChatTemplate: a model's own template that turns a chat into the text of a prompt.
//
// Templates are written in a subset of Jinja2 (see jinja/README.md) and come with the model, so
// they are not trusted: rendering is bounded in time, memory and depth. Messages come from users
// and are trusted even less: the result says which bytes are theirs, so that the tokenizer never
// takes one for a control token.
//
// Threads: immutable after creation; Render() may run on any number of threads at once.
// Allocates: per rendering, bounded by the limits.
#ifndef MOELIGHT_ENGINE_TOKENIZER_CHAT_TEMPLATE_H_
#define MOELIGHT_ENGINE_TOKENIZER_CHAT_TEMPLATE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/time/time.h>

#include "engine/request.h"
#include "engine/tokenizer/byte_span.h"

namespace moelight {

struct RenderedPrompt {
  std::string text;  // UTF-8
  // Sorted, disjoint ranges of `text` that came from the request (messages, tools, kwargs) and not
  // from the template or its special tokens. A message's role counts as the template's own if it is
  // one of the chat API's (system, user, assistant, tool, ...), because templates build control
  // tokens from it, "<|" + role + "|>"; any other role is the user's.
  std::vector<ByteSpan> user_spans;
};

struct ChatTemplateLimits {
  int64_t max_steps = 2'000'000;        // of rendering: nodes walked, items made, text read
  int max_depth = 128;                  // nesting of the source, and of macro calls
  int64_t max_output_bytes = 16 << 20;  // of the text, and of each value on the way
};

class ChatTemplate {
 public:
  // Reads chat_template.jinja of a model folder or, without it, `chat_template` of
  // tokenizer_config.json: a string, or a list of {name, template} of which "default" is used, and
  // "tool_use" for prompts with tools. The special tokens of tokenizer_config.json (bos_token and
  // every other *_token) are given to the template. NotFound if the model has no template,
  // InvalidArgument naming the file if it cannot be parsed.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> FromModelFolder(const std::string& folder);

  // `special_tokens`: variable name to text, "bos_token" to "<s>". InvalidArgument
  // "chat template line N: ..." if `source` is not a template.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Parse(
      absl::string_view source, const std::map<std::string, std::string>& special_tokens,
      const ChatTemplateLimits& limits = {});

  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // InvalidArgument naming the field for text that is not UTF-8, for JSON that is not JSON, of
  // another type or too deep, and for kwargs that would replace messages or tools. What the
  // template refuses with raise_exception() is an InvalidArgument of its words. ResourceExhausted
  // if the template goes over a limit. `now` is what strftime_now() tells, in local time.
  absl::StatusOr<RenderedPrompt> Render(const ChatPrompt& prompt, absl::Time now) const;
  absl::StatusOr<RenderedPrompt> Render(const ChatPrompt& prompt) const {
    return Render(prompt, absl::Now());
  }

 private:
  struct Parsed;  // the syntax trees
  ChatTemplate(std::unique_ptr<Parsed> parsed, std::map<std::string, std::string> special_tokens,
               const ChatTemplateLimits& limits);

  const std::unique_ptr<const Parsed> parsed_;
  const std::map<std::string, std::string> special_tokens_;
  const ChatTemplateLimits limits_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_TOKENIZER_CHAT_TEMPLATE_H_
