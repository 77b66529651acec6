#include "server/rpc_metrics.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/strip.h>
#include <google/protobuf/descriptor.h>

namespace moelight {
namespace {

constexpr char kOther[] = "other";

// gRPC brings this service without descriptors.
constexpr char kHealthService[] = "grpc.health.v1.Health";

bool IsKnown(absl::string_view path) {  // "package.Service/Method"
  if (std::count(path.begin(), path.end(), '/') != 1) return false;
  for (const char* method : {"Check", "Watch"}) {
    if (path == absl::StrCat(kHealthService, "/", method)) return true;
  }
  return google::protobuf::DescriptorPool::generated_pool()->FindMethodByName(
             absl::StrReplaceAll(path, {{"/", "."}})) != nullptr;
}

// One for each call, from before its handler starts until the call's last object is gone. gRPC
// never runs two hooks of a call at once.
class RpcMetrics final : public grpc::experimental::Interceptor {
 public:
  RpcMetrics(Metrics& metrics, std::string method)
      : metrics_(metrics), method_(std::move(method)), start_(std::chrono::steady_clock::now()) {
    metrics_.AddRpcInFlight(method_, 1);
  }

  ~RpcMetrics() override {
    // A connection that broke before there was a status.
    if (!is_counted_) Count(absl::StatusCode::kCancelled);
    metrics_.AddRpcInFlight(method_, -1);
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using Point = grpc::experimental::InterceptionHookPoints;
    if (!is_counted_ && methods->QueryInterceptionHookPoint(Point::PRE_SEND_STATUS)) {
      Count(static_cast<absl::StatusCode>(methods->GetSendStatus().error_code()));
    }
    methods->Proceed();
  }

 private:
  void Count(absl::StatusCode code) {
    is_counted_ = true;
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
    metrics_.ObserveRpc(method_, code, seconds.count());
  }

  Metrics& metrics_;
  const std::string method_;
  const std::chrono::steady_clock::time_point start_;
  bool is_counted_ = false;
};

class RpcMetricsFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit RpcMetricsFactory(Metrics& metrics) : metrics_(metrics) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    return new RpcMetrics(metrics_, RpcMethodLabel(info->method()));
  }

 private:
  Metrics& metrics_;
};

}  // namespace

std::string RpcMethodLabel(absl::string_view path) {
  path = absl::StripPrefix(path, "/");
  if (!IsKnown(path)) return kOther;
  const size_t package_end = path.substr(0, path.find('/')).rfind('.');
  return std::string(path.substr(package_end + 1));
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeRpcMetrics(
    Metrics& metrics) {
  return std::make_unique<RpcMetricsFactory>(metrics);
}

}  // namespace moelight
