"""Make-believe of what a node may offer the page besides answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from core.errors import NodeError
from core.terms import PeerId


@dataclass
class FakeDemo:
    spares: int = 0
    unplugged: list[PeerId] = field(default_factory=list)

    def start_spare(self) -> None:
        self.spares += 1

    def unplug(self, route: Collection[PeerId]) -> PeerId | None:
        self.unplugged.append(sorted(route)[1])
        return self.unplugged[-1]


@dataclass
class FakeWays:
    went: list[str] = field(default_factory=list)
    names: tuple[str, ...] = ("try", "just", "join", "invite")

    def offered(self) -> tuple[str, ...]:
        return self.names

    def try_here(self) -> str:
        self.went.append("try")
        return "/swarm"

    def just_here(self) -> dict[str, object]:
        self.went.append("just")
        return {"restart": False}

    def join(self, link: str) -> dict[str, object]:
        if "bad" in link:
            raise NodeError("that is no invite link", "Paste all of it.")
        self.went.append(link)
        return {"restart": True}

    def invite(self) -> dict[str, object]:
        self.went.append("invite")
        return {"link": "idlebloom:link", "reach": "reachable", "fix": ""}
