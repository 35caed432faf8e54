"""Bad input is refused before anything happens, and the error names the field, the value and the rule."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from procession import _native, _validate, config
from procession.errors import InvalidArgument, LimitExceeded

BAD_NAMES = [
    "",
    "x" * 129,
    "x" * 1025,
    "a\0b",
    "a\nb",
    "a/b",
    "..",
    "a@b",
    "a\ud800",
    "\N{GRINNING FACE}",
    "-a",
    "_a",
    "a b",
    "é",
]
GOOD_NAMES = ["a", "A9", "workers-0", "a.b_c-d", "x" * 128]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_names_are_taken(name):
    assert _validate.name("name", name) == name
    assert _native.check_name("name", name) is None


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused_here_and_in_the_runtime(name):
    with pytest.raises(InvalidArgument, match="use 1 to 128 of") as caught:
        _validate.name("name", name)
    assert caught.value.field == "name"
    with pytest.raises(ValueError, match="use 1 to 128 of") as native:
        _native.check_name("name", name)
    assert str(native.value).partition(": ")[2] == caught.value.rule or not name.isascii() or not name.isprintable()


def test_a_bad_character_is_named_with_its_index():
    with pytest.raises(InvalidArgument, match="character '/' at index 2"):
        _validate.name("name", "ab/c")


@pytest.mark.parametrize("name", [None, 3, b"a", True])
def test_a_name_has_to_be_a_str(name):
    with pytest.raises(InvalidArgument, match="has to be a str"):
        _validate.name("name", name)


@pytest.mark.parametrize("count", [-1, True, False, 2.0, "4", None, float("nan")])
def test_counts_are_ints_of_at_least_their_minimum(count):
    with pytest.raises(InvalidArgument, match="at least"):
        _validate.count("n", count)


def test_a_count_above_its_limit_names_the_limit():
    with pytest.raises(LimitExceeded, match="the limit is 10"):
        _validate.count("n", 11, most=10)
    assert _validate.count("n", 10, most=10) == 10


@pytest.mark.parametrize(
    "per_host", [{}, {"": 2}, {"gpus": 0}, {"gpus": True}, {"gpus": "4"}, {"gpus": 2.0}, {3: 2}, [4], "gpus", 4]
)
def test_shapes_that_are_none_are_refused(per_host):
    with pytest.raises(InvalidArgument):
        _validate.shape("per_host", per_host)


def test_a_shape_with_too_many_procs_is_refused():
    with pytest.raises(LimitExceeded):
        _validate.shape("per_host", {"gpus": 10**9})
    with pytest.raises(LimitExceeded, match="100000000 procs"):
        _validate.shape("per_host", {"hosts": 10**4, "gpus": 10**4})


def test_a_dimension_of_the_host_mesh_cannot_be_named_again():
    with pytest.raises(InvalidArgument, match="host mesh has a dimension"):
        _validate.shape("per_host", {"hosts": 2}, taken=["hosts"])


@pytest.mark.parametrize("value", [float("nan"), -1, -1e-9, "5", True, None, timedelta(seconds=-1), [], float("inf")])
def test_times_that_are_none_are_refused(value):
    with pytest.raises(InvalidArgument, match="number of seconds"):
        _validate.seconds("timeout", value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0, 0.0), (5, 5.0), (-0.0, 0.0), (1e300, config.MAX_SECONDS), (timedelta(seconds=2), 2.0), (1e-300, 1e-300)],
)
def test_times_are_seconds(value, seconds):
    assert _validate.seconds("timeout", value) == seconds
    assert str(_validate.seconds("timeout", value)) == str(seconds)


@pytest.mark.parametrize("value", [None, float("inf")])
def test_no_limit_is_allowed_where_waiting_for_ever_is(value):
    assert _validate.wait_seconds("timeout", value) is None


@pytest.mark.parametrize("lines", [-1, True, "3", 1.0])
def test_a_tail_of_no_length_is_refused(lines):
    with pytest.raises(InvalidArgument):
        _validate.tail_lines("tail_lines", lines)


def test_a_tail_that_is_too_long_is_cut_with_a_warning():
    assert _validate.tail_lines("tail_lines", 0) == 0
    with pytest.warns(UserWarning, match="cut to 10000"):
        assert _validate.tail_lines("tail_lines", 2**63) == config.MAX_TAIL_LINES


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"": "x"}, "not empty"),
        ({"A=B": "x"}, "without '='"),
        ({"A\0": "x"}, "NUL"),
        ({"A": "canary\0"}, "NUL at index 6"),
        ({"A": 3}, "a int: has to be a str"),
        ({"A": b"canary"}, "a bytes: has to be a str"),
        ({3: "x"}, "has to be a str"),
        ({"A": "\ud800"}, "lone surrogate"),
        ({"PROCESSION_BOOTSTRAP": "canary"}, "reserved"),
        ([("A", "canary")], "has to be a dict"),
        ({"A": "x" * 131072}, "the limit of one string is 131071 bytes"),
    ],
)
def test_environments_that_are_none_are_refused_without_showing_a_value(env, words):
    with pytest.raises(InvalidArgument, match=words) as caught:
        _validate.environment("env", env)
    assert "canary" not in str(caught.value)


def test_none_as_a_value_removes_a_variable_and_case_counts():
    assert _validate.environment("env", {"A": "1", "a": None}) == ({"A": "1"}, ["a"])
    assert _validate.environment("env", None) == ({}, [])
    assert _validate.environment("env", {}) == ({}, [])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("ls -l", "pass a list"),
        (b"ls", "pass a list"),
        (None, "pass a list"),
        (["a", 3], r"args\[1\] = 3"),
        (["a", None], r"args\[1\] = None"),
        (["a\0b"], "NUL at index 1"),
        (["x" * 131072], "131072 bytes"),
        (["\ud800"], "lone surrogate at index 0"),
    ],
)
def test_arguments_that_are_none_are_refused(args, words):
    with pytest.raises(InvalidArgument, match=words):
        _validate.args("args", args)


def test_paths_are_taken_as_arguments():
    assert _validate.args("args", ("a", Path("/tmp/x"), "")) == ["a", "/tmp/x", ""]


@pytest.mark.parametrize("program", ["", b"", "a\0b", 3, None])
def test_programs_that_are_none_are_refused(program):
    with pytest.raises(InvalidArgument):
        _validate.program("program", program, None)


def test_a_relative_program_needs_a_directory():
    with pytest.raises(InvalidArgument, match="needs cwd="):
        _validate.program("program", "bin/x", None)
    assert _validate.program("program", "bin/../x", b"/opt") == b"/opt/x"
    assert _validate.program("program", "ls", None) == b"ls"
    assert _validate.program("program", b"/\xff", None) == b"/\xff"


def test_arg0_may_be_left_out_and_not_empty():
    assert _validate.arg0("arg0", None) is None
    with pytest.raises(InvalidArgument, match="cannot be empty"):
        _validate.arg0("arg0", "")


def test_arguments_and_environment_share_the_limit_of_the_kernel():
    limit = os.sysconf("SC_ARG_MAX")
    half = ["x" * 1000] * (limit // 2000)
    _validate.total_size(b"/bin/true", half, {})
    with pytest.raises(InvalidArgument, match=f"limit of {limit} bytes"):
        _validate.total_size(b"/bin/true", half, {str(n): "y" * 1000 for n in range(limit // 2000)})


def test_the_names_of_variables_are_those_of_the_runtime():
    assert (config.BOOTSTRAP_ENV, config.PROCESS_NAME_ENV, config.LOG_CHANNEL_ENV) == (
        _native.BOOTSTRAP_ENV,
        _native.PROCESS_NAME_ENV,
        _native.LOG_CHANNEL_ENV,
    )
