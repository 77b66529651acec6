// TokenStream: the parser's place in the tokens, and how deep it is nested.
//
// Threads: none. Errors: InvalidArgument with the line for tokens that are not the wanted ones.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_TOKEN_STREAM_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_TOKEN_STREAM_H_

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

#include "engine/tokenizer/jinja/lexer.h"

namespace moelight::jinja {

class TokenStream {
 public:
  // `tokens` ends with kEnd, which is never passed.
  TokenStream(std::vector<Token> tokens, int max_depth)
      : tokens_(std::move(tokens)), max_depth_(max_depth) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  int line() const { return current().line; }
  Token Take() {
    Token token = current();
    Skip();
    return token;
  }
  void Skip() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }

  bool AtName(absl::string_view name) const { return current().IsName(name); }
  bool AtOperator(absl::string_view op) const { return current().IsOperator(op); }
  bool SkipName(absl::string_view name) { return AtName(name) && (Skip(), true); }
  bool SkipOperator(absl::string_view op) { return AtOperator(op) && (Skip(), true); }

  absl::Status ExpectOperator(absl::string_view op) {
    return SkipOperator(op) ? absl::OkStatus() : Unexpected(absl::StrCat("'", op, "'"));
  }
  absl::Status ExpectName(absl::string_view name) {
    return SkipName(name) ? absl::OkStatus() : Unexpected(absl::StrCat("'", name, "'"));
  }
  absl::Status ExpectBlockEnd() {
    if (current().kind != TokenKind::kBlockEnd) return Unexpected("end of statement block");
    Skip();
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> ExpectAnyName() {
    if (current().kind != TokenKind::kName) return Unexpected("a name");
    return Take().text;
  }

  absl::Status Error(absl::string_view message) const { return TemplateError(line(), message); }
  absl::Status Unexpected(absl::string_view wanted) const {
    return Error(absl::StrCat("expected ", wanted, ", got ", Describe(current())));
  }
  static std::string Describe(const Token& token) {
    switch (token.kind) {
      case TokenKind::kData:
        return "template data";
      case TokenKind::kVariableBegin:
        return "begin of print statement";
      case TokenKind::kVariableEnd:
        return "end of print statement";
      case TokenKind::kBlockBegin:
        return "begin of statement block";
      case TokenKind::kBlockEnd:
        return "end of statement block";
      case TokenKind::kEnd:
        return "end of template";
      default:
        return absl::StrCat("'", token.text, "'");
    }
  }

  // Positions are only for SawName(): was `name` among the tokens from `begin` to here?
  size_t position() const { return at_; }
  bool SawName(size_t begin, absl::string_view name) const {
    return std::any_of(tokens_.begin() + static_cast<int64_t>(begin),
                       tokens_.begin() + static_cast<int64_t>(at_),
                       [name](const Token& token) { return token.IsName(name); });
  }

  // Counts one level of nesting while it lives.
  class Level {
   public:
    explicit Level(TokenStream* stream) : stream_(stream) { ++stream_->depth_; }
    ~Level() { --stream_->depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    TokenStream* stream_;
  };
  // ResourceExhausted if `extra` more levels than there are now would be too deep.
  absl::Status CheckDepth(int extra = 0) const {
    if (depth_ + extra <= max_depth_) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat(
        "chat template line ", line(), ": nested deeper than the limit of ", max_depth_));
  }

 private:
  const std::vector<Token> tokens_;
  const int max_depth_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_TOKEN_STREAM_H_
