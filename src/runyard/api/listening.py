"""The HTTP server, woken by what happens instead of ten times a second."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn

DATE_S = 1.0
"""How old the date of an answer may be."""


class Listening(uvicorn.Server):
    """Uvicorn's server, which looks every 0.1 s whether it is to end: an idle machine would be woken for it."""

    def __init__(self, config: uvicorn.Config, leaving: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._leaving = leaving
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave = asyncio.Event()

    async def main_loop(self) -> None:
        """Keep the date of answers until a signal comes."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):  # of its counter only whether it is a tenth one counts
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._leave.wait(), DATE_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The end. ``leaving`` ends what would else last until it is cut off."""
        self._leaving()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come; this runs between two instructions of the loop's own thread."""
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._leave.set)
