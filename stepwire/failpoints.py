"""Failpoints: named places at which a test can make a process fail.

A process is armed by its setting `failpoints`, a list such as

    settle.committed=kill@7; claim.before=delay(0.5)@3+

Each entry has a place, what happens there, and at which passing of the place: `@7` at the
seventh alone, `@3+` from the third on; the first alone where nothing is said. A place that
is not armed costs one look into an empty dict. Each firing is logged before it takes
effect, so that a test can tell a fault that happened from one that did not.

What can happen:

    kill            the process gets SIGKILL
    kill(SECONDS)   the same after a time in which the rest of the process goes on
    stop            the process gets SIGSTOP; it is for somebody else to let it go on
    block(SECONDS)  the thread that passes is held up, and its event loop with it
    delay(SECONDS)  only who passes is held up
    error           who passes gets a FailpointError, which is a ConnectionError
"""

import asyncio
import itertools
import logging
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

_logger = logging.getLogger(__name__)

FIRED = "a failpoint has fired"
_ENTRY = re.compile(
    r"(?P<place>[a-z_.]+)=(?P<action>[a-z]+)(?:\((?P<seconds>\d+(?:\.\d+)?)\))?"
    r"(?:@(?P<passing>\d+)(?P<onwards>\+)?)?"
)


class Action(StrEnum):
    """What happens at a failpoint."""

    KILL = "kill"
    STOP = "stop"
    BLOCK = "block"
    DELAY = "delay"
    ERROR = "error"


_NEED_SECONDS = frozenset({Action.BLOCK, Action.DELAY})
_MAY_HAVE_SECONDS = frozenset({*_NEED_SECONDS, Action.KILL})


class FailpointError(ConnectionError):
    """What the action `error` raises: to the code around it, a connection that was lost."""


@dataclass(frozen=True, slots=True)
class Failpoint:
    """An armed place.

    Attributes:
        place: Its name in the code.
        action: What happens.
        seconds: For how long, or after what time; 0 where the action knows no time.
        passing: The passing at which it happens first, from 1.
        onwards: Whether it happens at all later ones too.
    """

    place: str
    action: Action
    seconds: float = 0.0
    passing: int = 1
    onwards: bool = False
    _passings: Iterator[int] = field(
        default_factory=lambda: itertools.count(1), repr=False, compare=False
    )

    def fires(self) -> bool:
        """Counts a passing; returns whether it is one at which something happens."""
        passing = next(self._passings)
        if passing != self.passing and not (self.onwards and passing > self.passing):
            return False
        _logger.warning(
            FIRED,
            extra={
                "failpoint": self.place,
                "action": self.action,
                "seconds": self.seconds,
                "passing": passing,
                "pid": os.getpid(),
                "monotonic": time.monotonic(),
            },
        )
        return True

    def act(self) -> None:
        """Does what is left to do once the waiting is over.

        Raises:
            FailpointError: For the action `error`.
        """
        match self.action:
            case Action.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Action.STOP:
                os.kill(os.getpid(), signal.SIGSTOP)
            case Action.ERROR:
                raise FailpointError(f"failpoint {self.place}")
            case Action.BLOCK | Action.DELAY:
                pass


_armed: dict[str, Failpoint] = {}


async def failpoint(place: str) -> None:
    """Marks a place in a coroutine.

    Raises:
        FailpointError: If a test wants it to.
    """
    if place not in _armed:
        return
    armed = _armed[place]
    if not armed.fires():
        return
    if armed.action == Action.BLOCK:
        time.sleep(armed.seconds)  # noqa: ASYNC251 - to hold up the event loop is the fault
    elif armed.seconds:
        await asyncio.sleep(armed.seconds)
    armed.act()


def failpoint_in_thread(place: str) -> None:
    """Marks a place in an ordinary function, which every action holds up by itself.

    Raises:
        FailpointError: If a test wants it to.
    """
    if place not in _armed:
        return
    armed = _armed[place]
    if not armed.fires():
        return
    time.sleep(armed.seconds)
    armed.act()


def arm(text: str) -> None:
    """Arms the places that `text` lists, and no others.

    Raises:
        ValueError: The text is not such a list; nothing has changed then.
    """
    points = parse(text)
    _armed.clear()
    _armed.update({point.place: point for point in points})
    if points:
        _logger.warning("failpoints are armed", extra={"failpoints": text})


def parse(text: str) -> list[Failpoint]:
    """Reads a list of failpoints; see the module.

    Raises:
        ValueError: The text is not such a list, or names a place twice.
    """
    points = [_parse_entry(entry.strip()) for entry in text.split(";") if entry.strip()]
    if len({point.place for point in points}) < len(points):
        raise ValueError(f"{text!r} names a failpoint twice")
    return points


def _parse_entry(entry: str) -> Failpoint:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError(f"{entry!r} is not a failpoint: write PLACE=ACTION(SECONDS)@PASSING")
    try:
        action = Action(match["action"])
    except ValueError:
        actions = ", ".join(Action)
        raise ValueError(f"{entry!r}: the action must be one of {actions}") from None
    if match["seconds"] is None and action in _NEED_SECONDS:
        raise ValueError(f"{entry!r}: {action} needs a time in seconds")
    if match["seconds"] is not None and action not in _MAY_HAVE_SECONDS:
        raise ValueError(f"{entry!r}: {action} takes no time")
    passing = int(match["passing"] or 1)
    if passing < 1:
        raise ValueError(f"{entry!r}: passings are counted from 1")
    return Failpoint(
        place=match["place"],
        action=action,
        seconds=float(match["seconds"] or 0),
        passing=passing,
        onwards=match["onwards"] is not None,
    )
