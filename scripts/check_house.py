#!/usr/bin/env python3
"""The rules of the house: who may lean on whom, and what may stand where.

Prints every violation as `file:line: what, and what to do`, and ends with 1 when there is one.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# crate -> the crates that it may depend on: down, never up or sideways.
ARROWS: dict[str, set[str]] = {
    "model": set(),
    "sys": {"model"},
    "launch": {"model"},
    "actor": {"model"},
    "wire": {"model"},
    "net": {"wire", "sys", "model"},
    "supervise": {"launch", "model"},
    "launch-local": {"launch", "sys", "model"},
    "launch-docker": {"launch", "model"},
    "launch-kube": {"launch", "model"},
    "launch-slurm": {"launch", "model"},
    "launch-systemd": {"launch", "model"},
    "launch-command": {"host", "launch", "launch-test", "sys", "model"},
    "launch-ssh": {"host", "launch-command", "launch-test", "launch", "sys", "model"},
    "launch-vm": {"host", "launch", "launch-local", "model"},
    "vm-init": set(),
    "keeper": {"sys", "model"},
    "host": {"actor", "net", "wire", "launch", "launch-local", "supervise", "sys", "model"},
    "launch-test": {"host", "launch", "model"},
    "py": {
        "host",
        "actor",
        "launch",
        "launch-local",
        "launch-docker",
        "launch-command",
        "launch-ssh",
        "launch-kube",
        "launch-slurm",
        "launch-systemd",
        "launch-vm",
        "launch-test",
        "model",
        "wire",
        "net",
        "sys",
    },
    "procession": {
        "host",
        "actor",
        "launch",
        "launch-local",
        "launch-docker",
        "launch-command",
        "launch-ssh",
        "launch-kube",
        "launch-slurm",
        "launch-systemd",
        "launch-vm",
        "model",
    },
}
ONLY_IN = {"pyo3": {"py"}, "bollard": {"launch-docker"}, "kube": {"launch-kube"}, "zbus": {"launch-systemd"}}
NEVER_IN = {"tokio": {"model", "sys", "wire", "supervise"}}

LINES, TEST_LINES = 500, 800
SOURCES = {".rs", ".py", ".pyi", ".sh"}
PROMISES = "docs/guarantees.md"
GENERATED = {"Cargo.lock"}

# In two parts each, so that this file does not break its own rule.
REGISTRIES = [
    a + b
    for a, b in [
        ("crates", ".io"),
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("npm", "js.org"),
        ("golang", ".org"),
        ("ghcr", ".io"),
        ("quay", ".io"),
        ("gcr", ".io"),
        ("hub.docker", ".com"),
        ("registry-1.docker", ".io"),
        ("registry.k8s", ".io"),
    ]
]
HOME = re.compile(r"(?<![\w.$}-])/(?:root|home/\w[\w.-]*|Users/\w[\w.-]*)/")
EMPTY_MODULE = re.compile(r"(?:pub(?:\([^)]*\))? )?mod \w+\s*\{\s*\}")
DECLARATION = re.compile(r"(?:pub(?:\([^)]*\))? )?(?:mod \w+|use [^;]+|extern crate [^;]+)\s*;")


@dataclass(frozen=True, order=True)
class Violation:
    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def code_only(text: str) -> str:
    """Rust source with comments and string contents blanked out, line numbers kept."""
    token = re.compile(
        r"""//[^\n]*|/\*.*?\*/|b?r(?P<hash>\#*)".*?"(?P=hash)|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^\n]{1,10}?|[^'\\\n])'""",
        re.DOTALL,
    )
    return blank(token, text)


def blank(pattern: re.Pattern, text: str) -> str:
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def crate_of(package: str) -> str:
    return package.removeprefix("procession-")


def dependencies(manifest: dict) -> set[str]:
    tables = [manifest, *manifest.get("target", {}).values()]
    return {name for t in tables for kind in ("dependencies", "build-dependencies") for name in t.get(kind, {})}


def check_manifest(file: str, text: str) -> Iterator[Violation]:
    manifest = tomllib.loads(text)
    if "package" not in manifest:
        return
    crate = crate_of(manifest["package"]["name"])
    if crate not in ARROWS:
        yield Violation(
            file, 1, f"crate `{crate}` has no place in the house: give it one in ARROWS and ARCHITECTURE.md"
        )
        return
    for name in sorted(dependencies(manifest)):
        found = re.search(rf"^(?:\[.*\.)?{re.escape(name)}\b", text, re.MULTILINE)
        line = line_of(text, found.start()) if found else 1
        if name.startswith("procession") and crate_of(name) not in ARROWS[crate]:
            down = ", ".join(sorted(ARROWS[crate])) or "nothing"
            yield Violation(
                file, line, f"`{crate}` leans on `{crate_of(name)}`: it may use {down}; move what it needs down, or up"
            )
        if name in ONLY_IN and crate not in ONLY_IN[name]:
            yield Violation(file, line, f"`{name}` in `{crate}`: it belongs in {', '.join(ONLY_IN[name])} only")
        if crate in NEVER_IN.get(name, ()):
            yield Violation(file, line, f"`{name}` in `{crate}`: this crate stays free of it; do this one floor up")


