"""The launcher for virtual machines: each proc has one of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence

from procession import _validate
from procession._agents import AgentLauncher


class Vm(AgentLauncher):
    """Launches each proc in a virtual machine of QEMU of its own, which boots for it and ends with it.

    image: the file of the root file system, ext4, raw or qcow2, with all that procs need. It is never written; what a guest writes
        is gone with it.
    kernel: the kernel; None is the newest of `/boot/vmlinuz-*-cloud-amd64`, or else of `/boot/vmlinuz-*`.
    modules: the directory of its modules, with a `modules.dep`; None is `/lib/modules/` and the version in the kernel's name.
    agent: the command of the agent in the image. That needs procession and a Python of this interpreter's minor version;
        `["procession-agent", "--stdio"]` needs no Python.
    memory: what a guest has at least, in bytes or as `"512M"`. One whose proc has a limit, `resources={"memory": ...}`, has 256 MiB
        more than that.
    cpus: how many processors a guest has at least. One whose proc has `resources={"cpu": 2.5}` has as many whole ones: 3.
    accel: `"kvm"`, `"tcg"`, which needs nothing and is some ten times slower, or `"auto"`: KVM where a guest boots with it within 10 s,
        which is tried once.
    network: `"user"` for guests that reach what this user reaches; None is no network.
    qemu: the program.
    options: what it is given beside all that this launcher gives it, and in its place where QEMU takes something once:
        `["-cpu", "qemu64"]`.
    boot_timeout: seconds for a guest's agent to answer. No other deadline runs out while it boots, for 10 minutes.
    lease: seconds that an agent may not answer before its proc counts as lost.
    launches_at_once: how many guests boot at the same time.
    state_dir: where guests have their sockets; None is `~/.procession/vm`.

    What procs and their host say to each other goes through a port of the machine (virtio-serial), so that it needs no network.
    `resources`, `rlimits`, `user`, `security` and `proc_bind` are what the guest's own kernel holds a proc to.
    """

    _kind = "vm"

    def __init__(
        self,
        image: str | os.PathLike[str],
        *,
        kernel: str | os.PathLike[str] | None = None,
        modules: str | os.PathLike[str] | None = None,
        agent: Sequence[str] = ("python3", "-m", "procession", "agent", "--stdio"),
        memory: int | str = "512M",
        cpus: int = 1,
        accel: str = "auto",
        network: str | None = None,
        qemu: str = "qemu-system-x86_64",
        options: Sequence[str] = (),
        boot_timeout: float = 300.0,
        lease: float = 30.0,
        launches_at_once: int = 2,
        state_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if accel not in ("auto", "kvm", "tcg"):
            _validate.refuse("accel", accel, 'pass "auto", "kvm" or "tcg"')
        if network not in (None, "user"):
            _validate.refuse("network", network, 'pass "user", or None for no network')
        paths = {"image": image, "kernel": kernel, "modules": modules, "state_dir": state_dir}
        super().__init__(
            {
                **{
                    name: None if path is None else _validate.text(name, os.fspath(path))
                    for name, path in paths.items()
                },
                "agent": _validate.args("agent", agent),
                "memory": _validate.size("memory", memory),
                "cpus": _validate.count("cpus", cpus, least=1),
                "accel": accel,
                "network": network,
                "qemu": _validate.text("qemu", qemu),
                "options": _validate.args("options", options),
                "boot_timeout": _validate.seconds("boot_timeout", boot_timeout),
                "lease": _validate.seconds("lease", lease),
                "launches_at_once": _validate.count("launches_at_once", launches_at_once, least=1),
            }
        )
