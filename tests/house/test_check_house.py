import re
from pathlib import Path

import pytest

import check_house


@pytest.fixture
def house(tmp_path: Path):
    """Writes files below `tmp_path` and gives what is wrong with them."""

    def check(files: dict[str, str]) -> list[str]:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return [str(v) for v in check_house.check(tmp_path, files)]

    return check


def manifest(name: str, *dependencies: str, table: str = "dependencies") -> str:
    return f'[package]\nname = "{name}"\n\n[{table}]\n' + "".join(
        f"{d} = {{ workspace = true }}\n" for d in dependencies
    )


def test_a_house_in_order_has_no_violation(house):
    lib = '//! Docs.\n#![expect(unsafe_code, reason = "why")]\n\nmod a;\npub mod b;\npub mod c {\n    pub use x::Y;\n}\npub use a::{\n    A, // one\n    B,\n};\n#[cfg(test)]\nmod tests;\n'
    assert (
        house(
            {
                "crates/sys/Cargo.toml": manifest("procession-sys", "libc", "procession-model"),
                "crates/sys/src/lib.rs": lib,
                "crates/sys/src/a.rs": "pub fn f() { unsafe { g() } }\n",
                "crates/py/src/buffer.rs": "unsafe fn f() {}\n",
            }
        )
        == []
    )


@pytest.mark.parametrize(
    ("crate", "leans_on"),
    [("model", "sys"), ("actor", "net"), ("launch", "host"), ("wire", "actor"), ("procession", "py")],
)
def test_an_arrow_up_or_sideways_is_named_with_its_line(house, crate, leans_on):
    name = crate if crate == "procession" else f"procession-{crate}"
    [violation] = house({f"crates/{crate}/Cargo.toml": manifest(name, "serde", f"procession-{leans_on}")})
    assert violation.startswith(f"crates/{crate}/Cargo.toml:6: `{crate}` leans on `{leans_on}`")


def test_an_arrow_of_a_build_script_or_of_one_target_counts(house):
    for table in ("build-dependencies", "target.'cfg(unix)'.dependencies"):
        [violation] = house({"crates/model/Cargo.toml": manifest("procession-model", "procession-sys", table=table)})
        assert "`model` leans on `sys`" in violation


def test_what_tests_use_is_free(house):
    assert house({"crates/model/Cargo.toml": manifest("procession-model", "tokio", table="dev-dependencies")}) == []


def test_a_crate_without_a_place_is_named(house):
    [violation] = house({"crates/attic/Cargo.toml": manifest("procession-attic")})
    assert "`attic` has no place" in violation


@pytest.mark.parametrize(
    ("crate", "library"),
    [("host", "pyo3"), ("model", "tokio"), ("sys", "tokio"), ("wire", "tokio"), ("supervise", "tokio")],
)
def test_a_library_in_the_wrong_crate_is_named(house, crate, library):
    [violation] = house({f"crates/{crate}/Cargo.toml": manifest(f"procession-{crate}", library)})
    assert f"`{library}` in `{crate}`" in violation


def test_unsafe_outside_of_its_rooms_is_named(house):
    [violation] = house({"crates/host/src/a.rs": "fn f() {\n    unsafe { g() }\n}\n"})
    assert violation.startswith("crates/host/src/a.rs:2: `unsafe`")
    assert house({"crates/py/src/gil.rs": "#[unsafe(no_mangle)]\nfn f() {}\n"})


def test_the_word_unsafe_in_comments_texts_and_names_is_no_violation(house):
    text = "// unsafe\n/* unsafe\n unsafe */\nfn f<'a>(x: &'a str) { g(\"unsafe \\\" {\", r#\"unsafe \" \"#, '\"', '\\'', x) }\n#![deny(unsafe_code)]\n"
    assert house({"crates/host/src/a.rs": text}) == []


