#include "tests/testing/accelerator_double.h"

#include <chrono>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/backend/host_copy.h"
#include "engine/base/check.h"
#include "engine/base/mutex.h"

namespace moelight {
namespace {

using Work = std::function<absl::Status()>;

double NowUs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::micro>(now).count();
}

// A task's end, for the streams that wait for it.
class TaskRecord {
 public:
  void Begin() {
    MutexLock lock(&mutex_);
    timing_.begin_us = NowUs();
  }
  void End() {
    MutexLock lock(&mutex_);
    timing_.end_us = NowUs();
    ended_ = true;
    changed_.NotifyAll();
  }
  void Wait() {
    MutexLock lock(&mutex_);
    changed_.Wait(lock, [this]() { return ended_; });
  }
  TaskTiming timing() {
    MutexLock lock(&mutex_);
    CHECK(ended_);
    return timing_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  TaskTiming timing_;
  bool ended_ = false;
};

class ThreadedStream final : public Stream {
 public:
  ThreadedStream() : thread_([this]() { Loop(); }) {}
  ~ThreadedStream() override {
    Enqueue([this]() {
      stopping_ = true;
      return absl::OkStatus();
    });
    thread_.join();
  }

  void BeginStep(int num_tasks) override {
    tasks_ = std::exchange(ahead_, {});
    tasks_.resize(num_tasks);
  }
  void BeginAhead(int num_tasks) override {
    ahead_.resize(num_tasks);
    is_ahead_ = true;
  }
  void EndAhead() override { is_ahead_ = false; }
  void BeginTask(int task) override {
    std::shared_ptr<TaskRecord>& record = (is_ahead_ ? ahead_ : tasks_).at(task);
    CHECK(record == nullptr) << "task " << task << " began twice";
    record = std::make_shared<TaskRecord>();
    Enqueue([record]() {
      record->Begin();
      return absl::OkStatus();
    });
  }
  void EndTask(int task) override {
    Enqueue([record = (is_ahead_ ? ahead_ : tasks_).at(task)]() {
      record->End();
      return absl::OkStatus();
    });
  }
  absl::Status WaitFor(const Stream& other, int task) override {
    const auto& stream = static_cast<const ThreadedStream&>(other);
    Enqueue([record = stream.tasks_.at(task)]() {
      record->Wait();
      return absl::OkStatus();
    });
    return absl::OkStatus();
  }
  absl::Status RunOnHost(Work work) override {
    Enqueue(std::move(work));
    return absl::OkStatus();
  }
  absl::Status Synchronize() override {
    MutexLock lock(&mutex_);
    changed_.Wait(lock, [this]() { return queue_.empty() && !busy_; });
    return std::exchange(status_, absl::OkStatus());
  }
  TaskTiming timing(int task) const override { return tasks_.at(task)->timing(); }

  void Enqueue(Work work) {
    MutexLock lock(&mutex_);
    queue_.push_back(std::move(work));
    changed_.NotifyAll();
  }

 private:
  void Loop() {
    while (!stopping_) {
      Work work;
      {
        MutexLock lock(&mutex_);
        changed_.Wait(lock, [this]() { return !queue_.empty(); });
        work = std::move(queue_.front());
        queue_.pop_front();
        busy_ = true;
      }
      const absl::Status status = work();
      MutexLock lock(&mutex_);
      busy_ = false;
      status_.Update(status);
      changed_.NotifyAll();
    }
  }

  // The issuing thread's.
  std::vector<std::shared_ptr<TaskRecord>> tasks_;
  std::vector<std::shared_ptr<TaskRecord>> ahead_;
  bool is_ahead_ = false;
  // Shared.
  Mutex mutex_;
  CondVar changed_;
  std::deque<Work> queue_;
  bool busy_ = false;
  absl::Status status_;
  bool stopping_ = false;  // the stream's thread's
  std::thread thread_;
};

class AcceleratorDouble final : public Backend {
 public:
  explicit AcceleratorDouble(bool can_pin)
      : can_pin_(can_pin),
        ops_(*CreateBackend("reference", {})),
        inline_(ops_->CreateStream(Lane::kGpu)) {}

