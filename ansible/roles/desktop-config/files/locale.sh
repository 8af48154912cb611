#!/bin/bash
# The locales of /etc/locale.gen exist and the clock shows the zone that is the argument. Prints
# "changed" if it did something.
set -euo pipefail
zone=$1

[ -e "/usr/share/zoneinfo/$zone" ] || { echo "no such time zone: $zone" >&2; exit 1; }
if [ "$(readlink /etc/localtime)" != "/usr/share/zoneinfo/$zone" ]; then
    ln -sf "/usr/share/zoneinfo/$zone" /etc/localtime
    echo "$zone" >/etc/timezone
    echo changed
fi

present=$(locale -a)
while read -r name _; do
    # localedef calls it fr_FR.utf8
    if ! grep -qix "${name/UTF-8/utf8}" <<<"$present"; then
        locale-gen
        echo changed
        break
    fi
done </etc/locale.gen
