// The statement half of the Interpreter.
#include <utility>

#include <absl/strings/str_cat.h>

#include "engine/base/status_macros.h"
#include "engine/tokenizer/jinja/interpreter.h"
#include "engine/tokenizer/jinja/interpreter_objects.h"
#include "engine/tokenizer/jinja/loop.h"
#include "engine/tokenizer/jinja/printing.h"

namespace moelight::jinja {

absl::StatusOr<Interpreter::Flow> Interpreter::Run(const Body& body) {
  for (const Stmt& statement : body) {
    ASSIGN_OR_RETURN(const Flow flow, Run(statement));
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunScoped(const Body& body) {
  const ScopePtr outer = scope_;
  scope_ = std::make_shared<Scope>(outer);
  absl::StatusOr<Flow> flow = Run(body);
  scope_ = outer;
  return flow;
}

absl::StatusOr<Interpreter::Flow> Interpreter::Run(const Stmt& statement) {
  ++depth_;
  absl::StatusOr<Flow> flow = Flow::kNormal;
  if (absl::Status status = ChargeNode(); !status.ok()) {
    flow = std::move(status);
  } else {
    flow = std::visit([this](const auto& node) { return Exec(node); }, statement.node);
  }
  --depth_;
  if (!flow.ok()) NoteErrorLine(statement.line);
  return flow;
}

// --- Output
// ---------------------------------------------------------------------------------------

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const TextStmt& statement) {
  out_->Append(statement.text);
  if (out_->overflown()) return meter_.ValueTooLarge();
  return Flow::kNormal;
}

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const OutputStmt& statement) {
  for (const ExprPtr& expr : statement.values) {
    ASSIGN_OR_RETURN(const Value value, Eval(*expr));
    ASSIGN_OR_RETURN(const Str text, Text(meter_, value));
    out_->Append(text);
    if (out_->overflown()) return meter_.ValueTooLarge();
  }
  return Flow::kNormal;
}

absl::StatusOr<Str> Interpreter::Capture(const Body& body, Flow* flow) {
  StrBuilder captured(&meter_);
  StrBuilder* const outer = std::exchange(out_, &captured);
  const absl::StatusOr<Flow> result = RunScoped(body);
  out_ = outer;
  if (!result.ok()) return result.status();
  *flow = *result;
  return captured.Build();
}

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const FilterBlockStmt& statement) {
  Flow flow = Flow::kNormal;
  ASSIGN_OR_RETURN(Str text, Capture(statement.body, &flow));
  if (flow != Flow::kNormal) return flow;
  ASSIGN_OR_RETURN(const Value filtered,
                   ApplyOps(Value::String(std::move(text)), statement.filters));
  ASSIGN_OR_RETURN(const Str output, Text(meter_, filtered));
  out_->Append(output);
  if (out_->overflown()) return meter_.ValueTooLarge();
  return Flow::kNormal;
}

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const GenerationStmt& statement) {
  return RunScoped(statement.body);
}

// --- Control
// ----------------------------------------------------------------------------------------

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const IfStmt& statement) {
  for (const auto& [condition, body] : statement.branches) {
    ASSIGN_OR_RETURN(const Value value, Eval(*condition));
    if (Truthy(value)) return Run(body);
  }
  return Run(statement.otherwise);
}

