"""Names: which right one a wrong one is nearest to, and digests that name content."""

import difflib
import hashlib
from typing import Any


def nearest(name: str, allowed: Any) -> str:
    """Return the end of a message about a wrong name: the nearest right one, and all of them."""
    names = [str(a) for a in allowed]
    begun = [n for n in names if name and n.startswith(str(name))]
    close = difflib.get_close_matches(str(name), names, n=1) or begun
    listed = ", ".join(names)
    return f"; did you mean {close[0]!r}? Allowed: {listed}" if close else f"; allowed: {listed}"


def digest(*parts: str, length: int = 16) -> str:
    """Return the first `length` hex digits of the SHA-256 of some strings."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:length]
