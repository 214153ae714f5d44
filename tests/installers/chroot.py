"""Another system's root folder, entered with mounts of its own that end with the command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ENTER = """set -e
root=$1; shift
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --bind /sys "$root/sys"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
chroot "$root" "$@"
"""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Chroot:
    """``user`` is who works there, with uid 1000; ``binds`` are folders of this system seen in that one."""

    root: Path
    user: str
    variables: dict[str, str] = field(default_factory=dict)
    binds: dict[Path, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "home" / self.user

    def enter(self, *command: str | Path) -> list[str | Path]:
        binds = [part for source, target in self.binds.items() for part in (source, target)]
        return [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", ENTER, "sh", self.root, *binds, "--", *command),
        ]

    def as_user(self, *command: str | Path, more: Mapping[str, str] | None = None) -> list[str | Path]:
        variables = {
            "HOME": f"/home/{self.user}",
            "USER": self.user,
            "PATH": PATH,
            **self.variables,
            **(more or {}),
        }
        listed = [f"{name}={value}" for name, value in variables.items()]
        person = ("setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups")
        return self.enter(*person, "env", "-i", *listed, *command)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """As root; it has to go well."""
        environment = {"PATH": PATH, "DEBIAN_FRONTEND": "noninteractive"}
        return _run(self.enter(*command), environment)

    def say(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """As the user; it has to go well."""
        return _run(self.as_user(*command), dict(os.environ))


def _run(command: list[str | Path], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done
