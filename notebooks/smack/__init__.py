"""A smack cluster from Python: streaming SQL, training, and what the cluster makes of both.

    import smack
    cluster = smack.connect()            # or smack.dev(), which starts one that ends with this interpreter
    cluster.sql("SELECT 1 AS one").pandas()

Nothing is imported before it is used: neither pyarrow, which every row needs, nor pandas, polars, matplotlib and IPython, which
are needed by those who ask for them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .batches import Batches
    from .changelog import Changelog
    from .chart import Chart, live_chart
    from .cluster import Cluster, connect
    from .errors import Cut, Diagnostic, JobFailed, NotStarted, Refused, SmackError, Unreachable, WaitedTooLong, WrongVersion
    from .listing import Listing
    from .local import Dev, dev
    from .rows import Rows
    from .runs import Run
    from .why import Why

__all__ = [
    "Batches",
    "Changelog",
    "Chart",
    "Cluster",
    "Cut",
    "Dev",
    "Diagnostic",
    "JobFailed",
    "Listing",
    "NotStarted",
    "Refused",
    "Rows",
    "Run",
    "SmackError",
    "Unreachable",
    "WaitedTooLong",
    "Why",
    "WrongVersion",
    "__version__",
    "connect",
    "dev",
    "live_chart",
]

_HOMES = {
    "batches": ["Batches"],
    "changelog": ["Changelog"],
    "chart": ["Chart", "live_chart"],
    "cluster": ["Cluster", "connect"],
    "errors": [
        "Cut",
        "Diagnostic",
        "JobFailed",
        "NotStarted",
        "Refused",
        "SmackError",
        "Unreachable",
        "WaitedTooLong",
        "WrongVersion",
    ],
    "listing": ["Listing"],
    # Not called as the function is, whose place the module would take.
    "local": ["Dev", "dev"],
    "rows": ["Rows"],
    "runs": ["Run"],
    "why": ["Why"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'smack' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext smack`: the magic `%%smack`."""
    from . import magic

    magic.load(ipython)
