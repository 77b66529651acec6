// The expression half of the Interpreter.
#include <algorithm>
#include <optional>
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/filters.h"
#include "engine/tokenizer/jinja/interpreter.h"
#include "engine/tokenizer/jinja/unicode.h"

namespace moelight::jinja {
namespace {

// A global function as a value.
class Function : public Object {
 public:
  explicit Function(const Builtin* builtin) : builtin_(*builtin) {}
  absl::string_view type_name() const override { return "function"; }
  bool callable() const override { return true; }
  absl::StatusOr<Value> Call(Runtime& runtime, const Arguments& arguments) override {
    return builtin_.Call(runtime, Value(), arguments);
  }

 private:
  const Builtin& builtin_;
};

}  // namespace

absl::StatusOr<Value> Interpreter::Eval(const Expr& expr) {
  ++depth_;
  absl::StatusOr<Value> value = Value();
  if (absl::Status status = ChargeNode(); !status.ok()) {
    value = std::move(status);
  } else {
    value = std::visit([this](const auto& node) { return EvalNode(node); }, expr.node);
  }
  --depth_;
  if (!value.ok()) NoteErrorLine(expr.line);
  return value;
}

absl::StatusOr<Value> Interpreter::EvalNode(const LiteralExpr& expr) { return expr.value; }

Value Interpreter::Lookup(absl::string_view name) const {
  if (const Value* value = scope_->Find(name)) return *value;
  if (const Builtin* function = FindFunction(name)) {
    return Value::Of(ObjectPtr(std::make_shared<Function>(function)));
  }
  return Value::Undefined(absl::StrCat(QuoteText(name), " is undefined"));
}

absl::StatusOr<Value> Interpreter::EvalNode(const NameExpr& expr) { return Lookup(expr.name); }

absl::StatusOr<Value> Interpreter::EvalNode(const ListExpr& expr) {
  std::vector<Value> items;
  items.reserve(expr.items.size());
  for (const ExprPtr& item : expr.items) {
    ASSIGN_OR_RETURN(Value value, Eval(*item));
    items.push_back(std::move(value));
  }
  return expr.is_tuple ? MakeTuple(meter_, std::move(items)) : MakeList(meter_, std::move(items));
}

absl::StatusOr<Value> Interpreter::EvalNode(const DictExpr& expr) {
  RETURN_IF_ERROR(meter_.Allocate(sizeof(Dict) + expr.entries.size() * 4 * sizeof(Value)));
  auto dict = std::make_shared<Dict>();
  for (const auto& [key_expr, value_expr] : expr.entries) {
    ASSIGN_OR_RETURN(Value key, Eval(*key_expr));
    ASSIGN_OR_RETURN(Value value, Eval(*value_expr));
    RETURN_IF_ERROR(dict->Set(std::move(key), std::move(value)));
  }
  return Value::Of(DictPtr(std::move(dict)));
}

absl::StatusOr<Value> Interpreter::EvalNode(const UnaryExpr& expr) {
  ASSIGN_OR_RETURN(const Value value, Eval(*expr.operand));
  switch (expr.op) {
    case UnaryExpr::Op::kNot:
      return Value::Bool(!Truthy(value));
    case UnaryExpr::Op::kMinus:
      return Negate(value);
    case UnaryExpr::Op::kPlus:
      break;
  }
  if (value.is_undefined()) return absl::InvalidArgumentError(value.undefined_message());
  if (value.is_float()) return value;
  if (value.is_integral()) return Value::Int(value.as_int());
  return absl::InvalidArgumentError(
      absl::StrCat("bad operand type for unary +: '", value.type_name(), "'"));
}

absl::StatusOr<Value> Interpreter::EvalNode(const BinaryExpr& expr) {
  ASSIGN_OR_RETURN(Value value, Eval(*expr.first));
  for (const auto& [op, operand] : expr.rest) {
    ASSIGN_OR_RETURN(const Value right, Eval(*operand));
    ASSIGN_OR_RETURN(value, ApplyBinary(meter_, op, value, right));
  }
  return value;
}

absl::StatusOr<Value> Interpreter::EvalNode(const LogicExpr& expr) {
  Value value;
  for (const ExprPtr& operand : expr.operands) {
    ASSIGN_OR_RETURN(value, Eval(*operand));
    if (Truthy(value) != expr.is_and) break;
  }
  return value;
}

absl::StatusOr<Value> Interpreter::EvalNode(const CompareExpr& expr) {
  ASSIGN_OR_RETURN(Value left, Eval(*expr.first));
  for (const auto& [op, operand] : expr.rest) {
    ASSIGN_OR_RETURN(Value right, Eval(*operand));
    ASSIGN_OR_RETURN(const bool holds, ApplyCompare(meter_, op, left, right));
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

absl::StatusOr<Value> Interpreter::EvalNode(const ConditionalExpr& expr) {
  ASSIGN_OR_RETURN(const Value condition, Eval(*expr.condition));
  if (Truthy(condition)) return Eval(*expr.then);
  if (expr.otherwise != nullptr) return Eval(*expr.otherwise);
  return Value::Undefined("the inline if-expression evaluated to false and no else was given");
}

absl::StatusOr<Value> Interpreter::EvalNode(const PostfixExpr& expr) {
  ASSIGN_OR_RETURN(Value value, Eval(*expr.base));
  return ApplyOps(std::move(value), expr.ops);
}

// --- What follows an expression
// ---------------------------------------------------------------------

absl::StatusOr<Value> Interpreter::ApplyOps(Value value, const std::vector<PostfixOp>& ops,
                                            const Value* caller) {
  for (const PostfixOp& op : ops) {
    RETURN_IF_ERROR(meter_.Step());
    const bool is_block_call = caller != nullptr && &op == &ops.back();
    absl::StatusOr<Value> result =
        is_block_call ? CallWithCaller(value, std::get<CallOp>(op.op), *caller)
                      : std::visit([&](const auto& node) { return Apply(value, node); }, op.op);
    if (!result.ok()) {
      NoteErrorLine(op.line);
      return result.status();
    }
    value = *std::move(result);
  }
  return value;
}

absl::StatusOr<Value> Interpreter::CallWithCaller(const Value& function, const CallOp& op,
                                                  const Value& caller) {
  ASSIGN_OR_RETURN(Arguments arguments, EvalArguments(op.arguments));
  arguments.keyword.emplace_back("caller", caller);
  return Call(function, arguments);
}

absl::StatusOr<Value> Interpreter::Apply(const Value& value, const AttributeOp& op) {
  return GetAttribute(meter_, value, op.name);
}

absl::StatusOr<Value> Interpreter::Apply(const Value& value, const ItemOp& op) {
  ASSIGN_OR_RETURN(const Value key, Eval(*op.key));
  return GetItem(meter_, value, key);
}

absl::StatusOr<std::optional<int64_t>> Interpreter::EvalSliceBound(const ExprPtr& expr) {
  if (expr == nullptr) return std::optional<int64_t>();
  ASSIGN_OR_RETURN(const Value value, Eval(*expr));
  if (value.is_none()) return std::optional<int64_t>();
  if (value.is_integral()) return std::make_optional(value.as_int());
  return absl::InvalidArgumentError(
      absl::StrCat("slice indices must be integers or None, not ", value.type_name()));
}

absl::StatusOr<Value> Interpreter::Apply(const Value& value, const SliceOp& op) {
  SliceBounds bounds;
  ASSIGN_OR_RETURN(bounds.start, EvalSliceBound(op.start));
  ASSIGN_OR_RETURN(bounds.stop, EvalSliceBound(op.stop));
  ASSIGN_OR_RETURN(const std::optional<int64_t> step, EvalSliceBound(op.step));
  bounds.step = step.value_or(1);
  return GetSlice(meter_, value, bounds);
}

absl::StatusOr<Value> Interpreter::Apply(const Value& value, const CallOp& op) {
  ASSIGN_OR_RETURN(const Arguments arguments, EvalArguments(op.arguments));
  return Call(value, arguments);
}

absl::StatusOr<Value> Interpreter::Apply(const Value& value, const FilterOp& op) {
  ASSIGN_OR_RETURN(const Arguments arguments, EvalArguments(op.arguments));
  return CallFilter(op.name, value, arguments);
}

absl::StatusOr<Value> Interpreter::Apply(const Value& value, const TestOp& op) {
  ASSIGN_OR_RETURN(const Arguments arguments, EvalArguments(op.arguments));
  ASSIGN_OR_RETURN(const bool holds, CallTest(op.name, value, arguments));
  return Value::Bool(holds != op.negated);
}

absl::StatusOr<Value> Interpreter::Call(const Value& function, const Arguments& arguments) {
  if (function.is_undefined()) return absl::InvalidArgumentError(function.undefined_message());
  if (function.is_object()) return function.as_object().Call(*this, arguments);
  return absl::InvalidArgumentError(
      absl::StrCat("'", function.type_name(), "' object is not callable"));
}

absl::StatusOr<Arguments> Interpreter::EvalArguments(const CallArguments& arguments) {
  Arguments result;
  result.positional.reserve(arguments.positional.size());
  for (const ExprPtr& expr : arguments.positional) {
    ASSIGN_OR_RETURN(Value value, Eval(*expr));
    result.positional.push_back(std::move(value));
  }
  for (const auto& [name, expr] : arguments.keyword) {
    ASSIGN_OR_RETURN(Value value, Eval(*expr));
    result.keyword.emplace_back(name, std::move(value));
  }
  if (arguments.more_positional != nullptr) {
    ASSIGN_OR_RETURN(const Value more, Eval(*arguments.more_positional));
    ASSIGN_OR_RETURN(const SequencePtr items, Iterate(meter_, more));
    RETURN_IF_ERROR(meter_.Step(static_cast<int64_t>(items->items.size())));
    result.positional.insert(result.positional.end(), items->items.begin(), items->items.end());
  }
  if (arguments.more_keyword == nullptr) return result;
  ASSIGN_OR_RETURN(const Value more, Eval(*arguments.more_keyword));
  if (!more.is_dict()) {
    return absl::InvalidArgumentError(
        absl::StrCat("argument after ** must be a mapping, not ", more.type_name()));
  }
  for (const auto& [key, value] : more.as_dict().entries()) {
    const bool repeated = std::any_of(
        result.keyword.begin(), result.keyword.end(), [&key = key](const auto& keyword) {
          return key.is_string() && key.as_string().view() == keyword.first;
        });
    RETURN_IF_ERROR(meter_.Step(static_cast<int64_t>(result.keyword.size())));
    if (!key.is_string() || repeated) {
      return absl::InvalidArgumentError("keywords after ** must be strings, each given once");
    }
    result.keyword.emplace_back(key.as_string().bytes(), value);
  }
  return result;
}

}  // namespace moelight::jinja
