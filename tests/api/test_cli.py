"""The verbs that talk to the controller, as users run them, against a running one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from srv6dmm_api import auth
from srv6dmm_api.auth import Principal

from srv6dmm.model.plan import FlowSteering
from srv6dmm.model.policy import DynamicPath
from srv6dmm.model.wire import FlowTraffic, Telemetry
from tests.api.support import MAC, Site, listening, running, token_table
from tests.domains import small_domain

COMMAND = Path(sys.executable).parent / "srv6dmm"
TOPOLOGY = Path(__file__).parents[2] / "deploy/topologies/minimal.yaml"


@dataclass
class Shell:
    """Runs the command against a site."""

    site: Site
    environment: dict[str, str]

    async def run(self, *arguments: str, status: int = 0) -> str:
        """Return what the command prints: on standard output, or when it fails on the other."""
        process = await asyncio.create_subprocess_exec(
            str(COMMAND),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
        )
        output, complaint = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == status, (output, complaint)
        assert b"Traceback" not in complaint
        return (complaint if status in (1, 2) else output).decode()

    async def json(self, *arguments: str, status: int = 0) -> Any:
        """Return what the command prints with --json."""
        return json.loads(await self.run(*arguments, "--json", status=status))


@asynccontextmanager
async def shell(directory: Path, **options: Any) -> AsyncIterator[Shell]:
    """Run a site on a Unix socket and a shell that knows it."""
    path = directory / "socket"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SRV6DMM")}
    environment |= {"SRV6DMM_CONTROLLER": f"http+unix://{path}", "COLUMNS": "80"}
    async with running(**options) as site, listening(site, path):
        yield Shell(site, environment)


async def test_the_life_of_a_mobile_node(tmp_path: Path) -> None:
    async with shell(tmp_path) as sh:
        said = await sh.run("mn", "attach", "mn1", "ar1", MAC)
        assert "mn1: registered at ar1, epoch 1" in said
        assert "applied everywhere after" in said
        answer = await sh.json("mn", "attach", "mn1", "ar2", MAC, "--handoff", "3")
        assert answer["outcome"] == "handover"
        listed = await sh.run("mn", "list")
        assert "mn1" in listed
        assert "ar2" in listed
        shown = await sh.run("mn", "show", "mn1")
        assert "steered" in shown
        assert "br1" in shown
        found = await sh.json("mn", "show", "mn1")
        assert found["sessions"][0]["serving"] == "ar2"
        paths = await sh.run("path", "show", "mn1")
        assert "End.DT6 of ar2" in paths
        steering = await sh.run("route", "show", "br1")
        assert "encap.red" in steering
        assert "End.DT6" in await sh.run("route", "show", "br1", "--all")
        assert "detaching" in await sh.run("mn", "detach", "mn1", "ar2", "--wait", "durable")
        assert "detach-wait" in await sh.run("mn", "list")


async def test_a_list_of_more_than_a_page(tmp_path: Path) -> None:
    async with shell(tmp_path, topology=small_domain(pool_length=48)) as sh:
        for number in range(501):
            await sh.site.attach("ar1", node=f"mn{number}", event_id=f"e{number}")
        found = await sh.json("mn", "list")
        assert len({node["mobile_node"] for node in found["mobile_nodes"]}) == 501


async def test_looking_at_the_domain(tmp_path: Path) -> None:
    async with shell(tmp_path) as sh:
        assert "br1 tr1 ar1" in await sh.run("path", "show", "br1", "ar1")
        assert (await sh.json("path", "show", "br1", "ar1"))["metric"] == 20
        sids = await sh.json("sid", "show", "ar1")
        assert list(sids["sids"]) == ["ar1"]
        assert "End.X" in await sh.run("sid", "show")
        assert "connected" in await sh.run("topo", "show")
        assert (await sh.json("topo", "show"))["inner_mtu"] == 1500


async def test_drift_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    async with shell(tmp_path) as sh:
        assert "no drift" in await sh.run("route", "diff")
        assert (await sh.json("route", "diff"))["drift"] == 0
        sh.site.agents["br1"].drifted = ("underlay fc00::/48",)
        assert "missing underlay fc00::/48" in await sh.run("route", "diff", status=3)
        assert (await sh.json("route", "diff", "br1", status=3))["drift"] == 1
        assert (await sh.json("route", "diff", "ar1"))["drift"] == 0
        there = sh.environment.pop("SRV6DMM_CONTROLLER")
        assert "missing" in await sh.run("agent", "resync", "br1", "--controller", there)
        sh.environment["SRV6DMM_CONTROLLER"] = there
        sh.site.agents["br1"].disconnect()
        assert "not connected" in await sh.run("route", "diff", "br1", status=1)


async def test_a_flow_and_what_its_entries_counted(tmp_path: Path) -> None:
    async with shell(tmp_path) as user:
        await user.site.attach("ar2", node="mn1", wait="applied")
        await user.run("policy", "add", "any")
        await user.run("flow", "add", "voice", "--mn", "mn1", "--policy", "any", "--proto", "udp")
        assert " packets" not in await user.run("flow", "show", "voice")
        (flow,) = [
            entry
            for entry in user.site.controller.plan("br1").entries.values()
            if isinstance(entry, FlowSteering)
        ]
        told = Telemetry({}, (), (), (FlowTraffic(flow.number, 12, 3400, 1500),))
        await user.site.agents["br1"].tell(told)
        shown = await user.run("flow", "show", "voice")
        counted = r"br1: .* \(12 packets, 3400 bytes, the last \d+\.\d s ago\)"
        assert re.search(counted, shown), shown


async def test_the_mode_of_a_router(tmp_path: Path) -> None:
    async with shell(tmp_path) as sh:
        assert "br1: netlink" in await sh.run("agent", "mode", "br1")
        assert "br1: ebpf" in await sh.run("agent", "mode", "br1", "ebpf")
        assert await sh.json("agent", "mode", "br1") == {"router": "br1", "mode": "ebpf"}
        sh.site.agents["ar1"].unable = "no BTF"
        said = await sh.run("agent", "mode", "ar1", "ebpf", status=1)
        assert "ar1 stays in mode netlink: no BTF" in said.replace("\n", " ")
        await sh.run("agent", "mode", "ar1", "auto", status=2)


async def test_problems_print_their_detail(tmp_path: Path) -> None:
    async with shell(tmp_path, agents=False) as sh:
        said = await sh.run("mn", "attach", "mn1", "ar9", MAC, status=1)
        assert "there are ar1, ar2, ar3" in said.replace("\n", " ")
        assert "has no session" in await sh.run("mn", "show", "mn1", status=1)
        said = await sh.run("mn", "attach", "a b", "ar1", MAC, status=1)
        assert "/mobile_node" in said
        said = await sh.run("mn", "show", "../routers", status=1)
        assert "There is nothing here" in said
        assert "no router" in await sh.run("route", "show", "nobody", status=1)
        assert "there are" in await sh.run("sid", "show", "nobody", status=1)
        late = await sh.run("mn", "attach", "mn1", "ar1", MAC, "--timestamp", "5", status=1)
        assert "controller's clock" in late.replace("\n", " ")
        waiting = await sh.run("mn", "attach", "mn1", "ar1", MAC, "--timeout", "0.05")
        assert "still waiting for ar1" in waiting


async def test_usage_errors(tmp_path: Path) -> None:
    async with shell(tmp_path, agents=False) as sh:
        await sh.run("mn", "attach", "mn1", status=2)
        await sh.run("mn", "attach", "mn1", "ar1", MAC, "--wait", "forever", status=2)
        for wrong in ("nonsense", "ftp://x", "http+unix://relative", "http://"):
            said = await sh.run("mn", "list", "--controller", wrong, status=2)
            assert "http+unix:///path" in said
        for wrong in ("https://host:port", "https://[::1"):
            assert wrong in await sh.run("mn", "list", "--controller", wrong, status=2)
        await sh.run("events", "--since", "0", "--count", "0", status=2)


async def test_a_controller_that_is_not_there(tmp_path: Path) -> None:
    async with shell(tmp_path, agents=False) as sh:
        for where in (f"http+unix://{tmp_path}/nobody", "http://127.0.0.1:1"):
            said = await sh.run("mn", "list", "--controller", where, status=1)
            assert "cannot be reached" in said
            assert "SRV6DMM_CONTROLLER" in said
            said = await sh.run("events", "--controller", where, status=1)
            assert "cannot be reached" in said
            assert "SRV6DMM_CONTROLLER" in said


async def test_the_token_comes_from_the_environment(tmp_path: Path) -> None:
    tokens = token_table(reader=Principal("reader", frozenset({auth.READ})))
    async with shell(tmp_path, tokens=tokens, agents=False) as sh:
        assert "valid token" in await sh.run("mn", "list", status=1)
        sh.environment["SRV6DMM_TOKEN"] = "reader"
        assert await sh.json("mn", "list") == {"mobile_nodes": []}
        assert "lacks the scope" in await sh.run("mn", "attach", "mn1", "ar1", MAC, status=1)
        for spoilt in ("rea der", "reader\n", "r\u00e9ader"):
            sh.environment["SRV6DMM_TOKEN"] = spoilt
            assert "SRV6DMM_TOKEN" in await sh.run("mn", "list", status=2)


async def test_events_are_followed_and_resumed(tmp_path: Path) -> None:
    async with shell(tmp_path) as sh:
        await sh.site.attach("ar1", wait="applied")
        lines = (await sh.run("events", "--since", "0", "--count", "8", "--json")).splitlines()
        events = [json.loads(line) for line in lines]
        assert {"router-connected", "registered"} <= {event["kind"] for event in events}
        again = await sh.run("events", "--since", str(events[4]["id"]), "--count", "3", "--json")
        assert [json.loads(line) for line in again.splitlines()] == events[5:]
        text = await sh.run("events", "--since", "0", "--count", "8")
        assert "mobile_node=mn1" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("topo", "check", "FILE"),
        ("lab", "up", "FILE"),
        ("agent", "--router", "ar1", "--token-file", "FILE"),
        ("controller", "--topology", "FILE", "--store", "STORE"),
        ("controller", "--topology", str(TOPOLOGY), "--store", "STORE", "--config", "TLS"),
    ],
)
def test_a_file_that_is_not_there_is_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    missing = tmp_path / "missing"
    settings = tmp_path / "tls.toml"
    settings.write_text(f'[http]\ntls_certificate = "{missing}"\ntls_key = "{missing}"\n')
    places = {"FILE": missing, "STORE": tmp_path / "store", "TLS": settings}
    done = subprocess.run(
        [COMMAND, *(str(places.get(word, word)) for word in arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in (1, 2)
    assert done.stderr == f"srv6dmm: {missing}: No such file or directory\n"


@pytest.mark.parametrize("json_wanted", [False, True])
def test_topology_files_are_checked_without_a_controller(tmp_path: Path, json_wanted: bool) -> None:
    flags = ["--json"] if json_wanted else []
    broken = tmp_path / "broken.yaml"
    broken.write_text(TOPOLOGY.read_text().replace("2001:db8:a2::/48", "2001:db8:a1::/48"))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")

    def check(path: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, "topo", "check", str(path), *flags],
            capture_output=True,
            text=True,
            check=False,
        )

    good = check(TOPOLOGY)
    assert good.returncode == 0
    assert "minimal" in good.stdout
    bad = check(broken)
    assert bad.returncode == 1
    if json_wanted:
        [error, *_] = json.loads(bad.stdout)["errors"]
        assert error["line"] > 1
    else:
        assert "broken.yaml:" in bad.stderr
    for path in (binary, tmp_path / "missing.yaml"):
        failed = check(path)
        assert failed.returncode == 1
        assert path.name in failed.stdout + failed.stderr
        assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--max-hops", "0", "maximum_hops: Input should be greater than or equal to 1"),
        ("--max-segments", "0", "maximum_segments: Input should be greater than or equal to 1"),
        ("--min-mtu", "0", "minimum_mtu: Input should be greater than or equal to 1280"),
        ("--max-delay-ms", "0", None),
    ],
)
async def test_a_zero_is_asked_for_like_any_number(
    tmp_path: Path, option: str, value: str, words: str | None
) -> None:
    async with shell(tmp_path) as sh:
        if words is None:  # the small domain's links have no delay
            await sh.run("policy", "add", "p", option, value)
            (policy,) = sh.site.controller.state.policies.values()
            path = policy.candidates[0].paths[0].path
            assert isinstance(path, DynamicPath)
            assert path.constraints.maximum_delay_us == 0
            return
        complaint = await sh.run("policy", "add", "p", option, value, status=1)
        assert words in " ".join(complaint.split())
        assert not sh.site.controller.state.policies
