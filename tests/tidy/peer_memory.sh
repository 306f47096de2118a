#!/bin/sh
# peer_memory.sh - the daemon reads a client's memory through shm/peer_memory.h and nowhere else.
#
# A statement (what stands between two ';') that names a word of `up`, or the mapping, is shown unless it calls an
# llm_peer_...() function or is one of the listed few that take an address and look at nothing. In shm/ the
# client's half of each protocol may use its own memory as it likes: those files are judged by the loads that go
# through what only the engine holds (consumer->, waker->) and by the functions that the engine calls.
set -eu
cd "$(dirname "$0")/../.."

# statements FILE: one line each, "file:line: statement", comments taken out
statements() {
    awk -v file="$1" '
        { line = $0; sub(/\/\/.*/, "", line) }
        { while (1) {
              if (comment) { if (!match(line, /\*\//)) { line = ""; break }
                             line = substr(line, RSTART + 2); comment = 0 }
              if (!match(line, /\/\*/)) break
              head = substr(line, 1, RSTART - 1); tail = substr(line, RSTART + 2)
              if (match(tail, /\*\//)) line = head " " substr(tail, RSTART + 2)
              else { line = head; comment = 1; text = text " " line; line = ""; if (!start) start = NR; break } } }
        { if (line ~ /^#/) next
          if (text == "" && line ~ /^[ \t]*$/) next
          if (text == "") start = NR
          text = text " " line
          if (line ~ /[;{}][ \t]*$/) { gsub(/[ \t]+/, " ", text); print file ":" start ":" text; text = "" } }' "$1"
}

wrong=$(for file in $(find daemon -name '*.[ch]'); do statements "$file"; done |
    grep -E '(->|\.)(queue_tail|sleepers|bell_arms|cancel_bell)\b|connection_up ?\(|(->|\.)up\b|(->|\.)stamp\b|\bllm_submission \*' |
    grep -vE 'llm_peer_[a-z0-9_]+ ?\(|llm_cancel_bell_moved ?\(connection_up' |
    # addresses: mapping and unmapping, handing the base on, the cast of connection_up() and of the cancel words
    grep -vE 'connection->up = up;|if \(connection->up\) \{|llm_segment_unmap\(connection->up,|llm_queue_consumer_init\(&connection->queue, connection->up,|llm_client_waker_init\(&connection->waker, connection->up,|return \(const struct llm_up_header \*\)\(const void \*\)connection->up;|connection_up\(const struct connection|= connection_up\(connection\);|\(connection->up \+ connection->up_map.cancel_offset\);' |
    # the private copy of an entry; the keeper'\''s descriptor of `up`
    grep -vE 'const struct llm_submission \*submission|bundle(\.|->)up\b' || true)
wrong=$wrong$(for file in shm/*.[ch]; do statements "$file"; done |
    grep -E 'atomic_load|memcpy|pread' | grep -E '(consumer|waker)->(up|entries)|entry_at_head|[^>]\bup->cancel_bell' || true)

if [ -n "$wrong" ]; then
    printf 'a client'\''s memory is read without shm/peer_memory.h:\n%s\n' "$wrong"
    exit 1
fi
echo "peer_memory: nobody reads a client's memory on their own"
