"""``idlebloom invite`` and ``idlebloom join``: from one data folder to another."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from core import json_file
from core.preferences import Preferences
from core.secrets import Secret
from core.swarm.identity import Identity
from core.swarm.invite import Invite
from core.swarm.reach import Access
from core.swarm.secret import Secret as SwarmSecret
from idlebloom.launch import main
from idlebloom.reachability import FIXES, Verdict, judged

NOBODY = f"/ip4/127.0.0.1/tcp/1/p2p/{Identity.make().peer_id}"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_link_carries_a_swarm_to_another_pc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Meeting points, model and secret; the secret in a file of this user alone; an open link forgets it."""
    host, guest = str(tmp_path / "host"), str(tmp_path / "guest")
    code, out, _ = run(capsys, "invite", "--meet", NOBODY, "--json", "--data", host)
    said = json.loads(out)
    assert (code, said["reach"], said["private"]) == (0, "does not answer", True)
    assert said["fix"]
    again = json.loads(run(capsys, "invite", "--meet", NOBODY, "--json", "--data", host)[1])
    assert again["link"] == said["link"]
    assert json.loads(run(capsys, "invite", "--meet", NOBODY, "--json", "--new-secret", "--data", host)[1])[
        "link"
    ] not in (said["link"], again["link"])
    code, out, _ = run(capsys, "join", said["link"], "--data", guest)
    assert code == 0 and "private swarm" in out
    assert Preferences(tmp_path / "guest" / "settings.json").settings.swarm == (NOBODY,)
    secrets = tmp_path / "guest" / "secrets.json"
    invited = Invite.from_link(said["link"])
    assert invited.secret is not None
    assert json_file.read(secrets)[Secret.SWARM] == invited.secret.text
    assert os.stat(secrets).st_mode & 0o077 == 0
    open_link = Invite((NOBODY,), "bundled", None).link
    assert run(capsys, "join", open_link, "--data", guest)[0] == 0
    assert Secret.SWARM not in json_file.read(secrets)


@pytest.mark.parametrize(
    "link", ["", "https://example.org", Invite((NOBODY,), "m", SwarmSecret.make()).link[:-1]]
)
def test_a_bad_link_changes_nothing(tmp_path: Path, link: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says what is wrong."""
    code, out, error = run(capsys, "join", link, "--data", str(tmp_path / "guest"))
    assert (code, out) == (1, "") and error.count("\n") == 1
    assert not (tmp_path / "guest" / "secrets.json").exists()
    assert Preferences(tmp_path / "guest" / "settings.json").settings.swarm == ()


def test_without_a_meeting_point_there_is_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a model that others do not have is not offered to them."""
    code, _, error = run(capsys, "invite", "--data", str(tmp_path))
    assert code == 1 and "no meeting point" in error and "idlebloom bootstrap" in error


def test_what_others_found_counts_for_more() -> None:
    """This PC sees its own addresses answer whether others reach them or not; each verdict has its fix."""
    assert judged(Verdict.HOME, Access.PUBLIC) is Verdict.REACHABLE
    assert judged(Verdict.REACHABLE, Access.CLOSED) is Verdict.NEEDS_MEETING_POINT
    assert judged(Verdict.HERE, Access.UNKNOWN) is Verdict.HERE
    assert all(FIXES[verdict] for verdict in Verdict if verdict is not Verdict.REACHABLE)
