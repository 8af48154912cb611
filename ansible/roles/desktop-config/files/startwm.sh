#!/bin/sh
# What xrdp starts for a person: XFCE at once, without the detour over Xsession.d (0.4 s).
[ -r /etc/profile ] && . /etc/profile
# On Debian 12 and Ubuntu pam_env has read it already, on Debian 13 it does not.
[ -n "${LANG:-}" ] || . /etc/default/locale
export LANG
[ -r "$HOME/.profile" ] && . "$HOME/.profile"

export XDG_SESSION_TYPE=x11 XDG_CURRENT_DESKTOP=XFCE DESKTOP_SESSION=xfce
export XDG_CONFIG_DIRS=/etc/xdg XDG_DATA_DIRS=/usr/local/share:/usr/share XDG_MENU_PREFIX=xfce-
export NO_AT_BRIDGE=1 GVFS_REMOTE_VOLUME_MONITOR_IGNORE=1
unset SESSION_MANAGER

xdg-user-dirs-update
dbus-update-activation-environment --systemd --all >/dev/null 2>&1 # for what D-Bus starts
exec xfce4-session
