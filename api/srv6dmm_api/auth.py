"""Bearer tokens: who may do what, and for which router.

A token is 256 random bits, so nobody finds it by guessing at its hash: a plain SHA-256 is enough.
Salt and a slow hash are for secrets that people choose; here they would only slow down every
request, and no two tokens share a hash anyway.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srv6dmm.model.errors import Refusal
from srv6dmm.model.events import BindingStatus

READ = "read"
MOBILITY_WRITE = "mobility:write"
ROUTER_STREAM = "router:stream"
ADMIN = "admin"
SCOPES = frozenset({READ, MOBILITY_WRITE, ROUTER_STREAM, ADMIN})

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
"""What tokens and routers may be called."""
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_KEYS = frozenset({"id", "hash", "scopes", "router"})


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
        """Take principals by the digest of their token (see `token_digest`)."""
        self._tokens = tokens

    @classmethod
    def load(cls, path: Path) -> TokenTable:
        """Read `[[token]] id, hash, scopes, router` from TOML.

        Raises ValueError naming the file, the token and the fault. Nothing is overlooked: a
        misspelt `router` would let a router's token speak for every router.
        """
        tokens: dict[str, Principal] = {}
        names: set[str] = set()
        for number, entry in enumerate(read_entries(path), start=1):
            place = f"{path}: token {number} ({entry.get('id', 'no id')})"
            digest, principal = _parsed(entry, place)
            if digest in tokens or principal.id in names:
                raise ValueError(f"{place}: there is another one with this id or hash")
            tokens[digest] = principal
            names.add(principal.id)
        return cls(tokens)

    def authenticate(self, bearer: str | None) -> Principal:
        """Return whose token this is. Raises Refusal `unauthorized`."""
        if bearer is None:
            raise Refusal("unauthorized", "send Authorization: Bearer <token>", 401)
        presented = token_digest(bearer)
        found = None
        # Every hash is compared, and whole: the time taken tells nothing about any of them.
        for digest, principal in self._tokens.items():
            if hmac.compare_digest(digest, presented):
                found = principal
        if found is None:
            raise Refusal("unauthorized", "the token is not valid; it may be revoked", 401)
        return found


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Return the `[[token]]` tables of a file as they are written.

    Raises ValueError naming the file when it is no TOML or has anything else in it.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    entries = document.pop("token", [])
    if document:
        raise ValueError(f"{path}: {next(iter(document))!r} is unknown; write [[token]] tables")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path}: 'token' is no list of tables; write [[token]]")
    return entries


def _parsed(entry: dict[str, Any], place: str) -> tuple[str, Principal]:
    """Return a token's digest and whose it is. Raises ValueError."""
    unknown = entry.keys() - _KEYS
    if unknown:
        raise ValueError(
            f"{place}: {min(unknown)!r} is unknown; there are id, hash, scopes, router"
        )
    name, digest, scopes, router = (entry.get(key) for key in ("id", "hash", "scopes", "router"))
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{place}: id must be a name of letters, digits and . _ : @ -")
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        raise ValueError(f'{place}: hash must be "sha256:" and 64 lower-case hex digits')
    if (
        not isinstance(scopes, list)
        or not scopes
        or any(not isinstance(scope, str) or scope not in SCOPES for scope in scopes)
    ):
        raise ValueError(f"{place}: scopes must be a list of some of {', '.join(sorted(SCOPES))}")
    if router is not None and (not isinstance(router, str) or not NAME.fullmatch(router)):
        raise ValueError(f"{place}: router must be a router's name; leave it out for any router")
    return digest, Principal(name, frozenset(scopes), router)


def bearer_of(header: str | None) -> str | None:
    """Return the token in an Authorization header, None when there is none."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