def may_be_unsafe(path: PurePosixPath) -> bool:
    return path.is_relative_to("crates/sys") or (path.is_relative_to("crates/py") and "buffer" in path.stem)


def attributes(code: str) -> Iterator[tuple[int, int]]:
    """Start and end of every attribute."""
    for found in re.finditer(r"#!?\[", code):
        depth = 0
        for end in range(found.end() - 1, len(code)):
            depth += {"[": 1, "]": -1}.get(code[end], 0)
            if depth == 0:
                yield found.start(), end + 1
                break


def check_rust(file: str, text: str) -> Iterator[Violation]:
    path, code = PurePosixPath(file), code_only(text)
    if not may_be_unsafe(path):
        for found in re.finditer(r"\bunsafe\b", code):
            yield Violation(file, line_of(code, found.start()), "`unsafe`: wrap it in crates/sys and call that")

    bare = list(code)
    for start, end in attributes(code):
        if re.search(r"\b(?:allow|expect)\s*\(", code[start:end]) and not re.search(r"\breason\s*=", code[start:end]):
            yield Violation(file, line_of(code, start), 'a lint exception without a reason: add `, reason = "..."`')
        bare[start:end] = re.sub(r"[^\n]", " ", code[start:end])

    if path.name == "lib.rs" and "src" in path.parts:
        rest = blank(EMPTY_MODULE, blank(DECLARATION, "".join(bare)))
        if stray := re.search(r"\S", rest):
            yield Violation(
                file, line_of(rest, stray.start()), "lib.rs only declares (mod, use): move this into a module"
            )


def check_text(file: str, text: str) -> Iterator[Violation]:
    path = PurePosixPath(file)
    if path.suffix in SOURCES:
        is_test = any(p in {"tests", "benches", "fuzz"} for p in path.parts) or path.stem == "tests"
        limit, count = (TEST_LINES if is_test else LINES), text.count("\n")
        if count > limit:
            yield Violation(file, limit + 1, f"{count} lines, and {limit} is the limit: split it, one concern per file")
    for number, line in enumerate(text.splitlines(), 1):
        for host in REGISTRIES:
            if re.search(rf"(?<![\w-]){re.escape(host)}(?![\w-])", line):
                yield Violation(file, number, f"a registry's host name ({host}): leave it to the tool's configuration")
        if found := HOME.search(line):
            yield Violation(file, number, f"an absolute home path ({found[0]}): derive it from the environment")


def check_promises(root: Path, file: str, text: str) -> Iterator[Violation]:
    """Every promise says what holds it, or that nothing does; and every test that it names exists."""
    for found in re.finditer(r"^\*\*(P\d+)\. .*?(?=^\*\*P|\Z)", text, re.MULTILINE | re.DOTALL):
        if not re.search(r"^(Held by `|Not held: )", found[0], re.MULTILINE):
            what = f'{found[1]} says neither "Held by" with a test nor "Not held:" with what is missing'
            yield Violation(file, line_of(text, found.start()), what)
    for found in re.finditer(r"`([\w/.-]+\.(?:rs|py))::(\w+)`", text):
        source = root / found[1]
        if not source.exists() or not re.search(rf"\b(?:def|fn) {found[2]}\(", source.read_text(encoding="utf-8")):
            what = f"there is no test {found[2]} in {found[1]}: name the one that holds the promise"
            yield Violation(file, line_of(text, found.start()), what)


def check(root: Path, files: Iterable[str]) -> list[Violation]:
    violations: list[Violation] = []
    for file in files:
        try:
            text = (root / file).read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError, IsADirectoryError):
            continue  # deleted but not yet committed; not text; a submodule
        path = PurePosixPath(file)
        if path.name in GENERATED:
            continue
        violations += check_text(file, text)
        if file == PROMISES:
            violations += check_promises(root, file, text)
        if path.suffix == ".rs":
            violations += check_rust(file, text)
        elif path.name == "Cargo.toml" and path.is_relative_to("crates"):
            violations += check_manifest(file, text)
    return sorted(set(violations))


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    )
    files = [name for name in listed.stdout.decode().split("\0") if name]
    violations = check(root, files)
    for violation in violations:
        print(violation)
    print(f"{len(files)} files, {len(violations)} violations of the rules of the house")
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())
