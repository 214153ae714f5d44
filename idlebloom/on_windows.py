"""Commands on Windows: they run in Windows' Linux, where the node is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from core.words import _
from desktop.wsl import NO_WINDOW, PROGRAM, TROUBLES, Wsl, WslTrouble, environment, trouble_in


def forward(arguments: Sequence[str], wsl: Wsl | None = None) -> int:
    """The command's exit code; input and output are its own. Raises ``WslTrouble`` where there is no Linux
    part to run it in."""
    wsl = wsl or Wsl()
    wsl.check()
    if not wsl.there():
        raise trouble_in("WSL_E_DISTRO_NOT_FOUND") or WslTrouble(_(TROUBLES[0][1]))
    hidden = NO_WINDOW if sys.executable.endswith("pythonw.exe") else 0
    command = wsl.inside(PROGRAM, *arguments)
    return subprocess.run(command, env=environment(), creationflags=hidden, check=False).returncode
