// Goal: with keys required nothing answers without one, and a tenant neither sees nor touches what
// is another's.
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "inference/open_inference.pb.h"
#include "server/tenants.h"
#include "tests/server/daemon_fixture.h"

namespace moelight {
namespace {

using ::testing::HasSubstr;

class AccessTest : public DaemonTest {
 protected:
  AccessTest() {
    for (const char* name : {"alice", "bob", "root"}) keys_[name] = *MakeKey();
    WriteTenants("streams: 2, queued_rows: 3");
    config().tenants_file = file();
  }

  std::string file() const { return (tenants_folder_.path() / "tenants.yaml").string(); }
  void WriteTenants(const std::string& quota_of_bob) {
    std::ofstream(file()) << "tenants:\n"
                          << "  - {name: alice, keys: [" << keys_["alice"].hash << "]}\n"
                          << "  - {name: bob, keys: [" << keys_["bob"].hash << "], quota: {"
                          << quota_of_bob << "}}\n"
                          << "  - {name: root, admin: true, keys: [" << keys_["root"].hash
                          << "]}\n";
  }

  std::unique_ptr<grpc::ClientContext> As(const std::string& name) {
    auto context = NewContext();
    context->AddMetadata("authorization", "Bearer " + keys_[name].key);
    return context;
  }

  grpc::Status CreateAs(const std::string& name, const std::string& client, v1::BatchJob* job) {
    v1::CreateBatchJobRequest request;
    request.mutable_job()->set_client(client);
    v1::CreateBatchJobResponse response;
    const grpc::Status status = jobs_->CreateBatchJob(As(name).get(), request, &response);
    *job = response.job();
    return status;
  }

  // The outcome of every call that takes a job's id, by method.
  std::map<std::string, grpc::Status> UseJob(const std::string& name, const std::string& job_id) {
    std::map<std::string, grpc::Status> statuses;
    const auto unary = [&](const char* method, auto stub_method, auto request, auto response) {
      request.set_job_id(job_id);
      statuses[method] = (jobs_.get()->*stub_method)(As(name).get(), request, &response);
    };
    using Stub = v1::BatchJobService::Stub;
    unary("Get", &Stub::GetBatchJob, v1::GetBatchJobRequest(), v1::GetBatchJobResponse());
    unary("Seal", &Stub::SealBatchJob, v1::SealBatchJobRequest(), v1::SealBatchJobResponse());
    unary("Cancel", &Stub::CancelBatchJob, v1::CancelBatchJobRequest(),
          v1::CancelBatchJobResponse());
    unary("Delete", &Stub::DeleteBatchJob, v1::DeleteBatchJobRequest(),
          v1::DeleteBatchJobResponse());
    const auto append_context = As(name);
    v1::AppendBatchRequestsResponse appended;
    const auto writer = jobs_->AppendBatchRequests(append_context.get(), &appended);
    v1::AppendBatchRequestsRequest rows;
    rows.set_job_id(job_id);
    *rows.add_requests() = TextRow("a", "b");
    writer->Write(rows);
    writer->WritesDone();
    statuses["Append"] = writer->Finish();
    v1::WatchBatchJobRequest watch;
    watch.set_job_id(job_id);
    const auto watch_context = As(name);
    const auto watched = jobs_->WatchBatchJob(watch_context.get(), watch);
    v1::WatchBatchJobResponse update;
    while (watched->Read(&update)) continue;
    statuses["Watch"] = watched->Finish();
    v1::ReadBatchResultsRequest read;
    read.set_job_id(job_id);
    const auto read_context = As(name);
    const auto results = jobs_->ReadBatchResults(read_context.get(), read);
    v1::ReadBatchResultsResponse page;
    while (results->Read(&page)) continue;
    statuses["ReadResults"] = results->Finish();
    return statuses;
  }

