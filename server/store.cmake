# The durable job store and the dispatcher. Included by CMakeLists.txt.
moelight_library(moelight_client_weights
  SOURCES client_weights.cc
  DEPS absl::flat_hash_map absl::statusor absl::strings)

moelight_library(moelight_store
  SOURCES sqlite.cc crash_marker.cc job_store.cc dispatcher.cc
          store/crc32c.cc store/fair_shares.cc store/folder_lock.cc store/job_board.cc
          store/ledger.cc store/ledger_end.cc store/ledger_rows.cc store/paged_reads.cc store/read_thread.cc
          store/row_chunk.cc store/row_reader.cc store/schema.cc store/store_errors.cc
          store/subscriptions.cc store/tables.cc store/writer.cc
  DEPS moelight_base moelight_client_weights moelight_proto moelight_convert SQLite::SQLite3 absl::flat_hash_map absl::random_random
       absl::time absl::cord Threads::Threads)
