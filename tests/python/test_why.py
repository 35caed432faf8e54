"""Why procs ended: certificates, what a proc had noted about itself, and how long its boot took."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from launching import Supervising, ends_once_it_is_watched, only_exit, spawn, tells_exits, until
from procession._certificate import ActorFailed, Handling
from procession._records import Case
from procession._why import explained
from procession.actor import Actor, concurrent_endpoint, endpoint, this_host
from procession.errors import LaunchFailed
from procession.launch import (
    BootTiming,
    Capabilities,
    Certificate,
    FlightRecord,
    ProcExit,
    ProcExitResult,
    ProcLauncher,
    StopIntent,
    supervise,
)

PHASES = ("queue", "exec", "interpreter", "imports", "dial", "ready")


class Busy(Actor):
    @endpoint
    def hang(self, started):
        Path(started).touch()
        signal.pause()

    @endpoint
    def pid(self):
        return os.getpid()


class BusyAtOnce(Actor):
    @concurrent_endpoint
    async def never(self, started):
        Path(started).touch()
        await asyncio.Event().wait()


class HangsWhenBuilt(Actor):
    def __init__(self, started):
        Path(started).touch()
        signal.pause()


def appears(path):
    """Waits for a file that a proc makes when it has come so far."""
    until(path.exists)


def killed(procs):
    """How it ends when somebody else kills it."""
    os.kill(procs.statuses().item().pid, signal.SIGKILL)
    return only_exit(procs)


def test_a_proc_that_is_killed_in_an_endpoint_leaves_the_name_of_actor_and_endpoint_and_who_called(tmp_path):
    procs = this_host().spawn_procs()
    busy = procs.spawn("worker", Busy)
    assert busy.pid.call_one().get(30) > 0
    call = busy.hang.call_one(str(tmp_path / "started"))
    appears(tmp_path / "started")
    one = killed(procs)
    with pytest.raises(Exception, match="SIGKILL"):
        call.get(10)
    (message,) = one.certificate.flight.in_progress
    assert message.endpoint == "hang"
    assert message.actor.startswith("worker-")
    assert message.sender.startswith("client/")
    assert one.started_at < message.since < one.ended_at
    assert one.certificate.flight.booting is None
    assert one.certificate.flight.rss[0][1] > 2**20
    assert (one.certificate.verdict, one.certificate.class_) == ("killed", "app")
    text = procs.why()
    assert text.startswith(f"{one.name} (rank 0, incarnation 1): killed: signal 9 (SIGKILL), not requested by us")
    assert f"message {message.number}: {message.actor}.hang, from {message.sender}" in text
    assert text == one.explain()


def test_messages_that_an_asynchronous_actor_handles_at_once_are_all_told(tmp_path):
    procs = this_host().spawn_procs()
    busy = procs.spawn("worker", BusyAtOnce)
    started = [tmp_path / f"started-{number}" for number in range(30)]
    calls = [busy.never.call_one(str(path)) for path in started]
    for path in started:
        appears(path)
    flight = killed(procs).certificate.flight
    assert {message.endpoint for message in flight.in_progress} == {"never"}
    assert (len(flight.in_progress), flight.unnoted) == (24, 6)
    for call in calls:
        with pytest.raises(Exception, match="SIGKILL"):
            call.get(10)


def test_an_actor_that_hangs_while_it_is_built_is_named_too(tmp_path):
    procs = this_host().spawn_procs()
    procs.spawn("stuck", HangsWhenBuilt, str(tmp_path / "started"))
    appears(tmp_path / "started")
    one = killed(procs)
    assert [busy.endpoint for busy in one.certificate.flight.in_progress] == ["__init__"]


def test_an_actor_that_fails_unhandled_is_in_the_certificate_of_its_proc():
    class Failing(Actor):
        @endpoint
        def fail(self):
            raise RuntimeError("nobody waits for this")

    procs = this_host().spawn_procs()
    failing = procs.spawn("failing", Failing)
    failing.initialized.get(30)
    failing.fail.broadcast()
    procs.stop("enough")
    (failed,) = only_exit(procs).certificate.actors_failed
    assert failed.actor.startswith("failing-")
    assert "nobody waits for this" in failed.failure
    assert "nobody waits for this" in procs.why()


def test_a_boot_is_timed_phase_by_phase():
    with this_host().spawn_procs() as procs:
        procs.initialized.get(30)
        status = procs.statuses().item()
    one = procs.exits().item()
    took = [getattr(one.boot, phase) for phase in PHASES]
    assert all(seconds is not None and seconds >= 0 for seconds in took), one.boot
    assert one.boot.interpreter > 0
    assert one.boot.imports > 0
    assert status.boot == one.boot
    assert one.boot.total == pytest.approx(one.ready_at - one.started_at, abs=1.0)
    assert one.certificate.missing in ((), ("nobody could see whether it ran out of memory",))


def crashing_import(tmp_path):
    """A directory for PYTHONPATH: whoever imports the runtime of a proc from there on ends by SIGABRT."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def hook(event, args):\n"
        "    if event == 'import' and args[0] == 'procession._native':\n"
        "        print('the import crashes', file=sys.stderr, flush=True)\n"
        "        os.abort()\n"
        "if 'PROCESSION_BOOTSTRAP' in os.environ:\n"
        "    sys.addaudithook(hook)\n"
    )
    return {"PYTHONPATH": str(tmp_path)}


