// Goal: the client library survives broken connections and restarts without losing or repeating a
// row, and retries nothing but UNAVAILABLE.
#include "client/client.h"

#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/status.h"
#include "google/rpc/status.pb.h"
#include "tests/client/fake_server.h"

namespace moelight::client {
namespace {

using ::moelight::testing::FakeServer;
using ::testing::HasSubstr;

const grpc::Status kGone(grpc::StatusCode::UNAVAILABLE, "gone");

class ClientTest : public ::testing::Test {
 protected:
  std::unique_ptr<Client> MakeClient(ClientOptions options = {}) {
    options.server = server_.address();
    options.admin_server = server_.address();
    options.retry.initial_backoff = absl::Milliseconds(5);
    options.retry.max_backoff = absl::Milliseconds(100);
    return Client::Create(options).value();
  }

  std::string NewJob(Client& client) { return client.CreateJob({}).value().job_id(); }

  // Rows "row-<first>" to "row-<end - 1>".
  static RowSource Rows(int64_t end, int64_t first = 0) {
    return [end, next = first](v1::BatchRequest& row) mutable -> absl::StatusOr<bool> {
      if (next == end) return false;
      row.set_custom_id(absl::StrCat("row-", next));
      row.mutable_prompt()->set_text(absl::StrCat("text ", next));
      ++next;
      return true;
    };
  }

  void ExpectRows(const std::string& job_id, int64_t num_rows) {
    const std::vector<v1::BatchRequest> rows = server_.rows(job_id);
    ASSERT_EQ(rows.size(), num_rows);
    for (int64_t i = 0; i < num_rows; ++i) EXPECT_EQ(rows[i].custom_id(), absl::StrCat("row-", i));
  }

  std::string SealedJob(Client& client, int64_t num_rows) {
    const std::string job_id = NewJob(client);
    EXPECT_TRUE(client.AppendRows(job_id, Rows(num_rows)).ok());
    EXPECT_TRUE(client.Seal(job_id, num_rows).ok());
    return job_id;
  }

  FakeServer server_;
};

TEST_F(ClientTest, AppendCutsRowsIntoMessagesAndStreams) {
  auto client = MakeClient({.append_message_rows = 10, .append_stream_bytes = 1000});
  const std::string job_id = NewJob(*client);
  std::vector<int64_t> acknowledged;
  const auto result = client->AppendRows(
      job_id, Rows(95), {.on_acknowledged = [&](int64_t n) { acknowledged.push_back(n); }});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_rows, 95);
  ExpectRows(job_id, 95);
  EXPECT_EQ(server_.max_message_rows(), 10);
  EXPECT_GT(acknowledged.size(), 1);
  EXPECT_EQ(acknowledged.back(), 95);
  EXPECT_TRUE(std::is_sorted(acknowledged.begin(), acknowledged.end()));
}

TEST_F(ClientTest, MessagesStayBelowTheServersLimit) {
  auto client = MakeClient();
  for (const int64_t limit : {1, 100, 333, 5000}) {
    const std::string job_id = NewJob(*client);
    ASSERT_TRUE(client->AppendRows(job_id, Rows(50), {.max_message_bytes = limit}).ok());
    ExpectRows(job_id, 50);
    // A row has less than 30 bytes here and goes alone if even that is too much.
    EXPECT_LE(server_.max_message_bytes(), std::max<int64_t>(limit, 30) + 30);
  }
}

TEST_F(ClientTest, AppendOfNothingIsFine) {
  auto client = MakeClient();
  const auto result = client->AppendRows(NewJob(*client), Rows(0));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_rows, 0);
}

// Breaks at every place of a message and a stream: before it, at its borders, in the middle.
TEST_F(ClientTest, AppendResumesAfterABrokenStreamWithNoGapOrRepeat) {
  for (const int64_t broken_after : {0, 1, 9, 10, 11, 29, 30, 31, 94}) {
    auto client = MakeClient({.append_message_rows = 10, .append_stream_bytes = 1000});
    const std::string job_id = NewJob(*client);
    server_.BreakAppendAfter(broken_after);
    server_.BreakAppendAfter(7);
    const auto result = client->AppendRows(job_id, Rows(95));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->num_rows, 95);
    ExpectRows(job_id, 95);
  }
  EXPECT_EQ(server_.num_repeated_rows(), 0);
}

TEST_F(ClientTest, AppendResumesWhenAskingForTheOffsetFailsToo) {
  auto client = MakeClient({.append_message_rows = 10});
  const std::string job_id = NewJob(*client);
  server_.BreakAppendAfter(15);
  server_.FailNext("GetBatchJob", kGone);
  server_.FailNext("GetBatchJob", kGone);
  ASSERT_TRUE(client->AppendRows(job_id, Rows(40)).ok());
  ExpectRows(job_id, 40);
}

