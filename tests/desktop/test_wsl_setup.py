"""The Linux part on Windows is made ready, against a program in the place of wsl.exe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.errors import IdlebloomError
from core.pc.gpu import Gpus
from core.words import use
from desktop import wsl_setup
from desktop.wsl import Wsl, decoded
from desktop.wsl_setup import findings
from desktop.wsl_troubles import TROUBLES, Absent, WslTrouble, trouble_in
from tests.desktop import windows as pcs
from tests.desktop.windows import Windows


@pytest.fixture
def pc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    made = pcs.here(tmp_path / "pc", monkeypatch)
    monkeypatch.setattr(wsl_setup, "read_gpus", Gpus)
    use("en")
    return made


def error(pc: Windows) -> str:
    with pytest.raises(IdlebloomError) as raised:
        pc.ready()
    return str(raised.value)


@pytest.mark.parametrize("kind", ["new", "utf8", "old"])
def test_it_is_imported_and_built(pc: Windows, kind: str) -> None:
    """On a PC with WSL2 the root file system becomes a distribution and its environment is built, with
    progress; a second start imports nothing. Either of wsl.exe's two encodings is understood, and an old
    one's warnings are no answers."""
    pc.has(kind)
    said = pc.ready()
    assert [line["phase"] for line in said] == ["installing", "fetching"]
    assert pc.disk["version"] == "0.1.0" and pc.place.lived.exists()
    imports = [line for line in pc.asked if line[0] == "--import"]
    assert imports == [["--import", "Idlebloom", str(pc.place.home), str(pc.place.root), "--version", "2"]]
    pc.ready()
    assert [line for line in pc.asked if line[0] == "--import"] == imports