def test_a_crash_while_the_runtime_is_imported_names_that_phase(tmp_path):
    procs = this_host().spawn_procs(env=crashing_import(tmp_path), fork_server=False)
    with pytest.raises(LaunchFailed, match=r"while importing\)(?s:.*)the import crashes"):
        procs.initialized.get(30)
    one = only_exit(procs)
    assert (one.certificate.verdict, one.certificate.phase) == ("boot failed", "imports")
    assert one.verdict.startswith("boot failed (importing: ended before it was ready): signal 6")
    assert one.certificate.flight.booting[0] == "imports"
    assert one.certificate.stderr_head[0] == "the import crashes"
    assert "boot failed, while imports" in one.explain()
    assert "nobody saw it dial back" in one.certificate.missing


def hang():
    signal.pause()


@pytest.mark.parametrize("launcher", [None, Supervising])
def test_a_missed_ready_deadline_names_the_phase_and_the_last_word(launcher):
    procs = this_host().spawn_procs(bootstrap=hang, ready_timeout=2, launcher=launcher)
    with pytest.raises(LaunchFailed, match="while setting up"):
        procs.initialized.get(30)
    one = only_exit(procs)
    assert "last word: runs the bootstrap callable" in one.verdict
    assert one.certificate.phase == "ready"
    assert one.certificate.stops[0].by == "ready deadline"
    assert one.certificate.rungs[0][0] == "terminate"


@pytest.mark.fault("F3")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT])
def test_the_certificate_of_a_signal_has_the_kernels_word_for_it(number):
    one = only_exit(spawn(None, f"ulimit -c 0; kill -{int(number)} $$"))
    crash = number in (signal.SIGSEGV, signal.SIGABRT)
    assert one.certificate.verdict == ("crash" if crash else "killed")
    (said,) = [who.says for who in one.certificate.evidence if who.source == "kernel, as parent"]
    assert said == f"signal {int(number)} ({number.name})"
    assert "nobody saw how the process ended" not in one.certificate.missing
    assert "a program without our runtime notes nothing" in one.certificate.missing[-1]


class Lying(ProcLauncher):
    """Says of everything that it went well."""

    capabilities = Capabilities(pid=True)

    async def launch(self, exit_port, proc_id, opts):
        process = await supervise(opts)
        self.report(proc_id, pid=process.pid)
        await process.wait()
        exit_port.send(ProcExitResult(0, None, False, None, []))

    async def terminate(self, proc_id, timeout_secs): ...
    async def kill(self, proc_id): ...


@pytest.mark.fault("F42")
def test_a_launcher_that_contradicts_the_kernel_is_shown_with_what_each_said(tmp_path):
    if not tells_exits():
        pytest.skip("capability: pidfd-status")
    procs = ends_once_it_is_watched("kill -9 $$", Lying, tmp_path / "gate")
    one = only_exit(procs)
    assert one.certificate.verdict == "killed"
    (contradiction,) = one.certificate.contradictions
    assert contradiction.startswith("the launcher reported exit code 0; the operating system says signal 9")
    said = [(who.source, who.says) for who in one.certificate.evidence]
    assert ("kernel, by pidfd", "signal 9 (SIGKILL)") in said
    assert any(source == "launcher" and says.startswith("reported exit code 0") for source, says in said)
    assert contradiction in procs.why()


class Ambiguous(Lying):
    async def launch(self, exit_port, proc_id, opts):
        exit_port.send(ProcExitResult(3, 9, False, None, []))


