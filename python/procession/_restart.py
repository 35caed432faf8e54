"""When procs are launched again, how often, how soon and with which others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from procession import _validate
from procession.errors import InvalidArgument

if TYPE_CHECKING:
    from procession._native import RestartPolicy

When = Literal["never", "on_failure", "always"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Actors = Literal["fail", "respawn"]

WHEN = ("never", "on_failure", "always")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
ACTORS = ("fail", "respawn")
CLASSES = ("app", "oom", "boot", "evicted", "launcher")
MAX_COUNT = 2**32 - 1


@dataclass(frozen=True)
class Restart:
    """How procs are launched again, for `spawn_procs(restart=…)`. A stop that somebody asked for always ends restarts.

    Times are in seconds, on the monotonic clock. With a launcher class, all launches go through the process that made the
    first one: once that has ended, further ones fail with LauncherUnavailable (class `launcher`) and use up the intensity.
    `ProcMesh.respawn` starts another such process.
    """

    when: When = "on_failure"
    """After every end but a clean one, or after every end."""
    intensity: int = 3
    """At most so many restarts in any `period`; 0 never restarts. Of each proc, or of all together where the strategy restarts several."""
    period: float = 60.0
    backoff: tuple[float, float] = (0.1, 30.0)
    """The first wait before a launch, and the longest."""
    jitter: float = 0.2
    """How much of each wait is left to chance, from 0 to 1; it makes waits shorter."""
    healthy_after: float = 60.0
    """After it has been ready for so long, the back-off and the budgets of a proc start anew."""
    budgets: Mapping[str, int] = field(default_factory=dict)
    """How many restarts failures of a class get, beside the intensity: `app`, `oom`, `boot` (never ready), `evicted` (preempted, out of
    time), `launcher`."""
    strategy: Strategy = "one_for_one"
    """Which others are stopped and launched again too: none, all of them, or those of higher rank."""
    actors: Actors = "fail"
    """Whether the actors of an earlier launch are gone, or built again with the same arguments: then calls wait for them."""
    factor: float = 2.0
    """How much longer each further wait is."""

    def __post_init__(self) -> None:
        _validate.choice("when", self.when, WHEN)
        _validate.count("intensity", self.intensity, most=MAX_COUNT)
        if _validate.seconds("period", self.period) == 0:
            _validate.refuse("period", 0, "has to be more than 0 seconds; intensity=0 never restarts")
        first, most = self._waits()
        if first > most:
            raise InvalidArgument(
                "backoff", f"({first:g}, {most:g})", "the first wait cannot be longer than the longest"
            )
        if not 0 <= _validate.number("jitter", self.jitter, "has to be a number from 0 to 1") <= 1:
            _validate.refuse("jitter", self.jitter, "has to be a number from 0 to 1")
        factor = _validate.number("factor", self.factor, "has to be a finite number of at least 1")
        if not (math.isfinite(factor) and factor >= 1):
            _validate.refuse("factor", self.factor, "has to be a finite number of at least 1")
        _validate.seconds("healthy_after", self.healthy_after)
        if not isinstance(self.budgets, Mapping):
            _validate.refuse("budgets", self.budgets, 'has to be a dict from class to number, e.g. {"oom": 1}')
        for key, value in self.budgets.items():
            if key not in CLASSES:
                _validate.refuse("budgets key", key, f"known classes are {', '.join(CLASSES)}")
            _validate.count(f'budgets["{key}"]', value, most=MAX_COUNT)
        _validate.choice("strategy", self.strategy, STRATEGIES)
        _validate.choice("actors", self.actors, ACTORS)

    def _waits(self) -> tuple[float, float]:
        if not isinstance(self.backoff, (tuple, list)) or len(self.backoff) != 2:
            _validate.refuse("backoff", self.backoff, "has to be two numbers: the first wait and the longest")
        return _validate.seconds("backoff[0]", self.backoff[0]), _validate.seconds("backoff[1]", self.backoff[1])

    def native(self) -> RestartPolicy:
        from procession import _native

        return _native.RestartPolicy(**self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The arguments of the native one, as plain data."""
        return {
            "when": self.when,
            "intensity": _validate.count("intensity", self.intensity, most=MAX_COUNT),
            "period": _validate.seconds("period", self.period),
            "backoff": self._waits(),
            "factor": float(self.factor),
            "jitter": float(self.jitter),
            "healthy_after": _validate.seconds("healthy_after", self.healthy_after),
            "budgets": {key: _validate.count("budgets", value) for key, value in self.budgets.items()},
            "strategy": self.strategy,
            "actors": self.actors,
        }


def resolve(restart: object) -> Restart | None:
    """What the argument `restart` of `spawn_procs` stands for; refuses what is none."""
    if restart is None:
        return None
    if isinstance(restart, str) and restart in WHEN:
        return Restart(when=restart)  # type: ignore[arg-type]
    if not isinstance(restart, Restart):
        _validate.refuse("restart", restart, 'has to be "never", "on_failure", "always" or a procession.Restart')
    return restart
