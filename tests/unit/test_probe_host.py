"""What `doctor` says of a host's sysctls."""

from __future__ import annotations

from pathlib import Path

from srv6dmm.dataplane.probe_host import Finding, settings

GOOD = {
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/all/seg6_enabled": "0",
    "ipv6/conf/eth0/seg6_enabled": "0",
    "ipv6/seg6_flowlabel": "0",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/eth0/rp_filter": "2",
}


def found(root: Path, **changes: str) -> dict[str, Finding]:
    for name, value in (GOOD | changes).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(value + "\n")
    return {finding.name: finding for finding in settings(root)}


def test_a_host_that_is_set_well(tmp_path: Path) -> None:
    assert {finding.status for finding in found(tmp_path).values()} == {"ok"}


def test_every_setting_in_the_way_is_named_with_a_remedy(tmp_path: Path) -> None:
    for path, value, name, words in (
        ("ipv6/conf/all/forwarding", "0", "host forwarding", "does not forward"),
        ("ipv4/conf/eth0/rp_filter", "1", "rp_filter (IPv4)", "strict on eth0"),
        ("ipv4/conf/all/rp_filter", "1", "rp_filter (IPv4)", "strict on all"),
        ("ipv6/seg6_flowlabel", "-1", "seg6_flowlabel", "outer flow labels are 0"),
        ("ipv6/conf/eth0/seg6_enabled", "1", "seg6_enabled", "not 0 on eth0"),
    ):
        findings = found(tmp_path, **{path: value})
        assert findings[name].status == "limited"
        assert words in findings[name].detail
        assert findings[name].remedy
        assert [f.name for f in findings.values() if f.status != "ok"] == [name]


def test_what_is_not_there_is_no_accident(tmp_path: Path) -> None:
    statuses = {finding.name: finding.status for finding in settings(tmp_path)}
    assert statuses["host forwarding"] == "limited"
    assert statuses["seg6_enabled"] == "ok"
