"""What the owner may choose, each setting declared once. Pure: nothing here touches a disk.

A setting is a field of ``Settings``: its default, and through ``declare`` its kind (type and
limits), unit, label and help. The command line, dialogs, the settings file and docs/settings.md are
made from these declarations. To add one, add one field.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from core.declare import Section, Setting, declare
from core.errors import SettingError
from core.kinds import Addresses, Choice, Decimal, Device, Folder, Hours, Kind, Names, Switch, Text, Whole

BUNDLED = "bundled"
"""The value of ``model`` that means the small model that comes with the program."""


IDLE_MINUTES: Kind[Any] = Decimal(0.05, 1440)
RETURN_MINUTES: Kind[Any] = Decimal(0, 1440)


class Donate(StrEnum):
    OFF = "off"
    WHEN_IDLE = "when_idle"
    ALWAYS = "always"


class Language(StrEnum):
    AUTO = "auto"
    EN = "en"
    DE = "de"


class Quantize(StrEnum):
    AUTO = "auto"
    NF4 = "nf4"
    INT8 = "int8"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings with their values. Changed only through ``changed`` and ``with_values``."""

    donate: Donate = declare(
        Choice(Donate),
        Donate.OFF,
        label="Give to the swarm",
        help="off: nothing of this PC serves others. when_idle: only while nobody uses it. "
        "always: also while someone does.",
        section=Section.GIVING,
    )
    idle_minutes: float = declare(
        IDLE_MINUTES,
        5.0,
        label="Give after",
        help="How long nobody must have touched mouse, keyboard or screen before this PC gives. At the first "
        "key it stops. A film or whatever else keeps the screen awake counts as somebody.",
        unit="minutes",
        section=Section.GIVING,
    )
    return_minutes: float = declare(
        RETURN_MINUTES,
        3.0,
        label="Come back after",
        help="How long it must have been quiet after this PC yielded to a program, before it gives again. "
        "After it was on battery or on a metered network, half a minute is enough.",
        unit="minutes",
        section=Section.GIVING,
    )
    hours: str = declare(
        Hours(),
        "",
        label="Hours",
        help="When this PC may give. Outside of these hours it gives nothing, and says until when. A time "
        "that ends before it begins goes on into the next day.",
        section=Section.GIVING,
    )
    locked_is_idle: bool = declare(
        Switch(),
        True,
        label="Give at once when locked",
        help="A locked screen counts as idle at once, without the wait.",
        section=Section.GIVING,
    )
    yield_gpu_percent: int = declare(
        Whole(1, 100),
        15,
        label="Yield the GPU above",
        help="When other programs use the GPU more than this for 3 seconds, this PC stops giving. "
        "100: never.",
        unit="%",
    )
    yield_fullscreen: bool = declare(
        Switch(),
        True,
        label="Yield to fullscreen programs",
        help="Stop giving while a program fills the screen. Wayland does not tell which one does: there, "
        "games and films are known by their use of the GPU and by keeping the screen awake.",
    )
    yield_programs: tuple[str, ...] = declare(
        Names(),
        (),
        label="Yield to these programs",
        help="Stop giving while one of these programs runs, whatever it does.",
    )
    max_gpu_celsius: int = declare(
        Whole(50, 100),
        80,
        label="Hottest GPU",
        help="Above this the worker rests between its steps; where that is not enough, this PC stops giving "
        "until the GPU has cooled by 10 degrees.",
        unit="°C",
    )
    on_battery: bool = declare(
        Switch(),
        False,
        label="Give on battery",
        help="Also give while this PC runs on its battery.",
    )
    on_metered: bool = declare(
        Switch(),
        False,
        label="Give on metered networks",
        help="Also give, and fetch layers, over a network that the system calls metered, such as a phone's.",
    )
    own_chat_uses_gpu: bool = declare(
        Switch(),
        True,
        label="Own chats use this GPU",
        help="While you chat, and for 10 minutes after, the layers that are loaded stay for your own "
        "conversations. Others' leave as usual.",
        section=Section.GIVING,
    )
    model: str = declare(
        Text(f"“{BUNDLED}”, a folder, or a model on the hub such as bigscience/bloomz-560m"),
        BUNDLED,
        label="Model",
        help=f"The BLOOM checkpoint to serve and to chat with: “{BUNDLED}” for the small demo model that "
        "comes with Idlebloom, a folder with a Hugging Face checkpoint in safetensors files, or a model on "
        "the Hugging Face hub, if need be with @ and a branch, tag or commit: of that, only the layers that "
        "this PC serves are fetched.",
        section=Section.MODEL,
        live=False,
    )
    device: str = declare(
        Device(),
        "auto",
        label="Device",
        help="What layers are served from. auto: the GPU with the most memory, or the CPU if there is none.",
        section=Section.MODEL,
    )
    quantization: Quantize = declare(
        Choice(Quantize),
        Quantize.AUTO,
        label="Quantization",
        help="How layers are kept. nf4: 4 bits a number, so that most of them fit. int8: 8 bits. none: as "
        "the device computes. auto: nf4 on a GPU, none on the CPU.",
        section=Section.MODEL,
    )
    leave_vram_gb: float | None = declare(
        Decimal(0, 1000, unset="auto"),
        None,
        label="Leave video memory",
        help="Video memory that is left to you. auto: 2 GB or a quarter, whichever is more.",
        unit="GB",
        section=Section.LIMITS,
    )
    ram_gb: float | None = declare(
        Decimal(0.1, 10_000, unset="auto"),
        None,
        label="System memory",
        help="The most system memory that serving takes: logs of what was computed, from which a lost donor "
        "is replaced, and on the CPU the layers and caches too. auto: 4 GB or a quarter of what is free for "
        "the logs, whichever is less; on the CPU three quarters of what is free for all.",
        unit="GB",
        section=Section.LIMITS,
    )
    disk_gb: int = declare(
        Whole(1, 1_000_000),
        50,
        label="Disk space",
        help="The most disk space that fetched and quantized layers take. Those that were not used for the "
        "longest time go first.",
        unit="GB",
        section=Section.LIMITS,
    )
    upload_mbit: float | None = declare(
        Decimal(0.1, 100_000, unset="auto"),
        None,
        label="Upload",
        help="The most that giving sends, in and around what it serves. Answers under way are never delayed: "
        "prompts and new conversations give way first. auto: half of what was measured.",
        unit="Mbit/s",
        section=Section.LIMITS,
    )
    download_mbit: float | None = declare(
        Decimal(0.1, 100_000, unset="off"),
        None,
        label="Download",
        help="The most that giving receives, layers that are fetched included; those wait for the rest.",
        unit="Mbit/s",
        section=Section.LIMITS,
    )
    monthly_gb: float | None = declare(
        Decimal(0.1, 1_000_000, unset="off"),
        None,
        label="Monthly quota",
        help="After so many bytes in a month, sent and received, nothing more is given until the next.",
        unit="GB",
        section=Section.LIMITS,
    )
    data_dir: str = declare(
        Folder(),
        "",
        label="Folder for layers",
        help="Where fetched and quantized layers are kept. auto: in the cache folder of this user. "
        "What is there moves along when it is changed.",
        section=Section.LIMITS,
    )
    swarm: tuple[str, ...] = declare(
        Addresses(),
        (),
        label="Swarm",
        help="Addresses of the swarm's meeting points, with commas between them. "
        "Empty: this PC alone, until “idlebloom invite” makes a swarm of it.",
        section=Section.NETWORK,
        live=False,
    )
    relay_for_strangers: bool = declare(
        Switch(),
        False,
        label="Relay for others",
        help="Pass on what PCs that cannot be dialled send each other, where this one can be: up to 30 "
        "minutes and 4 GB a connection, counted as this PC's traffic.",
        section=Section.NETWORK,
        live=False,
    )
    open_router_ports: bool = declare(
        Switch(),
        False,
        label="Open router ports",
        help="Ask the router (UPnP, NAT-PMP) to let other PCs dial this one, so that it needs no relay.",
        section=Section.NETWORK,
        live=False,
    )
    port: int = declare(
        Whole(1024, 65535),
        7714,
        label="Port",
        help="Where the chat page and the APIs listen on this PC; the next free one where it is taken.",
        section=Section.NETWORK,
        live=False,
    )
    start_at_login: bool = declare(
        Switch(),
        False,
        label="Start at login",
        help="Start Idlebloom in the tray whenever you log in to this PC's desktop.",
        section=Section.PROGRAM,
    )
    language: Language = declare(
        Choice(Language),
        Language.AUTO,
        label="Language",
        help="What Idlebloom says its words in. auto: the desktop's language where Idlebloom has it, "
        "else English. en: English. de: German.",
        section=Section.PROGRAM,
    )
    api_key_required: bool = declare(
        Switch(),
        False,
        label="Ask programs for the API key",
        help="Programs of yours that use the APIs under /v1, /api/v1 and /api/v2 must then send the key that "
        "“idlebloom key” prints. The chat page needs none. Other users of this PC always need it.",
        section=Section.PROGRAM,
    )