absl::StatusOr<SequencePtr> Interpreter::WalkedItems(const ForStmt& loop) {
  ASSIGN_OR_RETURN(const Value iterable, Eval(*loop.iterable));
  ASSIGN_OR_RETURN(SequencePtr items, Iterate(meter_, iterable));
  if (loop.condition == nullptr) return items;
  auto filtered = std::make_shared<Sequence>();
  filtered->depth = items->depth;
  const ScopePtr outer = scope_;
  for (const Value& item : items->items) {
    scope_ = std::make_shared<Scope>(outer);
    RETURN_IF_ERROR(Assign(loop.target, item));
    ASSIGN_OR_RETURN(const Value wanted, Eval(*loop.condition));
    if (Truthy(wanted)) filtered->items.push_back(item);
  }
  scope_ = outer;
  return SequencePtr(std::move(filtered));
}

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const ForStmt& statement) {
  ASSIGN_OR_RETURN(const SequencePtr items, WalkedItems(statement));
  if (items->items.empty()) return RunScoped(statement.otherwise);
  const ScopePtr outer = scope_;
  const auto loop = std::make_shared<Loop>(items);
  for (size_t i = 0; i < items->items.size(); ++i) {
    RETURN_IF_ERROR(meter_.Step());
    scope_ = std::make_shared<Scope>(outer);
    loop->Advance(i);
    scope_->Set("loop", Value::Of(ObjectPtr(loop)));
    RETURN_IF_ERROR(Assign(statement.target, items->items[i]));
    ASSIGN_OR_RETURN(const Flow flow, Run(statement.body));
    if (flow == Flow::kBreak) break;
  }
  scope_ = outer;
  return Flow::kNormal;
}

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const LoopControlStmt& statement) {
  return statement.is_break ? Flow::kBreak : Flow::kContinue;
}

// --- Assignment
// -------------------------------------------------------------------------------------

absl::Status Interpreter::AssignAttribute(const Target& target, const Value& value) {
  const Value owner = Lookup(target.name);
  auto* const object = owner.is_object() ? dynamic_cast<Namespace*>(&owner.as_object()) : nullptr;
  if (object == nullptr) {
    return absl::InvalidArgumentError("cannot assign attribute on non-namespace object");
  }
  object->Set(target.attribute, value);
  return absl::OkStatus();
}

absl::Status Interpreter::Assign(const Target& target, const Value& value) {
  if (!target.attribute.empty()) return AssignAttribute(target, value);
  if (!target.name.empty()) {
    scope_->Set(target.name, value);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const SequencePtr items, Iterate(meter_, value));
  if (items->items.size() != target.items.size()) {
    const bool too_many = items->items.size() > target.items.size();
    return absl::InvalidArgumentError(
        absl::StrCat(too_many ? "too many" : "not enough", " values to unpack (expected ",
                     target.items.size(), ", got ", items->items.size(), ")"));
  }
  for (size_t i = 0; i < target.items.size(); ++i) {
    RETURN_IF_ERROR(Assign(target.items[i], items->items[i]));
  }
  return absl::OkStatus();
}

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const SetStmt& statement) {
  ASSIGN_OR_RETURN(const Value value, Eval(*statement.value));
  RETURN_IF_ERROR(Assign(statement.target, value));
  return Flow::kNormal;
}

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const SetBlockStmt& statement) {
  Flow flow = Flow::kNormal;
  ASSIGN_OR_RETURN(Str text, Capture(statement.body, &flow));
  if (flow != Flow::kNormal) return flow;
  ASSIGN_OR_RETURN(const Value value, ApplyOps(Value::String(std::move(text)), statement.filters));
  RETURN_IF_ERROR(Assign(statement.target, value));
  return Flow::kNormal;
}

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const WithStmt& statement) {
  std::vector<Value> values;
  for (const auto& assignment : statement.assignments) {
    ASSIGN_OR_RETURN(Value value, Eval(*assignment.second));
    values.push_back(std::move(value));
  }
  const ScopePtr outer = scope_;
  scope_ = std::make_shared<Scope>(outer);
  for (size_t i = 0; i < values.size(); ++i) {
    RETURN_IF_ERROR(Assign(statement.assignments[i].first, values[i]));
  }
  absl::StatusOr<Flow> flow = Run(statement.body);
  scope_ = outer;
  return flow;
}

// --- Macros
// -----------------------------------------------------------------------------------------