@pytest.mark.fault("F45")
def test_an_ambiguous_report_is_in_the_certificate_with_its_raw_facts():
    one = only_exit(spawn(Ambiguous, "true"))
    says = [who.says for who in one.certificate.evidence]
    assert "reported signal 9 (SIGKILL) (its facts: exit code 3, signal 9, failure not given)" in says
    assert any(text.startswith("ambiguous exit") for text in says)


class Dying(Lying):
    async def launch(self, exit_port, proc_id, opts):
        print("the launcher gives up", flush=True)
        os._exit(9)


def test_what_a_launcher_failed_to_launch_is_shown_with_the_end_of_the_launcher_itself():
    procs = spawn(Dying, "true")
    one = only_exit(procs)
    assert one.certificate.class_ == "launcher"
    assert one.certificate.launched_in.startswith("launcher-")
    # Records are written beside the exit, and not before it.
    after = until(lambda: procs.why().partition("its launcher's proc")[2])
    assert "exit code 9" in after
    assert "the launcher gives up" in after


class InAnotherMountNamespace(Supervising):
    """Its procs find something else where the host has put their flight records."""

    async def launch(self, exit_port, proc_id, opts):
        hide = 'mount --bind /dev/null "$PROCESSION_FLIGHT_RECORD" && exec "$@"'
        process = self.running[proc_id] = await supervise(
            opts, argv=["unshare", "--mount", "/bin/sh", "-c", hide, "sh", *opts.argv]
        )
        self.report(proc_id, pid=process.pid)
        exit_port.send(await process.wait())


def test_a_proc_that_does_not_see_the_hosts_files_has_no_flight_record_and_its_certificate_says_so():
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("capability: namespaces")
    procs = this_host().spawn_procs(launcher=InAnotherMountNamespace)
    assert procs.spawn("worker", Busy).pid.call_one().get(30) > 0
    procs.stop("seen enough")
    one = only_exit(procs)
    assert one.certificate.flight is None
    why = "nobody saw what it was busy with: it does not see the files of its host, and so found no flight record"
    assert why in one.certificate.missing
    assert one.boot.total is not None


def test_every_request_to_stop_is_kept_with_who_and_why():
    procs = this_host().spawn_procs()
    procs.initialized.get(30)
    procs.stop("first reason")
    procs.kill().get(20)
    one = only_exit(procs)
    assert [(stop.by, stop.why, stop.rung) for stop in one.certificate.stops] == [
        ("stop", "first reason", "agent"),
        ("kill", "ProcMesh.kill", "kill"),
    ]
    assert one.certificate.verdict == "stopped"
    text = procs.why()
    assert "stop asked for its end: first reason" in text
    assert "kill asked for" in text


def test_a_certificate_is_as_plain_as_json_has_it():
    procs = this_host().spawn_procs()
    procs.spawn("worker", Busy).pid.call_one().get(30)
    certificate = killed(procs).certificate
    plain = certificate.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["class"], plain["boot"]["queue"]) == ("app", certificate.boot.queue)


def test_the_first_lines_are_kept_too_and_control_bytes_are_shown_escaped():
    procs = spawn(None, r"for n in $(seq 1 300); do echo line $n; done; printf 'red \033[31m\n' >&2; exit 3")
    one = only_exit(procs)
    assert one.certificate.stdout_head == tuple(f"line {n}" for n in range(1, 11))
    assert one.stdout_tail[-1] == "line 300"
    text = procs.why()
    assert r"red \x1b[31m" in text
    assert "\x1b" not in text
    assert "stdout, first lines" in text
    assert "\n  line 1\n" in text
    assert "\n  line 300\n" in text + "\n"


def test_a_proc_that_lives_has_no_reason_to_tell():
    with this_host().spawn_procs(per_host={"x": 2}) as procs:
        procs.initialized.get(30)
        assert procs.why(1) == f"{procs._procs.standing([1])[0].name} has not ended: it is ready"
        with pytest.raises(ValueError, match="rank"):
            procs.why(2)


def test_one_of_several_is_told_beside_its_siblings():
    procs = spawn(None, "exit $CODE", per_host={"x": 3}, env=lambda point: {"CODE": "3" if point.rank == 1 else "0"})
    procs.wait(20).get()
    text = procs.why(1)
    assert "it: code 3; 2 others: 2 x code 0" in text
    assert "of 3 to start" in text


def made(**changes):
    """An exit with a certificate of which everything else is as little as there can be."""
    certificate = Certificate(**changes)
    return ProcExit(
        *("w-0.0@h", "w-0", 0, 1, "0", "signaled", None, 9, False, None, [], [], None, None),
        *(1000.0, 1001.0, 1010.0, "killed: signal 9", "native", 77),
        certificate=certificate,
    )