  absl::string_view name() const override { return "double"; }
  std::string description() const override { return "double"; }
  DType activation_dtype() const override { return ops_->activation_dtype(); }
  DType kv_dtype() const override { return ops_->kv_dtype(); }
  DType embedding_dtype() const override { return ops_->embedding_dtype(); }
  const WeightFormat& weight_format() const override { return ops_->weight_format(); }
  bool has_device_memory() const override { return true; }
  int64_t free_device_bytes() const override { return int64_t{1} << 40; }
  absl::StatusOr<std::unique_ptr<PinnedRange>> PinHost(void* data, int64_t bytes) override {
    if (!can_pin_) return absl::ResourceExhaustedError("the memlock limit is too low");
    return Backend::PinHost(data, bytes);
  }
  std::unique_ptr<Stream> CreateStream(Lane) override { return std::make_unique<ThreadedStream>(); }
  int64_t scratch_bytes(const OpLimits& limits) const override {
    return ops_->scratch_bytes(limits);
  }
  absl::Status Reserve(const OpLimits& limits) override { return ops_->Reserve(limits); }

  absl::Status Embed(const EmbedArgs& args, Stream& stream) override {
    return Queue(&Backend::Embed, args, stream);
  }
  absl::Status RmsNorm(const RmsNormArgs& args, Stream& stream) override {
    return Queue(&Backend::RmsNorm, args, stream);
  }
  absl::Status MatMul(const MatMulArgs& args, Stream& stream) override {
    return Queue(&Backend::MatMul, args, stream);
  }
  absl::Status QkNormRope(const QkNormRopeArgs& args, Stream& stream) override {
    return Queue(&Backend::QkNormRope, args, stream);
  }
  absl::Status Attention(const AttentionArgs& args, Stream& stream) override {
    return Queue(&Backend::Attention, args, stream);
  }
  absl::Status Router(const RouterArgs& args, Stream& stream) override {
    return Queue(&Backend::Router, args, stream);
  }
  absl::Status MoeFfn(const MoeFfnArgs& args, Stream& stream) override {
    return Queue(&Backend::MoeFfn, args, stream);
  }
  absl::Status DenseFfn(const DenseFfnArgs& args, Stream& stream) override {
    return Queue(&Backend::DenseFfn, args, stream);
  }
  absl::Status GatherRows(const GatherRowsArgs& args, Stream& stream) override {
    return Queue(&Backend::GatherRows, args, stream);
  }
  // Copies run on the lane that they are queued on, beside the ops.
  absl::Status Copy(const TensorView& src, const TensorView& dst, Stream& stream) override {
    static_cast<ThreadedStream&>(stream).Enqueue([src, dst]() {
      CopyOnHost(src, dst);
      return absl::OkStatus();
    });
    return absl::OkStatus();
  }
  absl::Status CopyPages(const CopyPagesArgs& args, Stream& stream) override {
    static_cast<ThreadedStream&>(stream).Enqueue([args]() {
      CopyPagesOnHost(args);
      return absl::OkStatus();
    });
    return absl::OkStatus();
  }

 private:
  template <typename Args>
  absl::Status Queue(absl::Status (Backend::*op)(const Args&, Stream&), const Args& args,
                     Stream& stream) {
    static_cast<ThreadedStream&>(stream).Enqueue(
        [this, op, args]() { return (*ops_.*op)(args, *inline_); });
    return absl::OkStatus();
  }

  const bool can_pin_;
  const std::unique_ptr<Backend> ops_;
  const std::unique_ptr<Stream> inline_;
};

}  // namespace

std::unique_ptr<Backend> MakeAcceleratorDouble(bool can_pin) {
  return std::make_unique<AcceleratorDouble>(can_pin);
}

}  // namespace moelight
