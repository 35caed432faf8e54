#!/bin/sh
# Is everything here that `make setup` needs? As root on Debian, what is missing is installed; otherwise it is named.
# Probed by what can be done, not by which package is there. Without what is optional, tests are skipped.
set -u
PYTHON=${PYTHON:-python3}
RUST=$(sed -n 's/^rust-version = "1\.\([0-9]*\)".*/\1/p' "$(dirname "$0")/../Cargo.toml")
missing='' packages=''

miss() { # what, Debian packages
    missing="$missing  - $1
"
    packages="$packages ${2:-}"
}

python_can() { "$PYTHON" -c "$1" >/dev/null 2>&1; }

# Never an error: who has no right to install it goes on without.
install_optional() {
    wanted=''
    command -v strace >/dev/null || wanted="$wanted strace"
    command -v ip >/dev/null || wanted="$wanted iproute2"
    command -v nft >/dev/null || wanted="$wanted nftables"
    if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing for the tests:$wanted"
        # shellcheck disable=SC2086  # a list of packages
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted; } \
            >/dev/null 2>&1 || echo "could not be installed, their tests are skipped:$wanted"
    fi
}

probe() {
    missing='' packages=''
    command -v git >/dev/null || miss 'git' git
    echo '#include <stdio.h>
int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null || miss 'a C compiler with its headers' 'gcc libc6-dev'

    if ! python_can ''; then
        miss "Python 3.11 or newer ($PYTHON cannot be run)" 'python3 python3-venv python3-dev'
    elif ! python_can 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        miss "Python 3.11 or newer ($PYTHON is older; name another one with PYTHON=...)"
    else
        python_can 'import ensurepip, venv' || miss "venv and ensurepip of $PYTHON" python3-venv
        python_can 'import os, sys, sysconfig as s
sys.exit(not os.path.exists(os.path.join(s.get_config_var("LIBDIR"), s.get_config_var("LDLIBRARY"))) or ".so" not in s.get_config_var("LDLIBRARY"))' ||
            miss "the shared library of $PYTHON, for tests that embed it (a Python built with --enable-shared)" python3-dev
    fi

    if ! command -v cargo >/dev/null; then
        miss "Rust 1.$RUST or newer: install it with rustup (https://rustup.rs)"
    else
        minor=$(rustc --version | sed -n 's/^rustc 1\.\([0-9]*\).*/\1/p')
        [ "${minor:-0}" -ge "$RUST" ] || miss "Rust 1.$RUST or newer ($(rustc --version) is older): rustup update stable"
    fi
    [ -z "$missing" ]
}

install_optional
probe && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ -n "${packages# }" ]; then
    echo "installing:$packages"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # a list of packages
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages >/dev/null
    probe && exit 0
fi
{
    printf 'missing:\n%s' "$missing"
    # shellcheck disable=SC2086
    set -- $packages
    [ $# -eq 0 ] || echo "on Debian: apt-get install $*"
} >&2
exit 1
