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

# step WORDS COMMAND…: run it with its output in the log and the time on the terminal. Not a
# pipeline or a subshell with -e: `step … || fail` switches -e off, so COMMAND says `|| return`
# itself or is one command.
step() {
    local words=$1 began=$SECONDS pid rc=0
    shift
    printf '\n== %s\n' "$words" >>"$log_file"
    (set -e && "$@") </dev/null >>"$log_file" 2>&1 &
    pid=$!
    # shellcheck disable=SC2064 # the number as it is now
    trap "kill $pid 2>/dev/null; wait $pid 2>/dev/null; interrupted" INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        [ ! -t 2 ] || printf '\r  … %s %d s ' "$words" $((SECONDS - began)) >&2
        sleep 0.2
    done
    wait "$pid" || rc=$?
    trap - INT TERM
    [ ! -t 2 ] || printf '\r\033[K' >&2
    if [ "$rc" = 0 ]; then
        printf '  ✓ %s %d s\n' "$words" $((SECONDS - began)) >&2
    else
        tail -n 8 "$log_file" | sed 's/^/    /' >&2
    fi
    return "$rc"
}

interrupted() {
    printf '\n%s\n' "Stopped. Run it again: it goes on from here." >&2
    exit 130
}
