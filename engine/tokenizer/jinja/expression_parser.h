// ExpressionParser: the expression half of the parser, by recursive descent in Jinja's precedence.
//
// Threads: none; works on a stream it borrows. Errors: as the stream's.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_EXPRESSION_PARSER_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_EXPRESSION_PARSER_H_

#include <vector>

#include <absl/status/statusor.h>

#include "engine/tokenizer/jinja/ast.h"
#include "engine/tokenizer/jinja/token_stream.h"

namespace moelight::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream* stream) : stream_(*stream) {}

  absl::StatusOr<ExprPtr> ParseExpression();
  // Without `a if b else c` at its top, where an `if` would belong to the statement.
  absl::StatusOr<ExprPtr> ParseUnconditional() { return ParseOr(); }
  // An expression, or several with commas between them, which make a tuple.
  absl::StatusOr<ExprPtr> ParseTuple(bool conditional, bool parenthesized = false);
  // name(args)|name...; the first without a | before it if `first_is_named`.
  absl::StatusOr<std::vector<PostfixOp>> ParseFilters(bool first_is_named);

 private:
  absl::StatusOr<ExprPtr> ParseConditional();
  absl::StatusOr<ExprPtr> ParseOr() { return ParseLogic(false); }
  absl::StatusOr<ExprPtr> ParseLogic(bool is_and);
  absl::StatusOr<ExprPtr> ParseNot();
  absl::StatusOr<ExprPtr> ParseCompare();
  absl::StatusOr<ExprPtr> ParseBinary(int level);
  absl::StatusOr<ExprPtr> ParseUnary(bool with_filters);
  absl::StatusOr<ExprPtr> ParsePrimary();
  absl::StatusOr<ExprPtr> ParseName();
  absl::StatusOr<ExprPtr> ParseString();
  absl::StatusOr<ExprPtr> ParseList();
  absl::StatusOr<ExprPtr> ParseDict();

  // Each adds what follows the expression to `ops`.
  absl::Status ParsePostfix(std::vector<PostfixOp>* ops);
  absl::Status ParseFiltersAndTests(std::vector<PostfixOp>* ops);
  absl::StatusOr<PostfixOp> ParseDot();
  absl::StatusOr<PostfixOp> ParseSubscript();
  absl::StatusOr<PostfixOp> ParseFilter();
  absl::StatusOr<PostfixOp> ParseTest();
  absl::StatusOr<ExprPtr> ParseSliceBound();
  absl::StatusOr<std::string> ParseDottedName();
  absl::StatusOr<CallArguments> ParseArguments();
  absl::Status ParseArgument(CallArguments* arguments);
  bool AtTestArgument() const;
  bool AtTupleEnd() const;

  TokenStream& stream_;
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_EXPRESSION_PARSER_H_