DECLARED: Mapping[str, Setting] = MappingProxyType(
    {f.name: Setting(name=f.name, default=f.default, **f.metadata) for f in fields(Settings)}
)


def declared(name: str) -> Setting:
    """The setting of that name; raises ``SettingError`` with the nearest name where there is none."""
    known = DECLARED.get(name.strip().lower().replace("-", "_"))
    if known is not None:
        return known
    near = difflib.get_close_matches(name.lower(), DECLARED, n=1)
    advice = f"Did you mean “{near[0]}”?" if near else f"There are: {', '.join(DECLARED)}."
    raise SettingError(f"there is no setting “{name}”", advice)


def parse(name: str, text: str) -> tuple[str, Any]:
    """A setting's full name and value from what a person typed, or ``SettingError``."""
    setting = declared(name)
    try:
        return setting.name, setting.kind.parse(text)
    except ValueError as error:
        raise SettingError(f"{setting.name} must be {error}, not “{text}”") from None


def changed(settings: Settings, values: Mapping[str, object]) -> Settings:
    """Settings with some values replaced, given as JSON has them. Raises ``SettingError``."""
    checked = {}
    for name, value in values.items():
        setting = declared(name)
        try:
            checked[setting.name] = setting.kind.check(value)
        except ValueError as error:
            raise SettingError(f"{setting.name} must be {error}, not {value!r}") from None
    return replace(settings, **checked)


