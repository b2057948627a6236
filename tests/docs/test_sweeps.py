"""The files that the page of sweeps shows are plans, and do what it says of them."""

import json
import re
from pathlib import Path

from selva_audio.options.sweep import experiments, parse_plan

PAGE = Path(__file__).parents[2] / "docs" / "sweeps.md"


def test_every_file_on_the_page_is_a_plan():
    blocks = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    plans = [parse_plan(json.loads(block)) for block in blocks]
    ids = [[each.id for each in experiments(plan)] for plan in plans]
    assert ids[0][0] == "rank4_init_mode_standard_seed1" and len(ids[0]) == 8
    assert ids[1:] == [["qkv", "all"], ["rank4", "rank16"]]
    assert not any(plan.is_of_pack for plan in plans) and plans[2].eval is not None
