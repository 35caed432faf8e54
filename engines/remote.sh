#!/usr/bin/env bash
# What leads to other machines: sshd and Slurm. Tests start them on the loopback, for themselves alone.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=engines/lib.sh
. "$here/lib.sh"

usage() {
    cat <<TEXT
usage: engines/remote.sh COMMAND
  check    can they be here? ends with $SKIP, saying why, when not
  install  as root on Debian: installs what is missing, and starts nothing
TEXT
}

missing() {
    packages_without ssh:openssh-client sshd:openssh-server slurmctld:slurm-wlm srun:slurm-wlm munged:munge
    ls /usr/lib/*/slurm-wlm/cred_munge.so >/dev/null 2>&1 || echo slurm-wlm-basic-plugins
}

check() {
    local packages
    [ "$(id -u)" = 0 ] || skip 'not root: an sshd that lets somebody in, and a Slurm, need it'
    packages=$(missing)
    [ -z "$packages" ] || command -v apt-get >/dev/null || skip "missing, and there is no apt-get: ${packages//$'\n'/ }"
}

case ${1:-} in
check) check ;;
install)
    check
    # shellcheck disable=SC2046
    install_packages $(missing)
    ;;
*)
    usage >&2
    exit 2
    ;;
esac
