"""Modules that a proc imports before it is ready."""

import sys

import pytest

from launching import Supervising, only_exit, spawn
from procession.actor import Actor, endpoint, this_host
from procession.errors import InvalidArgument, LaunchFailed


class Looking(Actor):
    @endpoint
    def order(self):
        return list(sys.modules["noted"].ORDER)


@pytest.fixture
def modules(tmp_path, monkeypatch):
    (tmp_path / "noted.py").write_text("ORDER = []\n")
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(f"import noted\nnoted.ORDER.append({name!r})\n")
    (tmp_path / "broken.py").write_text("raise ValueError('not today')\n")
    (tmp_path / "slow.py").write_text("import signal\nsignal.pause()\n")
    monkeypatch.syspath_prepend(tmp_path)


def note_bootstrap():
    sys.modules["noted"].ORDER.append("bootstrap")


@pytest.mark.parametrize("launcher", [None, Supervising])
def test_modules_are_imported_in_their_order_before_the_bootstrap_callable_runs(modules, launcher):
    with spawn(launcher, preload=["second", "first"], bootstrap=note_bootstrap) as procs:
        assert procs.spawn("looking", Looking).order.call_one().get(30) == ["second", "first", "bootstrap"]


def test_an_import_that_fails_is_the_failure_of_the_boot_and_names_the_module(modules):
    procs = this_host().spawn_procs(preload=("first", "broken"))
    words = (
        r"while setting up\)(?s:.*)ValueError: not today(?s:.*)the import of broken, which is to be preloaded, failed"
    )
    with pytest.raises(LaunchFailed, match=words):
        procs.initialized.get(30)
    end = only_exit(procs)
    assert (end.exit_code, end.certificate.verdict) == (1, "boot failed")
    assert end.verdict.startswith("boot failed (setting up: ended before it was ready)")
    assert end.stderr_tail[-1].endswith("the import of broken, which is to be preloaded, failed")


def test_an_import_that_takes_too_long_is_named(modules):
    procs = this_host().spawn_procs(preload=["slow"], ready_timeout=2)
    with pytest.raises(LaunchFailed, match="while setting up"):
        procs.initialized.get(30)
    assert "last word: imports slow" in only_exit(procs).verdict


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"preload": "numpy"}, "has to be a list of modules"),
        ({"preload": [7]}, r"preload\[0\] = 7: has to be the name of a module"),
        ({"preload": ["ok", "a b"]}, r"preload\[1\]"),
        ({"preload": ["ok."]}, r"preload\[0\]"),
        ({"preload": ["ok"], "readiness": "none", "bootstrap_command": ["true"]}, "preload.*cannot run it"),
    ],
)
def test_what_is_no_list_of_modules_is_refused_before_anything_starts(kwargs, words):
    with pytest.raises(InvalidArgument, match=words):
        this_host().spawn_procs(**kwargs)
