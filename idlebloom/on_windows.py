"""Commands on Windows: they run in Windows' Linux, where the node is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from desktop.wsl import NO_WINDOW, PROGRAM, Wsl, environment
from desktop.wsl_troubles import trouble_of


def forward(arguments: Sequence[str], wsl: Wsl | None = None) -> int:
    """The command's exit code; input and output are its own. Raises ``WslTrouble`` where there is no Linux
    part to run it in."""
    wsl = wsl or Wsl()
    wsl.check()
    if not wsl.there():
        raise trouble_of("WSL_E_DISTRO_NOT_FOUND")
    hidden = NO_WINDOW if sys.executable.endswith("pythonw.exe") else 0
    command = wsl.inside(PROGRAM, *arguments)
    return subprocess.run(command, env=environment(), creationflags=hidden, check=False).returncode
