// PromptPreparer: turns prompts into token ids on a pool of threads of its own.
//
// Threads: Post() is thread-safe and never blocks; `done` runs on a pool thread. Create and destroy
// from one thread. Owns the threads and the queue; borrows tokenizer and template (either may be
// null: prompts that need it fail with FailedPrecondition).
// Errors: a bad prompt gives InvalidArgument naming the field; the pool goes on.
#ifndef MOELIGHT_ENGINE_PROMPT_PREPARER_H_
#define MOELIGHT_ENGINE_PROMPT_PREPARER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <absl/status/statusor.h>

#include "engine/base/bounded_queue.h"
#include "engine/request.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"

namespace moelight {

struct PreparedPrompt {
  std::vector<TokenId> token_ids;
  std::string text;  // what was tokenized; empty for token ids
};

class PromptPreparer {
 public:
  using Done = std::function<void(absl::StatusOr<PreparedPrompt>)>;

  // `queue_capacity` bounds the prompts posted and not yet taken up.
  PromptPreparer(const Tokenizer* tokenizer, const ChatTemplate* chat_template, int32_t vocab_size,
                 int32_t num_threads, int32_t queue_capacity);
  // Answers prompts still queued with CANCELLED, then joins.
  ~PromptPreparer();

  // False if the queue is full; `done` is then not called.
  bool Post(PromptInput input, Done done);

  // The work itself, on the calling thread.
  absl::StatusOr<PreparedPrompt> Prepare(const PromptInput& input) const;

 private:
  struct Item {
    PromptInput input;
    Done done;
  };

  absl::StatusOr<PreparedPrompt> PrepareText(const std::string& text) const;
  absl::StatusOr<PreparedPrompt> PrepareChat(const ChatPrompt& chat) const;

  const Tokenizer* const tokenizer_;
  const ChatTemplate* const chat_template_;
  const int32_t vocab_size_;
  std::atomic<bool> stopping_ = false;
  BoundedQueue<Item> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_PROMPT_PREPARER_H_
