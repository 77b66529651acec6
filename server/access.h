// Access: who calls, what they may see, and how many streams they have open.
//
// Without server.tenants nobody is asked and everybody sees everything. With it every call carries
// the metadata "authorization: Bearer KEY"; the key's tenant is the client of the jobs it makes,
// and a job of another tenant is as good as absent.
//
// Threads: all of it is thread-safe; nothing blocks. A Caller may outlive the Access.
// Errors: Unauthenticated without a key that is in force, PermissionDenied for AdminService without
// an admin's, ResourceExhausted over a tenant's quota of streams.
#ifndef MOELIGHT_SERVER_ACCESS_H_
#define MOELIGHT_SERVER_ACCESS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <grpcpp/server_context.h>

#include "engine/base/mutex.h"
#include "moelight/v1/batch_job.pb.h"
#include "server/job_store.h"
#include "server/tenants.h"

namespace moelight {

// Who makes a call. A stream keeps its Caller and lets `stream` go right before it finishes: a
// client that has seen the end of one may open the next.
struct Caller {
  std::string tenant;            // empty: nobody is asked
  bool sees_all = true;          // an admin, or nobody is asked
  std::shared_ptr<void> stream;  // counts among the tenant's open streams while it lives

  bool Sees(const v1::BatchJob& job) const { return sees_all || job.client() == tenant; }
  // The only client whose jobs are seen; null: all.
  const std::string* only_client() const { return sees_all ? nullptr : &tenant; }
};

class Access {
 public:
  using OnReject = std::function<void(absl::string_view reason)>;  // must not block
  Access(std::optional<Tenants> tenants, OnReject on_reject);

  bool is_required() const { return is_required_; }
  absl::StatusOr<Caller> Authenticate(const grpc::CallbackServerContext& context) const;
  // The same for a call that stays open, within the tenant's quota.
  absl::StatusOr<Caller> AuthenticateStream(const grpc::CallbackServerContext& context);
  absl::Status AuthenticateAdmin(const grpc::CallbackServerContext& context) const;

  // New keys and quotas hold for the calls that begin after it. REQUIRES: is_required().
  void Replace(Tenants tenants);

 private:
  std::shared_ptr<const Tenants> tenants() const;
  // The tenant lives as long as `tenants`. Null: nobody is asked.
  absl::StatusOr<const Tenant*> FindTenant(const Tenants& tenants,
                                           const grpc::CallbackServerContext& context) const;

  const bool is_required_;
  const OnReject on_reject_;
  mutable Mutex mutex_;
  std::shared_ptr<const Tenants> tenants_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, std::shared_ptr<std::atomic<int32_t>>> num_streams_
      ABSL_GUARDED_BY(mutex_);  // by tenant
};

// The job, if the caller may see it. NotFound in the same words whether it is absent or another's.
absl::StatusOr<v1::BatchJob> FindJob(const JobStore& store, const Caller& caller,
                                     const std::string& job_id);

}  // namespace moelight

#endif  // MOELIGHT_SERVER_ACCESS_H_
