#!/usr/bin/env bash
# A real Docker engine that touches nothing of this machine: dockerd, its bridge and its rules live in a place of their
# own (see lib.sh), and what is to talk to containers over their bridge runs in there too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=engines/lib.sh
. "$here/lib.sh"
PREFIX=procession-docker
NAME=${PROCESSION_ENGINE:-$PREFIX}

usage() {
    cat <<TEXT
usage: engines/docker.sh COMMAND
  check        can there be an engine here? ends with $SKIP, saying why, when not
  install      as root on Debian: installs what is missing
  up           starts a private engine
  status       says what there is
  run CMD...   runs CMD where the private engine is, with DOCKER_HOST set
  with CMD...  runs CMD with whatever engine answers, else (and always when CI is set) with a private one that ends with CMD
  down         ends the private engine; nothing of it stays
TEXT
}

missing() {
    packages_without dockerd:docker.io docker:docker.io iptables:iptables ip:iproute2
}

answers() { command -v docker >/dev/null && docker version >/dev/null 2>&1; }

# Elsewhere a lane would test whatever somebody has installed, and would leave its traces there.
is_private() { [ -n "${CI:-}" ] || ! answers; }

check() {
    local why packages
    is_private || return 0
    why=$(place_possible) || skip "no Docker that may be used answers, and none can be started: $why"
    packages=$(missing)
    [ -z "$packages" ] || command -v apt-get >/dev/null || skip "missing, and there is no apt-get: ${packages//$'\n'/ }"
}

install() {
    # shellcheck disable=SC2046
    install_packages $(missing)
}

up() {
    local work try why
    export PATH=$PATH:/usr/sbin:/sbin
    place_pid "$NAME" >/dev/null && { say "$NAME is up"; return; }
    why=$(place_possible) || skip "$why"
    [ -z "$(missing)" ] || die "missing: $(missing | tr '\n' ' '): run engines/docker.sh install"
    work=$(place_work "$NAME")
    [ ! -e "$work" ] || place_remove "$NAME"
    place_make "$NAME" "$here/docker-init.sh" "$NAME" "$work"
    for try in $(seq 600); do
        DOCKER_HOST=unix://$work/docker.sock docker version >/dev/null 2>&1 && { say "$NAME is up"; return; }
        place_pid "$NAME" >/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$work/log" >&2
    place_remove "$NAME"
    die "dockerd does not answer after $try tries"
}

inside() { DOCKER_HOST=unix://$(place_work "$NAME")/docker.sock place_run "$NAME" "$@"; }

down() { place_remove "$NAME" && say "$NAME is gone"; }

with() {
    local stale before code=0
    if ! is_private; then
        "$@"
        return
    fi
    check
    install
    # The number at the end of a name is the pid of the script that made it.
    for stale in $(places "$PREFIX-"); do
        [ -d "/proc/${stale##*-}" ] || place_remove "$stale"
    done
    before=$(footprint)
    NAME=$PREFIX-$$ TIED=1
    trap 'down' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    up
    inside "$@" || code=$?
    untouched "$before" 'while it runs' || code=1
    trap - EXIT
    down || code=1
    untouched "$before" 'after its end' || code=1
    return "$code"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    check | install | up | down) "$command" ;;
    with) with "$@" ;;
    run) inside "$@" ;;
    status)
        answers && echo 'an engine answers here'
        for name in $(places "$PREFIX"); do
            pid=$(place_pid "$name") && echo "$name: up, PID $pid, unix://$(place_work "$name")/docker.sock" || echo "$name: left over"
        done
        ;;
    *) usage >&2; exit 2 ;;
esac
