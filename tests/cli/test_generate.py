from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

from selva_audio.media.audio import read_audio_track
from selva_audio.tasks.recipe import read_recipe


@pytest.fixture
def videos(clip: Path, tmp_path: Path) -> Path:
    """A folder with two videos and a broken one."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(clip.read_bytes())
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def test_a_sound_is_written_and_told_as_json(generate, clip: Path, tmp_path: Path) -> None:
    result = generate(clip, "-o", tmp_path / "x.wav", "-p", "dog", "--json")
    assert result.code == 0
    (job,) = result.json["results"]
    assert job["video"] == str(clip)
    assert job["outputs"] == [str(tmp_path / "x.wav")]
    assert (job["status"], job["error"], job["duration"]) == ("done", "", 1.0)
    assert set(job["seconds"]) == {"features", "generate", "write"}
    assert result.json["failed"] == 0
    assert read_audio_track(tmp_path / "x.wav") is not None


def test_without_json_stdout_is_empty_and_stderr_names_the_file(generate, clip: Path, tmp_path: Path) -> None:
    result = generate(clip, "-o", tmp_path / "x.wav")
    assert (result.code, result.out) == (0, "")
    assert f"Done: {tmp_path / 'x.wav'}" in result.err


def test_a_note_is_said_once(generate, clip: Path, tmp_path: Path) -> None:
    result = generate(clip, "-o", tmp_path / "x.wav", "--duration", "0.3", "--json")
    assert result.err.count("are under the 0.64 s") == 1
    assert any("0.30 s are under" in note for note in result.json["results"][0]["notes"])


@pytest.mark.parametrize("flag", ["--cfg-strength", "--cfg_strength"])
def test_both_spellings_of_a_flag_work(generate, clip: Path, tmp_path: Path, flag: str) -> None:
    assert generate(clip, "-o", tmp_path / "x.wav", flag, "2.5").code == 0
    assert read_recipe(tmp_path / "x.wav")["generate"]["cfg_strength"] == 2.5


def test_flags_reach_the_recipe(generate, clip: Path, tmp_path: Path) -> None:
    flags = "--prompt dog --negative-prompt wind --seed 9 --takes 2 --solver heun --loudness peak "
    flags += "--target-lufs -20 --true-peak-ceiling -3 --start 0.1 --duration 0.8 --mask-strength 0.5 "
    flags += "--no-mask-clip --clip-conditioning off --sample-format pcm16"
    assert generate(clip, "-o", tmp_path / "x.wav", *flags.split()).code == 0
    recipe = read_recipe(tmp_path / "x_02.wav")
    made, seen = recipe["generate"], recipe["features"]
    assert (seen["prompt"], seen["negative_prompt"], seen["start"], seen["duration"]) == (
        "dog",
        "wind",
        0.1,
        0.8,
    )
    assert (seen["mask_strength"], seen["mask_clip"], seen["mask_sync"]) == (0.5, False, True)
    assert (made["seed"], made["takes"], made["solver"], made["loudness"]) == (9, 2, "heun", "peak")
    assert (made["target_lufs"], made["true_peak_ceiling"]) == (-20, -3)
    assert made["clip_conditioning"] == seen["clip_conditioning"] == "off"
    assert recipe["output"]["sample_format"] == "pcm16"


def test_a_mask_file_is_used(generate, clip: Path, tmp_path: Path) -> None:
    imsave(tmp_path / "mask.png", np.eye(8), cmap="gray")
    assert generate(clip, "-o", tmp_path / "x.wav", "--mask", tmp_path / "mask.png").code == 0
    assert read_recipe(tmp_path / "x.wav")["mask"]["path"] == str(tmp_path / "mask.png")


def test_one_bad_video_of_several_is_exit_one_and_a_summary(generate, videos: Path, tmp_path: Path) -> None:
    result = generate(videos, "-o", tmp_path / "out", "--format", "wav", "--json")
    assert result.code == 1
    assert [job["status"] for job in result.json["results"]] == ["done", "done", "failed"]
    assert result.json["failed"] == 1
    assert "broken.mp4" in result.json["results"][2]["error"]
    assert "2 of 3 done, 1 failed." in result.err
    assert result.err.count("Failed: ") == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*.wav")) == ["a.wav", "b.wav"]


def test_a_second_run_skips_what_is_done(generate, videos: Path, tmp_path: Path) -> None:
    (videos / "broken.mp4").unlink()
    arguments = (videos / "a.mp4", videos / "b.mp4", "-o", tmp_path / "out", "--format", "wav", "--json")
    statuses = [[job["status"] for job in generate(*arguments, *more).json["results"]]
                for more in ((), (), ("--seed", 1))]  # fmt: skip
    assert statuses == [["done", "done"], ["skipped", "skipped"], ["done", "done"]]


@pytest.mark.parametrize(
    ("name", "sentence"), [("nowhere.mp4", "There is no file or folder"), ("broken.mp4", "broken.mp4")]
)
def test_a_lone_bad_video_is_one_error_and_exit_two(
    generate, videos, tmp_path, name: str, sentence: str
) -> None:
    result = generate(videos / name, "-o", tmp_path / "x.wav")
    assert result.code == 2
    assert result.err.startswith("Error: ") and len(result.err.splitlines()) == 1
    assert sentence in result.err
    assert not (tmp_path / "x.wav").exists()


def test_a_dry_run_writes_and_downloads_nothing(selva, videos: Path, tmp_path: Path) -> None:
    (videos / "broken.mp4").unlink()
    before = sorted(tmp_path.rglob("*"))
    arguments = ("generate", videos, "-o", tmp_path / "out", "--variant", "large_44k", "--dry-run")
    result = selva(*arguments, "--json", "--models-dir", tmp_path / "models")
    assert result.code == 0
    assert [job["status"] for job in result.json["results"]] == ["planned", "planned"]
    assert "weights missing: generator_large_44k_sup_5.pth" in result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_weights_are_exit_two_with_the_command(selva, clip: Path, tmp_path: Path) -> None:
    result = selva("generate", clip, "-o", tmp_path / "x.wav", "--models-dir", tmp_path / "models")
    assert result.code == 2
    assert "selva models download" in result.err
    assert "generator_small_16k_sup_5.pth" in result.err  # the default variant is never silently the demo
    assert not list(tmp_path.iterdir())


def test_no_video_with_a_selva_variant_names_mmaudio(generate, tmp_path: Path) -> None:
    result = generate("-o", tmp_path / "x.wav", "-p", "rain")
    assert result.code == 2
    assert "use an MMAudio variant" in result.err
