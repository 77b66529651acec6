// The syntax tree of a chat template. Made by the parser, walked by the interpreter.
//
// Threads: immutable after parsing, shared by all renderings. Depth: the parser bounds nesting, and
// chains (a + b + c, x.y.z|f, if/elif/elif) are flat vectors, so walking and destroying a tree
// recursively is safe.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_AST_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_AST_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/tokenizer/jinja/operators.h"
#include "engine/tokenizer/jinja/value.h"

namespace moelight::jinja {

// --- Expressions --------------------------------------------------------------------------------

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct LiteralExpr {
  Value value;
};

struct NameExpr {
  std::string name;
};

struct ListExpr {
  bool is_tuple = false;
  std::vector<ExprPtr> items;
};

struct DictExpr {
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};

struct UnaryExpr {
  enum class Op : uint8_t { kNot, kMinus, kPlus };
  Op op = Op::kNot;
  ExprPtr operand;
};

// first op operand op operand ..., from the left, all of one precedence.
struct BinaryExpr {
  ExprPtr first;
  std::vector<std::pair<BinaryOp, ExprPtr>> rest;
};

// a and b and c; a or b or c.
struct LogicExpr {
  bool is_and = false;
  std::vector<ExprPtr> operands;
};

// a < b < c means a < b and b < c.
struct CompareExpr {
  ExprPtr first;
  std::vector<std::pair<CompareOp, ExprPtr>> rest;
};

struct ConditionalExpr {
  ExprPtr condition;
  ExprPtr then;
  ExprPtr otherwise;  // null: undefined
};

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> keyword;
  ExprPtr more_positional;  // *expr, or null
  ExprPtr more_keyword;     // **expr, or null
};

struct AttributeOp {
  std::string name;
};
struct ItemOp {
  ExprPtr key;
};
struct SliceOp {
  ExprPtr start;  // null: unset
  ExprPtr stop;
  ExprPtr step;
};
struct CallOp {
  CallArguments arguments;
};
struct FilterOp {
  std::string name;
  CallArguments arguments;
};
struct TestOp {
  std::string name;
  CallArguments arguments;
  bool negated = false;
};
struct PostfixOp {
  int line = 0;
  std::variant<AttributeOp, ItemOp, SliceOp, CallOp, FilterOp, TestOp> op;
};

struct PostfixExpr {
  ExprPtr base;
  std::vector<PostfixOp> ops;
};

struct Expr {
  int line = 0;
  std::variant<LiteralExpr, NameExpr, ListExpr, DictExpr, UnaryExpr, BinaryExpr, LogicExpr,
               CompareExpr, ConditionalExpr, PostfixExpr>
      node;
};

// --- Statements ---------------------------------------------------------------------------------

struct Stmt;
using Body = std::vector<Stmt>;

// What can be assigned to: a name, an attribute of a namespace, or several of those.
struct Target {
  std::string name;           // empty: a tuple
  std::string attribute;      // not empty: name.attribute
  std::vector<Target> items;  // of a tuple
};

struct TextStmt {
  Str text;
};

struct OutputStmt {
  std::vector<ExprPtr> values;
};

struct IfStmt {
  std::vector<std::pair<ExprPtr, Body>> branches;  // if and each elif
  Body otherwise;
};

struct ForStmt {
  Target target;
  ExprPtr iterable;
  ExprPtr condition;  // for x in y if condition; null: none
  Body body;
  Body otherwise;  // when nothing was walked
};

struct SetStmt {
  Target target;
  ExprPtr value;
};

// {% set x | filter %}...{% endset %}
struct SetBlockStmt {
  Target target;
  std::vector<PostfixOp> filters;
  Body body;
};

struct Parameter {
  std::string name;
  ExprPtr unset;  // the default; null: undefined
};
struct MacroStmt {
  std::string name;
  std::vector<Parameter> parameters;
  bool takes_varargs = false;  // its body names `varargs`: more positional arguments are welcome
  bool takes_kwargs = false;   // its body names `kwargs`: so are unknown keyword arguments
  Body body;
};

// {% call(x) macro() %}...{% endcall %}: the body is the macro's caller().
struct CallBlockStmt {
  MacroStmt caller;
  ExprPtr call;  // a PostfixExpr that ends with a CallOp
};

struct FilterBlockStmt {
  std::vector<PostfixOp> filters;
  Body body;
};

struct WithStmt {
  std::vector<std::pair<Target, ExprPtr>> assignments;
  Body body;
};

// {% generation %}: marks the assistant's part for training; renders as its body.
struct GenerationStmt {
  Body body;
};

struct LoopControlStmt {
  bool is_break = false;  // else continue
};

struct Stmt {
  int line = 0;
  std::variant<TextStmt, OutputStmt, IfStmt, ForStmt, SetStmt, SetBlockStmt, MacroStmt,
               CallBlockStmt, FilterBlockStmt, WithStmt, GenerationStmt, LoopControlStmt>
      node;
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_AST_H_
