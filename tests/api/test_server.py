"""The control service as a process: sockets, signals, streams, what it refuses to start with."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import unix_connect

from srv6dmm import codec
from tests.api.process import PATIENCE_S, Service, service
from tests.api.support import hello, mac, refused


def _event(number: int, router: str = "ar1") -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "mobile_node": f"mn{number}",
        "access_router": router,
        "link_layer_address": mac(f"mn{number}"),
    }


def _frames(response: httpx.Response, count: int) -> list[dict[str, Any]]:
    """Read that many events of a feed."""
    found: list[dict[str, Any]] = []
    event: dict[str, Any] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
            continue
        if "data" in event:
            data = json.loads(event["data"])
            found.append({"id": int(event["id"]), "kind": event["event"], **data})
            if len(found) == count:
                break
        event = {}
    return found


def test_it_listens_on_both_sockets_and_says_where(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        assert running.ready_file.read_text() == running.line + "\n"
        mode = running.socket.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert running.url.startswith("http://127.0.0.1:")
        with running.client() as client:
            assert client.post("/v1/attach", json=_event(1)).status_code == 200
        over_tcp = httpx.get(f"{running.url}/v1/mobile-nodes/mn1", trust_env=False)
        assert over_tcp.json()["sessions"][0]["serving"] == "ar1"
        assert "server" not in over_tcp.headers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_soon(number: int, tmp_path: Path) -> None:
    """With a feed and an agent connected, and a caller that waits."""
    with service(tmp_path) as running, running.client() as client:
        client.post("/v1/attach", json=_event(1))
        waiting = running.raw()
        body = json.dumps(_event(2)).encode()
        waiting.sendall(
            b"POST /v1/attach?wait=applied&timeout=60 HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        uri = "ws://srv6dmm/v1/routers/br1/stream"
        with (
            client.stream("GET", "/v1/events", params={"since": 0}) as feed,
            unix_connect(str(running.socket), uri=uri) as agent,
        ):
            agent.send(codec.encode_message(hello("br1")).decode())
            agent.recv(timeout=10)
            assert len(_frames(feed, 2)) == 2
            assert running.stop(number) < 2.0
        answer = waiting.recv(65536)
        assert answer.startswith(b"HTTP/1.1 202 ")
        waiting.close()
        assert running.process.returncode == 0
        assert not running.socket.exists()
        _, complaint = running.process.communicate()
        assert "Traceback" not in complaint


def test_the_feed_resumes_after_the_last_id_and_after_a_restart(tmp_path: Path) -> None:
    with service(tmp_path) as running, running.client() as client:
        for number in (1, 2, 3):
            client.post("/v1/attach", json=_event(number))
        with client.stream("GET", "/v1/events", params={"since": 0}) as feed:
            assert feed.headers["content-type"].startswith("text/event-stream")
            assert feed.headers["cache-control"] == "no-store"
            events = _frames(feed, 6)
        assert {event["kind"] for event in events} == {"registered", "stage"}
        ids = [event["id"] for event in events]
        assert ids == sorted(set(ids))
        with client.stream("GET", "/v1/events", headers={"Last-Event-ID": str(ids[2])}) as feed:
            assert _frames(feed, 3) == events[3:]
        with client.stream("GET", "/v1/events") as feed:  # without an id: what happens next
            lines = feed.iter_lines()
            assert next(lines) == ": connected"
            client.post("/v1/attach", json=_event(4))
            first = next(line for line in lines if line.startswith("id: "))
            assert int(first[4:]) > ids[-1]
        running.stop(signal.SIGKILL)
    with service(tmp_path) as running, running.client() as client:
        client.post("/v1/attach", json=_event(5))
        with client.stream("GET", "/v1/events", headers={"Last-Event-ID": str(ids[-1])}) as feed:
            event = next(e for e in _frames(feed, 2) if e["kind"] == "registered")
        assert event["mobile_node"] == "mn5"
        assert event["id"] > ids[-1]
        nodes = client.get("/v1/mobile-nodes").json()["mobile_nodes"]
        assert [node["mobile_node"] for node in nodes] == ["mn1", "mn2", "mn3", "mn4", "mn5"]


def test_a_chunked_body_is_cut_off_at_the_limit(tmp_path: Path) -> None:
    with service(tmp_path) as running, running.client() as client, running.raw() as line:
        line.sendall(
            b"POST /v1/attach HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        for _ in range(5):  # one more than the 64 KiB that are allowed; the last one is never sent
            line.sendall(chunk)
        answer = b"".join(iter(lambda: line.recv(65536), b""))  # to the end: it is closed
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"urn:srv6dmm:problem:body-too-large" in answer
        refused(client.post("/v1/attach", content=iter([b"x" * 70_000])), 413, "body-too-large")
        assert client.get("/v1/mobile-nodes").json() == {"mobile_nodes": []}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/attach HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/attach HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/attach HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /v1/routers/ar1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\n\r\n",
    ],
    ids=lambda garbage: repr(garbage[:30]),
)
def test_what_is_not_http_harms_nobody(garbage: bytes, tmp_path: Path) -> None:
    with service(tmp_path) as running, running.client() as client:
        with running.raw() as line:
            try:
                line.sendall(garbage)
                answer = line.recv(4096)
            except (BrokenPipeError, ConnectionResetError):
                answer = b""
            assert answer == b"" or answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4"))
        assert client.get("/healthz").status_code == 200
        running.stop()
        _, complaint = running.process.communicate()
        assert "Traceback" not in complaint


def test_what_a_killed_controller_left_is_replaced(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.stop(signal.SIGKILL)
        assert running.socket.exists()
    with service(tmp_path) as running, running.client() as client:
        assert client.get("/healthz").status_code == 200


def test_a_socket_in_use_is_not_taken(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        (tmp_path / "other").mkdir()
        second = Service(tmp_path / "other", "--unix-socket", str(running.socket))
        assert f"another controller listens on {running.socket}" in second.fails()
        with running.client() as client:
            assert client.get("/healthz").status_code == 200


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "socket").write_text("precious")
    complaint = Service(tmp_path).fails()
    assert "it is no socket" in complaint
    assert (tmp_path / "socket").read_text() == "precious"


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        complaint = Service(tmp_path, "--port", str(port)).fails()
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in complaint


def _config(path: Path, **http: object) -> list[str]:
    lines = [f"{name} = {json.dumps(str(value))}" for name, value in http.items()]
    path.write_text("[http]\n" + "\n".join(lines) + "\n")
    return ["--config", str(path)]


def _certificate(directory: Path) -> tuple[Path, Path]:
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "203.0.113.7", "example.invalid"])
@pytest.mark.parametrize("given", ["nothing", "tokens", "tls"])
def test_no_listening_beyond_loopback_without_tokens_and_tls(
    host: str, given: str, tmp_path: Path
) -> None:
    from srv6dmm_api.server import ListenError, check_exposure

    from srv6dmm.config import ControllerSettings, HttpSettings

    http = {
        "nothing": HttpSettings(host=host),
        "tokens": HttpSettings(host=host, tokens=tmp_path),
        "tls": HttpSettings(host=host, tls_certificate=tmp_path, tls_key=tmp_path),
    }[given]
    with pytest.raises(ListenError, match="without tokens and TLS"):
        check_exposure(ControllerSettings(http=http))
    whole = HttpSettings(host=host, tokens=tmp_path, tls_certificate=tmp_path, tls_key=tmp_path)
    check_exposure(ControllerSettings(http=whole))


def test_exposure_is_refused_by_the_command_too(tmp_path: Path) -> None:
    complaint = Service(tmp_path, "--host", "0.0.0.0").fails()
    assert "refusing to listen on 0.0.0.0 without tokens and TLS" in complaint
    assert not (tmp_path / "socket").exists()


def test_half_of_tls_is_refused(tmp_path: Path) -> None:
    options = _config(tmp_path / "c.toml", tls_certificate=tmp_path / "x.pem")
    assert "TLS needs both" in Service(tmp_path, *options).fails()


def test_tls_on_tcp_and_plain_http_on_the_unix_socket(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    options = _config(tmp_path / "c.toml", tls_certificate=certificate, tls_key=key)
    with service(tmp_path, *options) as running:
        assert running.url.startswith("https://127.0.0.1:")
        command = [str(Path(sys.executable).parent / "srv6dmm"), "mn", "list", "--json"]
        environment = os.environ | {"SRV6DMM_CONTROLLER": running.url}
        alone = _run(command, environment)
        assert alone.returncode == 1
        assert "certificate verify failed" in alone.stderr
        environment["SRV6DMM_TLS_CA"] = str(certificate)
        trusted = _run(command, environment)
        assert trusted.returncode == 0, trusted.stderr
        assert json.loads(trusted.stdout) == {"mobile_nodes": []}
        with running.client() as client:
            assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("nonsense", "c.toml"),
        ("[http]\nport = 'x'", "http.port"),
        ("[http]\nunheard = 1", "http.unheard"),
        ("[http]\ntokens = '/nonexistent'", "/nonexistent"),
        ("topology = '/nonexistent'", "/nonexistent"),
    ],
)
def test_settings_that_cannot_be(text: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(text)
    running = Service(tmp_path, "--config", str(tmp_path / "c.toml"))
    if text.startswith("topology"):  # the flag wins over the file
        running.wait_ready()
        running.stop()
        return
    assert wanted in running.fails()


def _until_answered(running: Service, path: str) -> httpx.Response:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with running.client() as client:
                return client.get(path)
        except httpx.TransportError:
            assert running.process.poll() is None, running.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("damage", ["foreign", "first page", "later"])
def test_a_store_that_is_none_is_left_alone_and_the_service_stays_up(
    damage: str, tmp_path: Path
) -> None:
    """It refuses everything, tells agents no plan, and goes on when the file is restored."""
    file = tmp_path / "state.sqlite3"
    with service(tmp_path) as running, running.client() as client:
        assert client.post("/v1/attach", json=_event(1)).status_code == 200
        running.stop()
    whole = file.read_bytes()
    broken = {
        "foreign": b"not a database at all" * 100,
        "first page": b"\xa5" * 4096 + whole[4096:],
        "later": whole[:4096] + b"\xa5" * 8192 + whole[12288:],
    }[damage]
    file.write_bytes(broken)
    running = Service(tmp_path)
    try:
        ready = _until_answered(running, "/readyz")
        assert ready.status_code == 503
        assert ready.json()["status"] == "not-ready"
        assert str(file) in ready.json()["reasons"][0]
        with running.client() as client:
            assert client.get("/healthz").status_code == 200
            for answer in (
                client.post("/v1/attach", json=_event(2)),
                client.get("/v1/mobile-nodes"),
                client.get("/v1/routers/ar1/plan"),
            ):
                document = refused(answer, 503, "store-unavailable")
                assert str(file) in document["detail"]
            with (
                pytest.raises(InvalidStatus) as denied,
                unix_connect(str(running.socket), uri="ws://srv6dmm/v1/routers/br1/stream"),
            ):
                pass
            assert denied.value.response.status_code == 503
        assert file.read_bytes() == broken
        file.write_bytes(whole)
        running.wait_ready()
        with running.client() as client:
            assert client.get("/readyz").json() == {"status": "ready", "reasons": []}
            assert client.get("/v1/mobile-nodes/mn1").status_code == 200
            assert client.post("/v1/attach", json=_event(2)).status_code == 200
        assert running.stop() < 5
        assert running.process.returncode == 0
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


def test_a_service_without_a_store_ends_when_told_to(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite3").write_bytes(b"not a database at all" * 100)
    running = Service(tmp_path)
    assert _until_answered(running, "/readyz").status_code == 503
    assert running.stop() < 5
    assert running.process.returncode == 0
    _, complaint = running.process.communicate()
    assert "Traceback" not in complaint
    assert "belongs to another program" in complaint or "not a database" in complaint


def test_a_store_that_another_controller_has_is_not_waited_for(tmp_path: Path) -> None:
    with service(tmp_path):
        other = Service(tmp_path, "--unix-socket", str(tmp_path / "other"))
        assert "is in use by another process" in other.fails()


def test_a_store_damaged_in_service_refuses_and_says_so(tmp_path: Path) -> None:
    """What SQLite has cached it would go on with, and lose everything with the next start."""
    with service(tmp_path) as running, running.client() as client:
        assert client.post("/v1/attach", json=_event(1)).status_code == 200
        for suffix in ("", "-wal"):
            with (tmp_path / f"state.sqlite3{suffix}").open("r+b") as file:
                file.write(b"\xa5" * (12 << 10))
        document = refused(client.post("/v1/attach", json=_event(2)), 503, "store-unavailable")
        assert "is corrupt" in document["detail"]
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "is corrupt" in ready.json()["reasons"][0]
        assert client.get("/v1/mobile-nodes/mn1").status_code == 200
