"""What an agent needs on another machine that has Python, and nothing of this: one archive."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path


def bundle() -> Path:
    """The path of a `.tar.gz` with this package and what it depends on; made when there is none of just these files."""
    from procession import __version__

    files = sorted(_files())
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "procession" / "bundles"
    made = cache / f"procession-{__version__}-{digest.hexdigest()[:16]}.tar.gz"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        new = made.with_name(f"{made.name}.{os.getpid()}")
        new.write_bytes(_packed(files))
        new.replace(made)  # another process may make the same
    return made


def _packed(files: list[tuple[str, Path]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as archive:
        for name, path in files:
            info = archive.gettarinfo(path, name)
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            with path.open("rb") as content:
                archive.addfile(info, content)
    return packed.getvalue()


def _files() -> Iterator[tuple[str, Path]]:
    """Each with its name in the archive, which is to be on the path of modules."""
    import cloudpickle  # type: ignore[import-untyped]

    import procession

    for package in (procession, cloudpickle):
        assert package.__file__ is not None
        root = Path(package.__file__).parent
        for path in root.rglob("*"):
            if path.is_file() and path.suffix in (".py", ".so", ".typed"):
                yield str(Path(root.name) / path.relative_to(root)), path
