import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def measure(*arguments: str) -> tuple[dict, str]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.lora_memory", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout), done.stderr


def test_steps_on_a_model_of_noise_are_measured():
    found, report = measure("--variant", "demo_16k", "--steps", "1")
    assert found["layers"] == 28 and all(map(math.isfinite, found["losses"])) and 0 < found["peak_gb"] < 16
    assert "fused_blocks.1.ffn.w3 conv" in report and "scale 2" in report


@pytest.mark.slow
def test_a_step_on_the_largest_variant_takes_less_than_sixteen_gigabytes():
    found, report = measure("--variant", "large_44k", "--steps", "1")
    assert found["layers"] == 35 + 27 + 3 * 27 and all(map(math.isfinite, found["losses"]))
    assert found["peak_gb"] < 16
    assert len(report.splitlines()) == found["layers"] + 2
