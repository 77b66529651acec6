#include "server/admin_service.h"

#include <utility>

#include <absl/strings/str_cat.h>
#include <google/protobuf/util/time_util.h>

#include "server/config_keys.h"
#include "server/convert.h"

namespace moelight {
namespace {

constexpr int32_t kMaxGraceSeconds = 3600;
constexpr int32_t kDefaultTraceSteps = 16;
constexpr int32_t kMaxTraceSteps = 1000;

grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

absl::Status StillLoading() {
  return absl::UnavailableError("the model is being loaded, try again");
}

}  // namespace

v1::PlanPrediction ToProto(const PlanPrediction& prediction) {
  v1::PlanPrediction proto;
  proto.set_hardware(prediction.hardware);
  proto.set_mean_prompt_tokens(prediction.workload.mean_prompt_tokens);
  proto.set_max_prompt_tokens(prediction.workload.max_prompt_tokens);
  proto.set_num_output_tokens(prediction.workload.num_output_tokens);
  proto.set_num_sequences(prediction.num_sequences);
  proto.set_step_us(prediction.step_us);
  for (const Lane lane : kAllLanes) {
    v1::LaneTime& time = *proto.add_lanes();
    time.set_lane(std::string(LaneName(lane)));
    time.set_us(prediction.lane_us[static_cast<int>(lane)]);
  }
  proto.set_host_us(prediction.host_us);
  proto.set_bottleneck(prediction.bottleneck);
  proto.set_bound_us(prediction.bound_us);
  proto.set_tokens_per_s(prediction.tokens_per_s);
  proto.set_bound_tokens_per_s(prediction.bound_tokens_per_s);
  proto.set_joules_per_token(prediction.joules_per_token);
  for (const PlanPrediction::Alternative& alternative : prediction.alternatives) {
    v1::PlanAlternative& other = *proto.add_alternatives();
    other.set_what(alternative.what);
    other.set_tokens_per_s(alternative.tokens_per_s);
    other.set_is_available(alternative.is_available);
  }
  for (const PlanPrediction::TensorGroup& group : prediction.tensors) {
    v1::TensorGroup& tensors = *proto.add_tensors();
    tensors.set_name(group.name);
    tensors.set_place(group.place);
    tensors.set_bytes(group.bytes);
  }
  return proto;
}

v1::GetPlanResponse ToProto(const PlanInfo& plan) {
  v1::GetPlanResponse proto;
  proto.set_schedule(plan.schedule);
  proto.set_max_running_sequences(plan.max_running_sequences);
  proto.set_max_step_tokens(plan.max_step_tokens);
  proto.set_num_micro_batches(plan.num_micro_batches);
  proto.set_kv_format(plan.kv_format);
  proto.set_kv_page_tokens(plan.kv_page_tokens);
  proto.set_num_kv_pages(plan.num_kv_pages);
  proto.set_weight_page_bytes(plan.weight_page_bytes);
  proto.set_num_weight_pages(plan.num_weight_pages);
  proto.set_num_resident_weight_pages(plan.num_resident_weight_pages);
  proto.set_num_ring_slots(plan.num_ring_slots);
  proto.set_host_memory_pinned(plan.host_memory_pinned);
  proto.set_probed_h2d_bytes_per_s(plan.probed_h2d_bytes_per_s);
  for (const MemoryUse& use : plan.memory) {
    v1::MemoryUse& memory = *proto.add_memory();
    memory.set_tier(use.tier);
    memory.set_tag(use.tag);
    memory.set_bytes(use.bytes);
  }
  if (plan.prediction.has_value()) *proto.mutable_prediction() = ToProto(*plan.prediction);
  return proto;
}

namespace {

// What the configuration leaves to the policy has its value once there is a plan.
int64_t ValueInForce(const v1::Limit& limit, const Config& config, const PlanInfo& plan) {
  if (limit.key() == "server.limits.rows_in_flight") {
    return RowsInFlight(config, plan.max_running_sequences);
  }
  if (limit.key() == "engine.max_running_sequences") return plan.max_running_sequences;
  if (limit.key() == "engine.max_step_tokens") return plan.max_step_tokens;
  return limit.value();
}

}  // namespace

AdminServiceImpl::AdminServiceImpl(AdminServiceOptions options) : options_(std::move(options)) {
  info_.set_version(options_.version);
  *info_.mutable_start_time() = google::protobuf::util::TimeUtil::GetCurrentTime();
  SetConfig(options_.config);
}

void AdminServiceImpl::SetConfig(const Config& config) {
  MutexLock lock(&mutex_);
  config_ = config;
  info_.set_effective_config_yaml(EffectiveConfigYaml(config));
  info_.clear_limits();
  for (const ConfigKey& key : ConfigKeys()) {
    const std::optional<int64_t> value = ConfigLimit(key, config);
    if (!value.has_value()) continue;
    v1::Limit& limit = *info_.add_limits();
    limit.set_key(std::string(key.path));
    limit.set_value(*value);
  }
}

grpc::ServerUnaryReactor* AdminServiceImpl::GetServerInfo(
    grpc::CallbackServerContext* context, const v1::GetServerInfoRequest* /*request*/,
    v1::GetServerInfoResponse* response) {
  if (absl::Status status = options_.access.AuthenticateAdmin(*context); !status.ok()) {
    return Finish(context, status);
  }
  MutexLock lock(&mutex_);
  *response = info_;
  // While the model is loading the rest is worth having.
  if (const Engine* engine = options_.admission.engine(); engine != nullptr) {
    *response->mutable_model() = ToProto(engine->model());
    response->set_backend(engine->plan().backend);
    for (v1::Limit& limit : *response->mutable_limits()) {
      limit.set_value(ValueInForce(limit, config_, engine->plan()));
    }
  }
  return Finish(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* AdminServiceImpl::GetPlan(grpc::CallbackServerContext* context,
                                                    const v1::GetPlanRequest* /*request*/,
                                                    v1::GetPlanResponse* response) {
  if (absl::Status status = options_.access.AuthenticateAdmin(*context); !status.ok()) {
    return Finish(context, status);
  }
  const Engine* engine = options_.admission.engine();
  if (engine == nullptr) return Finish(context, StillLoading());
  *response = ToProto(engine->plan());
  return Finish(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* AdminServiceImpl::StartTrace(grpc::CallbackServerContext* context,
                                                       const v1::StartTraceRequest* request,
                                                       v1::StartTraceResponse* /*response*/) {
  if (absl::Status status = options_.access.AuthenticateAdmin(*context); !status.ok()) {
    return Finish(context, status);
  }
  if (request->num_steps() < 0 || request->num_steps() > kMaxTraceSteps) {
    return Finish(context, absl::InvalidArgumentError(absl::StrCat(
                               "num_steps: ", request->num_steps(), " is out of range: 1 to ",
                               kMaxTraceSteps, ", 0 for ", kDefaultTraceSteps)));
  }
  Engine* engine = options_.admission.engine();
  if (engine == nullptr) return Finish(context, StillLoading());
  engine->StartTrace(request->num_steps() == 0 ? kDefaultTraceSteps : request->num_steps());
  return Finish(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* AdminServiceImpl::StopTrace(grpc::CallbackServerContext* context,
                                                      const v1::StopTraceRequest* /*request*/,
                                                      v1::StopTraceResponse* response) {
  if (absl::Status status = options_.access.AuthenticateAdmin(*context); !status.ok()) {
    return Finish(context, status);
  }
  Engine* engine = options_.admission.engine();
  if (engine == nullptr) return Finish(context, StillLoading());
  absl::StatusOr<std::string> trace = engine->StopTrace();
  if (!trace.ok()) return Finish(context, trace.status());
  const int64_t limit_bytes = options_.config.rpc_limits.message_bytes;
  if (static_cast<int64_t>(trace->size()) > limit_bytes) {
    return Finish(context, absl::ResourceExhaustedError(absl::StrCat(
                               "the trace has ", trace->size(), " bytes, one message may have ",
                               limit_bytes, " (server.limits.message_bytes); record fewer steps")));
  }
  response->set_trace_json(*std::move(trace));
  return Finish(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* AdminServiceImpl::Drain(grpc::CallbackServerContext* context,
                                                  const v1::DrainRequest* request,
                                                  v1::DrainResponse* /*response*/) {
  if (absl::Status status = options_.access.AuthenticateAdmin(*context); !status.ok()) {
    return Finish(context, status);
  }
  if (request->grace_seconds() < 0 || request->grace_seconds() > kMaxGraceSeconds) {
    return Finish(context, absl::InvalidArgumentError(
                               absl::StrCat("grace_seconds: ", request->grace_seconds(),
                                            " is out of range: 0 to ", kMaxGraceSeconds)));
  }
  options_.logger.Info("drain",
                       {{"peer", context->peer()}, {"grace_seconds", request->grace_seconds()}});
  options_.admission.StartDraining();
  options_.on_drain(request->grace_seconds());
  return Finish(context, absl::OkStatus());
}

}  // namespace moelight
