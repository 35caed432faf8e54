#!/usr/bin/env bash
# engines/with-image.sh CMD...: runs CMD with DOCKER_IMAGE naming an image of this machine's own Python, the wheel in
# dist/ and numpy. The image is made in seconds and goes with CMD.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export DOCKER_IMAGE=procession-demo:$$
trap 'docker rmi --force "$DOCKER_IMAGE" >/dev/null' EXIT
"$root/.venv/bin/python" "$root/engines/mkimg.py" --wheel "$root"/dist/procession-*.whl --package cloudpickle --package numpy |
    docker import - "$DOCKER_IMAGE" >/dev/null
"$@"
