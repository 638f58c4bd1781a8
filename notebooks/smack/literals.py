"""Values as SQL writes them, so that the cluster reads the same values of the same types."""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_WHOLE = {"int8": "TINYINT", "int16": "SMALLINT", "int32": "INT", "int64": "BIGINT", "uint8": "SMALLINT", "uint16": "INT"}
_WHOLE |= {"uint32": "BIGINT", "uint64": "DECIMAL(20, 0)"}


def type_name(kind: pa.DataType) -> str:
    """The SQL type that holds all values of this one."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return type_name(kind.value_type)
    name = str(kind)
    if name in _WHOLE:
        return _WHOLE[name]
    if types.is_boolean(kind):
        return "BOOLEAN"
    if types.is_float16(kind) or types.is_float32(kind):
        return "FLOAT"
    if types.is_float64(kind):
        return "DOUBLE"
    if name in ("string", "large_string", "string_view"):
        return "VARCHAR"
    if name in ("binary", "large_binary", "binary_view") or types.is_fixed_size_binary(kind):
        return "VARBINARY"
    if types.is_decimal(kind) and kind.precision <= 38 and kind.scale >= 0:
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if types.is_timestamp(kind):
        return "TIMESTAMP"
    if types.is_date(kind):
        return "DATE"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return f"{type_name(kind.value_type)}[]"
    if types.is_null(kind):
        # Nothing is said of its type, and nulls have any.
        return "DOUBLE"
    raise TypeError(f"values of Arrow's type {kind} have no form in SQL; cast the column to numbers, texts or times")


def literal(value: Any, kind: str) -> str:
    """A value of that SQL type."""
    if value is None:
        return f"CAST(NULL AS {kind})"
    if kind.endswith("[]"):
        items = ", ".join(literal(item, kind[:-2]) for item in value)
        return f"make_array({items})" if items else f"CAST(make_array() AS {kind})"
    if kind == "BOOLEAN":
        return "TRUE" if value else "FALSE"
    if kind in ("FLOAT", "DOUBLE"):
        # Digits as Python gives them are those that read back as the same number.
        return repr(float(value)) if math.isfinite(value) else f"CAST('{_special(value)}' AS {kind})"
    if kind == "VARCHAR":
        return _quoted(value)
    if kind == "VARBINARY":
        return f"X'{bytes(value).hex()}'"
    if kind == "TIMESTAMP":
        return f"CAST('{_moment(value)}' AS TIMESTAMP)"
    if kind == "DATE":
        return f"CAST('{value.isoformat()}' AS DATE)"
    if kind.startswith("DECIMAL"):
        return f"CAST('{value:f}' AS {kind})"
    # A minus would be a sign before a number that BIGINT does not hold, for its least one.
    return str(value) if value > -(2**63) else f"CAST('{value}' AS {kind})"


def name(column: str) -> str:
    """A column's or table's name, whatever it is."""
    return '"' + column.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text."""
    return _quoted(value)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _moment(value: datetime.datetime) -> str:
    """In UTC, to the microsecond."""
    if value.tzinfo is not None:
        value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return value.isoformat(timespec="microseconds")


def parameter(value: Any) -> bool | int | float | str | None:
    """A value as it travels to the place of a `?`, where text is taken as what the place wants."""
    if type(value).__name__ == "datetime64":
        return str(value)
    if hasattr(value, "item") and callable(value.item):
        # One of numpy's.
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        # JSON has no words for the others.
        return value if math.isfinite(value) else _special(value)
    if isinstance(value, datetime.datetime):
        return _moment(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be a parameter; give None, a bool, a number, a text, a time or a date")
