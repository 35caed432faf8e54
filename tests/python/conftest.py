"""The fixtures of the end-to-end tests."""

from fixtures import four, script, spawned

__all__ = ["four", "script", "spawned"]
