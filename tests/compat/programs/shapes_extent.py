"""Extents are mappings from label to size."""

import pickle

from monarch.actor import Extent

from facts import raises, tried

BETTER = {
    "get": ["raises AttributeError", [3, None], "it is a full mapping"],
    "unknown label": ["ValueError", "KeyError", "a mapping raises KeyError"],
}

if __name__ == "__main__":
    extent = Extent(["hosts", "gpus"], [2, 3])
    tried("labels", lambda: list(extent.labels))
    tried("sizes", lambda: list(extent.sizes))
    tried("nelements", lambda: extent.nelements)
    tried("as a dict", lambda: dict(extent))
    tried("item", lambda: extent["gpus"])
    tried("contains", lambda: ["gpus" in extent, "x" in extent])
    tried("length", lambda: len(extent))
    tried("iterates", lambda: list(extent))
    tried("equal", lambda: [extent == Extent(["hosts", "gpus"], [2, 3]), extent == Extent(["gpus", "hosts"], [3, 2])])
    tried("pickles", lambda: pickle.loads(pickle.dumps(extent)) == extent)
    tried("get", lambda: [extent.get("gpus"), extent.get("x")])
    tried("repr", lambda: repr(extent))
    tried("empty", lambda: [dict(Extent([], [])), Extent([], []).nelements])
    with raises("unknown label"):
        extent["x"]
    with raises("labels without sizes"):
        Extent(["a", "b"], [1])
