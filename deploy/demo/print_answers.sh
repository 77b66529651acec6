#!/usr/bin/env bash
# Prints question and answer of the first COUNT requests, matched by custom_id.
#   print_answers.sh REQUESTS.jsonl ANSWERS.jsonl COUNT
set -euo pipefail
awk -v count="$3" '
  # The value of a JSON string field; enough for the lines that the demo itself writes.
  function field(line, name,    rest, out, i, c) {
    i = index(line, "\"" name "\":")
    if (i == 0) return ""
    rest = substr(line, i + length(name) + 3)
    sub(/^ *"/, "", rest)
    out = ""
    for (i = 1; i <= length(rest); i++) {
      c = substr(rest, i, 1)
      if (c == "\\") { i++; c = substr(rest, i, 1); if (c == "n") c = " "; out = out c; continue }
      if (c == "\"") break
      out = out c
    }
    return out
  }
  NR == FNR { answer[field($0, "custom_id")] = field($0, "content"); next }
  shown < count && FNR % 6 == 1 {
    shown++
    printf "  Q: %s\n  A: %s\n\n", field($0, "content"), answer[field($0, "custom_id")]
  }
' "$2" "$1"
