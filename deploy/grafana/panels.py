"""What the moelight dashboards show: every panel with its unit, what it means, and its queries.

Each panel is one call of a function of dashboard.py; a query is an expression and its legend. In
expressions, SELECT stands for the dashboard's choice of daemons and WINDOW for Grafana's own
averaging time. `gpu_only` marks panels that have data only where the model runs on a GPU.
"""

from dashboard import SELECT, WINDOW, Dashboard, row, series, stat


def rate(metric, window=WINDOW, **labels):
    """Sum of the rates of a counter over the chosen daemons."""
    return "sum(rate(%s[%s]))" % (select(metric, **labels), window)


def rate_by(label, metric, window=WINDOW, **labels):
    return "sum by (%s) (rate(%s[%s]))" % (label, select(metric, **labels), window)


def select(metric, **labels):
    """The metric with SELECT; a label's value may begin with =, != , =~ or !~."""
    matchers = [SELECT]
    for label, value in labels.items():
        operator = next((o for o in ("!~", "=~", "!=") if value.startswith(o)), "=")
        matchers.append('%s%s"%s"' % (label, operator, value.removeprefix(operator)))
    return "%s{%s}" % (metric, ",".join(matchers))


def quantile(q, histogram, by="", window=WINDOW, **labels):
    by = "le" if not by else "le, " + by
    buckets = select(histogram + "_bucket", **labels)
    return "histogram_quantile(%s, sum by (%s) (rate(%s[%s])))" % (q, by, buckets, window)


def quantiles(histogram, window=WINDOW):
    return [(quantile(q, histogram, window=window), "%d %%" % (100 * q)) for q in (0.5, 0.95, 0.99)]


def total(metric, **labels):
    return "sum(%s)" % select(metric, **labels)


def share(part, whole):
    return "%s / %s" % (part, whole)


def of_step_time(label, metric):
    """Per label, the share of the time in which steps ran."""
    return "%s / on () group_left () %s" % (rate_by(label, metric), STEP_TIME)


ENDED = rate("moelight_requests_finished_total", "15m", finish_reason="!=cancelled")
STEP_TIME = rate("moelight_step_seconds_sum")
MEAN_STEP = share(STEP_TIME, rate("moelight_step_seconds_count"))
LINK_RATE = share(rate("moelight_transfer_bytes_total", direction="h2d"),
                  rate("moelight_lane_busy_seconds_total", lane="h2d"))
# Calls that last as long as what they follow; their duration tells nothing about the server.
STREAMS = ("Watch|WatchBatchJob|Generate|ReadBatchResults|AppendBatchRequests|"
           "ServerReflectionInfo|ModelStreamInfer")
UNARY = "!~.*/(%s)" % STREAMS

