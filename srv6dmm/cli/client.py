"""The HTTP client that every verb uses: TCP, TLS or a Unix socket."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import httpx

from srv6dmm.cli.output import USAGE, fail

DEFAULT = "http://127.0.0.1:8642"
ENVIRONMENT = "SRV6DMM_CONTROLLER"
TOKEN_ENVIRONMENT = "SRV6DMM_TOKEN"
AUTHORITY_ENVIRONMENT = "SRV6DMM_TLS_CA"


class Client:
    """Talks to one controller; problems end the command with their detail.

    The environment says where (SRV6DMM_CONTROLLER), with which token (SRV6DMM_TOKEN) and whose
    certificates to trust besides the host's (SRV6DMM_TLS_CA, a PEM file).
    """

    def __init__(self, controller: str | None = None) -> None:
        self._where = controller or os.environ.get(ENVIRONMENT) or DEFAULT
        try:
            parts = urlsplit(self._where)
        except ValueError as error:
            fail(f"controller {self._where!r}: {error}", USAGE)
        if parts.scheme == "http+unix":
            if not parts.path.startswith("/") or parts.netloc:
                fail(f"{self._where!r} must be http+unix:///path", USAGE)
        elif parts.scheme not in ("http", "https") or not parts.netloc:
            fail(
                f"controller {self._where!r} must be http://, https:// or http+unix:///path", USAGE
            )
        unix = parts.scheme == "http+unix"
        token = os.environ.get(TOKEN_ENVIRONMENT)
        # No header could carry it, and the words for that would name neither variable nor token.
        if token and not re.fullmatch(r"[!-~]+", token):
            fail(f"{TOKEN_ENVIRONMENT} is no token: it has blanks, line ends or odd letters", USAGE)
        try:
            self._http = httpx.Client(
                base_url="http://srv6dmm" if unix else self._where,
                transport=httpx.HTTPTransport(uds=parts.path) if unix else None,
                verify=_trust() if parts.scheme == "https" else False,
                timeout=70,
                trust_env=False,
                headers={"Authorization": f"Bearer {token}"} if token else {},
            )
        except httpx.InvalidURL as error:
            fail(f"controller {self._where!r}: {error}", USAGE)

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of a GET."""
        return self._json("GET", path, params=query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """Return the JSON of a POST."""
        return self._json("POST", path, json=body, params=query)

    def put(self, path: str, body: Any, **query: Any) -> Any:
        """Return the JSON of a PUT."""
        return self._json("PUT", path, json=body, params=query)

    def patch(self, path: str, body: Any, **query: Any) -> Any:
        """Return the JSON of a PATCH."""
        return self._json("PATCH", path, json=body, params=query)

    def delete(self, path: str, **query: Any) -> Any:
        """Return the JSON of a DELETE."""
        return self._json("DELETE", path, params=query)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(
                method, path, **{k: v for k, v in options.items() if v is not None}
            )
        except httpx.HTTPError as error:
            self._unreachable(error)
        self._check(response)
        return response.json()

    @contextmanager
    def stream(self, path: str, **query: Any) -> Iterator[Iterator[str]]:
        """Yield the lines of a long response."""
        try:
            with self._http.stream("GET", path, params=query, timeout=None) as response:
                if response.is_error:
                    response.read()
                self._check(response)
                yield response.iter_lines()
        except httpx.ConnectError as error:
            self._unreachable(error)
        except httpx.HTTPError as error:
            fail(f"controller at {self._where}: {error}")

    def _unreachable(self, error: httpx.HTTPError) -> NoReturn:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            advice = f"{AUTHORITY_ENVIRONMENT} names a PEM file of certificates to trust"
        else:
            advice = f"is it running, and is {ENVIRONMENT} right?"
        fail(f"controller at {self._where} cannot be reached: {error}; {advice}")

    def _check(self, response: httpx.Response) -> None:
        if not response.is_error:
            return
        try:
            problem = response.json()
            fail(f"{problem['title']}: {problem['detail']}")
        except (ValueError, KeyError, TypeError):
            fail(f"{response.request.url} answered {response.status_code}")


def segment(name: str) -> str:
    """Return a name as one segment of a path, whatever is in it."""
    return quote(name, safe="")


def _trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority = os.environ.get(AUTHORITY_ENVIRONMENT)
    if authority:
        try:
            context.load_verify_locations(authority)
        except OSError as error:
            fail(f"{AUTHORITY_ENVIRONMENT}={authority}: {error.strerror or error}")
    return context
