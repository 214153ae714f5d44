"""Where Idlebloom keeps things on this PC. Computing the places touches no disk; ``make`` does.

By default the places follow the desktop's rules (XDG on Linux). ``--data DIR`` or ``IDLEBLOOM_HOME``
puts everything into one folder instead, so that several Idleblooms can live beside each other.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import appdirs

from core.errors import DiskError

APP = "idlebloom"
HOME_VARIABLE = "IDLEBLOOM_HOME"
FULL = (errno.ENOSPC, errno.EDQUOT)
ADVICE = f"Choose another folder with --data DIR or {HOME_VARIABLE}."


def code() -> Path:
    """The folder that holds the packages ``core`` and ``webchat``: what a child process needs in
    its PYTHONPATH. The top of the source tree, or ``idlebloom/_app`` in an installed wheel."""
    return Path(__file__).resolve().parent.parent


def bundled_model() -> Path:
    """The small demo model that is shipped with the program."""
    return code() / "assets" / "model"


@dataclass(frozen=True)
class Paths:
    settings: Path
    """What the user chose."""
    state: Path
    """What the program remembers: identities, the ledger, logs."""
    cache: Path
    """What can be fetched or made again: weights, quantized spans."""
    runtime: Path
    """What ends with the login: the door file, the lock, sockets. Private to this user (0700)."""

    @classmethod
    def of(cls, data: Path | None = None) -> Paths:
        chosen = data or os.environ.get(HOME_VARIABLE)
        if chosen:
            folder = Path(chosen).expanduser().absolute()
            return cls(folder, folder, folder / "cache", folder / "run")
        return cls(
            settings=Path(appdirs.user_config_dir(APP)),
            state=Path(appdirs.user_state_dir(APP)),
            cache=Path(appdirs.user_cache_dir(APP)),
            runtime=_runtime(),
        )

    @property
    def settings_file(self) -> Path:
        return self.settings / "settings.json"

    @property
    def secrets_file(self) -> Path:
        """Secrets, on a PC without a keyring."""
        return self.settings / "secrets.json"

    @property
    def state_file(self) -> Path:
        return self.state / "state.json"

    @property
    def ledger_file(self) -> Path:
        """What this PC has given."""
        return self.state / "ledger.json"

    @property
    def history_file(self) -> Path:
        """Conversations, of this user alone."""
        return self.state / "history.sqlite3"

    @property
    def licences_file(self) -> Path:
        """Which models' licences were accepted."""
        return self.state / "licences.json"

    @property
    def log_file(self) -> Path:
        return self.state / "idlebloom.log"

    @property
    def door_file(self) -> Path:
        """How this user's programs find the running node."""
        return self.runtime / "door.json"

    @property
    def lock_file(self) -> Path:
        """Held by the one node of this user."""
        return self.runtime / "node.lock"

    def make(self) -> Paths:
        """Create the folders. Raises ``DiskError`` where one cannot be created, written to, or, for
        the runtime folder, kept private."""
        for folder in dict.fromkeys((self.settings, self.state, self.cache, self.runtime)):
            make_folder(folder)
        _check_private(self.runtime)
        return self


def make_folder(folder: Path, advice: str = ADVICE) -> Path:
    """Create a folder for this user's eyes alone, or say in words why it cannot be used, and with ``advice``
    where to choose another."""
    try:
        str(folder).encode()  # it is written into files and told to other programs
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except UnicodeEncodeError as error:
        raise DiskError(f"the name of the folder {str(folder)!a} is not text in UTF-8", advice) from error
    except OSError as error:
        raise DiskError(f"cannot create the folder {folder}: {words(error)}", advice) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DiskError(f"cannot write to the folder {folder}", advice)
    return folder


def words(error: OSError) -> str:
    """The system's own words for an error, in lower case: ``no space left on device``."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def _runtime() -> Path:
    if sys.platform == "win32":
        return Path(appdirs.user_data_dir(APP)) / "run"  # below the user's own profile
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and os.access(given, os.W_OK):
        return Path(given) / APP
    return Path(tempfile.gettempdir()) / f"{APP}-{os.getuid()}"


def _check_private(folder: Path) -> None:
    """In a shared /tmp another user may have made our folder first, to read or plant files in it."""
    if sys.platform == "win32":
        return
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise DiskError(f"the folder {folder} belongs to someone else", ADVICE)
    if stat.S_IMODE(found.st_mode) & 0o077:
        try:
            folder.chmod(0o700)
        except OSError as error:
            raise DiskError(f"cannot make the folder {folder} private: {words(error)}", ADVICE) from error
