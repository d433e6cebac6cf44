"""Who calls: the principal behind a request, by its bearer token."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from srv6dmm_api import auth


async def principal(connection: HTTPConnection) -> auth.Principal:
    """Return who calls, the local principal where no tokens are set up.

    Raises Refusal `unauthorized`. A coroutine, because the framework would run a plain function
    in a thread, which costs more than the look-up.
    """
    tokens: auth.TokenTable | None = connection.app.state.tokens
    if tokens is None:
        return auth.LOCAL
    return tokens.authenticate(auth.bearer_of(connection.headers.get("authorization")))


Caller = Annotated[auth.Principal, Depends(principal)]