JOBS = Dashboard("moelight-jobs", "moelight / Jobs", "Is work getting done, and when will it be?", [
    row("Now"),
    stat("Ready", "none",
         "Daemons that accept new work, of those chosen. 0 for a few minutes after a start is "
         "normal (the model is loading); longer is the alert MoelightNotReady.",
         [(total("moelight_ready"), "ready")], bad_below=1),
    stat("Rows waiting", "short",
         "Rows without a result, in all jobs, those in the engine included.",
         [(total("moelight_queue_depth"), "rows")]),
    stat("Queue empty in", "s",
         "ETA: rows waiting over rows ended a second in the last 15 minutes. Rows of other "
         "lengths to come make it wrong; for one job see estimated_end_time in `moelight list`. "
         "Infinite: nothing ended.",
         [(share(total("moelight_queue_depth"), ENDED), "ETA")]),
    stat("Generated", "short",
         "Tokens generated a second, counted when their row ends, so a job of long answers shows "
         "its first ones late.",
         [(rate("moelight_generated_tokens_total"), "tok/s")]),
    stat("Rows with an error", "percentunit",
         "Share of the rows that ended in the last 15 minutes. Their error is their result; "
         "`Errors by code` says whose fault it is.",
         [(share(rate("moelight_requests_finished_total", "15m", finish_reason="error"), ENDED),
           "errors")],
         bad_above=0.05),
    stat("Jobs running or queued", "short", "Jobs that are sealed and not done.",
         [(total("moelight_jobs", state="=~queued|running"), "jobs")]),

    row("Queue"),
    series("Rows on their way", "short",
           "From left to right through the daemon: without result at all, in the engine, waiting "
           "there, in the batch. Rows waiting and none in the batch: see Pipeline.",
           [(total("moelight_queue_depth"), "without result"),
            (total("moelight_rows_in_flight"), "of jobs, in the engine"),
            (total("moelight_engine_queue_depth"), "waiting in the engine"),
            (total("moelight_running_sequences"), "in the batch")], width=12),
    series("Queue empty in", "s",
           "The ETA above over time. It should fall as fast as time passes; a line that rises "
           "means that work comes in faster than it is done.",
           [(share(total("moelight_queue_depth"), ENDED), "ETA")], width=12),
    series("Jobs by state", "short",
           "All jobs kept, until store.retention after their end. Many `accepting`: clients begin "
           "jobs and do not seal them.",
           [("sum by (state) (%s)" % select("moelight_jobs"), "{{state}}")], stacked=True),
    series("Prompt tokens waiting", "short",
           "Estimate for the rows without result; the limit is server.limits.queued_tokens.",
           [(total("moelight_queued_prompt_tokens"), "tokens")]),
    series("Time from a job's creation to its end", "s",
           "Of the jobs that ended within the last hour.",
           quantiles("moelight_job_duration_seconds", "1h")),

    row("Throughput"),
    series("Tokens per second", "short",
           "Of rows that ended. `shared`: prompt tokens that were not computed because another "
           "row of the job began the same.",
           [(rate("moelight_generated_tokens_total"), "generated"),
            (rate("moelight_prompt_tokens_total"), "prompt"),
            (rate("moelight_shared_prompt_tokens_total"), "prompt, shared")], width=12),
    series("Rows ended per second", "reqps", "By why they ended. `length`: cut off at max_tokens.",
           [(rate_by("finish_reason", "moelight_requests_finished_total"), "{{finish_reason}}")],
           width=12, stacked=True),
    series("Time of a row in the engine's queue", "s",
           "From its hand-over to the engine to its first step. The store's queue comes before "
           "and is not counted.",
           quantiles("moelight_request_queue_seconds")),
    series("Time of a row in the engine", "s", "From hand-over to its end, waiting included.",
           quantiles("moelight_request_e2e_seconds")),

    row("What goes wrong"),
    series("Errors by code", "reqps",
           "Rows and calls that the engine ended with an error. INVALID_ARGUMENT is the client's, "
           "INTERNAL is ours: read the log.",
           [(rate_by("code", "moelight_request_errors_total"), "{{code}}")], width=12),
    series("Turned away", "reqps",
           "Calls and rows refused before the engine. `limit`: a server.limits key, named in the "
           "error; `loading` and `draining` pass.",
           [(rate_by("reason", "moelight_admission_rejected_total"), "{{reason}}")], width=12),
])

