"""Ways to other machines that are this one: a real sshd, a real Slurm, and launchers that go through them."""

import asyncio
import os
import shlex
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from procession.launch import DialBack, ProcExitResult, ProcLauncher, supervise


def program(name):
    """Its path; daemons are not in everybody's."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def daemon(command, log, **kwargs):
    """Runs it in the foreground of a session of its own, and ends it."""
    with open(log, "a") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True, **kwargs)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(condition, what, log):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"{what}: {Path(log).read_text()}"
        time.sleep(0.02)


@contextmanager
def sshd(folder):
    """An sshd on the loopback; gives the configuration with which `ssh -F it there` gets in."""
    folder = Path(folder)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    empty = Path("/run/sshd")  # where it keeps nothing, and without which it does not start
    made = not empty.exists()
    empty.mkdir(exist_ok=True)
    port, log = free_port(), folder / "sshd.log"
    server = folder / "sshd.conf"
    server.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        "UsePAM no\nStrictModes no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no\n"
    )
    client = folder / "ssh.conf"
    client.write_text(
        f"Host there\n HostName 127.0.0.1\n Port {port}\n IdentityFile {folder}/user\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {folder}/known\n StrictHostKeyChecking accept-new\n BatchMode yes\n"
    )
    try:
        with daemon([program("sshd"), "-D", "-e", "-f", str(server)], log):
            until(lambda: "Server listening" in log.read_text(), "sshd serves", log)
            yield client
    finally:
        if made:
            empty.rmdir()


class Ssh(ProcLauncher):
    """`params["config"]` leads to `there`. What the proc has to know goes through stdin, where no list of processes shows it."""

    dial_back = DialBack.network(bind="127.0.0.1:0")

    def __init__(self, params=None):
        super().__init__(params)
        self.pids = {}

    def ssh(self, *words, **kwargs):
        return asyncio.create_subprocess_exec("ssh", "-F", self.params["config"], "there", *words, **kwargs)

    async def launch(self, exit_port, proc_id, opts):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
        process = await self.ssh("sh", **pipes)
        exports = [f"export {name}={shlex.quote(value)}" for name, value in opts.environment({}).items()]
        process.stdin.write("\n".join([*exports, "echo $$", f"exec {shlex.join(opts.argv)}", ""]).encode())
        process.stdin.close()
        self.pids[proc_id] = (await process.stdout.readline()).decode().strip()
        self.report(proc_id, handle=f"ssh there, process {self.pids[proc_id]}")
        _, said = await process.communicate()
        code = process.returncode
        reason = None if code != 255 else "ssh failed"
        tail = said.decode(errors="replace").splitlines()[-opts.tail_lines or 1 :]
        exit_port.send(ProcExitResult(code, None, False, reason, tail))

    async def terminate(self, proc_id, timeout_secs):
        await self.signal(proc_id, "TERM")

    async def kill(self, proc_id):
        await self.signal(proc_id, "KILL")

    async def signal(self, proc_id, name):
        process = await self.ssh(f"kill -{name} {self.pids[proc_id]} 2>/dev/null || true")
        await process.wait()


@contextmanager
def slurm(folder, nodes=2):
    """A controller and some nodes of Slurm on the loopback; gives the path of their configuration."""
    folder = Path(folder)
    key, log = folder / "munge.key", folder / "slurm.log"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    os.chmod(folder, 0o755)
    socket_ = folder / "munge.socket"
    ports = [free_port() for _ in range(nodes + 1)]
    lines = [
        "ClusterName=loopback",
        f"SlurmctldHost={socket.gethostname()}(127.0.0.1)",
        f"SlurmctldPort={ports[0]}",
        "SlurmUser=root",
        "SlurmdUser=root",
        f"AuthType=auth/munge\nAuthInfo=socket={socket_}",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool-%n",
        f"SlurmctldPidFile={folder}/ctld.pid",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SelectType=select/cons_tres",
        "SlurmdParameters=config_overrides",
        "MpiDefault=none",
        "ReturnToService=2",
        *(
            f"NodeName=n{n} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={ports[n]} CPUs=2"
            for n in range(1, nodes + 1)
        ),
        "PartitionName=all Nodes=ALL Default=YES OverSubscribe=FORCE:4",
    ]
    conf = folder / "slurm.conf"
    conf.write_text("\n".join([*lines, ""]))
    (folder / "state").mkdir()
    env = {**os.environ, "SLURM_CONF": str(conf)}
    with ExitStack() as stack:
        munged = [program("munged"), "--foreground", "--force", f"--key-file={key}", f"--socket={socket_}"]
        munged += [f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munged.seed", f"--log-file={log}"]
        stack.enter_context(daemon(munged, log))
        until(socket_.exists, "munged serves", log)
        stack.enter_context(daemon([program("slurmctld"), "-D", "-i", "-f", str(conf)], log, env=env))
        for n in range(1, nodes + 1):
            stack.enter_context(daemon([program("slurmd"), "-D", "-N", f"n{n}", "-f", str(conf)], log, env=env))

        def idle():
            told = subprocess.run(["sinfo", "-h", "-N", "-o", "%t"], env=env, capture_output=True, text=True)
            return told.stdout.split() == ["idle"] * nodes

        until(idle, "all nodes are idle", log)
        yield conf


class Slurm(ProcLauncher):
    """`params["conf"]` is the cluster's. Each proc is a job of one task."""

    dial_back = DialBack.network(bind="127.0.0.1:0")

    def __init__(self, params=None):
        super().__init__(params)
        self.running = {}

    async def launch(self, exit_port, proc_id, opts):
        env = opts.environment() | {"SLURM_CONF": self.params["conf"]}
        argv = ["srun", "--quiet", "--ntasks=1", "--cpus-per-task=1", "--exclusive", *opts.argv]
        process = self.running[proc_id] = await supervise(opts, argv=argv, env=env)
        exit_port.send(await process.wait())

    async def terminate(self, proc_id, timeout_secs):
        await self.running[proc_id].terminate(timeout_secs)

    async def kill(self, proc_id):
        await self.running[proc_id].terminate(1)  # a killed srun would leave its step behind
