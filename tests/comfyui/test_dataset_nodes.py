"""The data-set nodes: names saved workflows depend on, every input counts, and the faults of COMPAT 5.19."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from comfyui.stand_in import Interrupted

from selva_audio.errors import InputError, MissingFileError, SelVAError
from selva_audio.features import VideoFeatures, save_features
from selva_audio.media.audio import read_audio, write_audio
from selva_audio.records import Audio

RATE = 16000
SOCKET = ("dataset", "AUDIO_DATASET")
# As in test_compat: name, type, default, least, most, step.
COMPAT = {
    "SelvaDatasetBrowser": [("dataset_json", "STRING", ""), ("index", "INT", 0, 0, 9999, None)],
    "SelvaDatasetLoader": [("folder", "STRING", "")],
    "SelvaDatasetResampler": [SOCKET, ("target_sr", "INT", 44100, 8000, 192000, None)],
    "SelvaDatasetLUFSNormalizer": [
        SOCKET,
        ("target_lufs", "FLOAT", -23.0, -40.0, -6.0, 0.5),
        ("true_peak_dbtp", "FLOAT", -1.0, -6.0, 0.0, 0.5),
    ],
    "SelvaDatasetCompressor": [
        SOCKET,
        ("threshold_db", "FLOAT", -18.0, -40.0, -6.0, 1.0),
        ("ratio", "FLOAT", 2.5, 1.5, 4.0, 0.5),
        ("attack_ms", "FLOAT", 10.0, 1.0, 100.0, 1.0),
        ("release_ms", "FLOAT", 100.0, 20.0, 500.0, 10.0),
        ("mix", "FLOAT", 0.4, 0.0, 1.0, 0.05),
    ],
    "SelvaDatasetSpectralMatcher": [
        SOCKET,
        ("mode", "COMBO", "44k"),
        ("strength", "FLOAT", 0.8, 0.0, 1.0, 0.05),
        ("max_gain_db", "FLOAT", 12.0, 1.0, 30.0, 1.0),
    ],
    "SelvaDatasetHfSmoother": [
        SOCKET,
        ("cutoff_hz", "FLOAT", 12000.0, 2000.0, 20000.0, 500.0),
        ("blend", "FLOAT", 0.7, 0.0, 1.0, 0.05),
    ],
    "SelvaDatasetAugmenter": [
        SOCKET,
        ("variants_per_clip", "INT", 2, 1, 20, None),
        ("gain_range_db", "FLOAT", 3.0, 0.0, 12.0, 0.5),
        ("seed", "INT", 42, 0, 2**32 - 1, None),
        ("pitch_range_semitones", "FLOAT", 0.0, 0.0, 4.0, 0.25),
        ("time_stretch_range", "FLOAT", 0.0, 0.0, 0.3, 0.05),
        ("keep_originals", "BOOLEAN", True),
    ],
    "SelvaDatasetInspector": [
        SOCKET,
        ("skip_rejected", "BOOLEAN", True),
        ("min_snr_db", "FLOAT", 15.0, 0.0, 60.0, 1.0),
        ("check_codec_artifacts", "BOOLEAN", True),
        ("max_silence_fraction", "FLOAT", 0.5, 0.0, 1.0, 0.05),
    ],
    "SelvaDatasetItemExtractor": [SOCKET, ("index", "INT", 0, 0, 9999, None)],
    "SelvaDatasetSaver": [SOCKET, ("output_dir", "STRING", ""), ("npz_source_dir", "STRING", "")],
}
REQUIRED = {"SelvaDatasetAugmenter": 4, "SelvaDatasetSaver": 2}
NAMES = {
    "SelvaDatasetLUFSNormalizer": "LUFS Normalizer",
    "SelvaDatasetSpectralMatcher": "Spectral Matcher",
    "SelvaDatasetHfSmoother": "HF Smoother",
    "SelvaDatasetItemExtractor": "Item Extractor",
}
STRINGS = ("video_path", "audio_wav", "audio_flac", "features_path", "frames_dir", "mask_dir", "label")
OUTPUTS = {name: [SOCKET] for name in COMPAT} | {
    "SelvaDatasetBrowser": [*((name, "STRING") for name in STRINGS), ("max_index", "INT"), ("total", "INT")],
    "SelvaDatasetInspector": [SOCKET, ("report", "STRING")],
    "SelvaDatasetItemExtractor": [("audio", "AUDIO"), ("name", "STRING"), ("total", "INT")],
    "SelvaDatasetSaver": [("report", "STRING")],
}
TOOLS = {
    "SelvaDatasetResampler": {"target_sr": 8000},
    "SelvaDatasetLUFSNormalizer": {"target_lufs": -23.0, "true_peak_dbtp": -1.0},
    "SelvaDatasetCompressor": {
        "threshold_db": -30.0, "ratio": 2.5, "attack_ms": 10.0, "release_ms": 100.0, "mix": 0.4,
    },
    "SelvaDatasetSpectralMatcher": {"mode": "16k", "strength": 0.8, "max_gain_db": 12.0},
    "SelvaDatasetHfSmoother": {"cutoff_hz": 4000.0, "blend": 0.7},
    "SelvaDatasetAugmenter": {"variants_per_clip": 1, "gain_range_db": 3.0, "seed": 42},
    "SelvaDatasetInspector": {
        "skip_rejected": True, "min_snr_db": 15.0, "check_codec_artifacts": True,
        "max_silence_fraction": 0.5,
    },
}  # fmt: skip
CHANGES = [
    ("SelvaDatasetResampler", {"target_sr": 11025}),
    ("SelvaDatasetLUFSNormalizer", {"target_lufs": -30.0}),
    ("SelvaDatasetLUFSNormalizer", {"target_lufs": -6.0, "true_peak_dbtp": -6.0}),
    ("SelvaDatasetCompressor", {"threshold_db": -20.0}),
    ("SelvaDatasetCompressor", {"ratio": 4.0}),
    ("SelvaDatasetCompressor", {"attack_ms": 50.0}),
    ("SelvaDatasetCompressor", {"release_ms": 400.0}),
    ("SelvaDatasetCompressor", {"mix": 0.8}),
    ("SelvaDatasetSpectralMatcher", {"mode": "44k"}),
    ("SelvaDatasetSpectralMatcher", {"strength": 0.3}),
    ("SelvaDatasetSpectralMatcher", {"max_gain_db": 2.0}),
    ("SelvaDatasetSpectralMatcher", {"keep_level": True}),
    ("SelvaDatasetHfSmoother", {"cutoff_hz": 6000.0}),
    ("SelvaDatasetHfSmoother", {"blend": 0.3}),
    ("SelvaDatasetHfSmoother", {"transition_hz": 300.0}),
    ("SelvaDatasetAugmenter", {"variants_per_clip": 2}),
    ("SelvaDatasetAugmenter", {"gain_range_db": 12.0}),
    ("SelvaDatasetAugmenter", {"seed": 43}),
    ("SelvaDatasetAugmenter", {"pitch_range_semitones": 2.0}),
    ("SelvaDatasetAugmenter", {"time_stretch_range": 0.2}),
    ("SelvaDatasetAugmenter", {"keep_originals": False}),
    ("SelvaDatasetInspector", {"skip_rejected": False}),
    ("SelvaDatasetInspector", {"min_snr_db": 3.0}),
    ("SelvaDatasetInspector", {"check_codec_artifacts": False}),
    ("SelvaDatasetInspector", {"max_silence_fraction": 0.9}),
]


def item(name, wave, rate=RATE, **more):
    wave = torch.from_numpy(np.atleast_2d(np.asarray(wave, np.float32)))
    return {"waveform": wave[None], "sample_rate": rate, "name": name, **more}


def noise(seed=0, seconds=2.0, rate=RATE):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))


def cut_off():
    spectrum = np.fft.rfft(noise(3, rate=44100))
    spectrum[np.fft.rfftfreq(88200, 1 / 44100) > 12000] *= 1e-5
    return np.fft.irfft(spectrum, 88200)


@pytest.fixture
def dataset():
    """Rain, a variant of it, hits in noise, a padded sound, and one that a codec cut off."""
    past = np.arange(2 * RATE) / RATE % 0.5
    hits = 0.5 * np.exp(-past / 0.05) * np.sin(5000 * past) + noise(1)
    padded = np.where(np.arange(2 * RATE) < RATE // 2, noise(2), 0)
    return [
        item("rain", noise()),
        item("rain_x", noise(4), origin_name="rain"),
        item("hits", hits),
        item("padded", padded),
        item("coded", cut_off(), 44100),
    ]


@pytest.fixture
def pairs(tmp_path):
    """Two sounds with features, in folders of their own, both called x."""
    for kind in ("cat", "dog"):
        folder = tmp_path / "in" / kind
        folder.mkdir(parents=True)
        write_audio(folder / "x.wav", Audio(torch.from_numpy(noise(len(kind)))[None, None].float(), RATE))
        features = VideoFeatures(torch.zeros(1, 0, 8), torch.ones(1, 8, 4), prompt=kind, duration=2.0)
        save_features(folder / "x.npz", features)
    return tmp_path / "in"


def same(one, other):
    keys = ("name", "sample_rate", "origin_name")
    return len(one) == len(other) and all(
        all(a.get(key) == b.get(key) for key in keys) and torch.equal(a["waveform"], b["waveform"])
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", COMPAT)
def test_inputs_are_as_saved_workflows_have_them_and_new_ones_come_last(nodes, name):
    inputs = nodes[name].define_schema().inputs
    for place, (expected, found) in enumerate(zip(COMPAT[name], inputs, strict=False)):
        assert (found.id, found.io_type) == expected[:2]
        if len(expected) > 2:
            assert found.settings["default"] == expected[2]
            assert type(found.settings["default"]) is type(expected[2])
        if len(expected) > 3:
            assert (found.settings["min"], found.settings["max"], found.settings.get("step")) == expected[3:]
        assert found.optional == (place >= REQUIRED.get(name, len(COMPAT[name])))
    assert all(found.optional for found in inputs[len(COMPAT[name]) :])


@pytest.mark.parametrize("name", COMPAT)
def test_outputs_and_names_are_as_saved_workflows_have_them(nodes, name):
    schema = nodes[name].define_schema()
    assert [(each.display_name, each.io_type) for each in schema.outputs] == OUTPUTS[name]
    assert schema.display_name == f"SelVA Dataset {NAMES.get(name, name.removeprefix('SelvaDataset'))}"
    assert schema.is_output_node == (name in ("SelvaDatasetSaver", "SelvaDatasetItemExtractor"))


@pytest.mark.parametrize("name", [name for name in TOOLS if name != "SelvaDatasetInspector"])
def test_a_step_keeps_names_origins_and_what_came_in(nodes, dataset, name):
    """COMPAT 5.19: resampler, normalizer and compressor dropped origin_name."""
    before = [each["waveform"].clone() for each in dataset]
    (done,) = nodes[name].execute(dataset, **TOOLS[name]).args
    kept = [each for each in done if not each["name"].endswith("_aug00")]
    assert [each["name"] for each in kept] == [each["name"] for each in dataset]
    assert [each.get("origin_name") for each in kept] == [each.get("origin_name") for each in dataset]
    assert all(each["waveform"].shape[:2] == (1, 1) for each in done)
    assert all(torch.equal(each["waveform"], old) for each, old in zip(dataset, before, strict=True))


@pytest.mark.parametrize(("name", "settings"), CHANGES, ids=str)
def test_each_input_changes_the_sounds(nodes, dataset, name, settings):
    usual = nodes[name].execute(dataset, **TOOLS[name]).args
    other = nodes[name].execute(dataset, **{**TOOLS[name], **settings}).args
    assert not same(usual[0], other[0])


def test_the_inspector_rejects_what_is_wrong_and_nothing_else(nodes, dataset):
    """COMPAT 5.19: rain was rejected, and silence-padded sounds passed."""
    kept, report = nodes["SelvaDatasetInspector"].execute(dataset, **TOOLS["SelvaDatasetInspector"]).args
    assert [each["name"] for each in kept] == ["rain", "rain_x"]
    assert report.splitlines()[-1] == "2 of 5 sounds pass."
    for name, reason in (("hits", "background"), ("padded", "silence"), ("coded", "wall")):
        assert reason in next(line for line in report.splitlines() if line.startswith(name))


def test_an_item_is_taken_and_the_index_goes_round(nodes, dataset, comfy):
    audio, name, total = nodes["SelvaDatasetItemExtractor"].execute(dataset, 6).args
    assert (name, total) == ("rain_x", 5)
    assert torch.equal(audio["waveform"], dataset[1]["waveform"])
    assert comfy.texts[-1].startswith("2 of 5: rain_x")


def test_from_a_folder_to_a_folder_each_sound_keeps_its_features(nodes, pairs, comfy):
    """COMPAT 5.19: equal stems of two folders overwrote each other, and variants lost their npz."""
    (loaded,) = nodes["SelvaDatasetLoader"].execute(str(pairs)).args
    steps = ("Resampler", "LUFSNormalizer", "Compressor", "Augmenter")
    for step in steps:
        (loaded,) = nodes[f"SelvaDataset{step}"].execute(loaded, **TOOLS[f"SelvaDataset{step}"]).args
    (report,) = nodes["SelvaDatasetSaver"].execute(loaded, "sets/pets").args
    folder = comfy.base / "output" / "sets" / "pets"
    names = {f"{kind}_x{variant}" for kind in ("cat", "dog") for variant in ("", "_aug00")}
    assert {path.name for path in folder.iterdir()} == {
        f"{name}{end}" for name in names for end in (".npz", ".flac")
    }
    for name in names:
        with np.load(folder / f"{name}.npz") as stored:
            assert str(stored["prompt"]) == name[:3]
    assert read_audio(folder / "cat_x.flac").sample_rate == 8000
    assert "Wrote 4 sounds" in report and "4 with features" in report


def test_features_may_come_from_another_folder(nodes, pairs, comfy):
    (loaded,) = nodes["SelvaDatasetLoader"].execute(str(pairs)).args
    bare = [{key: each[key] for key in ("waveform", "sample_rate", "name")} for each in loaded]
    bare[0]["name"] = "x"
    none, some = (
        nodes["SelvaDatasetSaver"].execute(bare, f"set{number}", source).args[0]
        for number, source in enumerate(("", str(pairs / "cat")))
    )
    assert "0 with features" in none and "1 with features" in some


def test_a_relative_folder_is_found_in_comfyuis_folders_and_written_below_the_output(nodes, pairs, comfy):
    pairs.rename(comfy.base / "input" / "pets")
    (loaded,) = nodes["SelvaDatasetLoader"].execute("pets").args
    assert len(loaded) == 2
    for path in ("../pets", "a\0b"):
        with pytest.raises(InputError):
            nodes["SelvaDatasetLoader"].execute(path)
        with pytest.raises(InputError):
            nodes["SelvaDatasetSaver"].execute(loaded, path)
    with pytest.raises(MissingFileError, match="Looked at"):
        nodes["SelvaDatasetLoader"].execute("none")
    assert not list((comfy.base / "output").iterdir())


def test_the_loader_sees_another_file(nodes, pairs):
    before = nodes["SelvaDatasetLoader"].fingerprint_inputs(str(pairs))
    assert nodes["SelvaDatasetLoader"].fingerprint_inputs(str(pairs)) == before
    (pairs / "dog" / "y.wav").write_bytes((pairs / "dog" / "x.wav").read_bytes())
    assert nodes["SelvaDatasetLoader"].fingerprint_inputs(str(pairs)) != before


@pytest.mark.parametrize("name", [*TOOLS, "SelvaDatasetItemExtractor", "SelvaDatasetSaver"])
@pytest.mark.parametrize(
    "bad",
    [
        None,
        "text",
        [3],
        [{"name": "x"}],
        [item("", noise())],
        [item("x", noise(), origin_name=3)],
        [item("x", noise(), stretch="long")],
        [item("x", noise()) | {"waveform": None}],
        [item("x", noise()) | {"sample_rate": 0}],
        [item("x", noise()) | {"waveform": torch.zeros(2, 1, 8000)}],
    ],
    ids=str,
)
def test_what_is_no_data_set_is_a_sentence(nodes, name, bad):
    settings = TOOLS.get(name, {"index": 0} if "Item" in name else {"output_dir": "x"})
    with pytest.raises(SelVAError):
        nodes[name].execute(bad, **settings)


@pytest.mark.parametrize("name", TOOLS)
def test_nothing_in_nothing_out_and_saving_nothing_is_a_sentence(nodes, name):
    assert nodes[name].execute([], **TOOLS[name]).args[0] == []
    with pytest.raises(InputError, match="holds no sounds"):
        nodes["SelvaDatasetSaver"].execute([], "x")


def test_cancel_stops_a_step(nodes, dataset, comfy):
    comfy.cancel_at = 1
    with pytest.raises(Interrupted):
        nodes["SelvaDatasetAugmenter"].execute(dataset, **TOOLS["SelvaDatasetAugmenter"])


@pytest.fixture
def listed(pairs, comfy):
    """The list form of dataset.json: two clips, of which the second has hardly a file."""
    folder = comfy.base / "pets"
    (folder / "features").mkdir(parents=True)
    for end in (".wav", ".npz"):
        (folder / "features" / f"a{end}").write_bytes((pairs / "dog" / f"x{end}").read_bytes())
    (folder / "features" / "a.flac").write_bytes(b"x")
    (folder / "a.mp4").write_bytes(b"x")
    for name in ("a", "a_mask"):
        (folder / name).mkdir()
    content = [{"path": "a", "label": "dog"}, {"path": "b", "label": "cat"}]
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_the_browser_names_the_files_of_a_clip_and_what_is_missing(nodes, listed, comfy):
    run = nodes["SelvaDatasetBrowser"].execute
    *paths, label, last, total = run("pets/dataset.json", 0).args
    features = listed / "features"
    expected = [listed / "a.mp4", features / "a.wav", features / "a.flac", features / "a.npz", listed / "a"]
    assert [Path(path) for path in paths] == [*expected, listed / "a_mask"]
    assert (label, last, total) == ("dog", 1, 2)
    *paths, label, last, total = run("pets", 1).args
    assert paths == [""] * 6 and (label, last, total) == ("cat", 1, 2)
    assert "missing: video, sound, features" in comfy.texts[-1]
    assert run("pets", 2).args == run("pets", 0).args


def test_the_browser_chooses_by_label_split_and_faults(nodes, listed):
    run = nodes["SelvaDatasetBrowser"].execute
    assert run("pets", 0, only_label="cat").args[6:] == ("cat", 0, 1)
    assert run("pets", 1, with_faults=False).args[6:] == ("dog", 0, 1)
    with pytest.raises(InputError, match="Its labels: cat, dog"):
        run("pets", 0, split="val")
    with pytest.raises(InputError, match="Its labels"):
        run("pets", 0, only_label="bird")


@pytest.mark.parametrize(
    "changed",
    [
        {"dataset_json": "other"},
        {"index": 1},
        {"split": "val"},
        {"only_label": "cat"},
        {"with_faults": False},
    ],
    ids=str,
)
def test_each_input_of_the_browser_changes_what_it_gives(nodes, comfy, changed):
    node = nodes["SelvaDatasetBrowser"]
    for folder, labels in (("pets", ("dog", "cat", "cow")), ("other", ("hen", "pig", "fox"))):
        (comfy.base / folder).mkdir()
        entries = [{"id": label, "label": label, "split": "train", "checks": {}} for label in labels]
        entries[0]["checks"] = {"silence": "It is silent."}
        entries[2]["split"] = "val"
        content = json.dumps({"version": 1, "entries": entries})
        (comfy.base / folder / "dataset.json").write_text(content)
    usual = {"dataset_json": "pets", "index": 0, "split": "any", "only_label": "", "with_faults": True}
    assert set(changed) <= set(usual) == {each.id for each in node.define_schema().inputs}
    assert node.execute(**usual).args[6:] == ("dog", 2, 3)
    assert node.execute(**usual | changed).args != node.execute(**usual).args


def test_each_input_of_the_steps_is_changed_in_a_test_above(nodes):
    changed = {
        name: {key for node, settings in CHANGES if node == name for key in settings} for name in TOOLS
    }
    for name, keys in changed.items():
        assert {each.id for each in nodes[name].define_schema().inputs} == {"dataset"} | keys


def test_the_browser_sees_another_list_and_refuses_one_that_leads_out(nodes, listed):
    node = nodes["SelvaDatasetBrowser"]
    before = node.fingerprint_inputs("pets", index=0)
    assert node.fingerprint_inputs("pets", index=0) == before
    (listed / "dataset.json").write_text('[{"path": "../../secret"}]')
    assert node.fingerprint_inputs("pets", index=0) != before
    with pytest.raises(InputError, match="leaves the folder"):
        node.execute("pets", 0)


def test_many_lines_are_told_in_part(nodes, comfy):
    sounds = [item(f"s{number}", noise(number, 0.5)) for number in range(40)]
    nodes["SelvaDatasetLUFSNormalizer"].execute(sounds, target_lufs=-23.0)
    lines = comfy.texts[-1].splitlines()
    assert lines[0] == "40 sounds" and lines[-1] == "and 17 more lines" and len(lines) == 25


def test_names_that_come_twice_are_told_apart(nodes):
    (done,) = (
        nodes["SelvaDatasetResampler"].execute([item("x", noise()), item("X", noise(1))], target_sr=8000).args
    )
    assert [each["name"] for each in done] == ["x", "X_2"]
