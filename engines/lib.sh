# What every engine script shares: a place of its own on this machine that ends without a trace.
#
# A place is a process that is PID 1 of its own pid, network and mount namespaces. All that an engine starts lives in
# them, so that the end of that one process is the end of daemons, containers, bridges, rules and mounts alike.
# Outside of them stand only a work folder and control groups with the place's name; `place_remove` takes them away.
# shellcheck shell=bash

ENGINES=${PROCESSION_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/procession}/engines
SKIP=77 # the exit code that says: this machine cannot do it

say() { printf 'engines: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
skip() { printf '%s\n' "$*"; exit "$SKIP"; }

# packages_without PROGRAM:PACKAGE...: those packages whose program is not here
packages_without() {
    local tool
    for tool in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${tool%%:*}" >/dev/null || echo "${tool##*:}"
    done | sort -u
}

# install_packages PACKAGE...: as root on Debian. In a shell of its own, so that what it takes away at its end does not depend on who
# calls it.
install_packages() (
    local policy=/usr/sbin/policy-rc.d code=0
    [ "$#" -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || skip "not root: ask for apt-get install $*"
    command -v apt-get >/dev/null || skip "missing, and there is no apt-get: $*"
    say "installing $*"
    # A package would start a daemon of its own, outside of any place.
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >&2 || code=$?
    [ "$code" = 0 ] || die "apt-get could not install $*"
)

# When a process started, in clock ticks after boot: with it a pid is unmistakable.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# place_work NAME: its work folder
place_work() { printf '%s/%s' "$ENGINES" "$1"; }

# place_pid NAME: the pid, seen from here, of its PID 1; fails when it does not live
place_pid() {
    local pid start
    read -r pid start 2>/dev/null <"$(place_work "$1")/init" || return 1
    [ -n "$start" ] && [ "$(started_at "$pid")" = "$start" ] && echo "$pid"
}

# place_possible: fails, saying why, when no place can be made here
place_possible() {
    local command
    [ "$(id -u)" = 0 ] || { echo 'not root: namespaces and a private engine need it'; return 1; }
    for command in unshare nsenter setsid setpriv mount; do
        command -v "$command" >/dev/null || { echo "$command is missing (Debian: apt-get install util-linux mount)"; return 1; }
    done
    unshare --mount --net --pid --fork true 2>/dev/null || { echo 'this machine does not let root make namespaces'; return 1; }
}

# place_make NAME COMMAND...: starts COMMAND as PID 1 of a new place; with TIED=1 one that dies with this script
place_make() {
    local work name=$1 try
    work=$(place_work "$name")
    shift
    rm -f "$work/init"
    mkdir -p "$work"
    chmod 700 "$work"
    # /proc is still the outer one when PID 1 starts: what it reads there about itself is its pid as seen from outside.
    # shellcheck disable=SC2016,SC2086
    setsid ${TIED:+setpriv --pdeathsig KILL} unshare --mount --net --pid --fork --kill-child --propagation private bash -c '
        read -r stat </proc/self/stat
        echo "${stat%% *} $(sed "s/.*) //" <<<"$stat" | cut -d" " -f20)" >"$1/init.new" && mv "$1/init.new" "$1/init"
        mount -t proc proc /proc
        shift && exec "$@"' place "$work" "$@" </dev/null >"$work/log" 2>&1 &
    for try in $(seq 100); do
        place_pid "$name" >/dev/null && return
        sleep 0.05
    done
    die "no place was made within ${try} tries: $(tail -n 3 "$work/log")"
}

# place_run NAME COMMAND...: runs COMMAND inside, in the same folder, and gives its code
place_run() {
    local pid
    pid=$(place_pid "$1") || die "$1 is not up"
    shift
    # shellcheck disable=SC2016
    nsenter --target "$pid" --mount --net --pid -- sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
}

# place_remove NAME: ends it and takes away what stands outside; fails when something stays
place_remove() {
    local pid work group end left=0
    work=$(place_work "$1")
    if pid=$(place_pid "$1"); then
        # With PID 1 the kernel ends everything else in there; nothing in there is worth a farewell.
        kill -KILL "$pid" 2>/dev/null || true
        end=$((SECONDS + 60)) # unmounting what containers wrote on waits for the disk
        while place_pid "$1" >/dev/null; do
            [ "$SECONDS" -lt "$end" ] || { say "$1: PID $pid does not end"; return 1; }
            sleep 0.05
        done
    fi
    for group in /sys/fs/cgroup/*/"$1" /sys/fs/cgroup/"$1"; do
        [ -d "$group" ] || continue
        # A group stays busy until the last of its processes is gone.
        end=$((SECONDS + 4))
        until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || [ "$SECONDS" -ge "$end" ]; do sleep 0.05; done
        [ ! -d "$group" ] || { say "$group does not go"; left=1; }
    done
    rm -rf --one-file-system "$work"
    return "$left"
}

# places PREFIX: the names of all that start with it, alive or not
places() {
    local work
    for work in "$ENGINES/$1"*/; do
        [ ! -d "$work" ] || basename "$work"
    done
}

# footprint: what an engine could change outside of its place: links, network namespaces, mounts, rules
footprint() {
    local PATH=$PATH:/usr/sbin:/sbin tool
    ip -o link show | cut -d: -f1,2
    ip netns list
    # The numbers of mounts say nothing; what is mounted where does.
    cut -d' ' -f4- /proc/self/mountinfo
    for tool in iptables-save ip6tables-save; do
        # Dates and counters change by themselves.
        ! command -v "$tool" >/dev/null || "$tool" | sed '/^#/d; s/ \[[0-9:]*\]$//'
    done
    ! command -v nft >/dev/null || nft --stateless list ruleset
}

# untouched BEFORE WHEN: fails, with what differs, when the footprint is not what it was
untouched() {
    local now
    now=$(footprint)
    [ "$now" = "$1" ] && return
    say "this machine is not as it was before the engine came ($2):"
    diff <(echo "$1") <(echo "$now") >&2
    return 1
}