def to_json(settings: Settings) -> dict[str, Any]:
    """All values as JSON has them."""
    return {name: _plain(getattr(settings, name)) for name in DECLARED}


def chosen(settings: Settings) -> dict[str, Any]:
    """Only what differs from the defaults, so that better defaults reach whoever chose nothing."""
    return {
        name: value for name, value in to_json(settings).items() if value != _plain(DECLARED[name].default)
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, StrEnum) else value


@dataclass(frozen=True)
class Change:
    """A change of settings as every part of the program sees it before it happens."""

    before: Settings
    after: Settings

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(n for n in DECLARED if getattr(self.before, n) != getattr(self.after, n))

    def __contains__(self, name: str) -> bool:
        return name in self.names


def as_markdown() -> str:
    """The text of docs/settings.md."""
    head = (
        "# Settings\n\n"
        "`idlebloom settings` lists them, `idlebloom settings get NAME` and "
        "`idlebloom settings set NAME VALUE` read and change one.\n"
        "This page is made from `core/settings.py`.\n"
    )
    return head + "".join(_section(setting) for setting in DECLARED.values())


def _section(setting: Setting) -> str:
    default = setting.kind.text(setting.default) or "empty"
    unit = f" {setting.unit}" if setting.unit else ""
    return (
        f"\n## {setting.name}\n\n{setting.label}. {setting.help}\n\n"
        f"- Value: {setting.kind.words}{unit}\n- Default: {default}{unit}\n"
        + ("" if setting.live else "- Takes effect when the node starts again.\n")
    )
