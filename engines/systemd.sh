#!/usr/bin/env bash
# A real systemd that touches nothing of this machine: a system manager and a user manager of root, each with a bus, live in a
# place of their own (see lib.sh) with control groups of their own, and what is to start units runs in there too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=engines/lib.sh
. "$here/lib.sh"
ENGINE=systemd PREFIX=procession-systemd INIT=$here/systemd-init.sh
VARIABLE=DBUS_SESSION_BUS_ADDRESS WHICH='a private one'
# shellcheck source=engines/private.sh
. "$here/private.sh"

missing() {
    packages_without systemctl:systemd dbus-daemon:dbus ip:iproute2
    [ -e /usr/share/dbus-1/system.conf ] || echo dbus
}

# The units of a machine or of a user are no place for tests.
is_private() { true; }

engine_host() { echo unix:path=/run/user/0/bus; }

engine_answers() {
    inside systemctl is-active --quiet procession.target && inside systemctl --user is-active --quiet procession.target
} 2>/dev/null

inside() {
    place_run "$NAME" env PROCESSION_SYSTEMD="$NAME" XDG_RUNTIME_DIR=/run/user/0 DBUS_SESSION_BUS_ADDRESS="$(engine_host)" "$@"
}

main "$@"
