"""Addresses of destinations that are declared by name.

A name is looked up when somebody watches it and again every few seconds: the resolver behind `resolve` keeps
answers for as long as their records live, so asking it is cheap. A look-up that fails leaves the last good
addresses in force; so does one that finds none. `changed` is called when the addresses are others than before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

Resolve = Callable[[str], Awaitable[list[str]]]

INTERVAL: Final = 5.0
#: After a failure, doubled with each further one, up to this.
LONGEST: Final = 60.0
AT_ONCE: Final = 16


class Name:
    __slots__ = ("addresses", "due", "failures", "last_error", "users", "wait")

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.users = 0
        self.due, self.wait = 0.0, INTERVAL
        self.failures, self.last_error = 0, ""


class Names:
    """Look-ups are tasks of the running loop; without one nothing is looked up until `tick` finds one."""

    def __init__(self, resolve: Resolve, now: Callable[[], float], changed: Callable[[str], None]) -> None:
        self._resolve, self._now, self._changed = resolve, now, changed
        self._names: dict[str, Name] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, name: str) -> None:
        self._names.setdefault(name, Name()).users += 1

    def forget(self, name: str) -> None:
        known = self._names[name]
        known.users -= 1
        if not known.users:
            del self._names[name]
            if task := self._tasks.pop(name, None):
                task.cancel()

    def addresses(self, name: str) -> tuple[str, ...]:
        known = self._names.get(name)
        return known.addresses if known else ()

    def known(self) -> dict[str, Name]:
        return self._names

    def tick(self, now: float) -> None:
        for name, known in self._names.items():
            if len(self._tasks) >= AT_ONCE:
                break
            if now >= known.due and name not in self._tasks:
                self._tasks[name] = asyncio.get_running_loop().create_task(self._look_up(name, known))

    async def _look_up(self, name: str, known: Name) -> None:
        try:
            found = tuple(await self._resolve(name))
        except OSError as error:
            found, known.last_error = (), str(error) or type(error).__name__
        else:
            known.last_error = "" if found else "no addresses"
        finally:
            if self._tasks.get(name) is asyncio.current_task():
                del self._tasks[name]
        self._learn(name, known, found)

    def _learn(self, name: str, known: Name, found: tuple[str, ...]) -> None:
        if not found:
            known.failures += 1
            known.due, known.wait = self._now() + known.wait, min(known.wait * 2, LONGEST)
            return
        known.due, known.wait = self._now() + INTERVAL, INTERVAL
        if found != known.addresses:
            known.addresses = found
            self._changed(name)
