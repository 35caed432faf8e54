"""Launchers for container engines: each proc is a container."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from procession import _validate
from procession._engines import EngineLauncher


class Docker(EngineLauncher):
    """Launches each proc as a container of an engine that speaks Docker's API.

    image: what containers are made of. For Python procs it needs Python of the client's minor version, procession and cloudpickle.
    host: where the engine's API listens, `"unix:///run/user/1000/podman/podman.sock"`, `"tcp://10.0.0.2:2375"`; None is DOCKER_HOST, or
        else `/var/run/docker.sock`.
    python: the program in the image that runs Python procs, in the place of this interpreter.
    pull: when the image is pulled: "missing" (the engine has none of that name), "always" (once by each launcher) or "never".
    network: "bridge", "host", or the name of one that was made with the engine.
    bind: where this machine waits for procs to reach back, `"address:port"` with port 0 for any; None is the gateway of the network.
    advertise: what containers dial when that differs, `"address[:port]"`.
    volumes: what containers see of this machine's files, `"source:target[:ro]"` each.
    tmpfs: file systems in memory by their directory, with their mount options: `{"/scratch": "size=64m"}`.
    shm_size: bytes of /dev/shm; None is the engine's default.
    gpus: `["all"]`, or their ids.
    extra_hosts: names that containers know, `"name:address"` each.
    runtime: the OCI runtime, by the engine's name for it.
    init: whether the engine's init is process 1, which passes signals on to all that a proc has started.
    labels: labels of containers, beside those by which procession knows its own.
    keep: whether containers stay when their procs have ended.
    launches_at_once: how many containers are made at the same time.
    patch: what is merged into each request to make a container, as the engine's API writes it (JSON merge patch):
        `{"HostConfig": {"CapAdd": ["SYS_PTRACE"]}}`.

    `resources`, `user`, `rlimits`, `cwd` and `env` of `spawn_procs` are those of the container; `clear_env` is refused, since a
    container has the environment of its image. Exits have the engine's word on memory (`oom`), but with Podman, which has none.
    """

    _kind = "docker"

    def __init__(
        self,
        image: str,
        *,
        host: str | None = None,
        python: str = "python3",
        pull: Literal["missing", "always", "never"] = "missing",
        network: str = "bridge",
        bind: str | None = None,
        advertise: str | None = None,
        volumes: Sequence[str] = (),
        tmpfs: Mapping[str, str] | None = None,
        shm_size: int | None = None,
        gpus: Sequence[str] = (),
        extra_hosts: Sequence[str] = (),
        runtime: str | None = None,
        init: bool = True,
        labels: Mapping[str, str] | None = None,
        keep: bool = False,
        launches_at_once: int = 16,
        patch: Mapping[str, Any] | None = None,
    ) -> None:
        if pull not in ("missing", "always", "never"):
            _validate.refuse("pull", pull, 'pass "missing", "always" or "never"')
        for name, value in {"volumes": volumes, "gpus": gpus, "extra_hosts": extra_hosts}.items():
            if isinstance(value, str):
                _validate.refuse(name, value, "pass a list of texts")
        super().__init__(
            {
                "image": _validate.text("image", image),
                "host": host,
                "python": _validate.text("python", python),
                "pull": pull,
                "network": _validate.text("network", network),
                "bind": bind,
                "advertise": advertise,
                "volumes": list(volumes),
                "tmpfs": dict(tmpfs or {}),
                "shm_size": shm_size,
                "gpus": list(gpus),
                "extra_hosts": list(extra_hosts),
                "runtime": runtime,
                "init": init,
                "labels": dict(labels or {}),
                "keep": keep,
                "launches_at_once": launches_at_once,
                "patch": None if patch is None else dict(patch),
            }
        )


DOCKER_SOCKET = "unix:///var/run/docker.sock"
PODMAN_SOCKET = "unix:///run/podman/podman.sock"


class Podman(Docker):
    """As `Docker`, for Podman's service (`podman system service`): `host` is PODMAN_HOST, or else `/run/podman/podman.sock`.

    It does not say whether a container was killed for want of memory: `oom` of exits is None.
    """

    def __init__(self, image: str, *, host: str | None = None, **more: Any) -> None:
        if host is None:
            host = os.environ.get("PODMAN_HOST") or PODMAN_SOCKET
        super().__init__(image, host=host, **more)
