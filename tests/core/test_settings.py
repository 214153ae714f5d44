from __future__ import annotations

import json
from typing import Any

import pytest

from core.errors import SettingError
from core.settings import DECLARED, Change, Donate, Settings, changed, chosen, declared, parse, to_json

PEER = "/ip4/203.0.113.7/tcp/31337/p2p/12D3KooWPeer"


@pytest.mark.parametrize("name", DECLARED)
def test_each_declaration_is_whole(name: str) -> None:
    """Each setting has words, and a default that keeps its own limits and survives being typed."""
    setting = DECLARED[name]
    assert setting.label
    assert setting.help.endswith(".")
    assert setting.kind.check(setting.default) == setting.default
    if text := setting.kind.text(setting.default):
        assert parse(name, text) == (name, setting.default)


def test_nothing_is_given_by_default() -> None:
    """Until the owner says so, this PC serves nobody."""
    assert Settings().donate is Donate.OFF


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("donate", "Always", Donate.ALWAYS),
        ("donate", "when-idle", Donate.WHEN_IDLE),
        ("model", " /models/bloomz-560m ", "/models/bloomz-560m"),
        ("port", "8080", 8080),
        ("swarm", "", ()),
        ("swarm", f"{PEER}, {PEER} {PEER}2", (PEER, PEER + "2")),
    ],
)
def test_typed_values(name: str, text: str, value: Any) -> None:
    """What a person types becomes the value that they meant."""
    assert parse(name, text) == (name, value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("donate", "maybe", "donate must be off, when_idle or always, not “maybe”"),
        ("port", "80", "port must be a whole number from 1024 to 65535"),
        ("port", "x", "port must be a whole number"),
        ("port", "65536", "port must be a whole number"),
        ("model", "  ", "model must be “bundled”, a folder"),
        ("model", "a\nb", "model must be"),
        ("swarm", "203.0.113.7:31337", "swarm must be addresses like /ip4/"),
        ("swarm", "/ip4/203.0.113.7/tcp/31337", "swarm must be addresses like /ip4/"),
        ("swarm", "/ip4/203.0.113.7/tcp/31337/p2p", "swarm must be addresses like /ip4/"),
        ("prot", "1", "there is no setting “prot”. Did you mean “port”?"),
        ("zzz", "1", "There are: donate, idle_minutes"),
    ],
)
def test_refused_values(name: str, text: str, words: str) -> None:
    """A value out of its limits and a name that does not exist are refused with what would do."""
    with pytest.raises(SettingError) as caught:
        parse(name, text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [{"port": "8080"}, {"port": True}, {"port": 1.5}, {"donate": 1}, {"swarm": PEER}, {"swarm": [1]}],
)
def test_json_values_have_their_type(values: dict[str, object]) -> None:
    """From JSON, a value of another type is refused, not converted."""
    with pytest.raises(SettingError):
        changed(Settings(), values)


def test_json_round_trip() -> None:
    """Settings survive JSON; only what differs from the defaults counts as chosen."""
    settings = Settings(donate=Donate.ALWAYS, swarm=(PEER,))
    assert changed(Settings(), json.loads(json.dumps(to_json(settings)))) == settings
    assert chosen(settings) == {"donate": "always", "swarm": [PEER]}
    assert chosen(Settings()) == {}


def test_a_change_knows_its_names() -> None:
    """A change names the settings whose values differ."""
    change = Change(Settings(), Settings(port=8000))
    assert change.names == ("port",)
    assert "port" in change
    assert "model" not in change


def test_names_are_forgiving() -> None:
    """A dash or capitals in a name do not matter."""
    assert declared(" Donate").name == "donate"
