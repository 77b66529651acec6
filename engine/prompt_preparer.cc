#include "engine/prompt_preparer.h"

#include <optional>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"

namespace moelight {

PromptPreparer::PromptPreparer(const Tokenizer* tokenizer, const ChatTemplate* chat_template,
                               int32_t vocab_size, int32_t num_threads, int32_t queue_capacity)
    : tokenizer_(tokenizer),
      chat_template_(chat_template),
      vocab_size_(vocab_size),
      queue_(queue_capacity) {
  for (int32_t i = 0; i < num_threads; ++i) {
    threads_.emplace_back([this]() {
      while (std::optional<Item> item = queue_.Pop()) {
        if (stopping_) {
          item->done(absl::CancelledError("the engine is stopping"));
        } else {
          item->done(Prepare(item->input));
        }
      }
    });
  }
}

PromptPreparer::~PromptPreparer() {
  stopping_ = true;
  queue_.Close();
  for (std::thread& thread : threads_) thread.join();
}

bool PromptPreparer::Post(PromptInput input, Done done) {
  return queue_.TryPush({std::move(input), std::move(done)});
}

absl::StatusOr<PreparedPrompt> PromptPreparer::Prepare(const PromptInput& input) const {
  absl::StatusOr<PreparedPrompt> prepared;
  if (const auto* text = std::get_if<std::string>(&input)) {
    prepared = PrepareText(*text);
  } else if (const auto* tokens = std::get_if<std::vector<TokenId>>(&input)) {
    prepared = PreparedPrompt{*tokens, ""};
  } else {
    prepared = PrepareChat(std::get<ChatPrompt>(input));
  }
  RETURN_IF_ERROR(prepared.status());
  if (prepared->token_ids.empty()) return absl::InvalidArgumentError("prompt: is empty");
  // A tokenizer, too, may know tokens that the model has no embedding for.
  const absl::string_view name = std::holds_alternative<std::vector<TokenId>>(input)
                                     ? "prompt.token_ids"
                                     : "prompt: the tokenizer's ids";
  for (size_t i = 0; i < prepared->token_ids.size(); ++i) {
    const TokenId token = prepared->token_ids[i];
    if (token >= 0 && token < vocab_size_) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(name, "[", i, "]: ", token, " is outside [0, ", vocab_size_, ")"));
  }
  return prepared;
}

absl::StatusOr<PreparedPrompt> PromptPreparer::PrepareText(const std::string& text) const {
  if (tokenizer_ == nullptr) {
    return absl::FailedPreconditionError(
        "prompt.text: the model has no tokenizer.json; send token ids");
  }
  PreparedPrompt prepared;
  ASSIGN_OR_RETURN(prepared.token_ids, tokenizer_->Encode(text));
  prepared.text = text;
  return prepared;
}

absl::StatusOr<PreparedPrompt> PromptPreparer::PrepareChat(const ChatPrompt& chat) const {
  if (tokenizer_ == nullptr || chat_template_ == nullptr) {
    return absl::FailedPreconditionError(
        "prompt.chat: the model has no chat template; send text or token ids");
  }
  ASSIGN_OR_RETURN(RenderedPrompt rendered, chat_template_->Render(chat));
  // The template writes the special tokens itself.
  EncodeOptions options;
  options.add_special_tokens = false;
  options.plain_spans = rendered.user_spans;
  PreparedPrompt prepared;
  ASSIGN_OR_RETURN(prepared.token_ids, tokenizer_->Encode(rendered.text, options));
  prepared.text = std::move(rendered.text);
  return prepared;
}

}  // namespace moelight
