"""Actors whose classes come from anywhere: by value where procs could not import them, by name from the same file."""

import subprocess
import sys
import textwrap

import pytest

# What every source below defines: actors that call each other, take and give instances, and start actors themselves.
BODY = """
from procession.actor import Actor, endpoint, this_host, this_proc


class Holder:
    def __init__(self, n):
        self.n = n

    def double(self):
        return 2 * self.n


def helper(x):
    return HELP(x)


class Worker(Actor):
    def __init__(self, other=None):
        self.other = other

    @endpoint
    def work(self, holder, f):
        return f(holder.double()), helper(1), type(holder) is Holder

    @endpoint
    def make(self):
        return Holder(4)

    @endpoint
    def ask(self, holder):
        return self.other.work.call_one(holder, helper).get(20)

    @endpoint
    def start_another(self):
        mesh = this_proc().spawn("inner", Worker)
        try:
            return mesh.work.call_one(Holder(1), lambda x: x).get(20)
        finally:
            mesh.stop().get(20)


def run(procs):
    one = procs.slice(procs=0).spawn("one", Worker)
    other = procs.slice(procs=1).spawn("other", Worker, one)
    return (
        one.work.call_one(Holder(3), lambda x: x * 10).get(20),
        other.ask.call_one(Holder(5)).get(20),
        type(one.make.call_one().get(20)) is Holder,
        other.start_another.call_one().get(20),
    )


def main():
    with this_host().spawn_procs(per_host={"procs": 2}) as procs:
        print(run(procs))
"""
PRINTED = "((60, 2, True), (11, 2, True), True, (2, 2, True))"
OWN_HELP = "def HELP(x):\n    return x + 1\n"
MAIN = '\n\nif __name__ == "__main__":\n    main()\n'


def run(*args, cwd, stdin=None):
    command = [sys.executable, *args]
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_script(tmp_path):
    (tmp_path / "script.py").write_text(OWN_HELP + BODY + MAIN)
    assert PRINTED in run(str(tmp_path / "script.py"), cwd="/")


def test_a_program_given_with_c(tmp_path):
    assert PRINTED in run("-c", OWN_HELP + BODY + MAIN, cwd=tmp_path)


def test_a_program_given_on_stdin(tmp_path):
    assert PRINTED in run("-", cwd=tmp_path, stdin=OWN_HELP + BODY + MAIN)


def test_a_module_of_a_package_that_is_run_with_m(tmp_path):
    package = tmp_path / "parcel"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sibling.py").write_text("def inc(x):\n    return x + 1\n")
    (package / "mod.py").write_text("from .sibling import inc as HELP\n" + BODY + MAIN)
    assert PRINTED in run("-m", "parcel.mod", cwd=tmp_path)


def test_lines_typed_at_a_prompt(tmp_path):
    lines = []
    for line in (OWN_HELP + BODY).splitlines():
        if not line:
            continue  # which would end a block
        if not line.startswith(" ") and lines and lines[-1].startswith(" "):
            lines.append("")
        lines.append(line)
    assert PRINTED in run("-i", cwd=tmp_path, stdin="\n".join([*lines, "", "main()", ""]))


def test_cells_of_a_main_module_without_a_file(tmp_path):
    kernel = """
        import sys, types

        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        for number, cell in enumerate(sys.stdin.read().split("# cell")):
            exec(compile(cell, f"<ipython-input-{number}>", "exec"), main.__dict__)
    """
    cells = f"{OWN_HELP}\n# cell\n{BODY}\n# cell\nmain()\n"
    assert PRINTED in run("-c", textwrap.dedent(kernel), cwd=tmp_path, stdin=cells)


@pytest.mark.parametrize("package", [False, True])
def test_modules_on_a_path_that_the_procs_were_launched_without(tmp_path, package):
    place = tmp_path / "added"
    folder = place / "parcel" if package else place
    folder.mkdir(parents=True)
    (folder / "helping.py").write_text("def inc(x):\n    return x + 1\n")
    if package:
        (folder / "__init__.py").touch()
    helping, name = ("from parcel import helping", "parcel.mod") if package else ("import helping", "mod")
    (folder / "mod.py").write_text(f"{helping}\n\n\ndef HELP(x):\n    return helping.inc(x)\n\n{BODY}")
    script = f"""
        import sys
        from importlib import import_module
        from procession.actor import this_host

        if __name__ == "__main__":
            with this_host().spawn_procs(per_host={{"procs": 2}}) as procs:
                procs.initialized.get(30)
                sys.path.insert(0, {str(place)!r})
                mod = import_module({name!r})
                print(mod.run(procs))
                with this_host().spawn_procs(per_host={{"procs": 2}}) as later:
                    print(mod.run(later))
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    assert run(str(tmp_path / "script.py"), cwd="/").count(PRINTED) == 2


def test_what_cannot_be_sent_of_a_module_that_procs_were_launched_without_says_how_it_is_found_there(tmp_path):
    folder = tmp_path / "late"
    folder.mkdir()
    (folder / "locking.py").write_text(
        "import threading\n"
        "from procession.actor import Actor, endpoint\n"
        "lock = threading.Lock()\n"
        "class Locking(Actor):\n"
        "    @endpoint\n"
        "    def locked(self):\n"
        "        return lock.locked()\n"
    )
    script = f"""
        import sys
        from procession.actor import this_host
        from procession.errors import NotPicklable

        if __name__ == "__main__":
            with this_host().spawn_procs() as procs:
                sys.path.insert(0, {str(folder)!r})
                import locking
                try:
                    procs.spawn("locking", locking.Locking)
                except NotPicklable as error:
                    print(error)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    said = run(str(tmp_path / "script.py"), cwd="/")
    assert "[0].locked.method.<global lock> is a _thread.lock" in said
    assert "module locking is sent along, because procs were launched before its folder was on sys.path" in said


