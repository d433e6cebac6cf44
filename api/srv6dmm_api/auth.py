"""Bearer tokens: who may do what, and for which router.

Tokens are 256 random bits, so a plain SHA-256 of one cannot be reversed by guessing; a slow
password hash would only make every request slow.
"""

from __future__ import annotations

import hashlib
import hmac
import tomllib
from dataclasses import dataclass
from pathlib import Path

from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import BindingStatus

READ = "read"
MOBILITY_WRITE = "mobility:write"
ROUTER_STREAM = "router:stream"
ADMIN = "admin"
SCOPES = frozenset({READ, MOBILITY_WRITE, ROUTER_STREAM, ADMIN})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `router`: the only router this one may speak for (None: any)."""

    id: str
    scopes: frozenset[str]
    router: str | None = None

    def require(self, scope: str) -> None:
        """Raise Refusal `forbidden` without the scope; admin has every one."""
        if scope not in self.scopes and ADMIN not in self.scopes:
            raise Refusal("forbidden", f"token {self.id!r} lacks the scope {scope!r}", 403)

    def speaks_for(self, router: str) -> None:
        """Raise Refusal `forbidden` (status 154 of RFC 5213) for another router's affairs."""
        if self.router is not None and self.router != router:
            raise Refusal(
                "forbidden",
                f"token {self.id!r} speaks for {self.router}, not for {router!r}",
                403,
                binding_status=BindingStatus.ROUTER_NOT_AUTHORIZED,
            )


LOCAL = Principal("local", SCOPES)
"""Everybody, where no tokens are set up: loopback and the Unix socket only."""


def token_digest(token: str) -> str:
    """Return what is stored of a token."""
    return "sha256:" + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class TokenTable:
    """Hashed tokens and what they allow."""

    def __init__(self, tokens: dict[str, Principal]) -> None:
        self._tokens = tokens

    @classmethod
    def load(cls, path: Path) -> TokenTable:
        """Read `[[token]] id, hash, scopes, router` from TOML.

        Raises ValueError naming the file, the token and the fault.
        """
        try:
            document = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path}: {error}") from error
        tokens: dict[str, Principal] = {}
        for number, entry in enumerate(document.get("token", []), start=1):
            name = str(entry.get("id", ""))
            digest = str(entry.get("hash", ""))
            scopes = frozenset(entry.get("scopes", []))
            router = entry.get("router")
            place = f"{path}: token {number} ({name or 'no id'})"
            if not name or not digest.startswith("sha256:") or len(digest) != 71:
                raise ValueError(f'{place}: needs id and hash = "sha256:<64 hex digits>"')
            if not scopes or scopes - SCOPES:
                raise ValueError(f"{place}: scopes must be some of {', '.join(sorted(SCOPES))}")
            if router is not None and not isinstance(router, str):
                raise ValueError(f"{place}: router must be a name")
            tokens[digest] = Principal(name, scopes, router)
        return cls(tokens)

    def authenticate(self, bearer: str | None) -> Principal:
        """Return whose token this is. Raises Refusal `unauthorized`."""
        if bearer is None:
            raise Refusal("unauthorized", "send Authorization: Bearer <token>", 401)
        presented = token_digest(bearer)
        found = None
        for digest, principal in self._tokens.items():
            if hmac.compare_digest(digest, presented):
                found = principal
        if found is None:
            raise Refusal("unauthorized", "the token is not valid; it may be revoked", 401)
        return found


def bearer_of(header: str | None) -> str | None:
    """Return the token in an Authorization header, None when there is none."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
