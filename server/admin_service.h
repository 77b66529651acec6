// AdminService: what the daemon is and does, step traces, and draining it.
//
// Threads: gRPC's callback threads. Borrows everything in its options.
#ifndef MOELIGHT_SERVER_ADMIN_SERVICE_H_
#define MOELIGHT_SERVER_ADMIN_SERVICE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "engine/base/logger.h"
#include "engine/base/mutex.h"
#include "engine/engine.h"
#include "moelight/v1/admin.grpc.pb.h"
#include "server/access.h"
#include "server/admission.h"
#include "server/config.h"

namespace moelight {

struct AdminServiceOptions {
  Access& access;
  Admission& admission;
  Logger& logger;
  Config config;
  std::string version;
  // Begins the drain; called on a gRPC thread, must not block.
  std::function<void(int32_t grace_seconds)> on_drain;
};

v1::GetPlanResponse ToProto(const PlanInfo& plan);

class AdminServiceImpl final : public v1::AdminService::CallbackService {
 public:
  explicit AdminServiceImpl(AdminServiceOptions options);

  // What GetServerInfo tells from now on, after a reload.
  void SetConfig(const Config& config);

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest* request,
                                          v1::GetServerInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetPlan(grpc::CallbackServerContext* context,
                                    const v1::GetPlanRequest* request,
                                    v1::GetPlanResponse* response) override;
  grpc::ServerUnaryReactor* StartTrace(grpc::CallbackServerContext* context,
                                       const v1::StartTraceRequest* request,
                                       v1::StartTraceResponse* response) override;
  grpc::ServerUnaryReactor* StopTrace(grpc::CallbackServerContext* context,
                                      const v1::StopTraceRequest* request,
                                      v1::StopTraceResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;

 private:
  const AdminServiceOptions options_;
  Mutex mutex_;
  Config config_ ABSL_GUARDED_BY(mutex_);
  // Without what is known once the model is loaded.
  v1::GetServerInfoResponse info_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_ADMIN_SERVICE_H_
