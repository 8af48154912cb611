#!/bin/bash
# Whether a login asks pam_mount: on or off. Prints "changed" if it did something.
set -euo pipefail

asked=off
if grep -q pam_mount /etc/pam.d/common-session; then asked=on; fi
[ "$asked" != "$1" ] || exit 0
case $1 in
on) pam-auth-update --package --enable libpam-mount ;;
off) pam-auth-update --package --remove libpam-mount ;;
esac
echo changed
