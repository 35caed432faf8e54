#!/usr/bin/env bash
# Makes the interpreter that has the reference, in the cache folder, and prints its path.
# Ends with 77, the reason last, where the reference cannot be installed or imported.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cache=${PROCESSION_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/procession}
venv=$cache/compat
python=$venv/bin/python

cannot() {
    echo "the reference $1" >&2
    echo "the reference $1"
    exit 77
}

works() { "$python" -c 'import monarch.actor' >/dev/null 2>&1; }

if ! cmp -s requirements.txt "$venv/.requirements" || ! works; then
    rm -rf "$venv"
    mkdir -p "$cache"
    "${PYTHON:-python3}" -m venv "$venv"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt >&2 ||
        cannot "cannot be installed here: no network, or no package of it for this interpreter and machine"
    works || cannot "is installed, and cannot be imported: $("$python" -c 'import monarch.actor' 2>&1 | tail -n 1)"
    cp requirements.txt "$venv/.requirements"
fi
echo "$python"
