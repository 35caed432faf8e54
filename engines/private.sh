# What the scripts of engines share: a private engine in a place of its own. Whoever sources this has set ENGINE, PREFIX, INIT, WHICH and the
# functions `missing` and `is_private`; those whose API is not Docker's have VARIABLE, `engine_host`, `engine_answers` and `inside` of their own.
# shellcheck shell=bash disable=SC2154
NAME=${PROCESSION_ENGINE:-$PREFIX}
VARIABLE=${VARIABLE:-DOCKER_HOST}

usage() {
    cat <<TEXT
usage: engines/$ENGINE.sh COMMAND
  check        can there be an engine here? ends with $SKIP, saying why, when not
  install      as root on Debian: installs what is missing
  up           starts a private engine
  status       says what there is
  run CMD...   runs CMD where the private engine is, with $VARIABLE set
  with CMD...  runs CMD with $WHICH that ends with CMD
  down         ends the private engine; nothing of it stays
TEXT
}

check() {
    local why packages
    is_private || return 0
    why=$(place_possible) || skip "no ${ENGINE^} that may be used answers, and none can be started: $why"
    packages=$(missing)
    [ -z "$packages" ] || command -v apt-get >/dev/null || skip "missing, and there is no apt-get: ${packages//$'\n'/ }"
}

install() {
    # shellcheck disable=SC2046
    install_packages $(missing)
}

engine_host() { echo "unix://$(place_work "$NAME")/engine.sock"; }

engine_answers() { DOCKER_HOST=$(engine_host) docker version >/dev/null 2>&1; }

up() {
    local work try why
    export PATH=$PATH:/usr/sbin:/sbin
    place_pid "$NAME" >/dev/null && { say "$NAME is up"; return; }
    why=$(place_possible) || skip "$why"
    [ -z "$(missing)" ] || die "missing: $(missing | tr '\n' ' '): run engines/$ENGINE.sh install"
    work=$(place_work "$NAME")
    [ ! -e "$work" ] || place_remove "$NAME"
    place_make "$NAME" "$INIT" "$NAME" "$work"
    for try in $(seq 600); do
        engine_answers && { say "$NAME is up"; return; }
        place_pid "$NAME" >/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$work/log" >&2
    place_remove "$NAME"
    die "the engine does not answer after $try tries"
}

inside() { DOCKER_HOST=$(engine_host) place_run "$NAME" "$@"; }

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

status() {
    local name pid
    is_private || echo 'an engine answers here'
    for name in $(places "$PREFIX"); do
        pid=$(place_pid "$name") && echo "$name: up, PID $pid, $(NAME=$name engine_host)" || echo "$name: left over"
    done
}

main() {
    local command=${1:-}
    [ $# -eq 0 ] || shift
    case $command in
        check | install | up | down | status) "$command" ;;
        with) with "$@" ;;
        run) inside "$@" ;;
        *) usage >&2; exit 2 ;;
    esac
}
