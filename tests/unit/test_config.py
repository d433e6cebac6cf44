"""The shipped settings are the defaults, and the environment wins over the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from srv6dmm.config import AgentSettings, ControllerSettings, read_toml

SHIPPED = Path(__file__).parents[2] / "deploy" / "config"


def test_shipped_controller_settings_are_the_defaults() -> None:
    assert ControllerSettings(**read_toml(SHIPPED / "controller.toml")) == ControllerSettings()


def test_shipped_agent_settings_load() -> None:
    settings = AgentSettings(**read_toml(SHIPPED / "agent.toml"))
    assert settings.router == "ar1"
    assert settings.controller.startswith("wss://")


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRV6DMM_HTTP__PORT", "9999")
    monkeypatch.setenv("SRV6DMM_MOBILITY__MAX_PREFIXES", "2")
    settings = ControllerSettings(**read_toml(SHIPPED / "controller.toml"))
    assert settings.http.port == 9999
    assert settings.http.host == "127.0.0.1"
    assert settings.mobility.max_prefixes == 2


def test_unknown_keys_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prot"):
        ControllerSettings(**{"http": {"prot": 1}})
    broken = tmp_path / "c.toml"
    broken.write_text("a = = 1")
    with pytest.raises(ValueError, match=r"c\.toml"):
        read_toml(broken)
