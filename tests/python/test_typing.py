"""What type checkers see of calls."""

import textwrap

from mypy import api

TYPED = """
    from typing import assert_type

    from procession.actor import Actor, Endpoint, Future, ValueMesh, endpoint


    class Adder(Actor):
        @endpoint
        def add(self, one: int, *, other: int = 0) -> float:
            return one + other

        @endpoint
        async def later(self) -> str:
            return ""


    def calls(mesh: Adder) -> None:
        hurried = mesh.add.options(timeout=1.5)
        assert_type(hurried.call(1, other=2), Future[ValueMesh[float]])
        assert_type(hurried.call_one(1).get(), float)
        assert_type(hurried.choose(1).cancel(), bool)
        assert_type(next(hurried.stream(1)), Future[float])
        assert_type(mesh.later.options(timeout=None).call_one().get(), str)
        hurried.call("one")  # wrong
        mesh.add.options(timeout="1")  # wrong
"""


def test_an_endpoint_with_options_keeps_its_arguments_and_its_result(tmp_path):
    lines = textwrap.dedent(TYPED).splitlines()
    (tmp_path / "typed.py").write_text("\n".join(lines))
    out, err, _ = api.run(["--strict", str(tmp_path / "typed.py")])
    wrong = [number for number, line in enumerate(lines, 1) if line.endswith("# wrong")]
    found = [int(line.split(":")[1]) for line in out.splitlines() if ": error:" in line]
    assert found == wrong, out + err
