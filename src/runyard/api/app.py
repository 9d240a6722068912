"""The application: routers, errors, OpenAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from runyard.api import (
    access,
    cache,
    canceling,
    converting,
    data,
    definitions,
    frameworks,
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
    runs,
    secrets,
    shares,
    short_path,
    status,
)
from runyard.api.context import Context, Ctx
from runyard.api.limits import BodyLimit
from runyard.core.errors import NotFound, StoreAway

_STORE_S = 5.0
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_ROUTERS: tuple[APIRouter, ...] = (
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
    nodes.router,
    data.router,
    cache.router,
    access.router,
    secrets.router,
    frameworks.router,
    node_reading.router,
)


class _Application(FastAPI):
    """An application with a short way for what nodes ask most often. A proxy may pass the path on with or without the
    prefix that the service is published under."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = self.root_path
        if prefix and scope["type"] == "http" and scope["path"].startswith(prefix + "/"):
            scope = {**scope, "path": scope["path"].removeprefix(prefix)}
        if not await short_path.taken(self.state.context, scope, receive, send):
            await super().__call__(scope, receive, send)


def create_app(context: Context, lifespan: Lifespan | None = None) -> FastAPI:
    """Make the application over a context."""
    app = _Application(
        title="Runyard",
        version=context.version,
        openapi_url="/api/openapi.json",
        docs_url="/api/docs",
        redoc_url=None,
        lifespan=lifespan,
        root_path=urlsplit(context.url).path.rstrip("/"),
    )
    app.state.context = context
    problems.install(app)
    app.add_middleware(BodyLimit)
    for router in _ROUTERS:
        app.include_router(router, prefix="/api/v1")
    app.add_api_route("/healthz", _health, tags=["installation"])
    app.add_api_route("/api/authority.pem", _authority, tags=["installation"], response_class=PlainTextResponse)
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
