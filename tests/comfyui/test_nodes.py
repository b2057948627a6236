"""The nodes do what their inputs say, on the demo model over the stand-in."""

import inspect
import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from comfyui.stand_in import (
    Interrupted,
    VideoComponents,
    VideoFromComponents,
    VideoFromFile,
    object_info,
)

from selva_audio.errors import SelVAError
from selva_audio.media.encode import write_video
from selva_audio.media.video import probe

RECORDED = Path(__file__).with_name("object_info.json")
FAST = {
    "prompt": "rubber ball",
    "negative_prompt": "",
    "duration": 0.0,
    "steps": 2,
    "cfg_strength": 4.5,
    "seed": 0,
}


@pytest.fixture
def extract(nodes, model, images):
    def run(video=None, **settings):
        video = images(24) if video is None else video
        return nodes["SelvaFeatureExtractor"].execute(model, video, **{"prompt": "rubber ball", **settings})

    return run


@pytest.fixture
def sample(nodes, model, features):
    def run(**settings):
        return nodes["SelvaSampler"].execute(model, features, **{**FAST, **settings})

    return run


def test_the_schema_equals_that_of_a_real_server(nodes):
    recorded = json.loads(RECORDED.read_text())
    assert sorted(recorded) == sorted(nodes)
    for name, node in nodes.items():
        assert object_info(node) == recorded[name], f"{name}: see record.py"


def test_every_input_has_a_tooltip_and_every_node_a_help_page(nodes):
    pages = Path(inspect.getfile(next(iter(nodes.values())))).parents[1] / "web" / "docs"
    for name, node in nodes.items():
        page = (pages / f"{name}.md").read_text()
        for each in node.define_schema().inputs:
            assert each.settings.get("tooltip"), f"{name}.{each.id}"
            assert each.id == "audioUI" or f"`{each.id}`" in page, f"{name}.md does not tell of {each.id}"


def test_the_loader_says_rate_and_licences(nodes, comfy):
    nodes["SelvaModelLoader"].execute("demo_16k", "fp32", "auto")
    assert "demo_16k: 16000 Hz, cpu; fp32" in comfy.texts[-1]
    assert "MIT" in comfy.texts[-1]


def test_each_input_of_the_loader_changes_model_or_report(nodes, comfy):
    load = nodes["SelvaModelLoader"].execute
    assert load("demo_16k", "bf16", "auto").args[0].generator.empty_clip_feat.dtype == torch.bfloat16
    assert load("demo_16k", "fp32", "auto").args[0].generator.empty_clip_feat.dtype == torch.float32
    load("demo_16k", "fp32", "offload_to_cpu")
    assert "offload_to_cpu has no effect without a GPU" in comfy.texts[-1]
    with pytest.raises(SelVAError, match="small_44k"):
        load("small_44", "fp32", "auto")


def test_the_loader_is_run_again_when_a_file_changes(nodes, tmp_path, monkeypatch):
    from selva_audio.weights import places

    copy = tmp_path / "demo"
    copy.mkdir()
    for file in places.BUNDLED.glob("*.safetensors"):
        (copy / file.name).symlink_to(file)
    monkeypatch.setattr(places, "BUNDLED", copy)
    loader = nodes["SelvaModelLoader"]
    before = loader.fingerprint_inputs("demo_16k", "fp32", "auto")
    assert loader.fingerprint_inputs("demo_16k", "fp32", "auto") == before
    changed = copy / "demo_16k_vae.safetensors"
    content = changed.read_bytes()
    changed.unlink()
    changed.write_bytes(content)
    assert loader.fingerprint_inputs("demo_16k", "fp32", "auto") != before


def test_the_report_of_the_extractor_tells_what_was_used_and_what_came_out(extract, images, comfy):
    features, fps, prompt, report = extract(images(81), fps=16.0).args
    assert fps == 16.0
    assert prompt == features.prompt == "rubber ball"
    assert report == comfy.texts[-1]
    assert "81 frames, 16 fps (widget), 5.06 s -> 40 clip, 126 sync frames" in report


def test_the_wires_of_the_shipped_workflow_of_the_public_pack_fit(nodes, model, images):
    """VHS Load Video gives an IMAGE batch and its VHS_VIDEOINFO; Video Combine takes fps and audio."""
    info = {"source_fps": 30.0, "source_frame_count": 48, "loaded_fps": 24.0, "loaded_frame_count": 24}
    features, fps, prompt, _ = (
        nodes["SelvaFeatureExtractor"]
        .execute(model, images(24), "rubber ball", info, 30.0, duration=0.0, cache_dir="", name="")
        .args
    )
    assert fps == 24.0
    audio = nodes["SelvaSampler"].execute(model, features, **{**FAST, "prompt": prompt}).args[0]
    assert audio["waveform"].shape == (1, 1, 16000)
    assert audio["sample_rate"] == 16000


