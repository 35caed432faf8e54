"""The launcher for Kubernetes: each proc is a pod."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from procession import _native, _validate
from procession._engines import EngineLauncher
from procession.errors import Unreachable


class Kubernetes(EngineLauncher):
    """Launches each proc as a pod of a Kubernetes cluster.

    image: what pods are made of. For Python procs it needs Python of the client's minor version, procession and cloudpickle.
    namespace: where pods are made; None is that of the context, or of the pod that this process runs in.
    context: the context of the kubeconfig; None is its current one.
    kubeconfig: its path; None is KUBECONFIG, or else `~/.kube/config`, or else what Kubernetes gives to pods.
    python: the program in the image that runs Python procs, in the place of this interpreter.
    image_pull_policy: "Always", "IfNotPresent" or "Never"; None is Kubernetes' own choice, always for `:latest` and else when the
        node has none of that name.
    image_pull_secrets: the names of the secrets by which images are pulled.
    image_patience: seconds for which an image may fail to be pulled, or a container to be made, until the launch has failed.
    node_selector: labels that nodes must have.
    tolerations: the taints of nodes that are tolerated, `"key[=value][:effect]"` each, as `kubectl taint` writes them.
    service_account: the service account, whose token pods then have; None is the namespace's default, and no token.
    priority_class: the priority class.
    runtime_class: the runtime class.
    gpus: how many GPUs each pod gets (`nvidia.com/gpu`).
    volumes: what pods see, `"SOURCE:TARGET[:ro]"` each, where SOURCE is an absolute path of the node, `pvc/NAME`, `configmap/NAME`,
        `secret/NAME`, `empty` (a directory of the pod's own), `memory` or `memory/SIZE` (one in memory): `"memory/1Gi:/dev/shm"`.
    labels: labels of pods, beside those by which procession knows its own.
    annotations: annotations of pods.
    init: whether process 1 is the pod's own, which reaps orphans. Without it a program that does not handle SIGTERM ignores it.
    bind: where this machine waits for procs to reach back, `"address:port"` with port 0 for any; None is the address from which it
        reaches the cluster, which in a pod is the pod's.
    advertise: what procs dial when that differs, `"address[:port]"`.
    keep: whether pods stay when their procs have ended.
    launches_at_once: how many procs may be made, or wait for a node, at the same time.
    patch: what is merged into each pod, as the API writes it (JSON merge patch); containers and volumes are told by their names, and
        that of the proc is called `proc`: `{"spec": {"containers": [{"name": "proc", "tty": True}]}}`.

    `resources` (memory, cpu), `user`, `cwd` and `env` of `spawn_procs` are those of the container; `env` is in a Secret that goes with
    the pod. Taking variables away (`env={NAME: None}`, `clear_env`) is refused: a container has the environment of its image. Both
    output streams come as one, stdout. Exits tell what took a pod's place away: `exit.certificate.verdict` is "preempted", "evicted",
    "time limit" or "deleted" (by somebody else), and its class "evicted".
    """

    _kind = "kubernetes"

    def __init__(
        self,
        image: str,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | os.PathLike[str] | None = None,
        python: str = "python3",
        image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None,
        image_pull_secrets: Sequence[str] = (),
        image_patience: float = 60.0,
        node_selector: Mapping[str, str] | None = None,
        tolerations: Sequence[str] = (),
        service_account: str | None = None,
        priority_class: str | None = None,
        runtime_class: str | None = None,
        gpus: int = 0,
        volumes: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        init: bool = True,
        bind: str | None = None,
        advertise: str | None = None,
        keep: bool = False,
        launches_at_once: int = 1000,
        patch: Mapping[str, Any] | None = None,
    ) -> None:
        if image_pull_policy not in (None, "Always", "IfNotPresent", "Never"):
            _validate.refuse("image_pull_policy", image_pull_policy, 'pass "Always", "IfNotPresent" or "Never"')
        lists = {"image_pull_secrets": image_pull_secrets, "tolerations": tolerations, "volumes": volumes}
        texts = {
            "namespace": namespace,
            "context": context,
            "service_account": service_account,
            "priority_class": priority_class,
            "runtime_class": runtime_class,
            "bind": bind,
            "advertise": advertise,
        }
        for name, text in texts.items():
            if text is not None:
                _validate.text(name, text)
        maps = {"node_selector": node_selector, "labels": labels, "annotations": annotations}
        for name, given in maps.items():
            if given is None:
                continue
            if not isinstance(given, Mapping) or not all(
                isinstance(text, str) for pair in given.items() for text in pair
            ):
                _validate.refuse(name, given, "pass a dict of texts to texts")
        if patch is not None:
            rule = "pass a dict as the API writes it, of what JSON has"
            try:
                json.dumps(patch)
            except (TypeError, ValueError) as error:
                _validate.refuse("patch", patch, f"{rule} ({error})")
            if not isinstance(patch, dict):
                _validate.refuse("patch", patch, rule)
        super().__init__(
            {
                "image": _validate.text("image", image),
                **texts,
                "kubeconfig": None if kubeconfig is None else os.fspath(kubeconfig),
                "python": _validate.text("python", python),
                "image_pull_policy": image_pull_policy,
                **{name: _validate.args(name, value) for name, value in lists.items()},
                "image_patience": _validate.seconds("image_patience", image_patience),
                **{name: dict(given or {}) for name, given in maps.items()},
                "gpus": _validate.count("gpus", gpus, most=2**32 - 1),
                "init": _validate.flag("init", init),
                "keep": _validate.flag("keep", keep),
                "launches_at_once": _validate.count("launches_at_once", launches_at_once, least=1),
                "patch": None if patch is None else dict(patch),
            }
        )


IN_A_POD = "/var/run/secrets/kubernetes.io/serviceaccount/token"


def configured() -> str:
    """What says where the cluster is; raises Unreachable where nothing does, or where this build cannot use it."""
    if "kubernetes" not in _native.features():
        raise Unreachable("this build has no launcher of kind 'kubernetes': build it with --features engines")
    given = os.environ.get("KUBECONFIG")
    paths = given.split(":") if given else [os.path.expanduser("~/.kube/config")]
    found = next((path for path in paths if path and Path(path).exists()), None)
    if found is not None:
        return f"by {found}"
    if "KUBERNETES_SERVICE_HOST" in os.environ and Path(IN_A_POD).exists():
        return "of the pod that this process runs in"
    raise Unreachable(f"there is no kubeconfig ({', '.join(paths)}); set KUBECONFIG")
