# Sourced by bootstrap, demo and clean: where we are, and how a person is told what goes on.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin
log_file=$PWD/build/bootstrap.log
mkdir -p build

fail() { # one sentence that says what is wrong and what to do
    printf '%s\n' "${0##*/}: $*" >&2
    exit 1
}
is_root() { [ "$(id -u)" = 0 ]; }

has_room() { # has_room FOLDER GIB FOR-WHAT
    local free_gib=$(($(df --output=avail -k "$1" | tail -1) / 1048576))
    [ "$free_gib" -ge "$2" ] || fail "only $free_gib GiB are free in $(readlink -f "$1"), and $3" \
        "needs $2; free some."
}

# step WORDS ON-FAILURE COMMAND…: run it with its output in the log and the time on the terminal.
# It fails by itself: after `step … || …` bash would go on after errors inside COMMAND.
step() {
    local words=$1 on_failure=$2 began=$SECONDS pid rc=0
    shift 2
    printf '\n== %s\n' "$words" >>"$log_file"
    set -m # a process group of its own, so that Ctrl-C ends all of it
    (
        set -e
        "$@"
    ) </dev/null >>"$log_file" 2>&1 &
    pid=$!
    set +m
    # shellcheck disable=SC2064 # the number as it is now
    trap "kill -TERM -- -$pid 2>/dev/null || true; wait $pid 2>/dev/null || true; interrupted" INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        [ ! -t 2 ] || printf '\r  … %s %d s ' "$words" $((SECONDS - began)) >&2
        sleep 0.1
    done
    wait "$pid" || rc=$?
    trap - INT TERM
    [ ! -t 2 ] || printf '\r\033[K' >&2
    if [ "$rc" != 0 ]; then
        tail -n 4 "$log_file" | cut -c1-160 | sed 's/^/    /' >&2
        fail "$on_failure The last lines are above, all of it is in $log_file."
    fi
    printf '  ✓ %s %d s\n' "$words" $((SECONDS - began)) >&2
}

interrupted() {
    printf '\n%s\n' "Stopped. Run it again: it goes on from here." >&2
    exit 130
}