def test_a_lint_exception_needs_a_reason_also_over_several_lines(house):
    given = '#[expect(\n    clippy::x,\n    reason = "because of [this]"\n)]\nfn f() {}\n'
    assert house({"crates/host/src/a.rs": given}) == []
    [violation] = house({"crates/host/src/a.rs": "fn f() {}\n#[cfg_attr(test, allow(dead_code))]\nfn g() {}\n"})
    assert violation.startswith("crates/host/src/a.rs:2: a lint exception")


@pytest.mark.parametrize(
    "stray", ["pub fn f() {}", "mod a { fn f() {} }", "const X: u8 = 1;", "macro_rules! m { () => {} }"]
)
def test_code_in_lib_rs_is_named(house, stray):
    [violation] = house({"crates/host/src/lib.rs": f"//! Docs.\nmod a;\n{stray}\n"})
    assert violation.startswith("crates/host/src/lib.rs:3: lib.rs only declares")


def test_a_long_file_is_named_and_tests_may_be_longer(house):
    text = "// x\n" * 501
    [violation] = house({"crates/host/src/a.rs": text})
    assert violation.startswith("crates/host/src/a.rs:501: 501 lines")
    assert house({"crates/host/tests/a.rs": text, "crates/host/src/tests.rs": text, "NOTES.md": text}) == []
    assert house({"tests/test_a.py": "#\n" * 801})


def test_registry_hosts_and_home_paths_are_named_in_every_text(house):
    for host in check_house.REGISTRIES:
        [violation] = house({"README.md": f"see https://{host}/x\n"})
        assert violation.startswith(f"README.md:1: a registry's host name ({host})")
    home, user = "/home", "someone"
    [violation] = house({"Makefile": f"\nX = {home}/{user}/x\n"})
    assert violation.startswith("Makefile:2: an absolute home path")


def test_an_engines_package_name_and_a_container_path_are_no_violation(house):
    assert house({"engines/docker.sh": "apt-get install docker" + ".io\ncat $X/root/y\n"}) == []


def test_the_table_of_arrows_has_no_cycle():
    heights: dict[str, int] = {}
    while len(heights) < len(check_house.ARROWS):
        ready = [c for c, d in check_house.ARROWS.items() if c not in heights and d <= heights.keys()]
        assert ready, f"a cycle among {check_house.ARROWS.keys() - heights.keys()}"
        heights |= dict.fromkeys(ready, len(heights))


def test_this_house_is_checked_by_the_same_names():
    crates = {p.parent.name for p in Path(__file__).parents[2].glob("crates/*/Cargo.toml")}
    assert crates <= check_house.ARROWS.keys()
    assert not [r for r in check_house.REGISTRIES if not re.fullmatch(r"[\w.-]+\.\w+", r)]


PROMISES = """
**P1. One.** Text.
Held by `tests/test_a.py::test_b`,
`crates/x/tests/y.rs::it_does`.

**P2. Two.**
Not held: nobody has written it.
"""
SOURCES = {"tests/test_a.py": "def test_b():\n", "crates/x/tests/y.rs": "mod f1 {\n    async fn it_does() {}\n}\n"}


def test_the_page_of_promises_names_tests_that_exist_or_says_what_is_missing(house):
    assert house(SOURCES | {check_house.PROMISES: PROMISES}) == []
    renamed = PROMISES.replace("test_b", "test_c").replace("y.rs", "z.rs").replace("Not held", "Later")
    assert house(SOURCES | {check_house.PROMISES: renamed}) == [
        "docs/guarantees.md:3: there is no test test_c in tests/test_a.py: name the one that holds the promise",
        "docs/guarantees.md:4: there is no test it_does in crates/x/tests/z.rs: name the one that holds the promise",
        'docs/guarantees.md:6: P2 says neither "Held by" with a test nor "Not held:" with what is missing',
    ]


def test_this_house_has_all_twenty_promises():
    text = (Path(check_house.__file__).parents[1] / check_house.PROMISES).read_text()
    assert re.findall(r"^\*\*(P\d+)\.", text, re.MULTILINE) == [f"P{n}" for n in range(1, 21)]
