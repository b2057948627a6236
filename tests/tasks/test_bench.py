import json
from pathlib import Path

import pytest

from selva_audio.errors import InputError, MissingFileError, OutputError
from selva_audio.options import BenchOptions, LoadOptions
from selva_audio.progress import Cancelled, Progress
from selva_audio.tasks.bench import advice, bench

DEMO = LoadOptions(variant="demo_16k", device="cpu", precision="fp32")
SHORT = BenchOptions(duration=1, size=64, steps=1)
MEASURED = {
    "variant": "small_16k",
    "device": "cpu",
    "precision": "bf16",
    "staged": False,
    "steps": 25,
    "stages": {"sampling": {"seconds": 4.0}, "features": {"seconds": 5.0}},
    "total_seconds": 10.0,
    "loading_seconds": 2.0,
    "devices": ["cpu: 4 threads, AVX512"],
    "threads": 4,
    "cores": 4,
    "bf16_speed": 2.0,
    "random_weights": False,
}


def told(**changed: object) -> str:
    return "\n".join(advice({**MEASURED, **changed}))


def test_every_stage_is_measured_and_the_whole_is_their_sum_without_reading_twice(tmp_path: Path) -> None:
    result = bench(DEMO, SHORT, output=tmp_path / "bench.json")
    stages = result["stages"]
    assert list(stages) == ["reading", "features", "text", "sampling", "decoding", "writing"]
    assert all(row["seconds"] > 0 and row["cpu_seconds"] > 0 for row in stages.values())
    total = sum(row["seconds"] for name, row in stages.items() if name != "reading")
    assert result["total_seconds"] == pytest.approx(total, abs=0.01)
    assert result["duration"] == 1.0
    assert result["real_time_factor"] == pytest.approx(total, abs=0.01)
    assert result["loading_seconds"] > 0 and result["bf16_speed"] > 0
    assert json.loads((tmp_path / "bench.json").read_text()) == result


def test_repeats_run_the_job_again_with_another_prompt(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from selva_audio.tasks import bench as module

    prompts = []
    encode = module.encode_prompts
    monkeypatch.setattr(
        module, "encode_prompts", lambda model, words: prompts.append(words) or encode(model, words)
    )
    result = bench(DEMO, SHORT.model_copy(update={"repeats": 2}), video=clip)
    assert result["runs"] == 2
    assert len(set(prompts)) == 2


@pytest.mark.parametrize("variant", ["demo_16k", "mmaudio"])
def test_random_weights_need_no_files(variant: str, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if variant == "mmaudio":
        from published import toy_config

        from selva_audio import bundle

        config = toy_config("mmaudio_small_16k")
        monkeypatch.setattr(bundle, "get_config", lambda name: config)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = bench(
        DEMO.model_copy(update={"variant": "mmaudio_small_16k" if variant == "mmaudio" else variant}),
        SHORT,
        video=clip,
        random_weights=True,
    )
    assert result["random_weights"] and result["advice"][-1].startswith("The weights knew nothing")


def test_missing_weights_name_the_way_without_them() -> None:
    with pytest.raises(MissingFileError, match="--random-weights"):
        bench(LoadOptions(variant="small_16k", device="cpu", offline=True), SHORT)


def test_what_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        bench(DEMO, SHORT, output=tmp_path)
    with pytest.raises(MissingFileError, match="no file"):
        bench(DEMO, SHORT, video=tmp_path / "nowhere.mp4")
    with pytest.raises(InputError, match="small_16k"):
        bench(LoadOptions(variant="smal_16k"), SHORT, random_weights=True)


def test_a_cancelled_run_writes_nothing(clip: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "sampling":
            raise Cancelled

    with pytest.raises(Cancelled):
        bench(DEMO, SHORT, video=clip, output=tmp_path / "bench.json", on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_never_goes_back(clip: Path) -> None:
    shares = []
    bench(DEMO, SHORT, video=clip, on_progress=lambda report: shares.append(report.step / report.total))
    assert shares == sorted(shares) and shares[-1] == 1


def test_a_gpu_that_is_left_out_is_named_first() -> None:
    devices = ["cpu: 4 threads", "cuda:0: A card, 20 of 24 GB free"]
    assert told(devices=devices).startswith("There is a GPU (cuda:0: A card)")
    assert "There is a GPU" not in told(device="cuda", devices=devices)


def test_precision_follows_what_the_processor_is_made_for() -> None:
    assert "--precision bf16" in told(precision="fp32", bf16_speed=2.0)
    assert "--precision fp32 is faster" in told(precision="bf16", bf16_speed=0.3)
    assert "--precision" not in told(precision="bf16", bf16_speed=2.0)
    assert "--precision" not in told(precision="fp32", bf16_speed=1.0)
    assert "--precision bf16" in told(device="cuda", precision="fp32")


def test_idle_cores_are_named_but_not_to_the_demo_model() -> None:
    assert "1 of 4 cores" in told(threads=1)
    assert "cores" not in told(threads=1, variant="demo_16k") and "cores" not in told()


def test_stages_that_take_most_are_told_with_what_would_be_saved() -> None:
    assert "--steps 16 would save about 1.4 s" in told()
    assert "--steps" not in told(steps=16)
    assert "takes about 5.0 s, and --takes" in told()
    assert "one `selva generate`" in told(loading_seconds=11.0) and "Loading" not in told()


def test_parts_that_travel_are_told() -> None:
    assert "--offload keep_in_vram" in told(device="cuda", staged=True)
    assert "--offload" not in told(device="cuda")
