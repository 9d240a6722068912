"""The application: routers, errors, OpenAPI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from runyard.api import (
    access,
    accounts,
    asking,
    cache,
    canceling,
    converting,
    data,
    definitions,
    describing,
    frameworks,
    login,
    login_oidc,
    logs,
    metrics,
    node,
    node_metrics,
    node_objects,
    node_ranges,
    node_reading,
    nodes,
    problems,
    queue,
    results,
    room,
    runs,
    secrets,
    shares,
    short_path,
    status,
    tokens,
)
from runyard.api.asking import ACTIONS
from runyard.api.context import Context, Ctx
from runyard.api.limits import BodyLimit
from runyard.core.errors import NotFound, StoreAway

_STORE_S = 5.0
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

ROUTERS: tuple[APIRouter, ...] = (
    # Nodes ask most often, and routes are looked through in this order.
    node.router,
    node_ranges.router,
    node_metrics.router,
    node_objects.router,
    status.router,
    definitions.router,
    runs.check_router,
    converting.router,
    logs.router,
    metrics.router,
    results.router,
    canceling.router,
    runs.router,
    queue.router,
    shares.router,
    room.router,
    nodes.router,
    data.router,
    cache.router,
    access.router,
    tokens.router,
    accounts.router,
    login.router,
    login_oidc.router,
    secrets.router,
    frameworks.router,
    node_reading.router,
)


class _Application(FastAPI):
    """An application with a short way for what nodes ask most often. A proxy may pass the path on with or without the
    prefix that the service is published under."""

    def openapi(self) -> dict[str, Any]:
        """The description, made when it is first asked for."""
        if self.openapi_schema is None:
            self.openapi_schema = describing.complete(super().openapi())
        return self.openapi_schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = self.state.context
        prefix = self.root_path
        if prefix and scope["type"] == "http" and scope["path"].startswith(prefix + "/"):
            scope = {**scope, "path": scope["path"].removeprefix(prefix)}
        if await short_path.taken(context, scope, receive, send):
            return
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        client = scope.get("client")
        asked = asking.begin(str(client[0]) if client else "")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and (action := ACTIONS.get(scope.get("endpoint"))) is not None:
                now = context.world.clock.now_ms()
                entry = asking.entry_of(asked, action, scope.get("path_params", {}), message["status"], now)
                if entry is not None:
                    await context.trail.add(context.world.store, entry, wait=action.waits)
            await send(message)

        await super().__call__(scope, receive, answer)


def create_app(context: Context, lifespan: Lifespan | None = None) -> FastAPI:
    """Make the application over a context; one that was made ahead, where there is one."""
    app = _ahead.pop() if _ahead else _without_context()
    app.version = context.version
    app.root_path = urlsplit(context.url).path.rstrip("/")
    app.state.context = context
    app.state.lifespan = lifespan
    return app


_ahead: list[_Application] = []


def make_ahead() -> None:
    """Make the next application up to its context, and have it look at its routes, which it would with its first
    request: a process that is forked of this one shares what that makes, 8 MB."""
    app = _without_context()
    looking = FastAPI.__call__(app, _NOWHERE, _nothing, _unheard)
    with suppress(StopIteration):  # that is its end
        looking.send(None)  # nothing in it waits: no loop is needed
    looking.close()
    _ahead.append(app)


_NOWHERE: Final[Scope] = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/api/v1/nowhere",
    "raw_path": b"/api/v1/nowhere",
    "query_string": b"",
    "root_path": "",
    "headers": [],
    "state": {},
}


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _unheard(_: Message) -> None:
    pass


@asynccontextmanager
async def _living(app: FastAPI) -> AsyncGenerator[None]:
    lifespan: Lifespan | None = app.state.lifespan
    if lifespan is None:
        yield
        return
    async with lifespan(app):
        yield


def _without_context() -> _Application:
    app = _Application(
        title="Runyard", openapi_url="/api/openapi.json", docs_url="/api/docs", redoc_url=None, lifespan=_living
    )
    problems.install(app)
    app.add_middleware(BodyLimit)
    for router in ROUTERS:
        app.include_router(router, prefix="/api/v1")
    app.add_api_route("/healthz", _health, tags=["installation"])
    app.add_api_route("/api/authority.pem", _authority, response_class=PlainTextResponse, include_in_schema=False)
    return app


async def _health(context: Ctx) -> dict[str, str]:
    """The server answers, and so does its database; 503 where that does not."""
    try:
        async with asyncio.timeout(_STORE_S):
            await asyncio.to_thread(context.world.store.last_seq)
    except TimeoutError:
        raise StoreAway(f"The database has not answered for {_STORE_S:g} seconds; nothing is lost.") from None
    return {"status": "ok"}


async def _authority(context: Ctx) -> str:
    """The certificate of the service's own authority (PEM), for who knows its fingerprint. Anybody may have it."""
    if not context.authority:
        raise NotFound("This service has no authority of its own: its certificate, if any, is signed by another.")
    return context.authority
