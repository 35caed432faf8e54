#!/usr/bin/env bash
# Three machines that are reached by ssh, and touch nothing of this one: each is a network namespace with a name, an address
# and an sshd of its own, in a place (see lib.sh) where what is to use them runs too. They share its files.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=engines/lib.sh
. "$here/lib.sh"
ENGINE=ssh PREFIX=procession-ssh INIT=$here/ssh-init.sh
VARIABLE=SSH_CONFIG WHICH='private ones'
# shellcheck source=engines/private.sh
. "$here/private.sh"

missing() {
    packages_without ssh:openssh-client sshd:openssh-server ip:iproute2
}

# Nobody's machines are a place for tests.
is_private() { true; }

engine_host() { echo "$(place_work "$NAME")/ssh.conf"; }

engine_answers() {
    local host
    for host in n1 n2 n3; do
        inside ssh -F "$(engine_host)" "$host" true 2>/dev/null || return
    done
}

inside() { SSH_CONFIG=$(engine_host) place_run "$NAME" "$@"; }

main "$@"
