"""Every setting has a test of its effect: one that has none is no setting yet."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from core.settings import DECLARED

TESTS = Path(__file__).resolve().parent
LIMITS = "core/pc/test_limits.py"
PC = "end_to_end/test_idle_pc.py"
MEANS = "core/node/test_means.py"
EFFECTS = {
    "donate": ("end_to_end/test_node.py", "test_consent_is_taken_back_and_given_at_once"),
    "idle_minutes": (LIMITS, "test_one_look"),
    "return_minutes": (LIMITS, "test_it_comes_back_when_it_has_been_quiet"),
    "hours": (PC, "test_it_yields_and_comes_back"),
    "locked_is_idle": (PC, "test_settings_take_the_causes_away"),
    "yield_gpu_percent": (PC, "test_settings_take_the_causes_away"),
    "yield_fullscreen": (PC, "test_settings_take_the_causes_away"),
    "yield_programs": (PC, "test_it_yields_and_comes_back"),
    "max_gpu_celsius": (PC, "test_settings_take_the_causes_away"),
    "on_battery": (PC, "test_settings_take_the_causes_away"),
    "on_metered": (PC, "test_settings_take_the_causes_away"),
    "own_chat_uses_gpu": (PC, "test_own_chats_keep_the_worker_from_the_owner"),
    "model": ("end_to_end/test_supply.py", "test_wrong_models_are_said"),
    "device": (MEANS, "test_device"),
    "quantization": (MEANS, "test_quantization"),
    "leave_vram_gb": (MEANS, "test_leaving_more_serves_less"),
    "ram_gb": (MEANS, "test_ram_gb"),
    "disk_gb": (MEANS, "test_disk_gb_and_data_dir"),
    "data_dir": (MEANS, "test_disk_gb_and_data_dir"),
    "upload_mbit": ("core/test_meter.py", "test_a_cap_holds_over_headers_and_all_that_is_urgent"),
    "download_mbit": ("core/test_meter.py", "test_a_cap_holds_over_headers_and_all_that_is_urgent"),
    "monthly_gb": ("core/test_meter.py", "test_a_quota_counts_both_directions"),
    "relay_for_strangers": ("core/swarm/test_p2p.py", "test_strangers_are_not_relayed_and_ports_stay_shut"),
    "open_router_ports": ("core/swarm/test_p2p.py", "test_strangers_are_not_relayed_and_ports_stay_shut"),
    "swarm": ("end_to_end/test_node.py", "test_nodes_meet_through_a_meeting_point"),
    "port": ("desktop/test_node_process.py", "test_killing_the_tray_leaves_nothing"),
    "start_at_login": ("desktop/test_autostart.py", "test_only_where_it_was_asked_for"),
    "language": ("desktop/test_app.py", "test_another_language_at_once"),
    "api_key_required": ("end_to_end/test_node.py", "test_programs_need_the_key_where_the_owner_says_so"),
}
"""For each setting, the file and the test that show what it does."""


@pytest.mark.parametrize("name", DECLARED)
def test_every_setting_has_a_test_of_its_effect(name: str) -> None:
    """Named here, and there."""
    assert name in EFFECTS, f"{name} needs a test of its effect, named in {Path(__file__).name}"
    file, test = EFFECTS[name]
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert test in {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
