"""The HTTP client that every verb uses: TCP, TLS or a Unix socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from srv6dmm.cli.output import fail

DEFAULT = "http://127.0.0.1:8642"
HELP = "Controller: http://, https:// or http+unix:///path."
ENVIRONMENT = "SRV6DMM_CONTROLLER"


class Client:
    """Talks to one controller; problems end the command with their detail."""

    def __init__(self, controller: str | None = None) -> None:
        url = controller or os.environ.get(ENVIRONMENT, DEFAULT)
        token = os.environ.get("SRV6DMM_TOKEN")
        parts = urlsplit(url)
        transport = None
        if parts.scheme == "http+unix":
            transport = httpx.HTTPTransport(uds=parts.path)
            url = "http://srv6dmm"
        self._where = controller or os.environ.get(ENVIRONMENT, DEFAULT)
        self._http = httpx.Client(
            base_url=url,
            transport=transport,
            timeout=70,
            trust_env=False,
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of a GET."""
        return self._json("GET", path, params=query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """Return the JSON of a POST."""
        return self._json("POST", path, json=body, params=query)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(
                method, path, **{k: v for k, v in options.items() if v is not None}
            )
        except httpx.HTTPError as error:
            fail(
                f"controller at {self._where} cannot be reached: {error}; is it running, and "
                f"is {ENVIRONMENT} right?"
            )
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
        except httpx.HTTPError as error:
            fail(f"controller at {self._where}: {error}")

    def _check(self, response: httpx.Response) -> None:
        if not response.is_error:
            return
        try:
            problem = response.json()
            fail(f"{problem['title']}: {problem['detail']}")
        except (ValueError, KeyError, TypeError):
            fail(f"{response.request.url} answered {response.status_code}")
