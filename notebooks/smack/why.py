"""Why something is where it is."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .listing import Listing
from .views import EventView


@dataclass(frozen=True, repr=False)
class Why:
    """The one sentence, what stands behind it, and what happened; as text it is the sentence."""

    subject: str
    state: str
    sentence: str
    # What the master says of each agent, where offers are waited for, and where each task is.
    details: list[str]
    events: list[EventView]

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Why:
        return cls(said["subject"], said["state"], said["sentence"], list(said["details"]), list(said["events"]))

    def __str__(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        lines = [f"{self.subject}: {self.sentence}", *(f"  {detail}" for detail in self.details)]
        if self.events:
            lines += ["", *(event_line(event) for event in self.events)]
        return "\n".join(lines)


def event_line(event: EventView) -> str:
    """As the command line says it."""
    level = "" if event["level"] == "info" else f"{event['level']}: "
    return f"{moment(event['at_ms']):%H:%M:%S}  {level}{event['text']}"


def events(listed: list[EventView]) -> Listing[EventView]:
    """As a table."""
    columns = {
        "at": lambda event: f"{moment(event['at_ms']):%Y-%m-%d %H:%M:%S}",
        "level": lambda event: event["level"],
        "what": lambda event: event["text"],
    }
    return Listing(listed, columns)


def moment(at_ms: int) -> datetime.datetime:
    """On the clock of whoever looks."""
    return datetime.datetime.fromtimestamp(at_ms / 1000)
