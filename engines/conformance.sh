#!/usr/bin/env bash
# engines/conformance.sh LAUNCHER LEAST [OPTION...]: runs the kit on LAUNCHER, and says how many checks ran in what time. It
# fails when one does, and when fewer than LEAST could be tried.
set -euo pipefail
launcher=$1 least=$2
shift 2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
found=$(mktemp)
trap 'rm -f "$found"' EXIT
began=$SECONDS code=0
"$root/.venv/bin/procession" conformance "$launcher" "$@" | tee "$found" || code=$?
ran=$(grep -cE '^(passed|failed) ' "$found" || true)
echo "${launcher%%:*}: ran $ran checks in $((SECONDS - began)) s"
[ "$ran" -ge "$least" ] || { echo "at least $least have to run" >&2; exit 1; }
exit "$code"
