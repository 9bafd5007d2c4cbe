"""How a timed process talks: it prepares, says so, and repeats its work for each line on stdin.

Between two repeats it blocks on stdin, so that only one side computes at a time. Both sides use
this file; it imports nothing of theirs.
"""

import json
import os
import resource
import sys
from collections.abc import Callable

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever a library prints goes to stderr


def options() -> dict:
    return json.loads(sys.argv[1])


def peak_mb() -> float:
    """Return the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB


def serve(repeat: Callable[[], dict], *, warm_up: bool = True, **about) -> None:
    """Answer each request with what `repeat` returns: its "units" of work, and what it likes."""
    about["prepared_mb"] = peak_mb()
    if warm_up:
        repeat()
    print(json.dumps(about), file=answers)
    for _ in sys.stdin:
        answer = repeat()
        print(json.dumps(answer | {"peak_mb": peak_mb()}), file=answers)
