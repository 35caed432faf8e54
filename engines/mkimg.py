#!/usr/bin/env python3
"""Writes an image's file system as a tar to stdout: this interpreter, what it links to, and some packages.

No registry and no distribution is needed, and the wheels that work here work there:
    engines/mkimg.py --wheel dist/procession-*.whl --package cloudpickle | docker import - procession-demo
"""

import argparse
import glob
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

STDLIB = Path(sysconfig.get_path("stdlib"))
# Where the interpreter, started as itself and not as that of a virtual environment, finds packages.
SITE = Path(
    subprocess.run(
        [os.path.realpath(sys.executable), "-I", "-c", "import site; print(site.getsitepackages()[0])"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
)
UNUSED = re.compile(
    r"/(site-packages|dist-packages|test|tests|idlelib|tkinter|ensurepip|lib2to3|turtledemo|config-[^/]+)(/|$)|\.a$|\.opt-[12]\.pyc$"
)
EMPTY_FOLDERS = {"dev": 0o755, "proc": 0o755, "sys": 0o755, "tmp": 0o1777, "root": 0o700, "run": 0o755}
TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def system_libraries(binaries: Iterable[Path]) -> set[str]:
    """The loader and every shared library that one of `binaries` asks of the system, under the names it asks for."""
    listed = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True).stdout
    # Looked up by name at run time, so nothing links to them.
    found = {
        p
        for name in ("libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1")
        for p in glob.glob(f"/lib/*-linux-gnu/{name}")
    }
    found |= set(re.findall(r"(?m)^\s+(?:\S+ => )?(/\S+) \(0x", listed))
    return {p for p in found if "site-packages" not in p and "dist-packages" not in p}


class Image:
    def __init__(self, out: io.BufferedIOBase) -> None:
        self.tar = tarfile.open(fileobj=out, mode="w|")  # noqa: SIM115  (closed by `close`)
        self.names: set[str] = set()
        self.binaries: list[Path] = []

    def file(self, path: Path, name: Path | None = None) -> None:
        name = name or path
        if str(name) in self.names:
            return
        self.names.add(str(name))
        if path.suffix == ".so" or ".so." in path.name:
            self.binaries.append(path)
        self.tar.add(path.resolve() if path.is_symlink() else path, arcname=str(name), recursive=False)

    def tree(self, root: Path) -> None:
        for folder, folders, files in os.walk(root):
            folders[:] = [f for f in folders if not UNUSED.search(f"{folder}/{f}/"[len(str(root)) :])]
            for name in files:
                path = Path(folder, name)
                if not UNUSED.search(str(path)[len(str(root)) :]):
                    self.file(path)

    def text(self, name: str, content: bytes, mode: int = 0o644) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), mode
        self.tar.addfile(info, io.BytesIO(content))

    def package(self, name: str) -> None:
        """An installed package, file by file, without its scripts and tests."""
        here = distribution(name)
        for file in here.files or ():
            path = Path(here.locate_file(file)).resolve()
            if not file.is_absolute() and ".." not in file.parts and path.exists() and not UNUSED.search(f"/{file}"):
                self.file(path, SITE / file)

    def wheel(self, path: Path) -> None:
        with zipfile.ZipFile(path) as wheel:
            for entry in wheel.infolist():
                if not entry.is_dir():
                    mode = entry.external_attr >> 16 & 0o777 or 0o644
                    self.text(f"{SITE}/{entry.filename}".lstrip("/"), wheel.read(entry), mode)

    def close(self) -> None:
        interpreter = Path(os.path.realpath(sys.executable))
        self.file(interpreter)
        for library in sorted(system_libraries([interpreter, *self.binaries])):
            self.file(Path(library))
        for name in {"usr/local/bin/python3", f"{sys.base_prefix}/bin/python3".lstrip("/")} - {str(interpreter)[1:]}:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, str(interpreter)
            self.tar.addfile(link)
        # Another user than root has to get there.
        parents = {str(folder).lstrip("/") for name in self.names for folder in Path(name).parents} - {"", "."}
        for name, mode in {**EMPTY_FOLDERS, **dict.fromkeys(parents, 0o755)}.items():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            self.tar.addfile(folder)
        for name, content in TEXTS.items():
            self.text(name, content.encode())
        self.tar.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, action="append", default=[], help="a wheel to unpack into it")
    parser.add_argument("--package", action="append", default=[], help="an installed package to copy into it")
    arguments = parser.parse_args()
    if sys.stdout.isatty():
        parser.error("this writes a tar to stdout: pipe it into `docker import - NAME`")
    image = Image(sys.stdout.buffer)
    image.tree(STDLIB)
    for name in arguments.package:
        image.package(name)
    for path in arguments.wheel:
        image.wheel(path)
    image.close()


if __name__ == "__main__":
    main()
