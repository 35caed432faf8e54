"""Exits as people and shells see them."""

import dataclasses

import pytest

from procession._exits import event_from, exit_from, short, status_from
from procession.launch import LaunchOptions, ProcExit, ProcExitResult, exit_table

GIVEN = {
    "proc_id": "w-0.0123@host",
    "name": "w-0",
    "rank": 0,
    "incarnation": 1,
    "launch_id": "0123",
    "kind": "exited",
    "exit_code": 0,
    "signal": None,
    "core_dumped": False,
    "failed_reason": None,
    "stderr_tail": [],
    "stdout_tail": [],
    "oom": None,
    "requested": None,
    "started_at": 1000.0,
    "ready_at": 1000.5,
    "ended_at": 1002.0,
    "verdict": "clean exit",
    "launcher": "native",
    "pid": 77,
}


def made(**changes):
    return exit_from({**GIVEN, **changes})


def test_an_exit_is_frozen_and_takes_fields_it_does_not_know():
    one = made(newer_field=1)
    assert one == ProcExit(**GIVEN)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.exit_code = 3


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({}, 0, "code 0"),
        ({"exit_code": 3}, 3, "code 3"),
        ({"exit_code": None}, 125, "code unknown"),
        ({"exit_code": -1}, 125, "code unknown"),
        ({"kind": "signaled", "exit_code": None, "signal": 9}, 137, "signal 9"),
        ({"kind": "signaled", "exit_code": None, "signal": 11, "core_dumped": True}, 139, "signal 11 (core)"),
        ({"kind": "failed", "exit_code": None}, 125, "failed"),
        ({"kind": "lost", "exit_code": None}, 125, "lost"),
    ],
)
def test_a_shell_sees_each_kind_of_exit(changes, code, words):
    one = made(**changes)
    assert (one.shell_code, short(one), one.ok) == (code, words, code == 0)


def test_the_table_lines_up():
    lines = exit_table(
        [made(), made(name="a-longer-name-1", rank=1, ready_at=None, pid=None, exit_code=3)]
    ).splitlines()
    assert lines[0].split() == [
        "rank",
        "name",
        "launcher",
        "inc",
        "pid",
        "started",
        "ready",
        "after",
        "ended",
        "exit",
        "verdict",
    ]
    assert "0.50 s" in lines[1]
    assert lines[1].index("native") == lines[2].index("native") == lines[0].index("launcher")
    assert lines[2].endswith("clean exit")


def test_the_table_of_nothing_is_its_headings():
    assert exit_table([]).startswith("rank")


def test_statuses_and_events_are_typed():
    status = status_from(
        {"status": "ready", "pid": 1, "handle": None, "progress": None, "launcher": "native"}
        | dict.fromkeys(("started_at", "running_at", "ready_at", "ended_at"), 1.0)
    )
    assert (str(status), status.pid) == ("ready", 1)
    event = event_from(
        {"kind": "note", "proc_id": "p", "name": "n", "rank": 0, "incarnation": 1, "at": 1.0, "text": "x"}
    )
    assert (event.kind, event.detail) == ("note", {"text": "x"})


@pytest.fixture
def options():
    return LaunchOptions("payload-canary", "w-0 @ host", "/bin/x", None, ["-a"], {"KEY": "canary"}, True, 10, "channel")


def test_launch_options_show_no_secret(options):
    assert "KEY" in repr(options)
    assert "canary" not in repr(options)
    assert options.argv == ["/bin/x", "-a"]


def test_the_environment_is_the_base_and_what_was_asked_for(options, monkeypatch):
    monkeypatch.setenv("PROCESSION_SECRET", "x")
    monkeypatch.setenv("FROM_LAUNCHER", "1")
    env = options.environment()
    assert env["FROM_LAUNCHER"] == "1"
    assert "PROCESSION_SECRET" not in env
    expected = {
        "KEY": "canary",
        "PROCESSION_BOOTSTRAP": "payload-canary",
        "PROCESSION_PROCESS_NAME": "w-0 @ host",
        "PROCESSION_LOG_CHANNEL": "channel",
    }
    assert options.environment({}) == expected
    options.log_channel = None
    assert "PROCESSION_LOG_CHANNEL" not in options.environment({})


def test_the_environment_can_be_cleared_and_taken_from(options, monkeypatch):
    monkeypatch.setenv("FROM_LAUNCHER", "1")
    options.env_remove = ["FROM_LAUNCHER"]
    assert "FROM_LAUNCHER" not in options.environment()
    options.env_remove, options.clear_env = [], True
    assert "FROM_LAUNCHER" not in options.environment()


def test_an_exit_result_is_made_of_five_fields_and_checks_nothing():
    assert [field.name for field in dataclasses.fields(ProcExitResult)] == [
        "exit_code",
        "signal",
        "core_dumped",
        "failed_reason",
        "stderr_tail",
    ]
    assert ProcExitResult("x", True, None, 3, None).exit_code == "x"
    with pytest.raises(TypeError):
        ProcExitResult(0)
