#include "engine/tokenizer/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/expression_parser.h"
#include "engine/tokenizer/jinja/lexer.h"
#include "engine/tokenizer/jinja/token_stream.h"

namespace moelight::jinja {
namespace {

using EndWords = std::initializer_list<absl::string_view>;

class StatementParser {
 public:
  StatementParser(std::vector<Token> tokens, int max_depth)
      : stream_(std::move(tokens), max_depth), expressions_(&stream_) {}

  absl::StatusOr<Body> Run() { return ParseBody({}); }

 private:
  using Rule = absl::StatusOr<Stmt> (StatementParser::*)(int line);
  struct Row {
    absl::string_view word;
    Rule rule;
  };
  // A new statement is one method and one row.
  static const Row kStatements[];

  // Up to a block that begins with one of `ends`, whose word is then current; or, without any, up
  // to the end of the template.
  absl::StatusOr<Body> ParseBody(EndWords ends);
  // As ParseBody, with the end of the opening block before it and the end word skipped after.
  absl::StatusOr<Body> ParseBlockBody(absl::string_view end);
  absl::StatusOr<Stmt> ParseStatement();

  absl::StatusOr<Stmt> ParseOutput(int line);
  absl::StatusOr<Stmt> ParseIf(int line);
  absl::StatusOr<Stmt> ParseFor(int line);
  absl::StatusOr<Stmt> ParseSet(int line);
  absl::StatusOr<Stmt> ParseMacro(int line);
  absl::StatusOr<Stmt> ParseCallBlock(int line);
  absl::StatusOr<Stmt> ParseFilterBlock(int line);
  absl::StatusOr<Stmt> ParseWith(int line);
  absl::StatusOr<Stmt> ParseGeneration(int line);
  absl::StatusOr<Stmt> ParsePrint(int line);
  absl::StatusOr<Stmt> ParseBreak(int line) { return ParseLoopControl(line, true); }
  absl::StatusOr<Stmt> ParseContinue(int line) { return ParseLoopControl(line, false); }
  absl::StatusOr<Stmt> ParseLoopControl(int line, bool is_break);

  absl::StatusOr<Target> ParseTarget();
  absl::StatusOr<Target> ParseTargetItem();
  absl::StatusOr<std::vector<Parameter>> ParseParameters();
  absl::Status ParseMacroBody(absl::string_view end, MacroStmt* macro);

