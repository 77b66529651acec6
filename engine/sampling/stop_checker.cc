#include "engine/sampling/stop_checker.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/check.h"

namespace moelight {
namespace {

bool Contains(const std::vector<TokenId>& tokens, TokenId token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

}  // namespace

StopChecker::Pattern::Pattern(std::string text)
    : text_(std::move(text)), border_(text_.size() + 1, 0) {
  for (size_t i = 1; i < text_.size(); ++i) {
    uint16_t length = border_[i];
    while (length > 0 && text_[length] != text_[i]) length = border_[length];
    border_[i + 1] = text_[length] == text_[i] ? length + 1 : 0;
  }
}

bool StopChecker::Pattern::Advance(char byte) {
  while (num_matched_ > 0 && text_[num_matched_] != byte) num_matched_ = border_[num_matched_];
  if (text_[num_matched_] == byte) ++num_matched_;
  if (num_matched_ < text_.size()) return false;
  num_matched_ = border_[num_matched_];
  return true;
}

StopChecker::StopChecker(const SamplingParams& params, const SamplingDefaults& defaults,
                         int32_t max_output_tokens)
    : stop_token_ids_(params.stop_token_ids),
      min_tokens_(params.min_tokens.value_or(0)),
      max_tokens_(std::min(max_output_tokens, params.max_tokens.value_or(max_output_tokens))) {
  CHECK_GE(max_tokens_, 1);
  if (!params.ignore_eos) eos_token_ids_ = defaults.eos_token_ids;
  patterns_.reserve(params.stop.size());
  for (const std::string& stop : params.stop) {
    CHECK(!stop.empty() && stop.size() <= kMaxStopStringBytes) << stop.size();
    patterns_.emplace_back(stop);
  }
}

bool StopChecker::EndsSequence(TokenId token) const {
  return num_tokens_ >= min_tokens_ && (IsEos(token) || Contains(stop_token_ids_, token));
}

StopDecision StopChecker::Append(TokenId token, absl::string_view new_text) {
  CHECK(!stopped_) << "token " << token << " after the end of the sequence";
  StopDecision decision;
  decision.stop = EndsSequence(token);
  ++num_tokens_;
  if (!decision.stop) {
    AppendText(new_text, decision);
  } else if (!IsEos(token)) {
    decision.stop_reason = absl::StrCat(token);
  }
  if (!decision.stop && num_tokens_ >= max_tokens_) {
    decision.stop = true;
    decision.reason = FinishReason::kLength;
  }
  stopped_ = decision.stop;
  return decision;
}

StopDecision StopChecker::Flush(absl::string_view tail_text) {
  StopDecision decision;
  stopped_ = true;
  if (text_ended_) return decision;
  AppendText(tail_text, decision);
  decision.emit += held_;
  held_.clear();
  return decision;
}

bool StopChecker::IsEos(TokenId token) const { return Contains(eos_token_ids_, token); }

void StopChecker::AppendText(absl::string_view new_text, StopDecision& decision) {
  decision.emit = std::exchange(held_, std::string());
  if (patterns_.empty()) {
    absl::StrAppend(&decision.emit, new_text);
    return;
  }
  // As in vLLM, a stop string that is complete within the first min_tokens tokens is plain text.
  const bool may_stop = num_tokens_ > min_tokens_;
  for (char byte : new_text) {
    decision.emit.push_back(byte);
    const Pattern* longest = nullptr;
    for (Pattern& pattern : patterns_) {
      if (!pattern.Advance(byte)) continue;
      if (longest == nullptr || pattern.text().size() > longest->text().size()) longest = &pattern;
    }
    if (longest == nullptr || !may_stop) continue;
    decision.emit.resize(decision.emit.size() - longest->text().size());
    decision.stop = true;
    decision.stop_reason = longest->text();
    text_ended_ = true;
    return;
  }
  size_t num_held = 0;
  for (const Pattern& pattern : patterns_) num_held = std::max(num_held, pattern.num_matched());
  held_ = decision.emit.substr(decision.emit.size() - num_held);
  decision.emit.resize(decision.emit.size() - num_held);
}

}  // namespace moelight
