"""Waiting for routers on behalf of a caller: bounded, and over when the controller stops."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Query

from srv6dmm.controller.tickets import Incomplete

Wait = Annotated[
    Literal["durable", "applied"],
    Query(
        description="Answer when durable, or when every router has acknowledged.",
        examples=["applied"],
    ),
]
Patience = Annotated[
    float,
    Query(alias="timeout", gt=0, le=60, description="Seconds to wait for applied.", examples=[2.5]),
]


async def applied_within(
    applied: asyncio.Future[Any], patience: float, stopping: asyncio.Event
) -> bool:
    """Tell whether every router acknowledged within `patience` seconds.

    Gives up when the controller stops, and when it goes on without some routers. Raises the
    Refusal that says why it will not come.
    """
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait(
            (applied, stopped), timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        stopped.cancel()
    if not applied.done():
        return False
    try:
        applied.result()
    except Incomplete:
        return False
    return True
