// TlsCertificates: what listeners prove themselves with, replaceable while they run.
//
// Connections that are open keep what they began with; each new handshake takes what is in force.
// A replacement is checked before it is taken: a certificate without its key never reaches gRPC.
//
// Threads: thread-safe. Must outlive the servers that were built with its credentials.
// Errors: InvalidArgument naming the file.
#ifndef MOELIGHT_SERVER_TLS_CERTIFICATES_H_
#define MOELIGHT_SERVER_TLS_CERTIFICATES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/time/time.h>
#include <grpc/grpc_security.h>
#include <grpcpp/security/server_credentials.h>

#include "engine/base/mutex.h"
#include "server/config.h"

namespace moelight {

// The contents of the files, known to fit together.
struct TlsMaterial {
  std::string cert_chain;  // PEM
  std::string private_key;
  std::string client_ca;  // empty: clients show no certificate
  absl::Time expires;     // the server's certificate
};
absl::StatusOr<TlsMaterial> LoadTls(const TlsOptions& options);

class TlsCertificates {
 public:
  explicit TlsCertificates(TlsMaterial material);
  ~TlsCertificates();

  // For one listener.
  std::shared_ptr<grpc::ServerCredentials> MakeCredentials();
  // Whether clients show a certificate stays as it was at the start.
  void Replace(TlsMaterial material);
  absl::Time expires() const;

 private:
  struct Listener;
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* listener, grpc_ssl_server_certificate_config** config);

  const bool wants_client_certificate_;
  mutable Mutex mutex_;
  TlsMaterial material_ ABSL_GUARDED_BY(mutex_);
  int64_t version_ ABSL_GUARDED_BY(mutex_) = 1;
  std::vector<std::unique_ptr<Listener>> listeners_;  // gRPC has pointers to them
};

}  // namespace moelight

#endif  // MOELIGHT_SERVER_TLS_CERTIFICATES_H_
