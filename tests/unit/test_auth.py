"""Tokens: what a table says, who a bearer is, and the command that edits the table."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from srv6dmm_api.auth import (
    ADMIN,
    LOCAL,
    MOBILITY_WRITE,
    READ,
    ROUTER_STREAM,
    SCOPES,
    Principal,
    TokenTable,
    bearer_of,
    token_digest,
)
from typer.testing import CliRunner, Result

from srv6dmm.cli.main import application
from srv6dmm.model.errors import Refusal

HASH = "sha256:" + hashlib.sha256(b"one").hexdigest()
OTHER = "sha256:" + hashlib.sha256(b"two").hexdigest()
GOOD = f"""
[[token]]
id = "ops"
hash = "{HASH}"
scopes = ["read", "admin"]

[[token]]
id = "ar1-agent"
hash = "{OTHER}"
scopes = ["mobility:write", "router:stream"]
router = "ar1"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


def refusal_of(table: TokenTable, bearer: str | None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        table.authenticate(bearer)
    return caught.value


# The table.


def test_a_bearer_is_who_the_table_says(file: Path) -> None:
    file.write_text(GOOD)
    table = TokenTable.load(file)
    assert table.authenticate("one") == Principal("ops", frozenset({READ, ADMIN}))
    assert table.authenticate("two") == Principal(
        "ar1-agent", frozenset({MOBILITY_WRITE, ROUTER_STREAM}), "ar1"
    )


@pytest.mark.parametrize(
    "bearer", [None, "", "One", "one ", " one", "onetwo", HASH, "\ud800", "ö", "x" * 100_000]
)
def test_anybody_else_is_refused_with_401(file: Path, bearer: str | None) -> None:
    file.write_text(GOOD)
    refusal = refusal_of(TokenTable.load(file), bearer)
    assert (refusal.type, refusal.status) == ("unauthorized", 401)
    assert refusal.detail
    assert not bearer or bearer not in refusal.detail, "an answer does not repeat a secret"


def test_an_empty_table_lets_nobody_in(file: Path) -> None:
    file.write_text("")
    assert refusal_of(TokenTable.load(file), "one").status == 401


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        ('id = "ops"', "", r"token 1 \(no id\): id must be"),
        ('id = "ops"', "id = 5", r"token 1 \(5\): id must be"),
        ('id = "ops"', 'id = "two words"', "id must be a name"),
        ('id = "ops"', 'id = "ar1-agent"', "token 2 .* another one with this id"),
        (f'"{OTHER}"', f'"{HASH}"', "token 2 .* another one with this id or hash"),
        (f'hash = "{HASH}"', "", r"token 1 \(ops\): hash must be"),
        ('"sha256:', '"md5:', "hash must be"),
        (f'"{HASH}"', f'"{HASH.upper()}"', "hash must be"),
        (f'"{HASH}"', f'"{HASH[:-1]}é"', "lower-case hex"),
        (f'"{HASH}"', f'"{HASH}\\n"', "hash must be"),
        ('["read", "admin"]', "[]", "scopes must be a list of some of admin, mobility:write"),
        ('["read", "admin"]', '"read"', "scopes must be a list"),
        ('["read", "admin"]', '["raed"]', "scopes must be a list"),
        ('["read", "admin"]', '[["read"]]', "scopes must be a list"),
        ('scopes = ["read", "admin"]', "", "scopes must be a list"),
        ('router = "ar1"', 'routr = "ar1"', r"token 2 \(ar1-agent\): 'routr' is unknown"),
        ('router = "ar1"', 'router = ""', "router must be a router's name; leave it out"),
        ('router = "ar1"', 'router = ["ar1"]', "router must be"),
        ("[[token]]", "[[tokens]]", "'tokens' is unknown"),
        ('[[token]]\nid = "ops"', '[token.ops]\nid = "ops"', "mutable|Cannot"),
        (GOOD, 'token = "x"', "no list of tables"),
        (GOOD, 'token = ["x"]', "no list of tables"),
        (GOOD, "[token]\nid = 'ops'", "no list of tables"),
        ("[[token]]", "[[token", "toml: "),
    ],
)
def test_a_faulty_table_is_refused_with_its_place(
    file: Path, wrong: str, right: str, words: str
) -> None:
    assert wrong in GOOD
    file.write_text(GOOD.replace(wrong, right))
    with pytest.raises(ValueError, match=words) as caught:
        TokenTable.load(file)
    assert str(caught.value).startswith(str(file))


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ValueError, match=re.escape(str(path))):
            TokenTable.load(path)
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    with pytest.raises(ValueError, match=r"latin\.toml"):
        TokenTable.load(tmp_path / "latin.toml")


# Principals.


def test_a_scope_that_lacks_is_refused_with_403() -> None:
    reader = Principal("r", frozenset({READ}))
    reader.require(READ)
    for scope in SCOPES - {READ}:
        with pytest.raises(Refusal, match=f"'r' lacks the scope '{scope}'") as caught:
            reader.require(scope)
        assert (caught.value.type, caught.value.status) == ("forbidden", 403)
        assert caught.value.binding_status is None
    for everything in (LOCAL, Principal("a", frozenset({ADMIN}))):
        for scope in SCOPES:
            everything.require(scope)


