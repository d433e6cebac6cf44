"""Faulty topology files: every fault with its line, its key and what to do."""

from __future__ import annotations

import pytest

from srv6dmm.core.topology import TopologyErrors, parse_topology
from tests.unit.test_topology import GOOD


def faults(text: str) -> list[tuple[int, str, str]]:
    """Return (line, key, message) of each fault."""
    with pytest.raises(TopologyErrors) as caught:
        parse_topology(text, "lab.yaml")
    assert all(error.source == "lab.yaml" for error in caught.value.errors)
    return [(error.line, error.key, error.message) for error in caught.value.errors]


def changed(old: str, new: str, text: str = GOOD) -> str:
    """Return the good file with one place changed."""
    assert text.count(old) == 1, f"{old!r} must be there once"
    return text.replace(old, new)


AR1_POOL = "pool: 2001:db8:1::/48"
CN_LINK = '    - endpoints: ["br1:eth1", "cn:eth0"]\n'
AR1_LINK = '["ar1:eth0", "tr1:eth1"]'

# fmt: off
BAD: dict[str, tuple[str, ...]] = {
    # case: (before, after, key of the fault, words of its message, its line if not the new one)
    "pools overlap": (AR1_POOL, "pool: 2001:db8:2:8000::/49", "topology.nodes.ar1.pool", "of ar2"),
    "pools equal": (AR1_POOL, "pool: 2001:db8:2::/48", "topology.nodes.ar2.pool", "of ar1",
        "pool: [2001:db8:2::/48, 2001:db8:12::/56]"),
    "pool in announced": (AR1_POOL, "pool: 2001:db8:f01::/48", "topology.nodes.ar1.pool", "of br1"),
    "pool holds host": (AR1_POOL, "pool: 2001:db8:ca00::/40", "topology.nodes.cn.prefix", "of ar1",
        "prefix: 2001:db8:cafe::/64"),
    "pool in block": (AR1_POOL, "pool: fc00:0:9::/48", "topology.nodes.ar1.pool", "SID block"),
    "pool too long": (AR1_POOL, "pool: 2001:db8:1::/80", "topology.nodes.ar1.pool",
        "longer than /64"),
    "pool of all": (AR1_POOL, 'pool: "::/0"', "topology.nodes.ar1.pool", "take unicast"),
    "pool multicast": (AR1_POOL, "pool: ff00::/48", "topology.nodes.ar1.pool", "overlaps ff00::/8"),
    "pool with host bits": (AR1_POOL, "pool: 2001:db8:1::1/48", "topology.nodes.ar1.pool",
        "host bits"),
    "pool without length": (AR1_POOL, 'pool: "2001:db8:1::"', "topology.nodes.ar1.pool",
        "no length"),
    "pool missing": (AR1_POOL, "pool: null", "topology.nodes.ar1.pool", "is needed"),
    "locator missing": ("locator: fc00:0:1::/48", "kind: x", "topology.nodes.ar1.locator",
        "is needed", "ar1:"),
    "locator outside": ("fc00:0:1::/48", "fc01:0:1::/48", "topology.nodes.ar1.locator",
        "not in the"),
    "locator length": ("fc00:0:1::/48", "fc00:0:1::/56", "topology.nodes.ar1.locator",
        "must be a /48"),
    "locators equal": ("fc00:0:1::/48", "fc00:0:3::/48", "topology.nodes.br1.locator", "of ar1"),
    "border without locator": ("locator: fc00:0:3::/48", "kind: x", "topology.nodes.br1.locator",
        "is needed", "br1:"),
    "pool of a border": ("role: border", "role: border\n      pool: 2001:db8:9::/48",
        "topology.nodes.br1.pool", "only access routers"),
    "announces of transit": ("role: transit", "role: transit\n      announces: 2001:db8:9::/48",
        "topology.nodes.tr1.announces", "steered"),
    "mac of router": ("role: transit", "role: transit\n      mac: '02:00:00:00:00:09'",
        "topology.nodes.tr1.mac", "only mobile nodes"),
    "second default": (AR1_POOL, AR1_POOL + "\n      announces: ::/0",
        "topology.nodes.br1.announces", "ar1 too", 'announces: ["::/0", "2001:db8:f00::/40"]'),
    "role unknown": ("role: border", "role: boarder", "topology.nodes.br1.role", "'border'"),
    "role missing": ("role: border", "kind: x", "topology.nodes.br1", "needs a role", "br1:"),
    "node empty": ("      role: transit\n", "", "topology.nodes.tr1", "is empty", "tr1:"),
    "node twice": ("    tr1:\n", "    ar1: {role: transit}\n    tr1:\n", "topology.nodes.ar1",
        "given twice, first in line 8", "ar1: {role: transit}"),
    "node name": ("    tr1:\n", "    TR1: {role: transit}\n    tr1:\n", "topology.nodes.TR1",
        "no name for a node", "TR1: {role: transit}"),
    "unknown key": ("      metric: 5\n", "      metrik: 5\n", "topology.links[0].metrik",
        "did you mean 'metric'?"),
    "unknown key at node": ("locator: fc00:0:1::/48", "locator: fc00:0:1::/48\n      color: red",
        "topology.nodes.ar1.color", "unknown key; known here"),
    "unknown endpoint": (AR1_LINK, '["ar11:eth0", "tr1:eth1"]', "topology.links[0].endpoints[0]",
        "did you mean 'ar1'?"),
    "one endpoint": (AR1_LINK, '["ar1:eth0"]', "topology.links[0].endpoints", "two ends"),
    "endpoint form": (AR1_LINK, '["ar1", "tr1:eth1"]', "topology.links[0].endpoints[0]",
        "two ends"),
    "interface twice": (AR1_LINK, '["ar1:eth0", "tr1:eth2"]', "topology.links[1].endpoints[1]",
        "in topology.links[0] already", '- endpoints: ["ar2:eth0", "tr1:eth2"]'),
    "interface is access": (AR1_LINK, '["ar1:acc0", "tr1:eth1"]', "topology.links[0].endpoints[0]",
        "access interface"),
    "interface too long": (AR1_LINK, '["ar1:abcdefghijklmnop", "tr1:eth1"]',
        "topology.links[0].endpoints[0]", "at most 15"),
    "interface lo": (AR1_LINK, '["ar1:lo", "tr1:eth1"]', "topology.links[0].endpoints[0]",
        "no name for an interface"),
    "access interface name": ("radio0", "all", "topology.nodes.ar2.access-interface", "no name"),
    "metric zero": ("metric: 5", "metric: 0", "topology.links[0].metric", "from 1 to 16777215"),
    "metric too large": ("metric: 5", "metric: 16777216", "topology.links[0].metric", "16777215"),
    "metric quoted": ("metric: 5", "metric: '5'", "topology.links[0].metric", "without quotes"),
    "metric octal": ("metric: 5", "metric: 010", "topology.links[0].metric", "whole number"),
    "delay form": ("2.5ms", "2.5", "topology.links[0].delay", "such as 250us"),
    "delay too long": ("2.5ms", "11s", "topology.links[0].delay", "at most 10s"),
    "delay huge": ("2.5ms",
        "9" * 200 + "s",
        "topology.links[0].delay", "at most 10s",
        "delay: 999"),
    "mtu too small": ("mtu: 9000", "mtu: 1407", "topology.links[2].mtu",
        "and as much for a repair, needs 1408"),
    "mtu below minimum": ("mtu: 1500", "mtu: 1279", "topology.links[3].mtu", "from 1280"),
    "max-segments": ("max-segments: 2", "max-segments: 0", "domain.max-segments", "1 to 16"),
    "encap-mode": ("  mtu: 1600", "  mtu: 1600\n  encap-mode: encap.reb", "domain.encap-mode",
        "'encap.red'"),
    "block missing": ("  sid-block: fc00::/32\n", "", "domain", "sid-block is needed",
        "domain:"),
    "block too long": ("fc00::/32", "fc00::/64", "domain.sid-block", "shorter"),
    "unreachable": ('["ar2:eth0", "tr1:eth2"]', '["ar2:eth0", "ar2:eth1"]', "topology.nodes.ar2",
        "cannot be reached", "ar2:"),
    "loop": (AR1_LINK, AR1_LINK + '\n    - endpoints: ["br1:x", "br1:y"]', "topology.links[1]",
        "to itself"),
    "correspondent alone": (CN_LINK, '    - endpoints: ["br1:eth1", "tr1:eth9"]\n',
        "topology.nodes.cn", "has no link", "cn:"),
    "correspondent twice": (CN_LINK,
        '    - endpoints: ["br1:e1", "cn:e0"]\n    - endpoints: ["br1:eth1", "cn:eth0"]\n',
        "topology.links[4]", "has a link already"),
    "correspondent at transit": (CN_LINK, '    - endpoints: ["tr1:eth9", "cn:eth0"]\n',
        "topology.links[3]", "cannot steer"),
    "correspondent length": ("2001:db8:cafe::/64", "2001:db8:cafe::/56", "topology.nodes.cn.prefix",
        "must be a /64"),
    "correspondent without prefix": ("prefix: 2001:db8:cafe::/64", "kind: x",
        "topology.nodes.cn.prefix", "is needed", "cn:"),
    "prefix of router": ("role: border", "role: border\n      prefix: 2001:db8:9::/64",
        "topology.nodes.br1.prefix", "only correspondents"),
    "mobile with link": (CN_LINK, CN_LINK + '    - endpoints: ["ar1:eth5", "mn1:eth0"]\n',
        "topology.links[4]", "radio only"),
    "two hosts": (CN_LINK, CN_LINK + '    - endpoints: ["cn:eth5", "cn:eth6"]\n',
        "topology.links[4]", "joins two hosts"),
    "mac malformed": ('"02:00:00:00:00:01"', '"02:00:00:00:00"', "topology.nodes.mn1.mac",
        "not a link-layer address"),
    "mac of a group": ('"02:00:00:00:00:01"', '"03:00:00:00:00:01"', "topology.nodes.mn1.mac",
        "group"),
    "mac missing": ('mac: "02:00:00:00:00:01"', "kind: x", "topology.nodes.mn1.mac", "is needed",
        "mn1:"),
    "mac of the routers": ('"02:00:00:00:00:01"', '"02-00-5E-00-64-01"', "topology.nodes.mn1.mac",
        "domain.router-mac"),
    "mac twice": ("  links:\n", "    mn2: {role: mobile, mac: '02:00:00:00:00:01'}\n  links:\n",
        "topology.nodes.mn2.mac", "that of mn1", "mn2: {role: mobile, mac: '02:00:00:00:00:01'}"),
    "index range": ("role: border", "role: border\n      index: 4096", "topology.nodes.br1.index",
        "1 to 4095"),
    "sid outside": (AR1_POOL, AR1_POOL + "\n      sids: {end: 'fc00:0:2:1::'}",
        "topology.nodes.ar1.sids.end", "outside the locator"),
    "sid is the loopback": (AR1_POOL, AR1_POOL + "\n      sids: {end: 'fc00:0:1::1'}",
        "topology.nodes.ar1.sids.end", "loopback"),
    "sid is the base": (AR1_POOL, AR1_POOL + "\n      sids: {end: 'fc00:0:1::'}",
        "topology.nodes.ar1.sids.end", "base address"),
    "sids equal": (AR1_POOL,
        AR1_POOL + "\n      sids: {end: 'fc00:0:1:1::', end-dt6: 'fc00:0:1:1::'}",
        "topology.nodes.ar1.sids.end-dt6", "the SID of End already"),
    "sid numbered": (AR1_POOL, AR1_POOL + "\n      sids: {end: 'fc00:0:1:d06::'}",
        "topology.nodes.ar1.sids.end", "end-dt6 already"),
    "sid of an adjacency": (AR1_POOL, AR1_POOL + "\n      sids: {end: 'fc00:0:1:f01::'}",
        "topology.nodes.ar1.sids.end", "end-x eth0 already"),
    "sid without next hop": (AR1_POOL, AR1_POOL + "\n      sids: {end-dx4: 'fc00:0:1:1::'}",
        "topology.nodes.ar1.sids.end-dx4", "needs next-hop4"),
    "sids without locator": ("role: transit", "role: transit\n      sids: {end: 'fc00:0:1:1::'}",
        "topology.nodes.tr1.sids", "no locator"),
    "next-hop4 without locator": ("role: transit", "role: transit\n      next-hop4: 192.0.2.1",
        "topology.nodes.tr1.next-hop4", "needs a locator"),
    "next-hop4 multicast": (AR1_POOL, AR1_POOL + "\n      next-hop4: 224.0.0.1",
        "topology.nodes.ar1.next-hop4", "no address of a neighbour"),
    "router-link-local": ("  mtu: 1600", "  mtu: 1600\n  router-link-local: 2001:db8::1",
        "domain.router-link-local", "fe80::/10"),
    "router-link-local anycast": ("  mtu: 1600", "  mtu: 1600\n  router-link-local: 'fe80::'",
        "domain.router-link-local", "anycast"),
    "zone": ("  mtu: 1600", "  mtu: 1600\n  router-link-local: fe80::1%eth0",
        "domain.router-link-local", "zone"),
    "name": ("name: lab", "name: a-name-that-is-too-long", "name", "at most 15"),
    "affinity unknown": ("metric: 5", "affinity: gold", "topology.links[0].affinity",
        "add it to domain.affinities"),
    "affinity bit": ("  mtu: 1600", "  mtu: 1600\n  affinities: {gold: 256}",
        "domain.affinities.gold", "0 to 255"),
    "affinity bit twice": ("  mtu: 1600", "  mtu: 1600\n  affinities: {gold: 1, blue: 1}",
        "domain.affinities.blue", "that of gold too"),
    "affinity name": ("  mtu: 1600", "  mtu: 1600\n  affinities: {Gold: 1}",
        "domain.affinities.Gold", "no name for an affinity"),
    "affinities no mapping": ("  mtu: 1600", "  mtu: 1600\n  affinities: [gold]",
        "domain.affinities", "mapping"),
    "srlg zero": ("metric: 5", "srlg: [7, 0]", "topology.links[0].srlg[1]", "from 1 to 4294967295"),
    "te-metric zero": ("metric: 5", "te-metric: 0", "topology.links[0].te-metric", "from 1"),
    "capacity form": ("metric: 5", "capacity: 10", "topology.links[0].capacity", "such as 100M"),
    "capacity zero": ("metric: 5", "capacity: 0.0G", "topology.links[0].capacity", "such as 100M"),
    "capacity too large": ("metric: 5", "capacity: 1001T", "topology.links[0].capacity", "at most"),
    "drained": ("metric: 5", "drained: yes", "topology.links[0].drained", "true or false"),
    "sid depth": (AR1_POOL, AR1_POOL + "\n      max-sid-depth: 17",
        "topology.nodes.ar1.max-sid-depth", "1 to 16"),
    "sid depth of transit": ("role: transit", "role: transit\n      max-sid-depth: 3",
        "topology.nodes.tr1.max-sid-depth", "only access and border"),
    "service outside": (AR1_POOL, AR1_POOL + "\n      services: {nat: 'fc00:0:2:1::'}",
        "topology.nodes.ar1.services.nat", "outside the locator"),
    "service is End": (AR1_POOL, AR1_POOL + "\n      services: {nat: 'fc00:0:1:e00::'}",
        "topology.nodes.ar1.services.nat", "the SID of end already"),
    "service name": (AR1_POOL, AR1_POOL + "\n      services: {NAT: 'fc00:0:1:1::'}",
        "topology.nodes.ar1.services.NAT", "no name for a service"),
    "services without locator": ("role: transit",
        "role: transit\n      services: {nat: 'fc00:0:1:1::'}",
        "topology.nodes.tr1.services", "no locator"),
    "name a number": ("name: lab", "name: 5", "name", "put it in quotes"),
}
# fmt: on