def changed(extract, images, kept, **settings):
    usual = kept("features", lambda: extract(images(24), fps=24.0).args)
    other = extract(images(24), **{"fps": 24.0, **settings}).args
    rows = usual[0].sync.shape == other[0].sync.shape and torch.equal(usual[0].sync, other[0].sync)
    clips = usual[0].clip.shape == other[0].clip.shape and torch.equal(usual[0].clip, other[0].clip)
    return not rows or not clips or usual[1:] != other[1:]


@pytest.mark.parametrize(
    "settings",
    [
        {"prompt": "metal ball"},
        {"fps": 12.0},
        {"video_info": {"loaded_fps": 12.0}},
        {"duration": 0.7},
        {"mask": torch.eye(8)},
        {"mask_strength": 0.5},
        {"mask_clip": False},
        {"mask_sync": False},
        {"start": 0.2},
        {"clip_conditioning": "off"},
        {"mask": torch.eye(8), "mask_strength": 0.5},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_each_input_of_the_extractor_changes_features_or_report(extract, images, kept, settings):
    assert changed(extract, images, kept, **settings)


@pytest.mark.parametrize("settings", [{"mask_strength": 0.5}, {"mask_clip": False}, {"mask_sync": False}])
def test_each_setting_of_the_mask_changes_the_features(extract, images, settings):
    masked = extract(images(24), fps=24.0, mask=torch.eye(8)).args[0]
    other = extract(images(24), fps=24.0, mask=torch.eye(8), **settings).args[0]
    assert not (torch.equal(masked.sync, other.sync) and torch.equal(masked.clip, other.clip))


def test_the_first_frame_is_shown_as_the_mask_leaves_it(nodes, model, images):
    mask = torch.zeros(36, 48)
    mask[:, :24] = 1
    result = nodes["SelvaFeatureExtractor"].execute(model, images(24), "rubber ball", fps=24.0, mask=mask)
    (shown,) = result.ui["images"][0]
    assert torch.allclose(shown[:, 24:], torch.tensor(128 / 255), atol=0.01)
    assert torch.allclose(shown[:, :24], images(24)[0, :, :24], atol=0.01)
    plain = nodes["SelvaFeatureExtractor"].execute(model, images(24), "rubber ball", fps=24.0)
    assert "images" not in plain.ui


def test_features_are_kept_in_the_folder_asked_for(extract, comfy, tmp_path):
    extract()
    assert len(list((comfy.base / "output" / "selva" / "cache").glob("*.npz"))) == 1
    extract(cache_dir="dogs")
    assert len(list((comfy.base / "output" / "dogs").glob("*.npz"))) == 1
    extract(cache_dir=str(tmp_path / "mine"))
    assert len(list((tmp_path / "mine").glob("*.npz"))) == 1


def test_a_name_numbers_files_past_the_cache(extract, comfy):
    for _ in range(2):
        extract(cache_dir="dogs", name="dog")
    found = sorted(path.name for path in (comfy.base / "output" / "dogs").glob("*.npz"))
    assert found == ["dog_001.npz", "dog_002.npz"]


@pytest.mark.parametrize("name", ["../dog", "a\0dog", "/etc/dog"])
def test_a_name_that_climbs_stays_in_its_folder(extract, comfy, name):
    """COMPAT 2.1: separators and NUL become underscores."""
    extract(cache_dir="dogs", name=name)
    (found,) = (path for path in comfy.base.rglob("*") if path.suffix == ".npz")
    assert found.parent == comfy.base / "output" / "dogs"


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "x" * 300},
        {"name": "CON"},
        {"cache_dir": "../up"},
        {"cache_dir": "a\0b"},
        {"fps": math.nan},
        {"fps": 1e12},
        {"duration": math.nan},
        {"duration": 1e30},
        {"mask_strength": math.inf},
        {"start": -1.0},
        {"clip_conditioning": "perhaps"},
        {"video_info": {"loaded_fps": "../../etc/passwd"}},
        {"prompt": "x" * 100_000},
    ],
    ids=str,
)
def test_a_hostile_value_of_the_extractor_is_a_sentence_and_touches_nothing(extract, comfy, settings):
    with pytest.raises(SelVAError) as caught:
        extract(**{"cache_dir": "safe", **settings})
    assert len(str(caught.value)) < 600
    assert [path for path in comfy.base.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": -1},
        {"steps": 10**9},
        {"steps": 0},
        {"cfg_strength": math.nan},
        {"target_lufs": math.inf},
        {"duration": math.nan},
        {"takes": 10**6},
        {"solver": "rm -rf"},
        {"loudness": "\0"},
        {"prompt": "x" * 100_000},
        {"seed": 2**70},
        {"steering_strength": math.nan},
        {"ti_strength": math.inf},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_hostile_value_of_the_sampler_is_a_sentence(sample, settings):
    with pytest.raises(SelVAError) as caught:
        sample(**settings)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("height", "width", "count", "channels"), [(37, 51, 24, 3), (64, 20, 24, 4), (36, 48, 1, 3), (3, 3, 5, 3)]
)
def test_odd_sizes_single_frames_and_alpha_work(
    extract, sample, nodes, model, images, height, width, count, channels
):
    features = extract(images(count, height, width, channels), fps=24.0).args[0]
    audio = nodes["SelvaSampler"].execute(model, features, **FAST).args[0]
    assert audio["waveform"].shape[-1] == round(count / 24 * 16000)


