# Sourced by lxd-up and lxd-down: names and addresses, the daemon, how a person is told what is
# wrong.
# shellcheck shell=bash disable=SC2034
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin:/snap/bin:/usr/libexec/incus

case "${1:-lxd}" in
lxd) client=lxc daemon=lxd home=/var/lib/lxd unit=lxd packages=lxd ;;
incus) client=incus daemon=incusd home=/var/lib/incus unit=incus packages=incus-base ;;
*)
    echo "usage: $0 [lxd|incus]" >&2
    exit 2
    ;;
esac

# One set of names is one installation; another set runs beside it on the same LXD.
pool=${DAAS_LXD_POOL:-daas}
bridge=${DAAS_LXD_BRIDGE:-daasbr0}
subnet=${DAAS_LXD_SUBNET:-10.88.0.1/24}
pool_gib=${DAAS_LXD_POOL_GIB:-30}
log_dir=${DAAS_LXD_LOG_DIR:-/var/log/$unit}
started=/run/daas-$unit.started # ours to stop: lxd-up started it by hand
sysctl_file=/etc/sysctl.d/60-daas.conf

fail() { # one sentence that says what is wrong and what to do
    echo "${0##*/}: $*" >&2
    exit 1
}
say() { echo "${0##*/}: $*"; }

answers() { timeout 5 "$client" query /1.0 >/dev/null 2>&1; }
field() { # field ADDRESS KEY: a top-level string or a config key of an API object, or nothing
    "$client" query "$1" 2>/dev/null |
        sed -n "s|^[[:space:]]*\"$2\": \"\\([^\"]*\\)\",*\$|\\1|p" | head -1
}
by_systemd() { [ "$(cat /proc/1/comm)" = systemd ]; }

number() { # 10.88.0.1 -> 173539329
    local a b c d
    IFS=. read -r a b c d <<<"$1"
    echo $(((a << 24) + (b << 16) + (c << 8) + d))
}
address() { echo "$(($1 >> 24)).$((($1 >> 16) & 255)).$((($1 >> 8) & 255)).$(($1 & 255))"; }

[ "$(id -u)" = 0 ] || fail "only root can set up containers; run it again as root (sudo $0)."
if ! { command -v "$daemon" && command -v "$client"; } >/dev/null; then
    fail "$daemon is not installed; run:" \
        "apt-get install $packages btrfs-progs dnsmasq-base nftables iproute2"
fi

exec 9>"/run/daas-$unit.lock" # one of us at a time; the daemon must not inherit it
flock -w 180 9 || fail "another lxd-up or lxd-down is at work for 3 minutes; see: ps ax | grep lxd-"

# Not by the name alone: those who watch over its containers carry it, too.
# Nor a dead one that nobody has reaped yet.
runs() { pgrep -r D,R,S,T -f "^([^ ]*/)?$daemon( --|\$)" >/dev/null; }

start_daemon() {
    if [ -d "/snap/$unit" ]; then
        snap start "$unit"
    elif by_systemd; then
        systemctl start "$unit.service" ||
            fail "systemd could not start $unit; read: journalctl -u $unit"
    elif ! runs; then
        start_by_hand
    fi
    "$daemon" waitready --timeout 90 >/dev/null 2>&1 || answers ||
        fail "$unit does not answer after 90 s; read $log_dir/$unit.log, stop it and try again."
}

# Without systemd: a session of its own, so that it outlives this terminal.
start_by_hand() {
    mkdir -p "$log_dir" "$home"
    rm -f "$home/unix.socket" # of a daemon that was killed
    setsid "$daemon" --group root --logfile "$log_dir/$unit.log" \
        </dev/null >>"$log_dir/$unit.out" 2>&1 9>&- &
    echo $! >"$started"
    say "started $unit (no systemd here), log in $log_dir/$unit.log"
}
