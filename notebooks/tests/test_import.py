"""`import smack` costs next to nothing: what is heavy is imported by who uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import smack

HEAVY = ("pyarrow", "pandas", "polars", "matplotlib", "IPython", "numpy", "http", "ssl", "asyncio")


def imported(script: str) -> set[str]:
    script += "\nimport sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    environment = os.environ | {"PYTHONPATH": str(Path(smack.__file__).parent.parent)}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_the_package_alone_imports_nothing_heavy() -> None:
    assert not imported("import smack; dir(smack); smack.SmackError") & set(HEAVY)


def test_a_cluster_needs_no_arrow_before_there_are_rows() -> None:
    assert not imported("import smack; smack.Cluster; smack.dev; smack.Changelog; smack.Run; smack.live_chart") & set(HEAVY[:6])


def test_every_name_is_there() -> None:
    for name in smack.__all__:
        assert getattr(smack, name) is not None, name
    assert set(smack.__all__) <= set(dir(smack))
    # The function, and not a module of that name.
    assert callable(smack.dev) and callable(smack.connect)
    try:
        smack.nothing  # noqa: B018
        raise AssertionError
    except AttributeError as error:
        assert "no attribute 'nothing'" in str(error)
