#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include "client/commands/command.h"
#include "client/render.h"
#include "engine/base/status_macros.h"

namespace moelight::client {
namespace {

nlohmann::ordered_json InfoJson(const v1::GetServerInfoResponse& info, absl::string_view server) {
  nlohmann::ordered_json limits = nlohmann::ordered_json::object();
  for (const v1::Limit& limit : info.limits()) limits[limit.key()] = limit.value();
  const v1::ModelInfo& model = info.model();
  return {{"server", server},
          {"version", info.version()},
          {"backend", info.backend()},
          {"start_time",
           absl::FormatTime(absl::RFC3339_sec, absl::FromUnixSeconds(info.start_time().seconds()),
                            absl::UTCTimeZone())},
          {"model",
           {{"name", model.name()},
            {"architecture", model.architecture()},
            {"num_parameters", model.num_parameters()},
            {"num_active_parameters", model.num_active_parameters()},
            {"vocab_size", model.vocab_size()},
            {"max_model_len", model.max_model_len()},
            {"has_chat_template", model.has_chat_template()}}},
          {"limits", std::move(limits)},
          {"effective_config_yaml", info.effective_config_yaml()}};
}

std::string InfoTable(const v1::GetServerInfoResponse& info, absl::string_view server) {
  const v1::ModelInfo& model = info.model();
  const absl::Duration up = absl::Now() - absl::FromUnixSeconds(info.start_time().seconds());
  std::vector<std::vector<std::string>> rows = {
      {"server", absl::StrCat(server, ", moelightd ", info.version(), ", up for ", ClockTime(up))},
      {"backend", info.backend()},
      {"model", absl::StrCat(model.name(), " (", model.architecture(), ")")},
      {"parameters", absl::StrCat(WithCommas(model.num_parameters()), ", ",
                                  WithCommas(model.num_active_parameters()), " active per token")},
      {"context", absl::StrCat(WithCommas(model.max_model_len()), " tokens, vocabulary ",
                               WithCommas(model.vocab_size()))},
      {"chat", model.has_chat_template() ? "yes, the model has a chat template"
                                         : "no, the model has no chat template"}};
  for (const v1::Limit& limit : info.limits()) {
    rows.push_back({limit.key(), WithCommas(limit.value())});
  }
  return Table(rows);
}

absl::StatusOr<ExitCode> Run(CommandContext& context) {
  ASSIGN_OR_RETURN(v1::GetServerInfoResponse info,
                   context.client.ServerInfo(context.environment.stop));
  const std::string& server = context.client.options().admin_server;
  std::ostream& out = context.environment.out;
  if (context.json) {
    out << ToLine(InfoJson(info, server)) << "\n";
  } else if (context.args.Has("config")) {
    out << info.effective_config_yaml() << "\n";
  } else {
    out << InfoTable(info, server);
  }
  return kDone;
}

}  // namespace

Command InfoCommand() {
  return {.name = "info",
          .synopsis = "[--config]",
          .summary = "show the server's version, model and limits",
          .details = "",
          .options = {{"config", '\0', "", "the configuration in force instead, as YAML"}},
          .min_positionals = 0,
          .max_positionals = 0,
          .run = Run};
}

}  // namespace moelight::client