PIPELINE = Dashboard("moelight-pipeline", "moelight / Pipeline",
                     "Where does the time of a step go?", [
    row("Now"),
    stat("Plan", "none",
         "What the planner chose at the start and what it expects to bound a step; `unknown` "
         "without a hardware profile. `moelightd plan` says why.",
         [("sum by (backend, schedule, bottleneck) (%s)" % select("moelight_plan_info"),
           "{{backend}}: {{schedule}}, bound by {{bottleneck}}")], shows_name=True, width=8),
    stat("Step", "s", "Mean time of one engine step.", [(MEAN_STEP, "step")]),
    stat("Prediction error", "percentunit",
         "Predicted over measured time of a step, less one. Below -30 %: the machine is slower "
         "than probed; which lane takes longer than predicted? No data without a hardware profile "
         "(CPU).",
         [("avg(%s)" % select("moelight_step_prediction_error_ratio"), "error")]),
    stat("Link, of probed", "percentunit",
         "Rate of copies to the GPU while they run, over the rate probed at the start.",
         [(share(LINK_RATE, "avg(%s)" % select("moelight_link_probed_bytes_per_second")), "link")],
         bad_below=0.7, gpu_only=True),
    stat("I/O overlap", "percentunit",
         "Share of the transfer time, since the start, during which a lane computed. Near 1 under "
         "cgopipe; 0 on a CPU, which copies within host memory.",
         [("avg(%s)" % select("moelight_io_overlap_ratio"), "overlap")]),

    row("Lanes"),
    series("Lanes busy", "percentunit",
           "Share of the time of steps in which each lane worked. The one near 1 is the "
           "bottleneck; nothing else makes steps shorter.",
           [(of_step_time("lane", "moelight_lane_busy_seconds_total"), "{{lane}}")], width=12),
    series("Lanes stalled, by cause", "percentunit",
           "Share of the time of steps in which a lane stood still within its work, and for which "
           "lane it waited. `launch`: nothing had been handed to it, the CPU was late.",
           [(of_step_time("lane, cause", "moelight_lane_stall_seconds_total"),
             "{{lane}} waits for {{cause}}")], width=12),
    series("I/O overlap", "percentunit", "Share of the transfer time during which a lane computed.",
           [(share(rate("moelight_transfer_overlapped_seconds_total"),
                   rate("moelight_lane_busy_seconds_total", lane="=~h2d|d2h")), "overlap")]),
    series("Link rate against probed", "Bps",
           "Bytes to the GPU per second while copies run, beside the rate probed at the start. "
           "Far below it: unpinned memory, a link with fewer lanes, or a busy host memory.",
           [(LINK_RATE, "to the GPU, while copying"),
            ("avg(%s)" % select("moelight_link_probed_bytes_per_second"), "probed")],
           gpu_only=True),
    series("Link, over all time", "Bps",
           "Bytes per second over the link, pauses included. On a CPU: copies within host memory.",
           [(rate_by("direction", "moelight_transfer_bytes_total"), "{{direction}}")]),

    row("Steps"),
    series("Step time, predicted and measured", "s",
           "Mean time of a step beside what the plan predicts for a step of decode tokens with a "
           "full batch. Steps that compute prompts, and batches that are not full, differ.",
           [(MEAN_STEP, "measured"),
            ("avg(%s)" % select("moelight_plan_predicted_step_seconds"), "predicted")], width=12),
    series("Prediction error", "percentunit",
           "Predicted over measured time of the last steps, less one, each with its own tokens. 0 "
           "is a perfect prediction.",
           [("avg(%s)" % select("moelight_step_prediction_error_ratio"), "error")],
           below_zero=True, width=12),
    series("Step time", "s", "By share of the steps.", quantiles("moelight_step_seconds")),
    series("Steps per second", "short", "0 with rows in the batch: the alert MoelightEngineStuck.",
           [(rate("moelight_step_seconds_count"), "steps/s")]),
    series("Sequences in the batch", "short",
           "What a step works on. Throughput is this over the step time; a batch that does not "
           "fill is short of KV pages (Memory) or of rows (Jobs).",
           [(total("moelight_running_sequences"), "sequences")]),
])