def test_a_routers_token_speaks_for_that_router_only() -> None:
    bound = Principal("t", frozenset({MOBILITY_WRITE}), "ar1")
    bound.speaks_for("ar1")
    for other in ("ar2", "AR1", "ar1 ", ""):
        with pytest.raises(Refusal, match="speaks for ar1") as caught:
            bound.speaks_for(other)
        assert (caught.value.type, caught.value.status) == ("forbidden", 403)
        assert caught.value.binding_status == 154
    LOCAL.speaks_for("ar2")


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER   abc ", "abc"),
        ("Bearer a b", "a b"),
        ("Bearer ", None),
        ("Bearer", None),
        ("Basic abc", None),
        ("abc", None),
        ("", None),
        (None, None),
    ],
)
def test_the_token_of_a_header(header: str | None, token: str | None) -> None:
    assert bearer_of(header) == token


# The command.


def token(file: Path, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(application(), ["token", *arguments, "--file", str(file)])
    assert result.exit_code == code, result.output
    return result


def test_a_created_token_works_and_only_its_hash_is_kept(file: Path) -> None:
    secret = token(file, "create", "ops", "--scope", "read", "--scope", "admin").stdout.strip()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret), "256 bits, nothing else on stdout"
    assert TokenTable.load(file).authenticate(secret) == Principal("ops", frozenset({READ, ADMIN}))
    assert secret not in file.read_text()
    assert token_digest(secret) in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [made.name for made in file.parent.iterdir()] == [file.name], "nothing else is left"
    assert token(file, "create", "more").stdout.strip() != secret


def test_a_routers_token_may_stream_and_report(file: Path) -> None:
    secret = token(file, "create", "agent", "--router", "ar1").stdout.strip()
    wanted = Principal("agent", frozenset({MOBILITY_WRITE, ROUTER_STREAM}), "ar1")
    assert TokenTable.load(file).authenticate(secret) == wanted


def test_a_token_of_no_stated_kind_may_read_only(file: Path) -> None:
    secret = token(file, "create", "someone").stdout.strip()
    assert TokenTable.load(file).authenticate(secret).scopes == {READ}


def test_a_revoked_token_is_gone_and_the_others_stay(file: Path) -> None:
    secrets = {name: token(file, "create", name).stdout.strip() for name in ("a", "b", "c")}
    token(file, "revoke", "b")
    table = TokenTable.load(file)
    assert refusal_of(table, secrets["b"]).status == 401
    assert [table.authenticate(secrets[name]).id for name in ("a", "c")] == ["a", "c"]
    token(file, "create", "b")
    assert refusal_of(TokenTable.load(file), secrets["b"]).status == 401, "a new one, not the old"


def test_list_shows_everything_but_secrets(file: Path) -> None:
    assert token(file, "list").stdout == ""
    token(file, "create", "ops", "--scope", "read")
    token(file, "create", "agent", "--router", "ar1")
    lines = token(file, "list").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["ops", "-", "read"],
        ["agent", "ar1", "mobility:write,router:stream"],
    ]
    assert all(len(line) <= 80 for line in lines)
    assert json.loads(token(file, "list", "--json").stdout) == {
        "tokens": [
            {"id": "ops", "router": None, "scopes": ["read"]},
            {"id": "agent", "router": "ar1", "scopes": ["mobility:write", "router:stream"]},
        ]
    }


def test_create_prints_json(file: Path) -> None:
    made = json.loads(token(file, "create", "agent", "--router", "ar1", "--json").stdout)
    assert made.keys() == {"id", "scopes", "router", "token"}
    assert TokenTable.load(file).authenticate(made["token"]).router == "ar1"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("create", "ops"), 1, "has a token 'ops' already"),
        (("create", "x", "--scope", "write"), 2, "scopes are admin, mobility:write"),
        (("create", 'x"\n[[token]]'), 2, "is no name"),
        (("create", "x", "--router", "a b"), 2, "is no name"),
        (("revoke", "x"), 1, "has no token 'x'"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    file: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    token(file, "create", "ops")
    before = file.read_bytes()
    result = token(file, *arguments, code=code)
    assert words in result.stderr
    assert result.stdout == ""
    assert file.read_bytes() == before
    assert len(list(file.parent.iterdir())) == 1


def test_a_faulty_table_is_not_overwritten(file: Path) -> None:
    file.write_text(GOOD.replace("router =", "routr ="))
    before = file.read_bytes()
    for arguments in (["create", "new"], ["revoke", "ops"], ["list"]):
        result = CliRunner().invoke(application(), ["token", *arguments, "--file", str(file)])
        assert isinstance(result.exception, ValueError)
        assert "routr" in str(result.exception)
    assert file.read_bytes() == before


def test_a_table_written_by_hand_keeps_its_tokens(file: Path) -> None:
    file.write_text(GOOD)
    token(file, "create", "new")
    assert tomllib.loads(file.read_text())["token"][:2] == tomllib.loads(GOOD)["token"]


def test_tokens_created_at_once_are_all_kept(file: Path) -> None:
    names = [f"t{number}" for number in range(6)]

    def create(name: str) -> int:
        command = [sys.executable, "-m", "srv6dmm.cli.main", "token", "create", name]
        return subprocess.run(
            [*command, "--file", str(file)], stdout=subprocess.DEVNULL, check=False
        ).returncode

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(create, names)) == {0}
    assert {entry["id"] for entry in tomllib.loads(file.read_text())["token"]} == set(names)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_the_table_stays_its_owners(file: Path) -> None:
    """The controller runs as another user than who creates tokens."""
    token(file, "create", "one")
    os.chown(file, 65534, 65534)
    token(file, "create", "two")
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (65534, 0o600)


def test_a_link_to_the_table_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    token(link, "create", "one")
    assert link.is_symlink()
    assert "one" in file.read_text()
