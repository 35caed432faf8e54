"""Points are mappings from label to coordinate, with a rank."""

import pickle

from monarch.actor import Extent, Point

from facts import raises, tried

BETTER = {
    "hash": ["raises TypeError", True, "a point can be the key of a dict"],
    "out of range": ["nothing", ["ValueError", True], "a rank that the extent does not have is refused"],
    "size of an unknown label": ["ValueError", "KeyError", "a mapping raises KeyError"],
    "unknown label": ["ValueError", "KeyError", "a mapping raises KeyError"],
}

if __name__ == "__main__":
    extent = Extent(["hosts", "gpus"], [2, 3])
    point = Point(4, extent)
    tried("rank", lambda: point.rank)
    tried("extent", lambda: point.extent == extent)
    tried("as a dict", lambda: dict(point))
    tried("item", lambda: point["gpus"])
    tried("size", lambda: [point.size("hosts"), point.size("gpus")])
    tried("length", lambda: len(point))
    tried("unpacked", lambda: [*point.values()])
    tried("equal", lambda: [point == Point(4, extent), point == Point(3, extent)])
    tried("hash", lambda: hash(point) == hash(Point(4, extent)))
    tried("pickles", lambda: pickle.loads(pickle.dumps(point)) == point)
    tried("repr", lambda: repr(point))
    tried("str", lambda: str(point))
    tried("no dimensions", lambda: [Point(0, Extent([], [])).rank, len(Point(0, Extent([], [])))])
    with raises("out of range", "out of range"):
        Point(6, extent)
    with raises("unknown label"):
        point["x"]
    with raises("size of an unknown label"):
        point.size("x")