MEMORY = Dashboard("moelight-memory", "moelight / Memory",
                   "What fills the memory, and what does it cost?", [
    row("Now"),
    stat("KV pages in use", "percentunit",
         "Near 1 is what the planner aims for while there is work.",
         [("max(%s)" % select("moelight_kv_cache_usage_ratio"), "in use")]),
    stat("Preempted", "short",
         "Sequences put back a minute because KV pages ran out. A few are the price of a full "
         "batch; many are the alert MoelightPreemptionStorm.",
         [("60 * " + rate("moelight_preempted_sequences_total"), "a minute")]),
    stat("Host memory pinned", "bool_yes_no",
         "No: copies to the GPU take a detour and are slow; raise memlock. Always no on a CPU, "
         "where nothing is copied.",
         [("min(%s)" % select("moelight_host_memory_pinned"), "pinned")]),
    stat("Resident memory", "bytes", "Of the process, as the system sees it.",
         [("max(%s)" % select("moelight_resident_memory_bytes"), "resident")]),
    stat("Disk free", "bytes",
         "On the disk of the job store. At 0 the daemon stops; nothing acknowledged is lost.",
         [("min(%s)" % select("moelight_store_disk_free_bytes"), "free")], bad_below=2 << 30),

    row("Tiers"),
    series("Host memory by use", "bytes",
           "What the engine reserved in host memory at its start; flat until a restart.",
           [("sum by (tag) (%s)" % select("moelight_memory_bytes", tier="host"), "{{tag}}")],
           stacked=True, width=12),
    series("GPU memory by use", "bytes",
           "What the engine reserved in GPU memory at its start; flat until a restart.",
           [("sum by (tag) (%s)" % select("moelight_memory_bytes", tier="gpu"), "{{tag}}")],
           stacked=True, width=12, gpu_only=True),
    series("Process and engine", "bytes",
           "Resident memory beside what the engine reserved in host memory. The distance is the "
           "job store, calls and the library code; it must not grow for days.",
           [("sum(%s)" % select("moelight_resident_memory_bytes"), "resident"),
            (total("moelight_memory_bytes", tier="host"), "engine, reserved")]),
    series("Rows received, not yet on disk", "bytes",
           "All append calls together; the limit is server.limits.append_buffer. At the limit "
           "clients wait for the disk.",
           [(total("moelight_append_buffer_bytes"), "bytes")]),
    series("Disk free", "bytes", "On the disk of the job store.",
           [("min by (instance) (%s)" % select("moelight_store_disk_free_bytes"), "{{instance}}")]),

    row("KV cache"),
    series("KV pages in use", "percentunit", "Of the pages that the plan has.",
           [("max by (instance) (%s)" % select("moelight_kv_cache_usage_ratio"), "{{instance}}")]),
    series("Sequences running and waiting", "short",
           "Waiting with a cache that is not full: the batch is at its own limit.",
           [(total("moelight_running_sequences"), "in the batch"),
            (total("moelight_engine_queue_depth"), "waiting")]),
    series("Preempted sequences", "short",
           "Put back per minute because KV pages ran out; the youngest go first.",
           [("60 * " + rate("moelight_preempted_sequences_total"), "a minute")]),
    series("Tokens computed again", "short",
           "Per second, for preempted sequences, beside all that came out. More than a fifth is "
           "wasteful: set engine.expected_output_tokens to the real mean.",
           [(rate("moelight_recomputed_tokens_total"), "again"),
            (rate("moelight_generated_tokens_total"), "generated")], width=12),
    series("Prompt tokens not computed", "percentunit",
           "Share of the prompt tokens that another row of the job had computed already. 0 where "
           "rows have no common beginning, or with engine.prefix_sharing off.",
           [(share(rate("moelight_shared_prompt_tokens_total"),
                   rate("moelight_prompt_tokens_total")), "shared")], width=12),
])

