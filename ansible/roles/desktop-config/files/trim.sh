#!/bin/bash
# Takes from the template what its desktops pay for and do not use. Prints "changed" if it did
# something; the second run does nothing. Arguments: container or machine, the locales that stay.
set -euo pipefail
shopt -s nullglob
kind=$1
shift
locales=("$@")

# Files: a copy on btrfs costs about 10 ms for each 1000 of them.
useless=(
    /usr/share/{doc,doc-base,gtk-doc,help,info,lintian,man,plymouth}/*
    /usr/share/zoneinfo/{right,posix}
    /usr/share/icons/*@{2,3}x /usr/share/icons/*/*@{2,3}x
    /usr/share/icons/{Adwaita,hicolor}/{64x64,72x72,96x96,128x128,192x192,256x256,512x512}
    /usr/share/icons/Adwaita/{8x8,16x16,22x22,24x24,32x32,48x48,scalable-up-to-32}
    /usr/share/icons/elementary-xfce/{actions,apps,categories,devices,emblems,mimes,places,preferences,status}/{32,64,96,128}
    /usr/share/icons/elementary-xfce/{actions,status}/48
    /usr/share/icons/elementary-xfce/{animations,emotes}
    /usr/share/icons/elementary-xfce-{dark,darker,darkest}
    /usr/share/themes/{Default-hdpi,Default-xhdpi,Daloa,Kokodi,Moheli}
    /usr/share/themes/Greybird-{accessibility,compact,dark-accessibility}
    /usr/share/themes/Greybird*/{gnome-shell,gtk-2.0,metacity-1,openbox-3,plank,unity,cinnamon}
    /usr/share/backgrounds/xfce/* /usr/share/i18n/{charmaps,locales}/*
    /var/lib/dpkg/info/*.md5sums
    /usr/share/gtksourceview-*/language-specs/*/tests
    /usr/share/bash-completion/completions/*
    /usr/lib/python3*/{test,idlelib,turtledemo,ensurepip,lib2to3}
    /etc/xdg/autostart/{at-spi-dbus-bus,xiccd,light-locker,pulseaudio,xfce4-power-manager,polkit-gnome-authentication-agent-1,geoclue-demo-agent,print-applet,update-notifier,xscreensaver,xfce4-screensaver,gnome-keyring-pkcs11,gnome-keyring-secrets,gnome-keyring-ssh,nm-applet,blueman,snap-userd-autostart,xfce4-notifyd,ubuntu-advantage-notification}.desktop
)

# Units: each costs CPU at every boot, and CPU is what ten desktops at once have least of.
masks=(
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
    e2scrub_reap.service fstrim.timer logrotate.timer man-db.timer motd-news.timer ua-timer.timer
    update-notifier-download.timer update-notifier-motd.timer systemd-tmpfiles-clean.timer
    exim4.service avahi-daemon.service avahi-daemon.socket rsyslog.service syslog.socket
    udisks2.service upower.service colord.service rtkit-daemon.service snapd.service snapd.socket
    unattended-upgrades.service apport.service ModemManager.service multipathd.service
    console-setup.service keyboard-setup.service plymouth-start.service plymouth-quit.service
    plymouth-quit-wait.service systemd-journal-flush.service systemd-pstore.service
    systemd-update-utmp.service systemd-update-utmp-runlevel.service
    systemd-firstboot.service systemd-sysusers.service
    systemd-hwdb-update.service systemd-journal-catalog-update.service
    systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-ask-password-console.path systemd-ask-password-wall.path
)
# What the host does for a container; a virtual machine has to do it itself.
container_masks=(
    systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket
    systemd-udev-trigger.service systemd-udev-settle.service systemd-binfmt.service
    systemd-sysctl.service systemd-modules-load.service systemd-remount-fs.service
    systemd-random-seed.service systemd-timesyncd.service systemd-networkd.service
    systemd-machine-id-commit.service
    systemd-networkd.socket systemd-networkd-wait-online.service systemd-resolved.service
    systemd-boot-system-token.service systemd-tmpfiles-setup-dev.service networking.service NetworkManager.service
    modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service
    modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service
    dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-config.mount
    sys-kernel-debug.mount sys-kernel-tracing.mount proc-sys-fs-binfmt_misc.automount
    kmod-static-nodes.service console-getty.service getty@tty1.service getty-static.service
    getty.target container-getty@0.service cloud-init.service cloud-init-local.service
    cloud-config.service cloud-final.service
)
# What a cloud image brings and a desktop does not need: entropy and news from the internet, disks on
# the network, tools of other hypervisors. Its root is read-only at first: the machine-id that it
# was given is written down by systemd-machine-id-commit, which stays.
machine_masks=(
    pollinate.service snapd.seeded.service snapd.apparmor.service snapd.autoimport.service
    ubuntu-advantage.service apt-news.service esm-cache.service apport-autoreport.service
    open-iscsi.service iscsid.socket multipathd.socket lvm2-monitor.service blk-availability.service
    open-vm-tools.service vgauth.service thermald.service secureboot-db.service
    grub-common.service grub-initrd-fallback.service fwupd-refresh.timer
)
# Programs that make units at each boot, for disks and consoles that a container does not have.
container_generators=(
    cryptsetup debug fstab getty gpt-auto hibernate-resume integritysetup rc-local run
    system-update sysv tpm2 veritysetup ssh
)
if [ "$kind" = container ]; then masks+=("${container_masks[@]}"); else masks+=("${machine_masks[@]}"); fi
# One sshd a connection: a desktop nobody logs in to by SSH carries none.
enabled=(daas-firstboot.service daas-rsakeys.timer ssh.socket)
disabled=(ssh.service)

changed=
remove() {
    [ $# -gt 0 ] || return 0
    rm -rf "$@"
    changed=yes
}

remove_translations() {
    local entry keep
    for entry in /usr/share/locale/*/ /usr/share/help-langpack/*/; do
        for keep in "${locales[@]}"; do
            case $(basename "$entry") in "${keep%%_*}" | "${keep%%_*}"[_@]*) continue 2 ;; esac
        done
        remove "$entry"
    done
}

mask() {
    local unit
    for unit in "${masks[@]}"; do
        [ -L "/etc/systemd/system/$unit" ] && [ "$(readlink "/etc/systemd/system/$unit")" = /dev/null ] && continue
        rm -f "/etc/systemd/system/$unit"
        ln -s /dev/null "/etc/systemd/system/$unit"
        changed=yes
    done
}

mask_generators() {
    local name path folder=/etc/systemd/system-generators
    mkdir -p "$folder"
    for name in "${container_generators[@]}"; do
        path=$folder/systemd-$name-generator
        [ -L "$path" ] && continue
        ln -s /dev/null "$path"
        changed=yes
    done
}

enable() {
    local unit
    for unit in "${enabled[@]}"; do
        systemctl is-enabled --quiet "$unit" && continue
        systemctl enable --quiet "$unit"
        changed=yes
    done
    for unit in "${disabled[@]}"; do
        systemctl is-enabled --quiet "$unit" || continue
        systemctl disable --quiet "$unit"
        changed=yes
    done
}

existing=()
for path in "${useless[@]}"; do
    if [ -e "$path" ]; then existing+=("$path"); fi
done
remove "${existing[@]}"
remove_translations
enable
mask
if [ "$kind" = container ]; then mask_generators; fi
if [ "$changed" ]; then
    # A cache that names icons which are gone shows holes instead of other sizes.
    for theme in /usr/share/icons/*/; do
        if [ -e "$theme/index.theme" ]; then gtk-update-icon-cache -q -f "$theme"; fi
    done
    echo changed
fi