  TokenStream stream_;
  ExpressionParser expressions_;
  int num_open_loops_ = 0;
};

const StatementParser::Row StatementParser::kStatements[] = {
    {"break", &StatementParser::ParseBreak},
    {"call", &StatementParser::ParseCallBlock},
    {"continue", &StatementParser::ParseContinue},
    {"filter", &StatementParser::ParseFilterBlock},
    {"for", &StatementParser::ParseFor},
    {"generation", &StatementParser::ParseGeneration},
    {"if", &StatementParser::ParseIf},
    {"macro", &StatementParser::ParseMacro},
    {"print", &StatementParser::ParsePrint},
    {"set", &StatementParser::ParseSet},
    {"with", &StatementParser::ParseWith},
};

absl::StatusOr<Body> StatementParser::ParseBody(EndWords ends) {
  const TokenStream::Level level(&stream_);
  RETURN_IF_ERROR(stream_.CheckDepth());
  Body body;
  while (true) {
    const int line = stream_.line();
    switch (stream_.current().kind) {
      case TokenKind::kData:
        body.push_back({line, TextStmt{Str::Literal(stream_.Take().text)}});
        break;
      case TokenKind::kVariableBegin: {
        ASSIGN_OR_RETURN(Stmt output, ParseOutput(line));
        body.push_back(std::move(output));
        break;
      }
      case TokenKind::kBlockBegin: {
        stream_.Skip();
        const bool at_end = std::any_of(ends.begin(), ends.end(), [this](absl::string_view word) {
          return stream_.AtName(word);
        });
        if (at_end) return body;
        ASSIGN_OR_RETURN(Stmt statement, ParseStatement());
        body.push_back(std::move(statement));
        RETURN_IF_ERROR(stream_.ExpectBlockEnd());
        break;
      }
      default:
        if (ends.size() == 0) return body;
        return stream_.Error(absl::StrCat("unexpected end of template, looking for '",
                                          absl::StrJoin(ends, "' or '"), "'"));
    }
  }
}

absl::StatusOr<Body> StatementParser::ParseBlockBody(absl::string_view end) {
  stream_.SkipOperator(":");
  RETURN_IF_ERROR(stream_.ExpectBlockEnd());
  ASSIGN_OR_RETURN(Body body, ParseBody({end}));
  stream_.Skip();
  return body;
}

absl::StatusOr<Stmt> StatementParser::ParseStatement() {
  const int line = stream_.line();
  for (const Row& row : kStatements) {
    if (stream_.SkipName(row.word)) return (this->*row.rule)(line);
  }
  return stream_.Error(
      absl::StrCat("Encountered unknown tag ", TokenStream::Describe(stream_.current())));
}

absl::StatusOr<Stmt> StatementParser::ParseOutput(int line) {
  stream_.Skip();
  OutputStmt output;
  ASSIGN_OR_RETURN(ExprPtr value, expressions_.ParseTuple(/*conditional=*/true));
  output.values.push_back(std::move(value));
  if (stream_.current().kind != TokenKind::kVariableEnd) {
    return stream_.Unexpected("end of print statement");
  }
  stream_.Skip();
  return Stmt{line, std::move(output)};
}

absl::StatusOr<Stmt> StatementParser::ParsePrint(int line) {
  OutputStmt output;
  while (stream_.current().kind != TokenKind::kBlockEnd) {
    if (!output.values.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
    ASSIGN_OR_RETURN(ExprPtr value, expressions_.ParseExpression());
    output.values.push_back(std::move(value));
  }
  return Stmt{line, std::move(output)};
}

absl::StatusOr<Stmt> StatementParser::ParseIf(int line) {
  IfStmt statement;
  do {
    ASSIGN_OR_RETURN(ExprPtr condition, expressions_.ParseTuple(/*conditional=*/false));
    stream_.SkipOperator(":");
    RETURN_IF_ERROR(stream_.ExpectBlockEnd());
    ASSIGN_OR_RETURN(Body body, ParseBody({"elif", "else", "endif"}));
    statement.branches.emplace_back(std::move(condition), std::move(body));
  } while (stream_.SkipName("elif"));
  if (stream_.SkipName("else")) {
    ASSIGN_OR_RETURN(statement.otherwise, ParseBlockBody("endif"));
  } else {
    stream_.Skip();
  }
  return Stmt{line, std::move(statement)};
}

absl::StatusOr<Stmt> StatementParser::ParseFor(int line) {
  ForStmt loop;
  ASSIGN_OR_RETURN(loop.target, ParseTarget());
  RETURN_IF_ERROR(stream_.ExpectName("in"));
  ASSIGN_OR_RETURN(loop.iterable, expressions_.ParseTuple(/*conditional=*/false));
  if (stream_.SkipName("if")) {
    ASSIGN_OR_RETURN(loop.condition, expressions_.ParseExpression());
  }
  if (stream_.AtName("recursive")) return stream_.Error("recursive loops are not supported");
  stream_.SkipOperator(":");
  RETURN_IF_ERROR(stream_.ExpectBlockEnd());
  ++num_open_loops_;
  ASSIGN_OR_RETURN(loop.body, ParseBody({"else", "endfor"}));
  --num_open_loops_;
  if (stream_.SkipName("else")) {
    ASSIGN_OR_RETURN(loop.otherwise, ParseBlockBody("endfor"));
  } else {
    stream_.Skip();
  }
  return Stmt{line, std::move(loop)};
}

absl::StatusOr<Target> StatementParser::ParseTargetItem() {
  const TokenStream::Level level(&stream_);
  RETURN_IF_ERROR(stream_.CheckDepth());
  Target target;
  if (stream_.SkipOperator("(")) {
    ASSIGN_OR_RETURN(target, ParseTarget());
    RETURN_IF_ERROR(stream_.ExpectOperator(")"));
    return target;
  }
  ASSIGN_OR_RETURN(target.name, stream_.ExpectAnyName());
  for (absl::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
    if (target.name == constant) return stream_.Error("can't assign to a constant");
  }
  if (stream_.SkipOperator(".")) {
    ASSIGN_OR_RETURN(target.attribute, stream_.ExpectAnyName());
  }
  return target;
}

absl::StatusOr<Target> StatementParser::ParseTarget() {
  ASSIGN_OR_RETURN(Target first, ParseTargetItem());
  if (!stream_.AtOperator(",")) return first;
  Target tuple;
  tuple.items.push_back(std::move(first));
  while (stream_.SkipOperator(",")) {
    if (stream_.current().kind != TokenKind::kName && !stream_.AtOperator("(")) break;
    if (stream_.AtName("in")) break;
    ASSIGN_OR_RETURN(Target item, ParseTargetItem());
    tuple.items.push_back(std::move(item));
  }
  return tuple;
}

absl::StatusOr<Stmt> StatementParser::ParseSet(int line) {
  ASSIGN_OR_RETURN(Target target, ParseTarget());
  if (stream_.SkipOperator("=")) {
    SetStmt set;
    set.target = std::move(target);
    ASSIGN_OR_RETURN(set.value, expressions_.ParseTuple(/*conditional=*/true));
    return Stmt{line, std::move(set)};
  }
  SetBlockStmt set;
  set.target = std::move(target);
  ASSIGN_OR_RETURN(set.filters, expressions_.ParseFilters(/*first_is_named=*/false));
  ASSIGN_OR_RETURN(set.body, ParseBlockBody("endset"));
  return Stmt{line, std::move(set)};
}

absl::StatusOr<std::vector<Parameter>> StatementParser::ParseParameters() {
  std::vector<Parameter> parameters;
  RETURN_IF_ERROR(stream_.ExpectOperator("("));
  while (!stream_.AtOperator(")")) {
    if (!parameters.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
    if (stream_.AtOperator(")")) break;
    Parameter parameter;
    ASSIGN_OR_RETURN(parameter.name, stream_.ExpectAnyName());
    if (stream_.SkipOperator("=")) {
      ASSIGN_OR_RETURN(parameter.unset, expressions_.ParseExpression());
    } else if (!parameters.empty() && parameters.back().unset != nullptr) {
      return stream_.Error("non-default argument follows default argument");
    }
    parameters.push_back(std::move(parameter));
  }
  stream_.Skip();
  return parameters;
}

absl::Status StatementParser::ParseMacroBody(absl::string_view end, MacroStmt* macro) {
  // A loop around the definition is not a loop around the call.
  const int num_open_loops = std::exchange(num_open_loops_, 0);
  const size_t begin = stream_.position();
  ASSIGN_OR_RETURN(macro->body, ParseBlockBody(end));
  macro->takes_varargs = stream_.SawName(begin, "varargs");
  macro->takes_kwargs = stream_.SawName(begin, "kwargs");
  num_open_loops_ = num_open_loops;
  return absl::OkStatus();
}

absl::StatusOr<Stmt> StatementParser::ParseMacro(int line) {
  MacroStmt macro;
  ASSIGN_OR_RETURN(macro.name, stream_.ExpectAnyName());
  ASSIGN_OR_RETURN(macro.parameters, ParseParameters());
  RETURN_IF_ERROR(ParseMacroBody("endmacro", &macro));
  return Stmt{line, std::move(macro)};
}

absl::StatusOr<Stmt> StatementParser::ParseCallBlock(int line) {
  CallBlockStmt call;
  call.caller.name = "caller";
  if (stream_.AtOperator("(")) {
    ASSIGN_OR_RETURN(call.caller.parameters, ParseParameters());
  }
  ASSIGN_OR_RETURN(call.call, expressions_.ParseExpression());
  const auto* postfix = std::get_if<PostfixExpr>(&call.call->node);
  if (postfix == nullptr || !std::holds_alternative<CallOp>(postfix->ops.back().op)) {
    return stream_.Error("expected call");
  }
  RETURN_IF_ERROR(ParseMacroBody("endcall", &call.caller));
  return Stmt{line, std::move(call)};
}

absl::StatusOr<Stmt> StatementParser::ParseFilterBlock(int line) {
  FilterBlockStmt block;
  ASSIGN_OR_RETURN(block.filters, expressions_.ParseFilters(/*first_is_named=*/true));
  ASSIGN_OR_RETURN(block.body, ParseBlockBody("endfilter"));
  return Stmt{line, std::move(block)};
}

absl::StatusOr<Stmt> StatementParser::ParseWith(int line) {
  WithStmt with;
  while (stream_.current().kind != TokenKind::kBlockEnd) {
    if (!with.assignments.empty()) RETURN_IF_ERROR(stream_.ExpectOperator(","));
    ASSIGN_OR_RETURN(Target target, ParseTargetItem());
    RETURN_IF_ERROR(stream_.ExpectOperator("="));
    ASSIGN_OR_RETURN(ExprPtr value, expressions_.ParseExpression());
    with.assignments.emplace_back(std::move(target), std::move(value));
  }
  ASSIGN_OR_RETURN(with.body, ParseBlockBody("endwith"));
  return Stmt{line, std::move(with)};
}

absl::StatusOr<Stmt> StatementParser::ParseGeneration(int line) {
  GenerationStmt generation;
  ASSIGN_OR_RETURN(generation.body, ParseBlockBody("endgeneration"));
  return Stmt{line, std::move(generation)};
}

absl::StatusOr<Stmt> StatementParser::ParseLoopControl(int line, bool is_break) {
  if (num_open_loops_ == 0) {
    return stream_.Error(is_break ? "'break' outside loop" : "'continue' outside loop");
  }
  return Stmt{line, LoopControlStmt{is_break}};
}

}  // namespace

absl::StatusOr<Body> ParseTemplate(absl::string_view source, int max_depth) {
  if (source.size() > kMaxTemplateBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the chat template has ", source.size(), " bytes, limit ", kMaxTemplateBytes));
  }
  ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return StatementParser(std::move(tokens), max_depth).Run();
}

}  // namespace moelight::jinja