CHANGED = """
    import os, sys
    from pathlib import Path
    import changing
    import procession.actor
    from procession.actor import ActorError, this_host
    from procession.errors import SourceChanged

    if __name__ == "__main__":
        procession.actor.unhandled_fault_hook = lambda failure: None
        file = Path(changing.__file__)
        exec(sys.argv[1])
        with this_host().spawn_procs(per_host={"procs": 1}) as procs:
            mesh = procs.spawn("changing", changing.Changing)
            error = mesh.initialized.exception(30)
            if error is None:
                print("built:", mesh.version.call_one().get(20))
            else:
                assert isinstance(error, ActorError) and isinstance(error.exception, SourceChanged), error
                print(error.exception)
        print(*procs.exits().item(procs=0).stderr_tail)
"""
VERSION = """
from procession.actor import Actor, endpoint


class Changing(Actor):
    @endpoint
    def version(self):
        return {}
"""


@pytest.fixture
def changing(tmp_path):
    """Runs a script that has imported the first version of a module and then does something with its file."""
    (tmp_path / "changing.py").write_text(VERSION.format(1))
    (tmp_path / "script.py").write_text(textwrap.dedent(CHANGED))
    return lambda what: run("-B", str(tmp_path / "script.py"), what, cwd=tmp_path)


def test_a_module_that_has_changed_since_it_was_imported_is_refused_with_both_versions(changing, tmp_path):
    out = changing("file.write_text(file.read_text().replace('return 1', 'return 22'))")
    assert "module changing is not the one that the caller has" in out
    assert out.count(str(tmp_path / "changing.py")) == 2
    sizes = [len(VERSION.format(version)) for version in (1, 22)]
    assert f"{sizes[0]} bytes, its content is lost" in out
    assert f"{sizes[1]} bytes, CRC " in out
    assert "importlib.reload" in out


def test_a_module_that_was_only_written_again_or_reloaded_is_not(changing):
    assert "built: 1" in changing("os.utime(file, (1, 1)); import importlib; importlib.reload(changing)")
    assert "built: 1" in changing("from procession import _sources; _sources._of('changing'); os.utime(file, (1, 1))")
    out = changing("file.write_text(file.read_text().replace('1', '22')); import importlib; importlib.reload(changing)")
    assert "built: 22" in out


def test_where_that_is_wanted_a_changed_module_is_told_of_and_used(changing, monkeypatch):
    monkeypatch.setenv("PROCESSION_CHANGED_SOURCES", "warn")
    out = changing("file.write_text(file.read_text().replace('return 1', 'return 22'))")
    assert "built: 22" in out
    assert "procession: module changing is not the one" in out


DERIVED = """
from basis import {base}
from procession.actor import Actor, endpoint


class Changing({base}{more}):
    @endpoint
    def version(self):
        return self.number
"""


@pytest.mark.parametrize("by_value", [False, True], ids=["by_name", "by_value"])
@pytest.mark.parametrize("base", ["Mixin", "Base"])
def test_a_module_of_a_base_that_has_changed_is_refused_too(changing, tmp_path, base, by_value):
    (tmp_path / "basis.py").write_text(
        "from procession.actor import Actor\n\n\nclass Mixin:\n    number = 1\n\n\nclass Base(Actor):\n    number = 1\n"
    )
    source = DERIVED.format(base=base, more=", Actor" if base == "Mixin" else "")
    (tmp_path / "changing.py").write_text(source)
    script = textwrap.dedent(CHANGED)
    if by_value:
        script = script.replace(
            "import changing\n", source.replace("class Changing", "import basis as changing\n\n\nclass Changing")
        )
        script = script.replace("changing.Changing", "Changing")
    else:
        script = script.replace("Path(changing.__file__)", "Path(changing.__file__).with_name('basis.py')")
    (tmp_path / "script.py").write_text(script)
    assert "built: 1" in changing("pass")
    out = changing("file.write_text(file.read_text().replace('number = 1', 'number = 22'))")
    assert "module basis is not the one that the caller has" in out