TEST_F(ClientTest, AppendSurvivesARestart) {
  auto client = MakeClient({.append_message_rows = 10, .append_stream_bytes = 1000});
  const std::string job_id = NewJob(*client);
  RowSource rows = Rows(200);
  std::thread restart;
  int64_t n = 0;
  const auto result = client->AppendRows(job_id, [&](v1::BatchRequest& row) {
    if (n++ == 100) {
      server_.Stop();
      restart = std::thread([this]() {
        absl::SleepFor(absl::Milliseconds(150));
        server_.Start();
      });
    }
    return rows(row);
  });
  restart.join();
  ASSERT_TRUE(result.ok()) << result.status();
  ExpectRows(job_id, 200);
}

TEST_F(ClientTest, AppendGoesOnFromAnOffset) {
  auto client = MakeClient();
  const std::string job_id = NewJob(*client);
  ASSERT_TRUE(client->AppendRows(job_id, Rows(30)).ok());
  ASSERT_TRUE(client->AppendRows(job_id, Rows(50, 30), {.first_row = 30}).ok());
  ExpectRows(job_id, 50);
}

TEST_F(ClientTest, AppendReportsWhatIsNotUnavailableAtOnce) {
  auto client = MakeClient();
  const std::string job_id = NewJob(*client);
  server_.FailNext("AppendBatchRequests",
                   grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "limit of 5 rows"));
  const auto result = client->AppendRows(job_id, Rows(30));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("limit of 5 rows"));
  EXPECT_EQ(server_.num_calls("AppendBatchRequests"), 1);
}

TEST_F(ClientTest, AppendPassesTheSourcesErrorOn) {
  auto client = MakeClient({.append_message_rows = 2});
  const std::string job_id = NewJob(*client);
  RowSource rows = Rows(100);
  int64_t n = 0;
  const auto result =
      client->AppendRows(job_id, [&](v1::BatchRequest& row) -> absl::StatusOr<bool> {
        if (n++ == 50) return absl::DataLossError("disk");
        return rows(row);
      });
  EXPECT_EQ(result.status(), absl::DataLossError("disk"));
}

TEST_F(ClientTest, UnaryCallsRetryUnavailableOnly) {
  struct Case {
    grpc::StatusCode code;
    bool retried;
  };
  for (const Case& c : std::vector<Case>{{grpc::StatusCode::UNAVAILABLE, true},
                                         {grpc::StatusCode::RESOURCE_EXHAUSTED, false},
                                         {grpc::StatusCode::ABORTED, false},
                                         {grpc::StatusCode::INTERNAL, false},
                                         {grpc::StatusCode::DEADLINE_EXCEEDED, false},
                                         {grpc::StatusCode::UNKNOWN, false}}) {
    auto client = MakeClient();
    server_.FailNext("GetServerInfo", grpc::Status(c.code, "on demand"));
    const int before = server_.num_calls("GetServerInfo");
    EXPECT_EQ(client->ServerInfo().ok(), c.retried) << c.code;
    EXPECT_EQ(server_.num_calls("GetServerInfo") - before, c.retried ? 2 : 1) << c.code;
  }
}

// A bug once: with the listener for jobs up, the retries of a call to the other one only slept, and
// its connection attempt stood still, sometimes for seconds, because no thread polled it.
TEST_F(ClientTest, TheListenerForAdministrationIsWaitedForOnItsOwnChannel) {
  FakeServer admin_server;
  auto client = Client::Create({.server = server_.address(),
                                .admin_server = admin_server.address(),
                                .retry = {.max_backoff = absl::Milliseconds(100)}})
                    .value();
  ASSERT_TRUE(client->Get(NewJob(*client)).ok());
  admin_server.Stop();
  std::jthread restart([&]() {
    absl::SleepFor(absl::Milliseconds(300));
    admin_server.Start();
  });
  const auto info = client->ServerInfo();  // gives up after first_contact_budget
  EXPECT_TRUE(info.ok()) << info.status();
}

TEST_F(ClientTest, ARetriedCreateMakesOneJob) {
  auto client = MakeClient();
  server_.FailNext("CreateBatchJob", kGone);
  EXPECT_EQ(client->CreateJob({}).value().job_id(), "job-1");
  EXPECT_EQ(client->CreateJob({}).value().job_id(), "job-2");
}

TEST_F(ClientTest, GivesUpAfterTheBudget) {
  auto client = MakeClient({.retry = {.first_contact_budget = absl::Milliseconds(200)}});
  server_.Stop();
  const absl::Time start = absl::Now();
  const absl::Status status = client->Get("job-1").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("200ms"));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(150));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

TEST_F(ClientTest, AStopRequestEndsARetry) {
  auto client =
      MakeClient({.retry = {.first_contact_budget = absl::Hours(1), .budget = absl::Hours(1)}});
  server_.Stop();
  std::stop_source source;
  std::jthread stopper([&source]() {
    absl::SleepFor(absl::Milliseconds(50));
    source.request_stop();
  });
  EXPECT_EQ(client->Get("job-1", source.get_token()).status(), absl::CancelledError("interrupted"));
}

