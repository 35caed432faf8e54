#!/usr/bin/env bash
# A real Docker engine that touches nothing of this machine: dockerd, its bridge and its rules live in a place of their
# own (see lib.sh), and what is to talk to containers over their bridge runs in there too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=engines/lib.sh
. "$here/lib.sh"
ENGINE=docker PREFIX=procession-docker INIT=$here/docker-init.sh
WHICH='whatever engine answers, else (and always when CI is set) with a private one'
# shellcheck source=engines/private.sh
. "$here/private.sh"

missing() {
    packages_without dockerd:docker.io docker:docker.io iptables:iptables ip:iproute2
}

answers() { command -v docker >/dev/null && docker version >/dev/null 2>&1; }

# Elsewhere a lane would test whatever somebody has installed, and would leave its traces there.
is_private() { [ -n "${CI:-}" ] || ! answers; }

main "$@"
