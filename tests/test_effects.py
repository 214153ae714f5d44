"""Every setting has a test of its effect: one that has none is no setting yet."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from core.settings import DECLARED

TESTS = Path(__file__).resolve().parent
PC = "end_to_end/test_idle_pc.py"
NODE = "end_to_end/test_node.py"
SUPPLY = "end_to_end/test_supply.py"
CAPS = "benchmarks/test_caps.py"
EFFECTS = {
    "donate": (NODE, "test_consent_is_taken_back_and_given_at_once"),
    "idle_minutes": (PC, "test_waits_are_what_the_owner_chose"),
    "return_minutes": (PC, "test_waits_are_what_the_owner_chose"),
    "hours": (PC, "test_it_yields_and_comes_back"),
    "locked_is_idle": (PC, "test_settings_take_the_causes_away"),
    "yield_gpu_percent": (PC, "test_settings_take_the_causes_away"),
    "yield_fullscreen": (PC, "test_settings_take_the_causes_away"),
    "yield_programs": (PC, "test_it_yields_and_comes_back"),
    "max_gpu_celsius": (PC, "test_settings_take_the_causes_away"),
    "on_battery": (PC, "test_settings_take_the_causes_away"),
    "on_metered": (PC, "test_settings_take_the_causes_away"),
    "own_chat_uses_gpu": (PC, "test_own_chats_keep_the_worker_from_the_owner"),
    "model": (SUPPLY, "test_a_hole_is_filled_from_an_empty_cache"),
    "device": (PC, "test_the_device_and_what_is_left_of_it"),
    "quantization": (SUPPLY, "test_a_hole_is_filled_from_an_empty_cache"),
    "leave_vram_gb": (PC, "test_the_device_and_what_is_left_of_it"),
    "ram_gb": (SUPPLY, "test_a_hole_is_filled_from_an_empty_cache"),
    "disk_gb": (NODE, "test_layers_take_the_space_and_the_folder_that_were_chosen"),
    "data_dir": (NODE, "test_layers_take_the_space_and_the_folder_that_were_chosen"),
    "upload_mbit": (CAPS, "test_a_cap_holds_from_outside_and_answers_go_on"),
    "download_mbit": (CAPS, "test_a_cap_holds_from_outside_and_answers_go_on"),
    "monthly_gb": (NODE, "test_a_used_quota_ends_giving"),
    "relay_for_strangers": (NODE, "test_strangers_are_served_on_the_owners_word_alone"),
    "open_router_ports": (NODE, "test_strangers_are_served_on_the_owners_word_alone"),
    "swarm": (NODE, "test_nodes_meet_through_a_meeting_point"),
    "port": ("desktop/test_node_process.py", "test_killing_the_tray_leaves_nothing"),
    "start_at_login": ("desktop/test_autostart.py", "test_only_where_it_was_asked_for"),
    "language": ("desktop/test_app.py", "test_another_language_at_once"),
    "api_key_required": (NODE, "test_programs_need_the_key_where_the_owner_says_so"),
}
"""For each setting, the file and the test that show what it does."""


@pytest.mark.parametrize("name", DECLARED)
def test_every_setting_has_a_test_of_its_effect(name: str) -> None:
    """Named here, and there."""
    assert name in EFFECTS, f"{name} needs a test of its effect, named in {Path(__file__).name}"
    file, test = EFFECTS[name]
    text = (TESTS / file).read_text(encoding="utf-8")
    tests = [
        node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert test in {node.name for node in tests}


def test_no_other_effects_are_claimed() -> None:
    """What is no setting any more has no place here."""
    assert set(EFFECTS) == set(DECLARED)