TEST_F(ClientTest, ResultsResumeFromTheCursor) {
  auto client = MakeClient();
  const std::string job_id = SealedJob(*client, 20);
  for (const bool follow : {false, true}) {
    server_.BreakResultsAfter(0, /*politely=*/false);
    server_.BreakResultsAfter(2, /*politely=*/false);
    server_.BreakResultsAfter(1, /*politely=*/false);
    std::vector<int64_t> rows;
    const auto cursor = client->ReadResults(
        job_id, {.follow = follow}, [&](const v1::ReadBatchResultsResponse& response) {
          for (const v1::BatchResult& result : response.results()) rows.push_back(result.row());
          return absl::OkStatus();
        });
    ASSERT_TRUE(cursor.ok()) << cursor.status();
    EXPECT_EQ(*cursor, 20);
    ASSERT_EQ(rows.size(), 20);
    for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(rows[i], i);
  }
}

// A server that drains ends its streams with OK although the job goes on.
TEST_F(ClientTest, FollowGoesOnAfterAnOrderlyEndOfTheStream) {
  auto client = MakeClient();
  server_.HoldJobs(8);
  const std::string job_id = SealedJob(*client, 20);
  server_.BreakResultsAfter(1, /*politely=*/true);
  server_.BreakResultsAfter(1, /*politely=*/true);
  int64_t num_results = 0;
  const auto cursor = client->ReadResults(job_id, {.follow = true},
                                          [&](const v1::ReadBatchResultsResponse& response) {
                                            num_results += response.results_size();
                                            if (num_results == 8) server_.ReleaseJobs();
                                            return absl::OkStatus();
                                          });
  ASSERT_TRUE(cursor.ok()) << cursor.status();
  EXPECT_EQ(num_results, 20);
}

TEST_F(ClientTest, ACallbacksErrorEndsTheRead) {
  auto client = MakeClient();
  const std::string job_id = SealedJob(*client, 20);
  const auto cursor = client->ReadResults(job_id, {}, [](const v1::ReadBatchResultsResponse&) {
    return absl::UnavailableError("disk is unavailable");
  });
  EXPECT_EQ(cursor.status(), absl::UnavailableError("disk is unavailable"));
  EXPECT_EQ(server_.num_calls("ReadBatchResults"), 1);
}

TEST_F(ClientTest, WatchSurvivesARestart) {
  auto client = MakeClient();
  server_.HoldJobs(5);
  const std::string job_id = SealedJob(*client, 10);
  std::vector<v1::BatchJob::State> states;
  std::jthread restart;
  const auto job = client->Watch(job_id, [&](const v1::BatchJob& update) {
    states.push_back(update.state());
    if (states.size() > 1) return;
    restart = std::jthread([this]() {
      server_.Stop();
      server_.Start();
      server_.ReleaseJobs();
    });
  });
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->state(), v1::BatchJob::STATE_SUCCEEDED);
  EXPECT_EQ(job->num_succeeded(), 10);
  EXPECT_EQ(states.front(), v1::BatchJob::STATE_RUNNING);
}

TEST_F(ClientTest, GenerateRetriesOnlyBeforeTheFirstText) {
  auto client = MakeClient();
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text("abc");
  std::string text;
  const auto add = [&text](const v1::GenerateResponse::Delta& delta) { text += delta.text(); };

  server_.FailNext("Generate", kGone);
  ASSERT_TRUE(client->Generate(request, add).ok());
  EXPECT_EQ(text, "ABC");

  text.clear();
  server_.FailNext("GenerateEnd", kGone);
  EXPECT_EQ(client->Generate(request, add).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(text, "ABC");
}

TEST_F(ClientTest, TheOtherCalls) {
  auto client = MakeClient();
  const std::string job_id = SealedJob(*client, 3);
  EXPECT_EQ(client->Get(job_id)->num_rows(), 3);
  EXPECT_EQ(client->Seal(job_id, 4).status().code(), absl::StatusCode::kFailedPrecondition);
  v1::ListBatchJobsRequest list;
  list.set_page_size(10);
  EXPECT_EQ(client->List(list)->jobs_size(), 1);
  EXPECT_EQ(client->Cancel(job_id)->state(), v1::BatchJob::STATE_CANCELLED);
  EXPECT_TRUE(client->Delete(job_id).ok());
  EXPECT_EQ(client->Get(job_id).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(client->Tokenize({})->token_ids_size(), 1);
}

TEST_F(ClientTest, DetailsOfAnErrorAreAPayload) {
  google::rpc::Status details;
  details.set_message("more");
  server_.FailNext("GetServerInfo", grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no",
                                                 details.SerializeAsString()));
  const absl::Status status = MakeClient()->ServerInfo().status();
  ASSERT_TRUE(status.GetPayload(kRpcStatusUrl).has_value());
  EXPECT_EQ(std::string(*status.GetPayload(kRpcStatusUrl)), details.SerializeAsString());
}

TEST(ClientCreateTest, RefusesWhatCannotWork) {
  for (const char* server :
       {"", "localhost", "localhost:", ":50051", "host:0", "host:99999", "host:port"}) {
    EXPECT_EQ(Client::Create({.server = server}).status().code(),
              absl::StatusCode::kInvalidArgument)
        << server;
  }
  EXPECT_EQ(Client::Create({.tls = TlsOptions{.cert_pem = "x"}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Client::Create({.server = "[::1]:50051"}).ok());
}

}  // namespace
}  // namespace moelight::client