Value Interpreter::DefineMacro(const MacroStmt& macro) {
  if (macro_scopes_.empty() || macro_scopes_.back() != scope_) macro_scopes_.push_back(scope_);
  return Value::Of(ObjectPtr(std::make_shared<Macro>(this, &macro, scope_)));
}

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const MacroStmt& statement) {
  scope_->Set(statement.name, DefineMacro(statement));
  return Flow::kNormal;
}

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const CallBlockStmt& statement) {
  const auto& call = std::get<PostfixExpr>(statement.call->node);
  const Value caller = DefineMacro(statement.caller);
  ASSIGN_OR_RETURN(Value function, Eval(*call.base));
  ASSIGN_OR_RETURN(const Value result, ApplyOps(std::move(function), call.ops, &caller));
  ASSIGN_OR_RETURN(const Str text, Text(meter_, result));
  out_->Append(text);
  if (out_->overflown()) return meter_.ValueTooLarge();
  return Flow::kNormal;
}

absl::Status Interpreter::BindParameters(const MacroStmt& macro, const Arguments& arguments) {
  const size_t num_positional = std::min(arguments.positional.size(), macro.parameters.size());
  if (num_positional < arguments.positional.size() && !macro.takes_varargs) {
    return absl::InvalidArgumentError(absl::StrCat("macro ", QuoteText(macro.name),
                                                   " takes not more than ", macro.parameters.size(),
                                                   " argument(s)"));
  }
  scope_->Set("caller", Value::Undefined("No caller defined"));
  std::vector<const Value*> values(macro.parameters.size(), nullptr);
  for (size_t i = 0; i < num_positional; ++i) values[i] = &arguments.positional[i];
  Dict kwargs;
  for (const auto& [name, value] : arguments.keyword) {
    size_t at = num_positional;
    while (at < values.size() && macro.parameters[at].name != name) ++at;
    if (at < values.size()) {
      values[at] = &value;
    } else if (name == "caller") {
      scope_->Set(name, value);
    } else if (macro.takes_kwargs) {
      RETURN_IF_ERROR(kwargs.Set(Value::Literal(name), value));
    } else {
      return absl::InvalidArgumentError(absl::StrCat(
          "macro ", QuoteText(macro.name), " takes no keyword argument ", QuoteText(name)));
    }
  }
  if (macro.takes_kwargs) {
    scope_->Set("kwargs", Value::Of(DictPtr(std::make_shared<Dict>(std::move(kwargs)))));
  }
  if (macro.takes_varargs) {
    ASSIGN_OR_RETURN(Value varargs, MakeTuple(meter_, {arguments.positional.begin() +
                                                           static_cast<int64_t>(num_positional),
                                                       arguments.positional.end()}));
    scope_->Set("varargs", std::move(varargs));
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    Value value = Value::Undefined(
        absl::StrCat("parameter ", QuoteText(parameter.name), " was not provided"));
    if (values[i] != nullptr) {
      value = *values[i];
    } else if (parameter.unset != nullptr) {
      ASSIGN_OR_RETURN(value, Eval(*parameter.unset));
    }
    scope_->Set(parameter.name, std::move(value));
  }
  return absl::OkStatus();
}

absl::StatusOr<Value> Interpreter::CallMacro(const Macro& macro, const Arguments& arguments) {
  if (call_depth_ >= max_call_depth_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("macro calls are nested deeper than the limit of ", max_call_depth_));
  }
  ++call_depth_;
  const ScopePtr outer = std::exchange(scope_, std::make_shared<Scope>(macro.scope()));
  Flow flow = Flow::kNormal;
  absl::StatusOr<Str> text = Str();
  const absl::Status bound = BindParameters(macro.definition(), arguments);
  if (bound.ok()) text = Capture(macro.definition().body, &flow);
  scope_ = outer;
  --call_depth_;
  RETURN_IF_ERROR(bound);
  if (!text.ok()) return text.status();
  return Value::String(*std::move(text));
}

}  // namespace moelight::jinja