MANY = {"pool of all", "unreachable", "two hosts"}
"""Mistakes that are wrong in more than one way; all others are one fault each."""


@pytest.mark.parametrize("case", BAD)
def test_fault_names_its_place_and_what_to_do(case: str) -> None:
    old, new, key, words, *other_line = BAD[case]
    line = other_line[0] if other_line else new.strip().splitlines()[-1].strip()
    text = changed(old, new)
    found = faults(text)
    lines = text.splitlines()
    assert any(
        line in lines[at - 1] and where == key and words in message for at, where, message in found
    ), found
    assert case in MANY or len(found) == 1, found


def test_index_given_twice() -> None:
    text = changed("role: transit", "role: transit\n      index: 7")
    text = changed("role: border", "role: border\n      index: 7", text)
    assert faults(text) == [(22, "topology.nodes.br1.index", "7 is that of tr1 too")]


def test_a_misspelt_affinity_is_guessed() -> None:
    text = changed("  mtu: 1600\n", "  mtu: 1600\n  affinities: {gold: 1}\n")
    text = changed("metric: 5", "affinity: [gold, golden]", text)
    message = "unknown name 'golden'; did you mean 'gold'?"
    assert faults(text) == [(32, "topology.links[0].affinity[1]", message)]


def test_all_faults_at_once_in_line_order() -> None:
    text = GOOD
    for case in ("max-segments", "pool too long", "mac malformed", "metric zero", "delay form"):
        old, new, *_ = BAD[case]
        text = changed(old, new, text)
    assert [line for line, _, _ in faults(text)] == [4, 11, 28, 31, 32]


def test_message_reads_file_line_key_advice() -> None:
    old, new, *_ = BAD["metric zero"]
    with pytest.raises(TopologyErrors) as caught:
        parse_topology(changed(old, new), "lab.yaml")
    assert str(caught.value) == (
        "lab.yaml:31: topology.links[0].metric: "
        "must be a whole number from 1 to 16777215, without quotes"
    )


def test_every_overlap_is_told_not_just_the_first() -> None:
    text = changed(AR1_POOL, "pool: [2001:db8:20::/44, 2001:db8:21::/48, 2001:db8:22::/48]")
    messages = [text for _, _, text in faults(text)]
    assert len(messages) == 2
    assert all("2001:db8:20::/44" in message for message in messages)


def test_typo_in_a_link_is_not_taken_for_a_router_without_links() -> None:
    """ar1's only link cannot be read: that is the fault, not that ar1 is unreachable."""
    text = changed('"ar1:eth0"', '"ar1 eth0"')
    assert [key for _, key, _ in faults(text)] == ["topology.links[0].endpoints[0]"]
