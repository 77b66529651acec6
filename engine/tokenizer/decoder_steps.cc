#include "engine/tokenizer/decoder_steps.h"

#include <cstdint>
#include <optional>
#include <vector>

#include <absl/strings/match.h>
#include <absl/strings/strip.h>

#include "engine/tokenizer/bpe_bytes.h"

namespace moelight {

void SpaceStep::Push(absl::string_view token) {
  if (!first_) next_->Push(" ");
  first_ = false;
  next_->Push(token);
}

void ByteLevelStep::Push(absl::string_view token) {
  bytes_.clear();
  for (size_t pos = 0; pos < token.size(); pos += Utf8Length(token[pos])) {
    const std::optional<uint8_t> byte = ByteOfByteLevel(DecodeUtf8(token, pos));
    if (!byte) {
      bytes_.assign(token.data(), token.size());
      break;
    }
    bytes_.push_back(static_cast<char>(*byte));
  }
  text_.clear();
  assembler_.Append(bytes_, &text_);
  if (!text_.empty()) next_->Push(text_);
}

void ByteLevelStep::End() {
  text_.clear();
  assembler_.Flush(&text_);
  if (!text_.empty()) next_->Push(text_);
  next_->End();
}

void ByteFallbackStep::Push(absl::string_view token) {
  if (const std::optional<uint8_t> byte = ByteOfFallbackToken(token)) {
    run_.push_back(static_cast<char>(*byte));
    return;
  }
  EndRun();
  next_->Push(token);
}

void ByteFallbackStep::EndRun() {
  if (run_.empty()) return;
  if (FindInvalidUtf8(run_)) {
    for (size_t i = 0; i < run_.size(); ++i) next_->Push("\xEF\xBF\xBD");
  } else {
    next_->Push(run_);
  }
  run_.clear();
}

void ByteFallbackStep::End() {
  EndRun();
  next_->End();
}

void ReplaceStep::Push(absl::string_view token) {
  std::vector<ByteSpan> matches;
  // A regex that runs into its limits leaves the token as it is: decoding cannot fail.
  if (!pattern_->FindAll(token, &matches).ok() || matches.empty()) return next_->Push(token);
  std::string result;
  size_t done = 0;
  for (const ByteSpan& match : matches) {
    result.append(token.data() + done, match.begin - done);
    result += content_;
    done = match.end;
  }
  result.append(token.data() + done, token.size() - done);
  next_->Push(result);
}

void MetaspaceStep::Push(absl::string_view token) {
  std::string result;
  for (size_t pos = 0; pos < token.size();) {
    if (absl::StartsWith(token.substr(pos), replacement_)) {
      if (!dropping_) result.push_back(' ');
      pos += replacement_.size();
    } else {
      const size_t length = Utf8Length(token[pos]);
      result.append(token.data() + pos, length);
      pos += length;
    }
  }
  dropping_ = false;
  next_->Push(result);
}

void StripTokenStep::Push(absl::string_view token) {
  for (size_t i = 0; i < options_.left; ++i) {
    if (!absl::ConsumePrefix(&token, options_.content)) break;
  }
  for (size_t i = 0; i < options_.right; ++i) {
    if (!absl::ConsumeSuffix(&token, options_.content)) break;
  }
  next_->Push(token);
}

void StripTextStep::Push(absl::string_view text) {
  while (!front_done_ && !text.empty()) {
    front_done_ = num_stripped_ == options_.left || !absl::ConsumePrefix(&text, options_.content);
    if (!front_done_) ++num_stripped_;
  }
  if (text.empty()) return;
  size_t num_trailing = 0;
  absl::string_view body = text;
  while (num_trailing < options_.right && absl::ConsumeSuffix(&body, options_.content)) {
    ++num_trailing;
  }
  // Text of nothing but `content` only lengthens what is held; of that the oldest is certain.
  const size_t num_certain = !body.empty() ? num_held_
                             : num_held_ + num_trailing > options_.right
                                 ? num_held_ + num_trailing - options_.right
                                 : 0;
  std::string certain;
  for (size_t i = 0; i < num_certain; ++i) certain += options_.content;
  certain.append(body.data(), body.size());
  num_held_ += num_trailing - num_certain;
  if (!certain.empty()) next_->Push(certain);
}

void StripTextStep::End() { next_->End(); }

}  // namespace moelight
