import json
from pathlib import Path

import pytest

SHORT = ("--variant", "demo_16k", "--device", "cpu", "--precision", "fp32", "--duration", 1, "--steps", 1)


def test_bench_tells_every_stage_in_a_line(selva, clip: Path, tmp_path: Path) -> None:
    result = selva("bench", clip, *SHORT, "--output", tmp_path / "bench.json")
    assert result.code == 0, result.err
    starts = [line.split()[0] for line in result.out.splitlines()]
    assert starts[:7] == ["demo_16k", "loading", "reading", "features", "text", "sampling", "decoding"]
    assert "s per second of video" in result.out
    assert json.loads((tmp_path / "bench.json").read_text())["steps"] == 1


def test_bench_prints_json_alone_on_stdout(selva, clip: Path) -> None:
    result = selva("bench", clip, *SHORT, "--random-weights", "--json")
    assert result.code == 0, result.err
    assert result.json["random_weights"] and result.json["real_time_factor"] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--variant", "demo"], "demo_16k"),
        (["nowhere.mp4", "--variant", "demo_16k"], "There is no file nowhere.mp4"),
        (["--duration", "0"], "greater than or equal to 1"),
        (["--variant", "small_16k", "--offline"], "--random-weights"),
    ],
    ids=str,
)
def test_bad_usage_is_told_without_a_traceback(selva, arguments: list[str], sentence: str) -> None:
    result = selva("bench", *arguments)
    assert (result.code, result.out) == (2, "")
    assert sentence in result.err and "Traceback" not in result.err
