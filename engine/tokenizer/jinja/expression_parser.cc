#include "engine/tokenizer/jinja/expression_parser.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"

namespace moelight::jinja {
namespace {

template <typename Node>
ExprPtr Make(int line, Node node) {
  return std::make_unique<Expr>(Expr{line, std::move(node)});
}

ExprPtr MakeLiteral(int line, Value value) { return Make(line, LiteralExpr{std::move(value)}); }

ExprPtr WithOps(int line, ExprPtr base, std::vector<PostfixOp> ops) {
  if (ops.empty()) return base;
  return Make(line, PostfixExpr{std::move(base), std::move(ops)});
}

// Operators from the loosest to the tightest; all group from the left.
constexpr int kNumBinaryLevels = 4;
std::optional<BinaryOp> BinaryOpAt(const Token& token, int level) {
  struct Row {
    absl::string_view text;
    int level;
    BinaryOp op;
  };
  constexpr Row kRows[] = {
      {"+", 0, BinaryOp::kAdd}, {"-", 0, BinaryOp::kSub},  {"~", 1, BinaryOp::kConcat},
      {"*", 2, BinaryOp::kMul}, {"/", 2, BinaryOp::kDiv},  {"//", 2, BinaryOp::kFloorDiv},
      {"%", 2, BinaryOp::kMod}, {"**", 3, BinaryOp::kPow},
  };
  for (const Row& row : kRows) {
    if (row.level == level && token.IsOperator(row.text)) return row.op;
  }
  return std::nullopt;
}

std::optional<CompareOp> CompareOpAt(const Token& token) {
  constexpr std::pair<absl::string_view, CompareOp> kRows[] = {
      {"==", CompareOp::kEq}, {"!=", CompareOp::kNe}, {"<", CompareOp::kLt},
      {"<=", CompareOp::kLe}, {">", CompareOp::kGt},  {">=", CompareOp::kGe},
  };
  for (const auto& [text, op] : kRows) {
    if (token.IsOperator(text)) return op;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<ExprPtr> ExpressionParser::ParseExpression() {
  const TokenStream::Level level(&stream_);
  RETURN_IF_ERROR(stream_.CheckDepth());
  return ParseConditional();
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseConditional() {
  const int line = stream_.line();
  ASSIGN_OR_RETURN(ExprPtr result, ParseOr());
  // Each turn nests what came before in a new node, so it counts as a level.
  for (int levels = 1; stream_.SkipName("if"); ++levels) {
    RETURN_IF_ERROR(stream_.CheckDepth(levels));
    ConditionalExpr conditional;
    conditional.then = std::move(result);
    ASSIGN_OR_RETURN(conditional.condition, ParseOr());
    if (stream_.SkipName("else")) {
      ASSIGN_OR_RETURN(conditional.otherwise, ParseExpression());
    }
    result = Make(line, std::move(conditional));
  }
  return result;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseLogic(bool is_and) {
  const int line = stream_.line();
  LogicExpr logic;
  logic.is_and = is_and;
  do {
    ASSIGN_OR_RETURN(ExprPtr operand, is_and ? ParseNot() : ParseLogic(true));
    logic.operands.push_back(std::move(operand));
  } while (stream_.SkipName(is_and ? "and" : "or"));
  if (logic.operands.size() == 1) return std::move(logic.operands.front());
  return Make(line, std::move(logic));
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseNot() {
  const int line = stream_.line();
  if (!stream_.SkipName("not")) return ParseCompare();
  const TokenStream::Level level(&stream_);
  RETURN_IF_ERROR(stream_.CheckDepth());
  ASSIGN_OR_RETURN(ExprPtr operand, ParseNot());
  return Make(line, UnaryExpr{UnaryExpr::Op::kNot, std::move(operand)});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseCompare() {
  const int line = stream_.line();
  CompareExpr compare;
  ASSIGN_OR_RETURN(compare.first, ParseBinary(0));
  while (true) {
    std::optional<CompareOp> op = CompareOpAt(stream_.current());
    if (op.has_value()) {
      stream_.Skip();
    } else if (stream_.SkipName("in")) {
      op = CompareOp::kIn;
    } else if (stream_.AtName("not") && stream_.next().IsName("in")) {
      stream_.Skip();
      stream_.Skip();
      op = CompareOp::kNotIn;
    } else {
      break;
    }
    ASSIGN_OR_RETURN(ExprPtr operand, ParseBinary(0));
    compare.rest.emplace_back(*op, std::move(operand));
  }
  if (compare.rest.empty()) return std::move(compare.first);
  return Make(line, std::move(compare));
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseBinary(int level) {
  if (level == kNumBinaryLevels) return ParseUnary(/*with_filters=*/true);
  const int line = stream_.line();
  BinaryExpr binary;
  ASSIGN_OR_RETURN(binary.first, ParseBinary(level + 1));
  while (const std::optional<BinaryOp> op = BinaryOpAt(stream_.current(), level)) {
    stream_.Skip();
    ASSIGN_OR_RETURN(ExprPtr operand, ParseBinary(level + 1));
    binary.rest.emplace_back(*op, std::move(operand));
  }
  if (binary.rest.empty()) return std::move(binary.first);
  return Make(line, std::move(binary));
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseUnary(bool with_filters) {
  const int line = stream_.line();
  ExprPtr base;
  if (stream_.AtOperator("-") || stream_.AtOperator("+")) {
    const TokenStream::Level level(&stream_);
    RETURN_IF_ERROR(stream_.CheckDepth());
    const bool minus = stream_.Take().text == "-";
    ASSIGN_OR_RETURN(ExprPtr operand, ParseUnary(/*with_filters=*/false));
    base = Make(
        line, UnaryExpr{minus ? UnaryExpr::Op::kMinus : UnaryExpr::Op::kPlus, std::move(operand)});
  } else {
    ASSIGN_OR_RETURN(base, ParsePrimary());
  }
  std::vector<PostfixOp> ops;
  RETURN_IF_ERROR(ParsePostfix(&ops));
  if (with_filters) RETURN_IF_ERROR(ParseFiltersAndTests(&ops));
  return WithOps(line, std::move(base), std::move(ops));
}

absl::StatusOr<ExprPtr> ExpressionParser::ParsePrimary() {
  const Token& token = stream_.current();
  const int line = token.line;
  switch (token.kind) {
    case TokenKind::kName:
      return ParseName();
    case TokenKind::kString:
      return ParseString();
    case TokenKind::kInteger:
      return MakeLiteral(line, Value::Int(stream_.Take().integer));
    case TokenKind::kFloat:
      return MakeLiteral(line, Value::Float(stream_.Take().number));
    default:
      break;
  }
  if (stream_.SkipOperator("(")) {
    ASSIGN_OR_RETURN(ExprPtr inner, ParseTuple(/*conditional=*/true, /*parenthesized=*/true));
    RETURN_IF_ERROR(stream_.ExpectOperator(")"));
    return inner;
  }
  if (stream_.AtOperator("[")) return ParseList();
  if (stream_.AtOperator("{")) return ParseDict();
  return stream_.Error(absl::StrCat("unexpected ", TokenStream::Describe(token)));
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseName() {
  Token token = stream_.Take();
  const std::string& name = token.text;
  if (name == "true" || name == "True") return MakeLiteral(token.line, Value::Bool(true));
  if (name == "false" || name == "False") return MakeLiteral(token.line, Value::Bool(false));
  if (name == "none" || name == "None") return MakeLiteral(token.line, Value());
  return Make(token.line, NameExpr{std::move(token.text)});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseString() {
  const int line = stream_.line();
  std::string text;
  while (stream_.current().kind == TokenKind::kString) text.append(stream_.Take().text);
  return MakeLiteral(line, Value::String(Str::Literal(std::move(text))));
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseList() {
  const int line = stream_.line();
  stream_.Skip();
  ListExpr list;
  while (!stream_.AtOperator("]")) {
    if (!list.items.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
    if (stream_.AtOperator("]")) break;
    ASSIGN_OR_RETURN(ExprPtr item, ParseExpression());
    list.items.push_back(std::move(item));
  }
  stream_.Skip();
  return Make(line, std::move(list));
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseDict() {
  const int line = stream_.line();
  stream_.Skip();
  DictExpr dict;
  while (!stream_.AtOperator("}")) {
    if (!dict.entries.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
    if (stream_.AtOperator("}")) break;
    ASSIGN_OR_RETURN(ExprPtr key, ParseExpression());
    RETURN_IF_ERROR(stream_.ExpectOperator(":"));
    ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
    dict.entries.emplace_back(std::move(key), std::move(value));
  }
  stream_.Skip();
  return Make(line, std::move(dict));
}

bool ExpressionParser::AtTupleEnd() const {
  const TokenKind kind = stream_.current().kind;
  return kind == TokenKind::kVariableEnd || kind == TokenKind::kBlockEnd || stream_.AtOperator(")");
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseTuple(bool conditional, bool parenthesized) {
  const int line = stream_.line();
  ListExpr tuple;
  tuple.is_tuple = true;
  bool has_comma = false;
  while (!AtTupleEnd()) {
    ASSIGN_OR_RETURN(ExprPtr item, conditional ? ParseExpression() : ParseUnconditional());
    tuple.items.push_back(std::move(item));
    if (!stream_.SkipOperator(",")) break;
    has_comma = true;
  }
  if (has_comma) return Make(line, std::move(tuple));
  if (tuple.items.size() == 1) return std::move(tuple.items.front());
  if (parenthesized) return Make(line, std::move(tuple));
  return stream_.Unexpected("an expression");
}

// --- What follows an expression
// -------------------------------------------------------------------

absl::Status ExpressionParser::ParsePostfix(std::vector<PostfixOp>* ops) {
  while (true) {
    PostfixOp op;
    op.line = stream_.line();
    if (stream_.AtOperator(".")) {
      ASSIGN_OR_RETURN(op, ParseDot());
    } else if (stream_.AtOperator("[")) {
      ASSIGN_OR_RETURN(op, ParseSubscript());
    } else if (stream_.AtOperator("(")) {
      ASSIGN_OR_RETURN(CallArguments arguments, ParseArguments());
      op.op = CallOp{std::move(arguments)};
    } else {
      return absl::OkStatus();
    }
    ops->push_back(std::move(op));
  }
}

absl::Status ExpressionParser::ParseFiltersAndTests(std::vector<PostfixOp>* ops) {
  while (true) {
    PostfixOp op;
    op.line = stream_.line();
    if (stream_.SkipOperator("|")) {
      ASSIGN_OR_RETURN(op, ParseFilter());
    } else if (stream_.SkipName("is")) {
      ASSIGN_OR_RETURN(op, ParseTest());
    } else if (stream_.AtOperator("(")) {
      ASSIGN_OR_RETURN(CallArguments arguments, ParseArguments());
      op.op = CallOp{std::move(arguments)};
    } else {
      return absl::OkStatus();
    }
    ops->push_back(std::move(op));
  }
}

absl::StatusOr<PostfixOp> ExpressionParser::ParseDot() {
  PostfixOp op;
  op.line = stream_.line();
  stream_.Skip();
  const Token token = stream_.Take();
  if (token.kind == TokenKind::kName) {
    op.op = AttributeOp{token.text};
  } else if (token.kind == TokenKind::kInteger) {
    op.op = ItemOp{MakeLiteral(token.line, Value::Int(token.integer))};
  } else {
    return TemplateError(token.line, "expected name or number after '.'");
  }
  return op;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseSliceBound() {
  if (stream_.AtOperator(":") || stream_.AtOperator("]")) return ExprPtr();
  return ParseExpression();
}

absl::StatusOr<PostfixOp> ExpressionParser::ParseSubscript() {
  PostfixOp op;
  op.line = stream_.line();
  stream_.Skip();
  if (stream_.AtOperator("]")) return stream_.Unexpected("a subscript");
  ExprPtr first;
  if (!stream_.AtOperator(":")) {
    ASSIGN_OR_RETURN(first, ParseExpression());
  }
  if (!stream_.AtOperator(":")) {
    RETURN_IF_ERROR(stream_.ExpectOperator("]"));
    op.op = ItemOp{std::move(first)};
    return op;
  }
  SliceOp slice;
  slice.start = std::move(first);
  stream_.Skip();
  ASSIGN_OR_RETURN(slice.stop, ParseSliceBound());
  if (stream_.SkipOperator(":")) {
    ASSIGN_OR_RETURN(slice.step, ParseSliceBound());
  }
  RETURN_IF_ERROR(stream_.ExpectOperator("]"));
  op.op = std::move(slice);
  return op;
}

absl::StatusOr<std::string> ExpressionParser::ParseDottedName() {
  ASSIGN_OR_RETURN(std::string name, stream_.ExpectAnyName());
  while (stream_.SkipOperator(".")) {
    ASSIGN_OR_RETURN(const std::string part, stream_.ExpectAnyName());
    absl::StrAppend(&name, ".", part);
  }
  return name;
}

absl::StatusOr<PostfixOp> ExpressionParser::ParseFilter() {
  PostfixOp op;
  op.line = stream_.line();
  FilterOp filter;
  ASSIGN_OR_RETURN(filter.name, ParseDottedName());
  if (stream_.AtOperator("(")) {
    ASSIGN_OR_RETURN(filter.arguments, ParseArguments());
  }
  op.op = std::move(filter);
  return op;
}

absl::StatusOr<std::vector<PostfixOp>> ExpressionParser::ParseFilters(bool first_is_named) {
  std::vector<PostfixOp> filters;
  while ((first_is_named && filters.empty()) || stream_.SkipOperator("|")) {
    ASSIGN_OR_RETURN(PostfixOp filter, ParseFilter());
    filters.push_back(std::move(filter));
  }
  return filters;
}

// A test may take one argument without parentheses: `x is divisibleby 3`.
bool ExpressionParser::AtTestArgument() const {
  const Token& token = stream_.current();
  switch (token.kind) {
    case TokenKind::kName:
      return token.text != "else" && token.text != "or" && token.text != "and";
    case TokenKind::kString:
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return true;
    default:
      return token.IsOperator("[") || token.IsOperator("{");
  }
}

absl::StatusOr<PostfixOp> ExpressionParser::ParseTest() {
  PostfixOp op;
  op.line = stream_.line();
  TestOp test;
  test.negated = stream_.SkipName("not");
  ASSIGN_OR_RETURN(test.name, ParseDottedName());
  if (stream_.AtOperator("(")) {
    ASSIGN_OR_RETURN(test.arguments, ParseArguments());
  } else if (AtTestArgument()) {
    if (stream_.AtName("is")) return stream_.Error("You cannot chain multiple tests with is");
    const TokenStream::Level level(&stream_);
    RETURN_IF_ERROR(stream_.CheckDepth());
    const int line = stream_.line();
    ASSIGN_OR_RETURN(ExprPtr argument, ParsePrimary());
    std::vector<PostfixOp> ops;
    RETURN_IF_ERROR(ParsePostfix(&ops));
    test.arguments.positional.push_back(WithOps(line, std::move(argument), std::move(ops)));
  }
  op.op = std::move(test);
  return op;
}

absl::StatusOr<CallArguments> ExpressionParser::ParseArguments() {
  CallArguments arguments;
  RETURN_IF_ERROR(stream_.ExpectOperator("("));
  for (bool first = true; !stream_.AtOperator(")"); first = false) {
    if (!first) RETURN_IF_ERROR(stream_.ExpectOperator(","));
    if (!first && stream_.AtOperator(")")) break;
    RETURN_IF_ERROR(ParseArgument(&arguments));
  }
  stream_.Skip();
  return arguments;
}

absl::Status ExpressionParser::ParseArgument(CallArguments* arguments) {
  if (stream_.SkipOperator("**")) {
    if (arguments->more_keyword != nullptr) return stream_.Error("a call takes one **argument");
    ASSIGN_OR_RETURN(arguments->more_keyword, ParseExpression());
    return absl::OkStatus();
  }
  if (stream_.SkipOperator("*")) {
    if (arguments->more_positional != nullptr) return stream_.Error("a call takes one *argument");
    ASSIGN_OR_RETURN(arguments->more_positional, ParseExpression());
    return absl::OkStatus();
  }
  if (stream_.current().kind == TokenKind::kName && stream_.next().IsOperator("=")) {
    std::string name = stream_.Take().text;
    stream_.Skip();
    for (const auto& keyword : arguments->keyword) {
      if (keyword.first == name) {
        return stream_.Error(absl::StrCat("keyword argument repeated: ", name));
      }
    }
    ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
    arguments->keyword.emplace_back(std::move(name), std::move(value));
    return absl::OkStatus();
  }
  if (!arguments->keyword.empty() || arguments->more_keyword != nullptr) {
    return stream_.Error("invalid syntax for function call expression");
  }
  ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
  arguments->positional.push_back(std::move(value));
  return absl::OkStatus();
}

}  // namespace moelight::jinja
