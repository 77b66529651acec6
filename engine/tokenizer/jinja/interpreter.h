// Interpreter: renders one template once.
//
// Threads: none; one Interpreter per rendering, over a tree that many may share. Ownership: borrows
// the tree; owns everything the rendering makes and frees it at its end, cycles included.
// Errors: InvalidArgument "chat template line N: ..." for what the template does wrong,
// ResourceExhausted with the same prefix when it goes over a limit. What raise_exception() says is
// an InvalidArgument of exactly that text.
#ifndef MOELIGHT_ENGINE_TOKENIZER_JINJA_INTERPRETER_H_
#define MOELIGHT_ENGINE_TOKENIZER_JINJA_INTERPRETER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "engine/tokenizer/jinja/ast.h"
#include "engine/tokenizer/jinja/runtime.h"
#include "engine/tokenizer/jinja/scope.h"

namespace moelight::jinja {

struct InterpreterLimits {
  int64_t max_steps = 0;
  int64_t max_value_bytes = 0;  // of the output, and of every value on the way
  int max_call_depth = 0;
};

class Interpreter : public Runtime {
 public:
  Interpreter(const InterpreterLimits& limits, absl::Time now);
  ~Interpreter() override;
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // Call once. `variables` are the globals of the template.
  absl::StatusOr<Str> Render(const Body& body, const Dict& variables);

  Meter& meter() override { return meter_; }
  absl::Time now() const override { return now_; }
  absl::StatusOr<Value> CallFilter(absl::string_view name, const Value& subject,
                                   const Arguments& arguments) override;
  absl::StatusOr<bool> CallTest(absl::string_view name, const Value& subject,
                                const Arguments& arguments) override;
  absl::StatusOr<Value> MakeNamespace(const Dict& attributes) override;
  void MarkRaised() override { raised_ = true; }

 private:
  class Macro;
  class Namespace;
  enum class Flow : uint8_t { kNormal, kBreak, kContinue };

  // Statements, in statements.cc. Each overload runs one kind and writes to *out_.
  absl::StatusOr<Flow> Run(const Body& body);
  absl::StatusOr<Flow> RunScoped(const Body& body);  // in a new scope
  absl::StatusOr<Flow> Run(const Stmt& statement);
  absl::StatusOr<Flow> Exec(const TextStmt& statement);
  absl::StatusOr<Flow> Exec(const OutputStmt& statement);
  absl::StatusOr<Flow> Exec(const IfStmt& statement);
  absl::StatusOr<Flow> Exec(const ForStmt& statement);
  absl::StatusOr<Flow> Exec(const SetStmt& statement);
  absl::StatusOr<Flow> Exec(const SetBlockStmt& statement);
  absl::StatusOr<Flow> Exec(const MacroStmt& statement);
  absl::StatusOr<Flow> Exec(const CallBlockStmt& statement);
  absl::StatusOr<Flow> Exec(const FilterBlockStmt& statement);
  absl::StatusOr<Flow> Exec(const WithStmt& statement);
  absl::StatusOr<Flow> Exec(const GenerationStmt& statement);
  absl::StatusOr<Flow> Exec(const LoopControlStmt& statement);
  absl::StatusOr<SequencePtr> WalkedItems(const ForStmt& loop);
  absl::Status Assign(const Target& target, const Value& value);
  absl::Status AssignAttribute(const Target& target, const Value& value);
  // What `body` writes, in a new scope, instead of writing it to *out_.
  absl::StatusOr<Str> Capture(const Body& body, Flow* flow);
  Value DefineMacro(const MacroStmt& macro);
  absl::StatusOr<Value> CallMacro(const Macro& macro, const Arguments& arguments);
  absl::Status BindParameters(const MacroStmt& macro, const Arguments& arguments);

  // Expressions, in expressions.cc.
  absl::StatusOr<Value> Eval(const Expr& expr);
  absl::StatusOr<Value> EvalNode(const LiteralExpr& expr);
  absl::StatusOr<Value> EvalNode(const NameExpr& expr);
  absl::StatusOr<Value> EvalNode(const ListExpr& expr);
  absl::StatusOr<Value> EvalNode(const DictExpr& expr);
  absl::StatusOr<Value> EvalNode(const UnaryExpr& expr);
  absl::StatusOr<Value> EvalNode(const BinaryExpr& expr);
  absl::StatusOr<Value> EvalNode(const LogicExpr& expr);
  absl::StatusOr<Value> EvalNode(const CompareExpr& expr);
  absl::StatusOr<Value> EvalNode(const ConditionalExpr& expr);
  absl::StatusOr<Value> EvalNode(const PostfixExpr& expr);
  // `caller`, unless null, goes to the last of `ops`, which is then a call.
  absl::StatusOr<Value> ApplyOps(Value value, const std::vector<PostfixOp>& ops,
                                 const Value* caller = nullptr);
  absl::StatusOr<Value> Apply(const Value& value, const AttributeOp& op);
  absl::StatusOr<Value> Apply(const Value& value, const ItemOp& op);
  absl::StatusOr<Value> Apply(const Value& value, const SliceOp& op);
  absl::StatusOr<Value> Apply(const Value& value, const CallOp& op);
  absl::StatusOr<Value> Apply(const Value& value, const FilterOp& op);
  absl::StatusOr<Value> Apply(const Value& value, const TestOp& op);
  absl::StatusOr<Value> Call(const Value& function, const Arguments& arguments);
  absl::StatusOr<Value> CallWithCaller(const Value& function, const CallOp& op,
                                       const Value& caller);
  absl::StatusOr<Arguments> EvalArguments(const CallArguments& arguments);
  absl::StatusOr<std::optional<int64_t>> EvalSliceBound(const ExprPtr& expr);
  Value Lookup(absl::string_view name) const;

  // The first call after an error decides on which line it happened.
  void NoteErrorLine(int line);
  absl::Status WithLine(const absl::Status& status) const;
  absl::Status ChargeNode();  // a step; an error too if this level is too deep

  const int max_call_depth_;
  const int max_depth_;  // of Eval and Run within each other, over all calls
  const absl::Time now_;
  Meter meter_;
  ScopePtr scope_;
  StrBuilder* out_ = nullptr;  // where statements write; Capture() moves it
  int depth_ = 0;
  int call_depth_ = 0;
  int error_line_ = 0;
  bool raised_ = false;
  // What could refer to itself: emptied in the destructor.
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  std::vector<ScopePtr> macro_scopes_;
};

}  // namespace moelight::jinja

#endif  // MOELIGHT_ENGINE_TOKENIZER_JINJA_INTERPRETER_H_