SERVER = Dashboard("moelight-server", "moelight / Server",
                   "Do calls get answers, and does the disk keep up?", [
    row("Now"),
    stat("Up", "none", "Daemons that Prometheus can read, of those chosen.",
         [("sum(up{job=\"moelight\",%s})" % SELECT, "up")], bad_below=1),
    stat("Since the start", "s", "Of the daemon that started last.",
         [("min(time() - %s)" % select("moelight_start_timestamp_seconds"), "uptime")]),
    stat("Version", "none", "moelightd's own.",
         [("sum by (version) (%s)" % select("moelight_build_info"), "{{version}}")],
         shows_name=True),
    stat("Open calls", "short", "Streams included.", [(total("moelight_rpc_in_flight"), "calls")]),
    stat("Calls that failed", "percentunit",
         "Share of the calls of the last minutes that ended with another code than OK or "
         "CANCELLED.",
         [(share(rate("moelight_rpc_calls_total", "5m", code="!~OK|CANCELLED"),
                 rate("moelight_rpc_calls_total", "5m")), "failed")], bad_above=0.05),
    stat("Commit, 99 %", "s",
         "99 of 100 commits of the job store took no longer. Each acknowledgement waits for one.",
         [(quantile(0.99, "moelight_store_commit_seconds", window="5m"), "commit")], bad_above=0.5),

    row("Calls"),
    series("Calls per second", "reqps",
           "By method; `other` is every method that the daemon does not have.",
           [(rate_by("method", "moelight_rpc_calls_total"), "{{method}}")], width=12),
    series("Calls that failed", "reqps",
           "By method and code. NOT_FOUND and INVALID_ARGUMENT are the client's; UNAVAILABLE "
           "means loading or draining; RESOURCE_EXHAUSTED a limit; INTERNAL is ours.",
           [(rate_by("method, code", "moelight_rpc_calls_total", code="!~OK|CANCELLED"),
             "{{method}} {{code}}")],
           width=12),
    series("Time of unary calls, median", "s",
           "From the start of the call to its status; streams are left out.",
           [(quantile(0.5, "moelight_rpc_seconds", "method", method=UNARY), "{{method}}")]),
    series("Time of unary calls, 99 %", "s",
           "99 of 100 calls took no longer. CreateBatchJob and SealBatchJob wait for a commit; "
           "the others should stay in milliseconds.",
           [(quantile(0.99, "moelight_rpc_seconds", "method", method=UNARY), "{{method}}")]),
    series("Open calls", "short",
           "By method. Streams that nobody closes grow here; keepalive ends those of dead clients.",
           [("sum by (method) (%s)" % select("moelight_rpc_in_flight"), "{{method}}")]),
    series("Turned away", "reqps",
           "Calls and rows, by reason: a limit that is reached, loading, draining, wrong; "
           "`unauthenticated` has no valid key, `forbidden` is not allowed to.",
           [(rate_by("reason", "moelight_admission_rejected_total"), "{{reason}}")], width=12),
    series("Time to read /metrics", "s",
           "As Prometheus sees it. Seconds mean that the machine has no CPU to spare.",
           [("max by (instance) (scrape_duration_seconds{job=\"moelight\",%s})" % SELECT,
             "{{instance}}")], width=12),

    row("Who comes in"),
    series("Connections", "short",
           "Open ones, by listener; the limits are server.limits.connections and "
           "connections_per_peer.",
           [("sum by (listener) (%s)" % select("moelight_connections"), "{{listener}}")]),
    series("Connections refused", "reqps",
           "Closed at once, by the limit that was reached. `per_peer`: one address opens too many; "
           "`descriptors`: raise ulimit -n.",
           [(rate_by("reason", "moelight_connections_refused_total"), "{{reason}}")]),
    series("Configuration reloads", "short",
           "In an hour, after SIGHUP. A refused one changed nothing; the log says which key is "
           "wrong.",
           [("sum by (outcome) (increase(%s[1h]))" % select("moelight_config_reloads_total"),
             "{{outcome}}")]),
    series("Certificate expires in", "s",
           "Of the daemon's own TLS. Put a new one in its place and send SIGHUP; no call is cut. "
           "Empty where the daemon has no certificate.",
           [("min by (instance) (%s - time())"
             % select("moelight_tls_certificate_expires_timestamp_seconds"), "{{instance}}")],
           below_zero=True, width=12),

    row("Job store"),
    series("Time of a commit", "s",
           "One fsync each; 1 to 50 ms are normal. Slower: the disk is busy or not local.",
           quantiles("moelight_store_commit_seconds")),
    series("Commits per second", "short",
           "Many changes share one commit, so this does not grow with the load for long.",
           [(rate("moelight_store_commit_seconds_count"), "commits/s")]),
    series("Changes waiting for the writer", "short",
           "A queue that does not fall means that the disk is the bottleneck.",
           [(total("moelight_store_queue_depth"), "changes")]),
])

DASHBOARDS = [JOBS, PIPELINE, MEMORY, SERVER]
