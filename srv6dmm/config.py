"""Settings: TOML file and environment (SRV6DMM_A__B), with every default.

Precedence: command line flag, environment, file, default.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from srv6dmm.model.addresses import parse_mac
from srv6dmm.model.parameters import MobilityParameters

_NODE = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._:@-]{0,127})?$"


def _enrolment(rule: str) -> str:
    """Return a rule. Raises ValueError unless it makes a name of its own for every node."""
    if rule.count("{mac}") != 1 or not re.match(_NODE, rule.replace("{mac}", "02005e000001")):
        raise ValueError(f"{rule!r}: want a name with {{mac}} in it, such as mn-{{mac}}")
    return rule


Mode = Literal["auto", "ebpf", "netlink"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HttpSettings(_Section):
    """Where the controller listens."""

    host: str = "127.0.0.1"
    port: int = 8642
    unix_socket: Path | None = None
    """Also listen here: agents of other network namespaces on this host connect to it."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tokens: Path | None = None
    """TOML file of hashed tokens; without it every caller on loopback may do everything."""
    max_body_bytes: int = 65_536


class StoreSettings(_Section):
    """Where the state is kept."""

    path: Path = Path("/var/lib/srv6dmm/state.sqlite3")


class RolloutSettings(_Section):
    """Staged roll-out. Seconds."""

    prepare_timeout_s: float = 5.0
    """How long the new access router may take before the hand-over is aborted."""
    switch_timeout_s: float = 2.0
    """How long head-ends may take before the roll-out goes on, degraded."""
    heartbeat_s: float = 1.0
    heartbeats_missed: int = 3


class DetectionSettings(_Section):
    """Who the mobile nodes are that routers detect by themselves."""

    nodes: dict[Annotated[str, AfterValidator(parse_mac)], Annotated[str, Field(pattern=_NODE)]] = (
        Field(default_factory=dict)
    )
    """Link-layer address -> mobile node, or mobile node/interface."""
    enrol: Annotated[str, AfterValidator(_enrolment)] | None = None
    """Of all others: a name with {mac} in it, which stands for twelve hexadecimal digits. None:
    nodes that are in no table are only told of."""


class DelaySettings(_Section):
    """When a measured delay of a link is another one than the one that paths count."""

    share: float = Field(default=0.2, ge=0)
    """It differs by more than this share of the one counted so far ..."""
    least_us: int = Field(default=100, ge=0)
    """... and by more than so many microseconds; a link that takes less has no delay ..."""
    hold_s: float = Field(default=10.0, ge=0)
    """... for so long."""


class ControllerSettings(BaseSettings):
    """Everything the controller can be told."""

    model_config = SettingsConfigDict(
        env_prefix="SRV6DMM_", env_nested_delimiter="__", extra="forbid"
    )
    topology: Path = Path("/etc/srv6dmm/topology.yaml")
    http: HttpSettings = Field(default_factory=HttpSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    rollout: RolloutSettings = Field(default_factory=RolloutSettings)
    detection: DetectionSettings = Field(default_factory=DetectionSettings)
    mobility: MobilityParameters = Field(default_factory=MobilityParameters)
    delay: DelaySettings = Field(default_factory=DelaySettings)
    log_level: str = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings, init_settings)


class AgentSettings(BaseSettings):
    """Everything an agent can be told."""

    model_config = SettingsConfigDict(
        env_prefix="SRV6DMM_AGENT_", env_nested_delimiter="__", extra="forbid"
    )
    router: str
    controller: str = "ws://127.0.0.1:8642"
    """ws://host:port, wss://host:port, or ws+unix:///path of the controller's socket."""
    token: str | None = None
    network_namespace: str | None = None
    """Name in /run/netns or a path; None: the namespace the process runs in."""
    mode: Mode = "auto"
    """`ebpf`: routes, and short cuts past them at the tc hooks; `netlink`: routes only; `auto`:
    `ebpf` where this host can."""
    resync_s: float = 30.0
    """Time between two periodic read-backs."""
    detect: Literal["off", "nd"] = "off"
    """`nd`: mobile nodes that solicit a router, check an address or send data where they are not
    known to be are told to the controller. Needs the fast path."""
    telemetry_s: float = Field(default=1.0, gt=0)
    """Time between two looks at what the fast path counted."""
    delay_probe_s: float = Field(default=1.0, ge=0)
    """Between two probes that measure a link to another router; 0: those of others are answered,
    none are sent."""
    delay_probe_port: int = Field(default=8643, ge=1, le=65535)
    """UDP, the same at every router of the domain."""
    list_probe_s: float = Field(default=1.0, ge=0)
    """Between two probes of each segment list in use; 0: none is probed."""
    list_grace_s: float = Field(default=5.0, ge=0)
    """What probes lose within so long of a change says nothing."""
    tls_ca: Path | None = None
    log_level: str = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings, init_settings)


def read_toml(path: Path | None) -> dict[str, Any]:
    """Return a settings file as keyword arguments; {} for None.

    Raises ValueError naming file and place when it is not TOML.
    """
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