def test_no_wsl_at_all(pc: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither program nor component: the exact command is said, whatever language Windows speaks."""
    pc.has("status", "absent")
    assert "wsl.exe --install --no-distribution" in error(pc)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Absent, match="as administrator"):
        pc.ready()


def test_a_part_of_windows_that_is_switched_off(pc: Windows) -> None:
    """--status tells of it without failing; it is said before anything is imported."""
    pc.has("no platform")
    words = error(pc)
    assert "a part of Windows" in words and "wsl.exe --install --no-distribution" in words
    assert all(line[0] == "--status" for line in pc.asked)


def test_no_virtualisation(pc: Windows) -> None:
    """A firmware that hides it is said with the way to its switch, and nothing stays behind."""
    pc.has("import", "virtual")
    words = error(pc)
    assert "virtualisation is switched off" in words and "UEFI" in words
    (pc.fake / "import").unlink()
    pc.ready()
    assert pc.disk["version"] == "0.1.0"


@pytest.mark.parametrize(
    ("how", "words"), [("full", "The disk is full"), ("odd", "0x8123abcd"), ("crypt", "switch both off")]
)
def test_an_import_that_fails(pc: Windows, how: str, words: str) -> None:
    """A half distribution is removed, the reason said, and the next start imports anew."""
    pc.has("import", how)
    pc.has("half")
    assert words in error(pc)
    assert not (pc.fake / "registered").exists()
    (pc.fake / "import").unlink()
    pc.ready()
    assert pc.place.lived.exists()


def test_an_import_that_was_cut_off(pc: Windows) -> None:
    """One that never answered and holds nothing is thrown away and imported again."""
    pc.has("registered", "Idlebloom")
    pc.place.home.mkdir()
    pc.place.disk.write_text("half")
    pc.has("disk", str(pc.place.disk))
    pc.ready()
    assert pc.disk["version"] == "0.1.0"


def test_one_that_does_not_start_is_said(pc: Windows) -> None:
    """Where even a new import does not answer, the reason is said in wsl.exe's own words."""
    pc.has("inside", "odd")
    assert "does not start" in error(pc) and "0x8123abcd" in error(pc)


def test_an_old_one_is_renewed(pc: Windows) -> None:
    """Another version replaces the program in the same distribution; models and identity stay in it."""
    pc.ready()
    pc.place.disk.write_text(json.dumps({"version": "0.1.0", "models": {"bloom": "here"}}))
    pc.carries("0.2.0")
    pc.has("renewing", "full")
    assert "The disk is full" in error(pc)
    (pc.fake / "renewing").unlink()
    pc.ready()
    assert pc.disk == {"version": "0.2.0", "models": {"bloom": "here"}}
    assert ["--unregister", "Idlebloom"] not in pc.asked


def test_one_that_was_lived_in_is_never_removed(pc: Windows) -> None:
    """A distribution with models that does not start for now is an error in words, no new import."""
    pc.ready()
    pc.has("inside", "hangs")
    assert "wsl.exe --shutdown" in error(pc)
    assert ["--unregister", "Idlebloom"] not in pc.asked


def test_what_the_uninstaller_kept_is_taken_back(pc: Windows) -> None:
    """The disk that an uninstalled Idlebloom left is used again, and never imported over."""
    pc.place.kept.parent.mkdir()
    pc.place.kept.write_text(json.dumps({"version": "0.0.9", "models": {"bloom": "here"}}))
    pc.has("import", "odd")
    assert "with its models" in error(pc)
    assert pc.disk["models"] == {"bloom": "here"}
    (pc.fake / "import").unlink()
    pc.ready()
    assert pc.disk == {"version": "0.1.0", "models": {"bloom": "here"}}


def test_another_ones_distribution_is_left_alone(pc: Windows) -> None:
    """A distribution of that name whose disk is not in our folder is somebody else's."""
    pc.has("registered", "Idlebloom")
    assert "leaves it alone" in error(pc)


def test_a_small_disk_is_said_before(pc: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little space is said with how much lacks, and nothing is imported."""
    monkeypatch.setattr(wsl_setup, "free_disk", lambda folder: 1_500_000_000)
    assert "Free 2.5 GB there" in error(pc)
    assert all(line[0] != "--import" for line in pc.asked)


def test_a_clock_that_slept_is_set(pc: Windows) -> None:
    """The virtual machine's clock is brought to Windows' time, by root; a right one is let be."""
    pc.has("clock", str(int(time.time()) - 4000))
    pc.ready()
    assert abs(int((pc.fake / "clock").read_text()) - time.time()) < 60
    before = len([line for line in pc.asked if "-s" in line])
    pc.ready()
    assert len([line for line in pc.asked if "-s" in line]) == before == 1


def test_an_environment_that_cannot_be_built(pc: Windows) -> None:
    """What the setup inside says is handed on; a disk full there is the same trouble as here."""
    pc.has("building", "pypi.org cannot be reached. Check the network.")
    assert error(pc) == "pypi.org cannot be reached. Check the network."
    assert not pc.place.lived.exists()
    pc.has("building", "uv: No space left on device")
    assert "The disk is full" in error(pc)


def test_as_a_program(pc: Windows) -> None:
    """It prints lines for the tray, and one with the error at the end."""
    command = [sys.executable, "-m", "desktop.wsl_setup", "node", "--json"]
    local = str(pc.place.home.parent.parent / "local2")
    environment = os.environ | {"IDLEBLOOM_WINDOWS": str(pc.place.carried), "LOCALAPPDATA": local}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["phase"] == "fetching"
    pc.has("status", "absent")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, list(json.loads(done.stdout))) == (1, ["error"])


def test_what_this_pc_has(pc: Windows) -> None:
    """The check says what is well and what lacks, and changes nothing."""
    assert [well for well, _ in findings(Wsl(), pc.place)] == [False, True, False]
    pc.ready()
    found = list(findings(Wsl(), pc.place))
    assert [well for well, _ in found] == [False, True, True]
    assert "0.1.0" in found[-1][1]
    pc.has("status", "absent")
    assert "wsl.exe --install" in list(findings(Wsl(), pc.place))[-1][1]


def test_words_in_both_encodings() -> None:
    """UTF-16 with and without a mark, a line of it cut at its end, and UTF-8."""
    assert decoded("Fehler ü".encode("utf-16-le")) == "Fehler ü"
    assert decoded("\ufeffx".encode("utf-16-le")) == "x"
    assert decoded("a\n".encode("utf-16-le")[:-1]) == "a\n"
    assert decoded("Müll".encode()) == "Müll"


def test_every_code_is_found_as_it_is_printed() -> None:
    """A name at the end of wsl.exe's path of contexts, a number in its sentence; none stands in two rows."""
    codes = [code for known, _words, _advice in TROUBLES for code in known]
    assert len(codes) == len(set(codes))
    for known, words, advice in TROUBLES:
        for code in known:
            if code in ("enablevirtualization", "wsl2kernel"):
                said = f"Siehe https://aka.ms/{code}"
            elif code.startswith("0x"):
                said = f"WslRegisterDistribution failed with error: {code}"
            else:
                said = f"Fehlercode: {code if '/' in code else 'Wsl/Service/CreateInstance/' + code}\r\n"
            found = trouble_in(said)
            assert found is not None and (found.message, found.advice) == (words, advice), code


def test_codes_are_known_whole() -> None:
    """A code is the trouble that it names, as a name or an older number; others are none."""
    known = trouble_in("Error code: Wsl/Service/CreateVm/HCS/HCS_E_SERVICE_NOT_AVAILABLE")
    assert isinstance(known, WslTrouble) and "--install" in known.advice
    assert trouble_in("WslRegisterDistribution failed with error: 0x800701bc") is not None
    assert trouble_in("Wsl/Service/0x8123abcd") is None
    assert trouble_in("") is None