@pytest.mark.parametrize("shape", [(64, 64), (1, 9, 5), (24, 36, 48), (7, 20, 20), (30, 4, 4)])
def test_masks_of_another_size_or_count_work(extract, shape):
    mask = torch.zeros(shape)
    mask[..., : shape[-1] // 2] = 1
    assert extract(fps=24.0, mask=mask).args[0].sync.shape == (1, 16, 96)


@pytest.mark.parametrize(
    "settings",
    [
        {"prompt": "metal ball"},
        {"negative_prompt": "metal ball"},
        {"duration": 0.8},
        {"steps": 3},
        {"cfg_strength": 2.0},
        {"seed": 1},
        {"steering_strength": 0.5},
        {"ti_strength": 0.5},
        {"normalize": False},
        {"target_lufs": -35.0},
        {"takes": 2},
        {"solver": "heun"},
        {"loudness": "peak"},
        {"true_peak_ceiling": -20.0},
        {"clip_conditioning": "off"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_each_input_of_the_sampler_changes_sound_or_report(sample, kept, settings):
    usual, other = kept("sample", lambda: sample().args), sample(**settings).args
    same = usual[0]["waveform"].shape == other[0]["waveform"].shape and torch.equal(
        usual[0]["waveform"], other[0]["waveform"]
    )
    assert not same or usual[2] != other[2]


def test_takes_are_one_batch_and_the_first_is_the_single_one(sample):
    audio, picture, report = sample(takes=2).args
    assert audio["waveform"].shape == (2, 1, 16000)
    assert torch.equal(audio["waveform"][:1], sample().args[0]["waveform"])
    assert picture.ndim == 4
    assert 0 <= picture.min() < picture.max() <= 1
    assert "2 takes" in report


def test_a_shorter_duration_keeps_the_sound_in_its_place(sample, features):
    """COMPAT 5.15: the picture's rows are cut, not squeezed, so the time of each token is what it was."""
    assert sample(duration=0.8).args[0]["waveform"].shape[-1] == round(0.8 * 16000)


def test_the_bar_moves_and_a_mel_is_shown_while_sampling(sample, comfy):
    comfy.progress.clear()
    sample(steps=4)
    values = [value for value, _ in comfy.progress]
    assert values == sorted(values)
    assert len(comfy.previews) >= 1
    kind, picture, _ = comfy.previews[0]
    assert kind == "JPEG"
    assert picture.size == (512, 192)


def test_cancel_raises_comfyuis_own_exception_and_the_next_run_is_the_same(sample, comfy):
    before = sample().args[0]["waveform"]
    comfy.progress.clear()
    comfy.cancel_at = 1
    with pytest.raises(Interrupted):
        sample(steps=50)
    comfy.cancel_at = None
    assert torch.equal(sample().args[0]["waveform"], before)


def test_nothing_made_by_a_node_is_an_inference_tensor(nodes, images):
    with torch.inference_mode():
        model = nodes["SelvaModelLoader"].execute("demo_16k", "fp32", "auto").args[0]
        features = nodes["SelvaFeatureExtractor"].execute(model, images(24), "rubber ball").args[0]
        audio = nodes["SelvaSampler"].execute(model, features, **FAST).args[0]
    tensors = [*model.generator.parameters(), *model.vae.parameters(), features.sync, audio["waveform"]]
    assert not any(tensor.is_inference() for tensor in tensors)


def test_a_missing_package_is_a_sentence(nodes, model, images, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "selva_audio.tasks.describe", None)
    with pytest.raises(SelVAError, match=r"pip install -r requirements\.txt"):
        nodes["SelvaFeatureExtractor"].execute(model, images(24), "rubber ball")


# COMPAT 5.15 and 5.16


@pytest.mark.parametrize("variant", ["small_16k", "large_44k", "", "anything"])
def test_features_made_under_another_variants_name_are_taken(nodes, model, features, variant):
    other = replace(features, variant=variant)
    audio = nodes["SelvaSampler"].execute(model, other, **FAST).args[0]
    assert torch.equal(
        audio["waveform"], nodes["SelvaSampler"].execute(model, features, **FAST).args[0]["waveform"]
    )


def test_one_changed_pixel_anywhere_misses_the_cache(extract, images, comfy):
    for place in (0, 11, 23):
        changed = images(24)
        changed[place, 20, 20, 1] = 1.0
        extract(changed, fps=24.0)
    extract(images(24), fps=24.0)
    assert len(list((comfy.base / "output" / "selva" / "cache").glob("*.npz"))) == 4


def test_a_torn_cache_file_is_made_again(extract, comfy):
    before = extract(fps=24.0).args[0]
    (file,) = (comfy.base / "output" / "selva" / "cache").glob("*.npz")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert torch.equal(extract(fps=24.0).args[0].sync, before.sync)
    assert len(file.read_bytes()) == len(whole)


# Mux and Foley


def tone(seconds=1.0, rate=16000, takes=1, channels=1):
    waves = [0.1 * (k + 1) * torch.sin(torch.arange(round(seconds * rate)) * 0.3) for k in range(takes)]
    return {
        "waveform": torch.stack(waves)[:, None].expand(-1, channels, -1).contiguous(),
        "sample_rate": rate,
    }


def streams(path):
    with av.open(str(path)) as container:
        sound, picture = container.streams.audio[0], container.streams.video[0]
        length = sum(frame.samples for frame in container.decode(sound)) / sound.codec_context.sample_rate
        return (
            picture.average_rate,
            picture.width,
            picture.height,
            float(picture.duration * picture.time_base),
            length,
        )


@pytest.mark.parametrize(
    ("rate", "height", "width"),
    [
        (Fraction(16), 36, 48),
        (Fraction(24), 37, 51),
        (Fraction(25), 96, 54),
        (Fraction(30000, 1001), 36, 48),
        (Fraction(60), 53, 35),
    ],
)
def test_the_sound_is_as_long_as_the_picture_at_every_rate_and_size(nodes, images, rate, height, width):
    count = round(1.5 * rate)
    video = VideoFromComponents(VideoComponents(images(count, height, width), rate))
    _, path, report = nodes["SelvaMux"].execute(video, tone(3.0), "video/SelVA").args
    found_rate, found_width, found_height, seconds, sound = streams(path)
    assert found_rate == rate
    assert (found_width, found_height) == (width + width % 2, height + height % 2)
    assert seconds == pytest.approx(count / rate, abs=1e-3)
    assert sound == pytest.approx(seconds, abs=float(1 / rate))
    assert f"{count} frames" in report


@pytest.mark.parametrize(
    ("fps", "count"), [(16.0, 24), (24.0, 31), (25.0, 25), (30000 / 1001, 40), (60.0, 73)]
)
def test_a_batch_of_any_rate_gives_sound_as_long_as_its_picture(nodes, model, extract, images, fps, count):
    features, found, _, _ = extract(images(count, 53, 31), fps=fps).args
    audio = nodes["SelvaSampler"].execute(model, features, **{**FAST, "steps": 1}).args[0]
    assert found == pytest.approx(fps)
    assert audio["waveform"].shape[-1] / 16000 == pytest.approx(count / fps, abs=1 / fps)


def test_mux_copies_the_pictures_of_a_file(nodes, tmp_path, images):
    source = write_video((images(24).numpy() * 255).astype("uint8"), 24, tmp_path / "a.mp4")
    video, path, _ = nodes["SelvaMux"].execute(VideoFromFile(str(source)), tone(), "video/SelVA").args
    with av.open(str(source)) as before, av.open(path) as after:
        packets = [[bytes(p) for p in c.demux(video=0) if p.size] for c in (before, after)]
    assert packets[0] == packets[1]
    assert video.get_stream_source() == path


@pytest.mark.parametrize(
    "settings",
    [
        {"fps": 12.0},
        {"video_info": {"loaded_fps": 12.0}},
        {"take": 2},
        {"container": "mkv"},
        {"codec": "lossless"},
        {"bitrate_kbps": 64},
        {"filename_prefix": "other/place"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_each_input_of_mux_changes_the_file(nodes, images, settings):
    mux = nodes["SelvaMux"].execute
    usual = mux(images(24), tone(takes=2), **{"filename_prefix": "video/SelVA", "fps": 24.0}).args[1]
    other = mux(
        images(24), tone(takes=2), **{"filename_prefix": "video/SelVA", "fps": 24.0, **settings}
    ).args[1]
    assert Path(usual).read_bytes() != Path(other).read_bytes() or Path(usual).parent != Path(other).parent


@pytest.mark.parametrize(
    "settings", [{"original_audio": "duck"}, {"original_gain_db": -20.0}, {"duck_db": 40.0}]
)
def test_the_original_sound_can_be_kept(nodes, images, settings):
    original = {"waveform": 0.2 * torch.rand(1, 1, 16000), "sample_rate": 16000}
    video = VideoFromComponents(VideoComponents(images(24), 24, original))
    mux = nodes["SelvaMux"].execute
    quiet = {"waveform": torch.zeros(1, 1, 16000), "sample_rate": 16000}
    sound = tone() if "original_gain_db" not in settings else quiet
    base = {"filename_prefix": "v", "original_audio": "duck" if "duck_db" in settings else "mix"}
    usual, other = mux(video, sound, **base).args[1], mux(video, sound, **{**base, **settings}).args[1]
    assert Path(usual).read_bytes() != Path(other).read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        {"take": 3},
        {"take": 0},
        {"fps": math.nan},
        {"container": "exe"},
        {"bitrate_kbps": 10**9},
        {"original_gain_db": math.nan},
        {"filename_prefix": "../up"},
        {"filename_prefix": "/etc/cron.d/x"},
        {"filename_prefix": "a\0b"},
        {"filename_prefix": "NUL"},
    ],
    ids=str,
)
def test_a_hostile_value_of_mux_is_a_sentence_and_touches_nothing(nodes, images, comfy, settings):
    with pytest.raises(SelVAError):
        nodes["SelvaMux"].execute(
            images(4), tone(takes=2), **{"filename_prefix": "v", "fps": 24.0, **settings}
        )
    assert [path for path in comfy.base.rglob("*") if path.is_file()] == []


def test_foley_gives_the_video_with_its_sound(nodes, model, images, tmp_path, comfy):
    source = write_video((images(24).numpy() * 255).astype("uint8"), 24, tmp_path / "a.mp4")
    node = nodes["SelvaFoley"]
    result = node.execute(
        model, VideoFromFile(str(source)), "rubber ball", "", steps=2, cfg_strength=4.5, seed=0
    )
    video, audio, picture, report = result.args
    assert audio["waveform"].shape == (1, 1, 16000)
    assert picture.ndim == 4
    assert "24 frames, 24 fps" in report
    made = Path(video.get_stream_source())
    assert comfy.base / "temp" in made.parents
    assert probe(made).has_audio
    rate, width, height, seconds, sound = streams(made)
    assert (rate, width, height) == (24, 48, 36)
    assert sound == pytest.approx(seconds, abs=1 / 24)


@pytest.mark.parametrize(
    "settings",
    [
        {"prompt": "metal ball"},
        {"negative_prompt": "metal ball"},
        {"steps": 3},
        {"cfg_strength": 2.0},
        {"seed": 1},
        {"mask": torch.eye(8)},
        {"original_audio": "mix"},
        {"original_gain_db": -6.0},
        {"duck_db": 20.0},
        {"takes": 2},
        {"normalize": False},
        {"target_lufs": -35.0},
        {"steering_strength": 0.5},
        {"ti_strength": 0.5},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_each_input_of_foley_changes_sound_or_report(nodes, model, images, kept, settings):
    base = {"prompt": "rubber ball", "negative_prompt": "", "steps": 2, "cfg_strength": 4.5, "seed": 0}
    video = VideoFromComponents(VideoComponents(images(24), 24))
    usual = kept("foley", lambda: nodes["SelvaFoley"].execute(model, video, **base).args)
    other = nodes["SelvaFoley"].execute(model, video, **{**base, **settings}).args
    same = usual[1]["waveform"].shape == other[1]["waveform"].shape and torch.equal(
        usual[1]["waveform"], other[1]["waveform"]
    )
    assert not same or usual[3] != other[3]