  TempFolder tenants_folder_;
  std::map<std::string, NewKey> keys_;
};

// One call with an empty message through a generic stub, whatever kind of stream it is.
grpc::StatusCode CallEmpty(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                           const std::string& key) {
  const auto context = NewContext();
  if (!key.empty()) context->AddMetadata("authorization", key);
  return CallRaw(channel, method, "", *context).error_code();
}

// Every method of every service that any listener could have, from the descriptors.
std::vector<std::string> AllMethods() {
  std::vector<std::string> methods = {
      "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  std::set<const google::protobuf::FileDescriptor*> files;
  for (const google::protobuf::FileDescriptor* file :
       {v1::BatchJob::descriptor()->file(), v1::GenerateRequest::descriptor()->file(),
        v1::GetPlanRequest::descriptor()->file(),
        inference::ServerLiveRequest::descriptor()->file()}) {
    EXPECT_EQ(file->pool(), pool);
    for (int i = 0; i < file->service_count(); ++i) {
      const auto* service = file->service(i);
      for (int j = 0; j < service->method_count(); ++j) {
        methods.push_back(absl::StrCat("/", service->full_name(), "/", service->method(j)->name()));
      }
    }
  }
  return methods;
}

TEST_F(AccessTest, NoMethodAnswersWithoutAKey) {
  StartDaemon();
  const std::vector<std::string> methods = AllMethods();
  EXPECT_EQ(methods.size(), 3 + 9 + 3 + 5 + 6);
  const std::string key = keys_["alice"].key;
  for (const int port : {daemon().port(), daemon().admin_port()}) {
    const auto channel = NewChannel(port);
    for (const std::string& method : methods) {
      for (const std::string& wrong :
           {std::string(), std::string("Bearer "), "Basic " + key, key, "Bearer " + key + "x"}) {
        const grpc::StatusCode code = CallEmpty(channel, method, wrong);
        // Probes have no keys: health of the admin listener, and nothing else.
        if (port == daemon().admin_port() && method == "/grpc.health.v1.Health/Check") {
          EXPECT_EQ(code, grpc::StatusCode::OK);
        } else if (port == daemon().admin_port() && method == "/grpc.health.v1.Health/Watch") {
          break;  // never ends
        } else {
          EXPECT_TRUE(code == grpc::StatusCode::UNAUTHENTICATED ||
                      code == grpc::StatusCode::UNIMPLEMENTED)
              << method << " at " << port << " with \"" << wrong << "\": " << code;
        }
      }
    }
    // Those that are there do ask.
    EXPECT_EQ(CallEmpty(channel,
                        port == daemon().port() ? "/moelight.v1.BatchJobService/ListBatchJobs"
                                                : "/moelight.v1.AdminService/GetPlan",
                        ""),
              grpc::StatusCode::UNAUTHENTICATED);
  }
}

TEST_F(AccessTest, AdminServiceIsForAdmins) {
  StartDaemon();
  v1::GetServerInfoResponse info;
  EXPECT_EQ(admin_->GetServerInfo(As("alice").get(), {}, &info).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  v1::DrainResponse drained;
  EXPECT_EQ(admin_->Drain(As("bob").get(), {}, &drained).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(drain_seconds_, -1);
  EXPECT_TRUE(admin_->GetServerInfo(As("root").get(), {}, &info).ok());
}

TEST_F(AccessTest, AJobOfAnotherIsAsGoodAsAbsent) {
  StartDaemon();
  v1::BatchJob job;
  ASSERT_TRUE(CreateAs("alice", "", &job).ok());
  EXPECT_EQ(job.client(), "alice");
  std::string absent_id = job.job_id();
  absent_id.back() = absent_id.back() == 'a' ? 'b' : 'a';
  const auto not_hers = UseJob("bob", job.job_id());
  const auto absent = UseJob("bob", absent_id);
  EXPECT_EQ(not_hers.size(), 7);
  for (const auto& [method, status] : not_hers) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND) << method;
    // Equal but for the id that the caller gave.
    std::string expected = absent.at(method).error_message();
    expected.replace(expected.find(absent_id), absent_id.size(), job.job_id());
    EXPECT_EQ(status.error_message(), expected) << method;
    EXPECT_EQ(status.error_details().size(), absent.at(method).error_details().size()) << method;
  }
  v1::ListBatchJobsResponse list;
  ASSERT_TRUE(jobs_->ListBatchJobs(As("bob").get(), {}, &list).ok());
  EXPECT_EQ(list.jobs_size(), 0);
  ASSERT_TRUE(jobs_->ListBatchJobs(As("root").get(), {}, &list).ok());
  EXPECT_EQ(list.jobs_size(), 1);
  const auto hers = UseJob("alice", job.job_id());  // the others come after her Delete
  for (const char* method : {"Get", "Seal", "Cancel", "Delete"}) {
    EXPECT_NE(hers.at(method).error_code(), grpc::StatusCode::NOT_FOUND) << method;
  }
}

TEST_F(AccessTest, AJobBelongsToWhoMakesIt) {
  StartDaemon();
  v1::BatchJob job;
  const grpc::Status status = CreateAs("alice", "bob", &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(),
            "job.client: is \"bob\", but the API key is of tenant \"alice\"");
  EXPECT_TRUE(CreateAs("alice", "alice", &job).ok());
  EXPECT_TRUE(CreateAs("root", "bob", &job).ok());
  EXPECT_EQ(job.client(), "bob");
}

// Once the end of a stream had reached the client before the stream was given back to the quota.
TEST_F(AccessTest, StreamsOneAfterAnotherAreNotOverTheQuota) {
  WriteTenants("streams: 1");
  StartDaemon();
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text("x");
  for (int i = 0; i < 200; ++i) {
    const auto context = As("bob");
    const auto reader = inference_->Generate(context.get(), request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) continue;
    const grpc::Status status = reader->Finish();
    ASSERT_TRUE(status.ok()) << i << ": " << status.error_message();
    const auto watch_context = As("bob");
    v1::WatchBatchJobRequest watch;
    watch.set_job_id("job-absent");
    const auto watched = jobs_->WatchBatchJob(watch_context.get(), watch);
    v1::WatchBatchJobResponse update;
    EXPECT_FALSE(watched->Read(&update));
    ASSERT_EQ(watched->Finish().error_code(), grpc::StatusCode::NOT_FOUND) << i;
  }
}

TEST_F(AccessTest, QuotasAreTheTenants) {
  StartDaemon();
  const auto append = [&](const std::string& name) {
    v1::BatchJob job;
    EXPECT_TRUE(CreateAs(name, "", &job).ok());
    const auto context = As(name);
    v1::AppendBatchRequestsResponse response;
    const auto writer = jobs_->AppendBatchRequests(context.get(), &response);
    v1::AppendBatchRequestsRequest message;
    message.set_job_id(job.job_id());
    for (int i = 0; i < 4; ++i) *message.add_requests() = TextRow(absl::StrCat(i), "text");
    writer->Write(message);
    writer->WritesDone();
    return writer->Finish();
  };
  EXPECT_TRUE(append("alice").ok());
  const grpc::Status refused = append("bob");
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(),
              HasSubstr("tenant bob: the quota queued_rows is 3; 4 would"));
}

TEST_F(AccessTest, StreamsAreCountedAndGivenBack) {
  StartDaemon();
  v1::BatchJob job;
  ASSERT_TRUE(CreateAs("bob", "", &job).ok());
  v1::WatchBatchJobRequest request;
  request.set_job_id(job.job_id());
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  const auto watch = [&]() {
    contexts.push_back(As("bob"));
    auto reader = jobs_->WatchBatchJob(contexts.back().get(), request);
    v1::WatchBatchJobResponse update;
    return reader->Read(&update) ? grpc::Status::OK : reader->Finish();
  };
  EXPECT_TRUE(watch().ok());
  EXPECT_TRUE(watch().ok());
  const grpc::Status third = watch();
  EXPECT_EQ(third.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(third.error_message(), HasSubstr("tenant bob: the quota streams is 2; 3 would"));
  contexts[0]->TryCancel();
  EXPECT_TRUE(Eventually([&]() { return watch().ok(); }));
}

TEST_F(AccessTest, AReloadTakesNewKeysAndQuotasAndRefusesABadFile) {
  StartDaemon();
  v1::BatchJob job;
  const NewKey old = keys_["alice"];
  keys_["alice"] = *MakeKey();
  WriteTenants("queued_rows: 100");
  EXPECT_EQ(CreateAs("alice", "", &job).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  daemon().Reload(config());
  EXPECT_TRUE(CreateAs("alice", "", &job).ok());
  const NewKey current = std::exchange(keys_["alice"], old);
  EXPECT_EQ(CreateAs("alice", "", &job).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  keys_["alice"] = current;
  std::ofstream(file()) << "tenants: [{name: alice, keys: [oops]}]";
  daemon().Reload(config());
  EXPECT_TRUE(CreateAs("alice", "", &job).ok());
}

}  // namespace
}  // namespace moelight
