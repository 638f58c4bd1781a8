"""Text of job files without the values of options that are nobody's business; a notebook is kept with its outputs.

Hiding keeps every other byte in its place, so that places in the text stay right.
"""

from __future__ import annotations

import re

# Parts of the names of such options, as the command line knows them.
_SECRET = r"pas+w[a-z]*d|pwd|passphrase|secret|token|jaas|oauthbearer[._]config|[._]pem|access[._]key"
# A value goes to its own quote: in SQL a doubled one is part of it, in TOML and YAML one behind a backslash.
_VALUE = r"""'((?:[^']|'')*)|"((?:[^"\\]|\\.)*)"""
_ASSIGNED = re.compile(rf"""(?:{_SECRET})[\w.\-]*['"`]?\s*[=:]\s*(?:{_VALUE})""", re.IGNORECASE | re.DOTALL)


def hide(text: str) -> str:
    """The same text, with stars where a secret option has its value, as many as this has bytes."""
    shown, since = [], 0
    for found in _ASSIGNED.finditer(text):
        which = 1 if found.group(1) is not None else 2
        shown.append(text[since : found.start(which)])
        shown.append("*" * len(found.group(which).encode()))
        since = found.end(which)
    return "".join([*shown, text[since:]])
