"""What values of settings are called on the screen, and what a field may hold. Pure."""

from __future__ import annotations

import re
from typing import Any

from core.declare import Section, Setting
from core.kinds import Addresses, Choice, Decimal, Switch, Whole
from core.words import N_, _

SECTIONS = {
    Section.GIVING: N_("When to give"),
    Section.LIMITS: N_("Limits"),
    Section.MODEL: N_("Model"),
    Section.NETWORK: N_("Network"),
    Section.PROGRAM: N_("Program"),
}
OPTIONS = {
    ("donate", "off"): N_("Never"),
    ("donate", "when_idle"): N_("While nobody uses this PC"),
    ("donate", "always"): N_("Always, also while I work"),
    ("language", "auto"): N_("As the desktop"),
    ("language", "en"): "English",
    ("language", "de"): "Deutsch",
    ("quantization", "auto"): N_("Automatic"),
    ("quantization", "nf4"): N_("4 bits (NF4)"),
    ("quantization", "int8"): N_("8 bits (int8)"),
    ("quantization", "none"): N_("None"),
}
ANYWHERE = {"auto": N_("Automatic"), "off": N_("No limit"), "none": N_("None"), "unlimited": N_("No limit")}
"""Words that several settings use."""


def option(name: str, value: str) -> str:
    """One value of a choice, as a person would say it."""
    known = OPTIONS.get((name, value)) or ANYWHERE.get(value)
    return _(known) if known else value.replace("_", " ").capitalize()


def about(setting: Setting) -> str:
    """Its explanation, with its values called as they are called beside it."""
    words = _(setting.help)
    options: Any = getattr(setting.kind, "options", ())
    values = (*options, getattr(setting.kind, "unset", ""))
    for value in filter(None, values):
        words = re.sub(rf"(?<!\w){re.escape(value)}(?=:)", option(setting.name, value), words)
    return words


def limits(kind: Any) -> str:
    """What a value must be, as a sentence of its own."""
    if isinstance(kind, Whole):
        return _("A whole number from {low} to {high} is needed.").format(low=kind.low, high=kind.high)
    if isinstance(kind, Decimal):
        return _("A number from {low} to {high} is needed.").format(
            low=f"{kind.low:g}", high=f"{kind.high:g}"
        )
    if isinstance(kind, Addresses):
        return _("Addresses like {example} are needed, with commas between them.").format(
            example="/ip4/203.0.113.7/tcp/31337/p2p/12D3Koo…"
        )
    if isinstance(kind, Switch | Choice):
        return _("One of the values is needed.")
    return _("It must be {what}.").format(what=_(kind.words))
