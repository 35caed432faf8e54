#!/usr/bin/env bash
# A real Slurm that touches nothing of this machine: its controller and four nodes live in a place of their own (see
# lib.sh), and what is to submit jobs runs in there too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=engines/lib.sh
. "$here/lib.sh"
ENGINE=slurm PREFIX=procession-slurm INIT=$here/slurm-init.sh
VARIABLE=SLURM_CONF WHICH='a private one'
# shellcheck source=engines/private.sh
. "$here/private.sh"

missing() {
    packages_without slurmctld:slurm-wlm slurmd:slurm-wlm sbatch:slurm-wlm munged:munge ip:iproute2
    ls /usr/lib/*/slurm-wlm/cred_munge.so >/dev/null 2>&1 || echo slurm-wlm-basic-plugins
}

# Nobody's cluster is a place for tests.
is_private() { true; }

engine_host() { echo "$(place_work "$NAME")/slurm.conf"; }

engine_answers() {
    local nodes
    nodes=$(inside sinfo --noheader --Node --format=%t 2>/dev/null) && [ "$(sort -u <<<"$nodes")" = idle ]
}

# What the launcher keeps by default goes with the place.
inside() { HOME=$(place_work "$NAME") SLURM_CONF=$(engine_host) place_run "$NAME" "$@"; }

main "$@"
