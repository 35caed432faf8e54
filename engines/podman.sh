#!/usr/bin/env bash
# A real Podman, as a service that speaks Docker's API, in a place of its own like that of docker.sh. Docker's command line
# talks to it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=engines/lib.sh
. "$here/lib.sh"
ENGINE=podman PREFIX=procession-podman INIT=$here/podman-init.sh
WHICH='a private one'
# shellcheck source=engines/private.sh
. "$here/private.sh"

missing() {
    packages_without podman:podman runc:runc docker:docker.io iptables:iptables ip:iproute2 catatonit:catatonit
    # Debian's has no program on the path.
    [ -x /usr/lib/podman/netavark ] || echo netavark
    [ -x /usr/lib/podman/aardvark-dns ] || echo aardvark-dns
}

is_private() { true; }

main "$@"
