"""The first launch of a client: prints the seconds from the request, after all imports, until the proc has answered a call."""

from __future__ import annotations

import json

from bench.spawn import ours

if __name__ == "__main__":
    print(json.dumps(ours(1)[:1]))
