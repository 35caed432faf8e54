#!/usr/bin/env bash
# A real Kubernetes that touches nothing of this machine: a control plane with RBAC and one node, node1, on a dockerd, live in a place
# of their own (see lib.sh), and what is to make pods runs in there too. What runs there finds
#   KUBECONFIG   a user who may do everything, by a token; beside that file are certificate.conf, the same by a client's certificate,
#                and nobody.conf, a user without rights
#   DOCKER_HOST  the node's dockerd: the images that it has are those of pods, for nothing can be pulled (imagePullPolicy: IfNotPresent)
#   172.17.0.1   the place itself as pods see it, also their status.hostIP: what listens there is reached from pods
# DAEMON.log and DAEMON.pid are beside KUBECONFIG too. A daemon that ends is started again, unless there is DAEMON.hold there: so tests
# have etcd, kube-apiserver, kube-controller-manager, kube-scheduler, dockerd or kubelet end, and come back.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=engines/lib.sh
. "$here/lib.sh"
ENGINE=kube PREFIX=procession-kube INIT=$here/kube-init.sh
VARIABLE=KUBECONFIG WHICH='a private one'
# shellcheck source=engines/private.sh
. "$here/private.sh"
# The last number is that of the way in which it is built.
BUILT=$ENGINES/kubernetes-1.20.2-1
export PATH=$BUILT:$PATH

missing() {
    packages_without dockerd:docker.io docker:docker.io iptables:iptables ip:iproute2 etcd:etcd-server openssl:openssl \
        conntrack:conntrack ebtables:ebtables ethtool:ethtool socat:socat
    [ -d "$BUILT" ] || packages_without go:golang-go dpkg-source:dpkg-dev gcc:gcc
}

# What this machine's own list says of Debian 12, for sources.
sources() {
    # shellcheck disable=SC2016
    apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Component: main' 2>/dev/null |
        grep -E ' bookworm(-security)? ' | sort -u
}

install() {
    # shellcheck disable=SC2046
    install_packages $(missing)
    [ ! -d "$BUILT" ] || return 0
    say 'building Kubernetes, which takes some minutes'
    sources | "$here/kube-build.sh" "$BUILT" >&2
}

# Nobody's cluster is a place for tests.
is_private() { true; }

engine_host() { echo "$(place_work "$NAME")/user.conf"; }

# Its PID 1 asks, and gives up in time; three looks a second are enough.
engine_answers() { sleep 0.2 && [ -e "$(place_work "$NAME")/ready" ]; }

# What kubectl keeps by default goes with the place.
inside() {
    local work
    work=$(place_work "$NAME")
    PROCESSION_KUBE=$NAME HOME=$work KUBECONFIG=$(engine_host) DOCKER_HOST=unix://$work/engine.sock place_run "$NAME" "$@"
}

case ${1:-} in
check | install | with) [ -d "$BUILT" ] || sources >/dev/null || skip 'Kubernetes is built from what Debian 12 has, which is not on the list of apt-get' ;;
esac
main "$@"
