#include "server/tls_certificates.h"

#include <ctime>
#include <utility>

#include <absl/strings/str_cat.h>
#include <grpc/grpc.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "engine/base/status_macros.h"
#include "server/text_file.h"

namespace moelight {
namespace {

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* value) const {
    Free(value);
  }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;

Bio BioOf(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// A daemon has nobody to ask for a passphrase.
int NoPassphrase(char*, int, int, void*) { return -1; }

absl::StatusOr<Certificate> FirstCertificate(const std::string& pem, const std::string& file) {
  const Bio bio = BioOf(pem);
  Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr));
  if (certificate == nullptr) {
    ERR_clear_error();
    return absl::InvalidArgumentError(absl::StrCat(file, ": holds no PEM certificate"));
  }
  return certificate;
}

absl::StatusOr<absl::Time> ExpiryOf(const X509& certificate, const std::string& file) {
  std::tm time = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &time) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": the certificate has no end of validity"));
  }
  return absl::FromTM(time, absl::UTCTimeZone());
}

// gRPC's credentials over a C object of its public API.
class Credentials final : public grpc::ServerCredentials {
 public:
  explicit Credentials(grpc_server_credentials* credentials) : credentials_(credentials) {}
  ~Credentials() override { grpc_server_credentials_release(credentials_); }
  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }
  grpc_server_credentials* const credentials_;
};

}  // namespace

absl::StatusOr<TlsMaterial> LoadTls(const TlsOptions& options) {
  TlsMaterial material;
  ASSIGN_OR_RETURN(material.cert_chain, ReadTextFile(options.cert));
  ASSIGN_OR_RETURN(material.private_key, ReadTextFile(options.key));
  ASSIGN_OR_RETURN(const Certificate certificate,
                   FirstCertificate(material.cert_chain, options.cert));
  ASSIGN_OR_RETURN(material.expires, ExpiryOf(*certificate, options.cert));
  const Bio bio = BioOf(material.private_key);
  const PrivateKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  if (key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.key, ": holds no PEM private key without a passphrase"));
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError(
        absl::StrCat(options.key, ": is not the key of ", options.cert));
  }
  if (!options.client_ca.empty()) {
    ASSIGN_OR_RETURN(material.client_ca, ReadTextFile(options.client_ca));
    RETURN_IF_ERROR(FirstCertificate(material.client_ca, options.client_ca).status());
  }
  return material;
}

struct TlsCertificates::Listener {
  TlsCertificates& certificates;
  int64_t version = 0;  // that gRPC has; guarded by the certificates' mutex
};

TlsCertificates::TlsCertificates(TlsMaterial material)
    : wants_client_certificate_(!material.client_ca.empty()), material_(std::move(material)) {}

TlsCertificates::~TlsCertificates() = default;

std::shared_ptr<grpc::ServerCredentials> TlsCertificates::MakeCredentials() {
  listeners_.push_back(std::make_unique<Listener>(Listener{*this}));
  const auto request = wants_client_certificate_
                           ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                           : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
  grpc_ssl_server_credentials_options* options =
      grpc_ssl_server_credentials_create_options_using_config_fetcher(request, Fetch,
                                                                      listeners_.back().get());
  return std::make_shared<Credentials>(grpc_ssl_server_credentials_create_with_options(options));
}

grpc_ssl_certificate_config_reload_status TlsCertificates::Fetch(
    void* listener, grpc_ssl_server_certificate_config** config) {
  auto& state = *static_cast<Listener*>(listener);
  TlsCertificates& self = state.certificates;
  MutexLock lock(&self.mutex_);
  if (state.version == self.version_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  state.version = self.version_;
  const TlsMaterial& material = self.material_;
  const grpc_ssl_pem_key_cert_pair pair = {material.private_key.c_str(),
                                           material.cert_chain.c_str()};
  // gRPC 1.51 wants roots even where it asks clients for nothing; any certificate does then.
  const std::string& roots = material.client_ca.empty() ? material.cert_chain : material.client_ca;
  *config = grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

void TlsCertificates::Replace(TlsMaterial material) {
  MutexLock lock(&mutex_);
  material_ = std::move(material);
  ++version_;
}

absl::Time TlsCertificates::expires() const {
  MutexLock lock(&mutex_);
  return material_.expires;
}

}  // namespace moelight
