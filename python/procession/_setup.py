"""What a proc does before it is ready: it imports the modules of `preload`, then it calls `bootstrap`."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from procession import _pickle, _validate

Setup = Callable[[], None] | Callable[[], Awaitable[None]]


class Step(NamedTuple):
    says: str
    """What the proc says that it does."""
    what: str
    """What has failed when it does."""
    run: Callable[[], object]


def modules_of(field: str, given: object) -> list[str]:
    """Refuses what are no names of modules."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        _validate.refuse(field, given, 'has to be a list of modules, e.g. ["numpy"]')
    for place, module in enumerate(given):
        if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
            _validate.refuse(f"{field}[{place}]", module, "has to be the name of a module, e.g. numpy.linalg")
    return list(given)


def setup_of(bootstrap: Setup | None, preload: Sequence[str]) -> bytes:
    """For `steps_of`; nothing where there is nothing to do."""
    preload = modules_of("preload", preload)
    if bootstrap is not None and not callable(bootstrap):
        _validate.refuse("bootstrap", bootstrap, "has to be a callable without arguments")
    if bootstrap is None and not preload:
        return b""
    return pickle.dumps((tuple(preload), None if bootstrap is None else _pickle.dumps_whole(bootstrap)))


def steps_of(setup: bytes) -> Iterator[Step]:
    """In the proc, which runs each before it asks for the next."""
    modules, bootstrap = pickle.loads(setup)
    for module in modules:
        if module in sys.modules:  # as in a fork
            continue
        yield Step(f"imports {module}", f"the import of {module}, which is to be preloaded,", partial(_import, module))
    if bootstrap is not None:
        call = partial(_call, bootstrap)
        yield Step("runs the bootstrap callable", "the bootstrap callable of spawn_procs", call)


def _import(module: str) -> None:
    from importlib import import_module

    import_module(module)


def _call(bootstrap: bytes) -> None:
    result = _pickle.loads_whole(bootstrap)()
    if hasattr(result, "__await__"):
        import asyncio

        async def finish() -> None:
            await result

        asyncio.run(finish())