def test_a_proc_that_was_busy_with_nothing_or_whose_notes_are_garbled_is_explained_as_such():
    idle = made(flight=FlightRecord(messages=5, torn=2, unnoted=1)).explain()
    assert "1 more that were not noted" in idle
    assert "2 entries of the record are garbled" in idle
    assert "no message: its actors waited" in made(flight=FlightRecord(messages=5)).explain()
    assert "busy with" not in made().explain()


def test_what_a_proc_has_written_about_itself_cannot_play_tricks_on_a_terminal():
    tricky = Handling("\x1b]0;title\x07", "end\npoint", "\u202eme", 1, 1005.0)
    text = made(flight=FlightRecord(in_progress=(tricky,), said=((1006.0, "\x9b31m" + "x" * 5000),))).explain()
    assert not any(c in text for c in "\x1b\x07\x9b\u202e")
    assert r"\x1b]0;title\x07.end\npoint, from \u202eme" in text
    assert max(map(len, text.splitlines())) < 600


def test_an_explanation_says_what_came_first_at_the_top_and_the_end_last():
    stop = StopIntent("stop", 1008.0, "enough", "agent")
    text = made(stops=(stop,), rungs=(("agent", 1008.1),), boot=BootTiming(0.1, 0.2)).explain()
    timeline = text.partition("timeline\n")[2].partition("boot\n")[0]
    order = [
        "requested",
        "launcher asked",
        "running",
        "ready",
        "asked for its end",
        "agent was asked",
        "ended: signal 9",
    ]
    places = [timeline.index(word) for word in order]
    assert places == sorted(places)
    assert "+10.000 s  ended" in timeline


def test_requests_that_were_not_kept_are_counted():
    stop = StopIntent("stop", 1008.0, "enough", "agent")
    assert "3 more requests to end it are not shown" in made(stops=(stop,), more_stops=3).explain()


def test_an_actor_that_failed_is_told_with_its_failure():
    failed = ActorFailed("reader", 1004.0, "no such file")
    assert "+4.000 s  actor reader failed: no such file" in made(actors_failed=(failed,)).explain()


def test_a_line_that_is_among_the_first_and_the_last_is_shown_once():
    one = replace(made(stderr_head=("one", "two")), stderr_tail=["one", "two", "three"])
    shown = one.explain().partition("stderr\n")[2].split()
    assert shown[:3] == ["one", "two", "three"]
    one = replace(one, stderr_tail=["nine", "ten"])
    lines = [line.strip() for line in one.explain().splitlines()]
    begin = lines.index("stderr, first lines")
    assert lines[begin : begin + 6] == ["stderr, first lines", "one", "two", "stderr, last lines", "nine", "ten"]


def test_a_case_is_told_by_what_sets_it_apart_and_by_what_is_still_there(tmp_path):
    def case(started, ended, env, machine, core=None, host_pid=None):
        beside = {
            "env": env,
            "machine": machine,
            "core": core,
            "host_pid": host_pid or os.getpid(),
            "run_dir": str(tmp_path),
        }
        return Case(replace(made(), started_at=started, ended_at=ended, launch_id="f00d" * 8), beside)

    siblings = (
        case(1000.0, 1010.0, {"SAME": 1, "SEED": 2, "PROCESSION_LAUNCH_ID": 3}, "near"),
        case(1002.0, 1020.0, {"SAME": 1, "SEED": 2, "PROCESSION_LAUNCH_ID": 4}, "near"),
    )
    one = case(1001.0, 1005.0, {"SAME": 1, "SEED": 9, "PROCESSION_LAUNCH_ID": 5}, "far", "/core.7", 2**22 + 1)
    lines = [line.strip() for line in explained(replace(one, siblings=siblings)).splitlines()]
    assert "2nd of 3 to start, 1st to end" in lines
    assert "variables that are not the same everywhere (values are not kept): SEED" in lines
    assert "on far, of far, near" in lines
    assert "core: /core.7" in lines
    assert f"run directory of its host, which is gone: {tmp_path}" in lines
    left = subprocess.Popen(["sleep", "1000"], env={"PROCESSION_LAUNCH_ID": f"{one.exit.launch_id}:{'5' * 32}"})
    try:
        assert f"process {left.pid}: sleep" in explained(one)
    finally:
        left.kill()
        left.wait()
    assert f"process {left.pid}" not in explained(one)
    alone = explained(case(1000.0, 1010.0, {}, "near"))
    assert "left behind" not in alone
    assert "siblings" not in alone
