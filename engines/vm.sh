#!/usr/bin/env bash
# Virtual machines of QEMU. Nothing has to run for them, and each ends with whoever has launched it: this is their image alone, the
# root of a guest with this machine's own Python, the wheel in dist/ and a shell.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
# shellcheck source=engines/lib.sh
. "$here/lib.sh"
PATH=$PATH:/usr/sbin:/sbin

usage() {
    cat <<TEXT
usage: engines/vm.sh COMMAND
  check        can there be virtual machines here? ends with $SKIP, saying why, when not
  install      as root on Debian: installs what is missing, and starts nothing
  up           nothing: no engine has to run
  image FILE   makes an image, FILE
  with CMD...  runs CMD with VM_IMAGE naming an image that goes with it
TEXT
}

missing() {
    packages_without qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs busybox:busybox-static
    compgen -G '/boot/vmlinuz-*' >/dev/null || echo linux-image-cloud-amd64
}

check() {
    local packages
    [ "$(uname -m)" = x86_64 ] || skip "guests are x86-64 machines, and this is $(uname -m): they would be slow beyond use"
    packages=$(missing)
    [ -z "$packages" ] || command -v apt-get >/dev/null || skip "missing, and there is no apt-get: ${packages//$'\n'/ }"
}

install() {
    # shellcheck disable=SC2046
    install_packages $(missing)
}

# In a shell of its own, which takes its files away also when it fails.
image() (
    python=${PYTHON:-$root/.venv/bin/python}
    files=$(mktemp -d)
    trap 'rm -rf "$files"' EXIT
    "$python" "$here/mkimg.py" --wheel "${WHEEL:-$(echo "$root"/dist/procession-*.whl)}" --package cloudpickle |
        tar -x -C "$files"
    # What a guest compiles is gone with it, and would be compiled again by each.
    "$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$files" -p / "$files"
    mkdir -p "$files/bin"
    cp "$(command -v busybox)" "$files/bin/busybox"
    for applet in $(busybox --list); do
        [ -e "$files/bin/$applet" ] || ln -s busybox "$files/bin/$applet"
    done
    # Half of it is free: what a guest writes goes elsewhere, but no further than that.
    mke2fs -q -F -t ext4 -d "$files" "$1" "$(($(du -sm "$files" | cut -f1) * 2 + 64))M"
)

with() {
    local code=0
    check
    install
    VM_IMAGE=$(mktemp -d)/root.img
    export VM_IMAGE
    trap 'rm -rf "${VM_IMAGE%/*}"' EXIT
    image "$VM_IMAGE"
    "$@" || code=$?
    return "$code"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
check | install) "$command" ;;
up) ;;
image) image "$@" ;;
with) with "$@" ;;
*)
    usage >&2
    exit 2
    ;;
esac
