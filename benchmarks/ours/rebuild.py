"""Ours: `bsg report`, with the seconds of its parts; the copy of the project to use is PYTHONPATH.

Prints one line of JSON last.
"""

import json
import resource
import sys
import time

began = time.perf_counter()

from bsglib import cli  # noqa: E402
from bsglib.studies import study as studies  # noqa: E402

sys.modules.setdefault("rfc3987_syntax", None)  # as `bsg report` does
from bsglib.pages import report  # noqa: E402

seconds = {"imports": time.perf_counter() - began}


def timed(owner, name: str, part: str) -> None:
    function = getattr(owner, name)

    def call(*arguments, **keywords):
        start = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start

    setattr(owner, name, call)


timed(studies.Study, "run", "loading")
timed(report, "execute", "notebook")
timed(report, "to_html", "HTML")
cli.commands(["report", *sys.argv[1:]], standalone_mode=False)
seconds["whole"] = time.perf_counter() - began
peaks = [
    resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
]
print(json.dumps({"seconds": seconds, "peak_mb": sum(peaks) / 1024}))
