#include <iterator>
#include <utility>

#include "client/commands/command.h"
#include "client/render.h"
#include "client/sampling_options.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

absl::StatusOr<bool> WantsChat(CommandContext& context) {
  const ParsedArgs& args = context.args;
  if (args.Has("chat") && args.Has("text")) {
    return UsageError("--chat and --text exclude each other");
  }
  if (args.Has("text") && args.Has("system")) return UsageError("--system needs a chat");
  if (args.Has("text")) return false;
  if (args.Has("chat") || args.Has("system")) return true;
  ASSIGN_OR_RETURN(v1::GetModelResponse response, context.client.Model(context.environment.stop));
  return response.model().has_chat_template();
}

std::string ReadPrompt(CommandContext& context) {
  const std::string& prompt = context.args.positionals()[0];
  if (prompt != "-") return prompt;
  return std::string(std::istreambuf_iterator<char>(context.environment.in),
                     std::istreambuf_iterator<char>());
}

absl::StatusOr<v1::GenerateRequest> MakeRequest(CommandContext& context) {
  v1::GenerateRequest request;
  ASSIGN_OR_RETURN(*request.mutable_sampling(), ReadSamplingOptions(context.args));
  if (request.sampling().n() > 1 && !context.json) {
    return UsageError("--n above 1 needs --json: several answers cannot stream into one text");
  }
  ASSIGN_OR_RETURN(const bool chat, WantsChat(context));
  std::string prompt = ReadPrompt(context);
  if (!chat) {
    request.mutable_prompt()->set_text(std::move(prompt));
    return request;
  }
  v1::ChatPrompt& messages = *request.mutable_prompt()->mutable_chat();
  if (context.args.Has("system")) {
    v1::ChatMessage& system = *messages.add_messages();
    system.set_role("system");
    system.set_content(*context.args.Get("system"));
  }
  v1::ChatMessage& user = *messages.add_messages();
  user.set_role("user");
  user.set_content(std::move(prompt));
  return request;
}

nlohmann::ordered_json AnswerJson(const v1::GenerateResponse::Finished& answer) {
  nlohmann::ordered_json choices = nlohmann::ordered_json::array();
  for (const v1::Choice& choice : answer.choices()) {
    choices.push_back({{"index", choice.index()},
                       {"text", choice.text()},
                       {"token_ids", choice.token_ids()},
                       {"finish_reason", v1::FinishReason_Name(choice.finish_reason())},
                       {"stop_reason", choice.stop_reason()}});
  }
  return {{"choices", std::move(choices)},
          {"usage",
           {{"prompt_tokens", answer.usage().prompt_tokens()},
            {"completion_tokens", answer.usage().completion_tokens()}}}};
}

absl::StatusOr<ExitCode> Run(CommandContext& context) {
  ASSIGN_OR_RETURN(const v1::GenerateRequest request, MakeRequest(context));
  std::ostream& out = context.environment.out;
  bool wrote_text = false;
  const absl::StatusOr<v1::GenerateResponse::Finished> answer = context.client.Generate(
      request,
      [&](const v1::GenerateResponse::Delta& delta) {
        if (context.json) return;
        out << delta.text() << std::flush;
        wrote_text = true;
      },
      context.environment.stop);
  // An answer that broke off must not share its line with the error.
  if (wrote_text) out << std::endl;
  RETURN_IF_ERROR(answer.status());
  if (context.json) out << ToLine(AnswerJson(*answer)) << "\n";
  return kDone;
}

}  // namespace

Command GenerateCommand() {
  return {.name = "generate",
          .synopsis = "PROMPT [--chat | --text] [--max-tokens N] ...",
          .summary = "answer one prompt, printed as it is generated",
          .details =
              "PROMPT is a user's message if the model has a chat template and plain text "
              "otherwise; \"-\"\nreads it from standard input. With --json the whole answer "
              "is printed at the end.",
          .options = WithSamplingOptions(
              {{"chat", '\0', "", "send the prompt as a chat message"},
               {"text", '\0', "", "send the prompt as plain text, to be continued"},
               {"system", '\0', "TEXT", "a system message before it; implies --chat"}}),
          .min_positionals = 1,
          .max_positionals = 1,
          .run = Run};
}

}  // namespace moelight::client
