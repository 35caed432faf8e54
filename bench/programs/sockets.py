"""Lower bounds of messages: a raw echo in Python over as many unix sockets as there are processes.

`python -m bench.programs.sockets 16 100` prints the median seconds of 100 times a byte to each of 16 and back.
"""

from __future__ import annotations

import json
import sys

from bench.programs.forks import Children
from bench.timing import p50

if __name__ == "__main__":
    children = Children(int(sys.argv[1]))
    took = p50(children.ask, int(sys.argv[2]))
    children.end()
    print(json.dumps(took))
