#include "server/access.h"

#include <utility>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>

#include "engine/base/status_macros.h"
#include "server/admission.h"
#include "server/store/store_errors.h"

namespace moelight {
namespace {

// gRPC has the names of metadata in lower case.
constexpr char kKeyMetadata[] = "authorization";
constexpr absl::string_view kScheme = "Bearer ";

// The key that the call carries; empty: none, or several.
absl::string_view KeyOf(const grpc::CallbackServerContext& context) {
  const auto [begin, end] = context.client_metadata().equal_range(kKeyMetadata);
  if (begin == end || std::next(begin) != end) return "";
  const absl::string_view value(begin->second.data(), begin->second.size());
  return absl::StartsWithIgnoreCase(value, kScheme) ? value.substr(kScheme.size())
                                                    : absl::string_view();
}

}  // namespace

Access::Access(std::optional<Tenants> tenants, OnReject on_reject)
    : is_required_(tenants.has_value()), on_reject_(std::move(on_reject)) {
  if (is_required_) tenants_ = std::make_shared<const Tenants>(*std::move(tenants));
}

std::shared_ptr<const Tenants> Access::tenants() const {
  MutexLock lock(&mutex_);
  return tenants_;
}

absl::StatusOr<const Tenant*> Access::FindTenant(const Tenants& tenants,
                                                 const grpc::CallbackServerContext& context) const {
  const absl::string_view key = KeyOf(context);
  const Tenant* tenant = tenants.Find(key);
  if (tenant != nullptr) return tenant;
  on_reject_(kRejectUnauthenticated);
  return absl::UnauthenticatedError(
      key.empty() ? "an API key is needed: send the metadata \"authorization: Bearer KEY\""
                  : "the API key is not one of this server's");
}

absl::StatusOr<Caller> Access::Authenticate(const grpc::CallbackServerContext& context) const {
  if (!is_required_) return Caller();
  const std::shared_ptr<const Tenants> all = tenants();
  ASSIGN_OR_RETURN(const Tenant* tenant, FindTenant(*all, context));
  return Caller{tenant->name, tenant->is_admin, nullptr};
}

absl::StatusOr<Caller> Access::AuthenticateStream(const grpc::CallbackServerContext& context) {
  if (!is_required_) return Caller();
  const std::shared_ptr<const Tenants> all = tenants();
  ASSIGN_OR_RETURN(const Tenant* tenant, FindTenant(*all, context));
  Caller caller{tenant->name, tenant->is_admin, nullptr};
  std::shared_ptr<std::atomic<int32_t>> count;
  {
    MutexLock lock(&mutex_);
    std::shared_ptr<std::atomic<int32_t>>& entry = num_streams_[tenant->name];
    if (entry == nullptr) entry = std::make_shared<std::atomic<int32_t>>(0);
    count = entry;
  }
  caller.stream = std::shared_ptr<void>(nullptr, [count](void*) { count->fetch_sub(1); });
  const int32_t num_open = count->fetch_add(1) + 1;
  if (tenant->max_streams == 0 || num_open <= tenant->max_streams) return caller;
  on_reject_(kRejectLimit);
  return LimitError({"the quota streams", tenant->max_streams, num_open,
                     absl::StrCat("tenant ", tenant->name), /*passes=*/true});
}

absl::Status Access::AuthenticateAdmin(const grpc::CallbackServerContext& context) const {
  ASSIGN_OR_RETURN(const Caller caller, Authenticate(context));
  if (caller.sees_all) return absl::OkStatus();
  on_reject_(kRejectForbidden);
  return absl::PermissionDeniedError(
      absl::StrCat("tenant ", caller.tenant, " is not an admin (server.tenants)"));
}

void Access::Replace(Tenants tenants) {
  auto replacement = std::make_shared<const Tenants>(std::move(tenants));
  MutexLock lock(&mutex_);
  tenants_ = std::move(replacement);
}

absl::StatusOr<v1::BatchJob> FindJob(const JobStore& store, const Caller& caller,
                                     const std::string& job_id) {
  ASSIGN_OR_RETURN(v1::BatchJob job, store.Get(job_id));
  if (!caller.Sees(job)) return NoJobError(job_id);
  return job;
}

}  // namespace moelight
