"""The launcher for Slurm: each proc is a job, or an element of a job array."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from procession import _native, _validate
from procession._engines import EngineLauncher
from procession.errors import Unreachable


class Slurm(EngineLauncher):
    """Launches each proc as a job of Slurm, by the user's own `sbatch`, `squeue`, `scancel` and, where there is accounting, `sacct`.

    Procs that are launched together are elements of one job array.

    partition: where jobs run; None is the cluster's default, as for all that is None here.
    account: who is charged.
    qos: the quality of service.
    time_limit: the walltime as sbatch takes it: `"30"` (minutes), `"1:30:00"`, `"2-00:00:00"`.
    constraint: the features that nodes must have.
    nodes: how many nodes each job gets; the program runs on the first of them.
    nodelist: the nodes that each job must have, `"n[1-4]"`.
    exclude: the nodes that no job may have.
    gres: generic resources of each node, `"gpu:a100:2"`.
    gpus: the GPUs of each job, `"2"` or `"a100:2"`.
    cpus_per_task: the processors of each job.
    options: more options of sbatch in their long form, in the place of what this launcher would say: `["--reservation=night"]`.
    comment: what stands in the comment of each job, before what procession writes there.
    requeue: whether Slurm may put a job back into its queue and run it again, after a preemption or when a node fails. Refused for
        Python procs, which `spawn_procs(restart=...)` launches again.
    output_dir: an absolute path, for the files of jobs (commands, output), on a file system that this machine and the nodes share;
        None is `~/.procession/slurm`.
    keep: whether the files of jobs stay when their procs have ended.
    python: the program on the nodes that runs Python procs; None is this interpreter, at the same path.
    bind: where this machine waits for procs to reach back, `"address:port"` with port 0 for any; None is the address of its name.
    advertise: what procs dial when that differs, `"address[:port]"`.
    conf: the absolute path of Slurm's configuration; None is SLURM_CONF, or else the usual place.
    poll: seconds between two looks at the queue, one for all procs, at most; they are further apart when the controller is slow.
    launches_at_once: how many procs may be submitted, or wait in the queue, at the same time.

    A job has the environment of this process, with `env` of `spawn_procs` added. `resources={"memory": ...}` is for clusters that
    hold jobs to it (`TaskPlugin=task/cgroup` with ConstrainRAMSpace and ConstrainSwapSpace, and memory that is given out). Exits tell a preemption, the
    time limit and a requeue from failures of the program: `exit.certificate.verdict` is "preempted", "time limit" or "requeued", and its
    class "evicted".
    """

    _kind = "slurm"

    def __init__(
        self,
        partition: str | None = None,
        *,
        account: str | None = None,
        qos: str | None = None,
        time_limit: str | None = None,
        constraint: str | None = None,
        nodes: int | None = None,
        nodelist: str | None = None,
        exclude: str | None = None,
        gres: str | None = None,
        gpus: str | None = None,
        cpus_per_task: int | None = None,
        options: Sequence[str] = (),
        comment: str | None = None,
        requeue: bool = False,
        output_dir: str | os.PathLike[str] | None = None,
        keep: bool = False,
        python: str | None = None,
        bind: str | None = None,
        advertise: str | None = None,
        conf: str | os.PathLike[str] | None = None,
        poll: float = 1.0,
        launches_at_once: int = 1000,
    ) -> None:
        if isinstance(options, str):
            _validate.refuse("options", options, "pass a list of texts")
        texts = {
            "partition": partition,
            "account": account,
            "qos": qos,
            "time_limit": time_limit,
            "constraint": constraint,
            "nodelist": nodelist,
            "exclude": exclude,
            "gres": gres,
            "gpus": gpus,
            "comment": comment,
            "python": python,
            "bind": bind,
            "advertise": advertise,
        }
        for name, value in texts.items():
            if value is not None:
                _validate.text(name, value)
        for name, count in {"nodes": nodes, "cpus_per_task": cpus_per_task}.items():
            if count is not None:
                _validate.count(name, count, least=1)
        super().__init__(
            {
                **texts,
                "nodes": nodes,
                "cpus_per_task": cpus_per_task,
                "options": list(options),
                "requeue": requeue,
                "output_dir": None if output_dir is None else os.fspath(output_dir),
                "keep": keep,
                "conf": None if conf is None else os.fspath(conf),
                "poll": _validate.seconds("poll", poll),
                "launches_at_once": _validate.count("launches_at_once", launches_at_once, least=1),
            }
        )


USUAL_PLACES = ("/etc/slurm", "/etc/slurm-llnl", "/run/slurm/conf", "/opt/slurm/etc", "/usr/local/etc")


def answers(seconds: float = 5.0) -> str:
    """Which controller answers, in Slurm's words; raises Unreachable where none does, or where this build cannot use it."""
    if "slurm" not in _native.features():
        raise Unreachable("this build has no launcher of kind 'slurm': build it with --features engines")
    for program in ("scontrol", "sbatch", "squeue", "scancel"):
        if shutil.which(program) is None:
            raise Unreachable(f"{program} is not in PATH; install Slurm's commands, or load their module")
    # Without any its commands would look for one for a minute.
    if not os.environ.get("SLURM_CONF") and not any(Path(place, "slurm.conf").exists() for place in USUAL_PLACES):
        raise Unreachable("there is no slurm.conf in any of the usual places; set SLURM_CONF")
    try:
        done = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Unreachable(f"its controller has not answered within {seconds:g} s") from None
    said = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[0]
    if done.returncode != 0:
        raise Unreachable(f"its controller does not answer: {said}")
    return said
