#!/bin/sh
# The boot menu knows what is set in /etc/default. Prints "changed" if it did not before.
set -eu
if command -v update-grub >/dev/null && ! [ /boot/grub/grub.cfg -nt /etc/default/grub.d/99-daas.cfg ]; then
    update-grub >/dev/null 2>&1
    echo changed
fi
