"""What a text of SQL wants, as far as one must know to send it to the right place. The cluster alone understands it."""

from __future__ import annotations

import re

# Comments, quoted texts and names, which may hold anything; then words, and what stands alone.
_TOKEN = re.compile(r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\w+|\S""", re.DOTALL)


def statements(text: str) -> list[list[str]]:
    """The words of each statement, in capitals, without comments and quoted texts."""
    found: list[list[str]] = [[]]
    for token in _TOKEN.findall(text):
        if token == ";":
            found.append([])
        elif not token.startswith(("--", "/*")):
            found[-1].append(token.upper() if token[0] not in "'\"`" else token[0])
    return [statement for statement in found if statement]


def is_job(text: str) -> bool:
    """Whether it writes or trains, so that it is to be submitted; else it asks."""
    return any(_is_job(statement) for statement in statements(text))


def asks(text: str) -> bool:
    """Whether its last statement asks for rows."""
    found = statements(text)
    return bool(found) and found[-1][0] in {"SELECT", "WITH", "VALUES", "(", "EXPLAIN", "DESCRIBE", "DESC", "SHOW"}


def n_models(text: str) -> int:
    """How many models it trains."""
    return sum(_created(statement)[:1] == ["MODEL"] for statement in statements(text))


def _is_job(statement: list[str]) -> bool:
    if statement[0] == "INSERT":
        return True
    created = _created(statement)
    if created[:1] == ["MODEL"] or created[:2] == ["MATERIALIZED", "VIEW"]:
        return True
    if created[:1] not in (["TABLE"], ["TEMPORARY"]):
        return False
    # CREATE TABLE … AS SELECT: an AS outside of the columns, whose own computed ones have it too.
    depth = 0
    for word in created:
        depth += (word == "(") - (word == ")")
        if word == "AS" and depth == 0:
            return True
    return False


def _created(statement: list[str]) -> list[str]:
    """What stands behind CREATE."""
    if statement[0] != "CREATE":
        return []
    return statement[3:] if statement[1:3] == ["OR", "REPLACE"] else statement[1:]
