"""The style tools as nodes, over the stand-in: what comes out, progress, cancel, paths, defaults."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from comfyui.stand_in import Interrupted
from comfyui.style_files import write_pack_files, write_style
from comfyui.test_training_nodes import make_data
from small_style import write_tones

from selva_audio.errors import CheckpointError, InputError, MissingFileError

SAMPLING = {"prompt": "", "negative_prompt": "", "duration": 0.0, "steps": 2, "cfg_strength": 4.5, "seed": 3}
TOKENS = {
    "output_path": "words/ball.pt",
    "n_tokens": 2,
    "steps": 2,
    "lr": 2e-2,
    "batch_size": 2,
    "seed": 1,
    "save_every": 2,
    "warmup_steps": 0,
    "val_fraction": 0.0,
    "sample_steps": 0,
}
VOCODER = {
    "output_path": "bells.pt",
    "train_mode": "snake_alpha_only",
    "steps": 2,
    "lr": 1e-2,
    "batch_size": 2,
    "segment_seconds": 0.25,
    "lambda_l2sp": 1e-3,
    "use_gafilter": False,
    "gafilter_kernel_size": 9,
    "lambda_phase": 0.0,
    "save_every": 2,
    "seed": 1,
    "warmup_steps": 0,
    "val_fraction": 0.0,
    "grad_checkpoint": False,
}
SEARCH = {
    "prompt": "",
    "negative_prompt": "",
    "n_opt_steps": 2,
    "opt_lr": 0.1,
    "n_ode_steps": 2,
    "n_grad_steps": 5,
    "style_weight": 1.0,
    "gram_weight": 0.0,
    "anchor_weight": 0.0,
    "steps": 2,
    "cfg_strength": 4.5,
    "seed": 3,
}


@pytest.fixture(scope="module")
def during(comfy_once):
    """ComfyUI's modules for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in comfy_once.modules.items():
            patch.setitem(sys.modules, name, module)
        yield


@pytest.fixture(scope="module")
def data(during, model, images, tmp_path_factory):
    from selva_audio.comfyui import nodes

    extractor = {"SelvaFeatureExtractor": nodes.SelvaFeatureExtractor}
    return make_data(extractor, model, images, tmp_path_factory.mktemp("style") / "clips")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Sounds in a folder and in a folder below it."""
    folder = write_tones(tmp_path_factory.mktemp("sounds"), 2)
    write_tones(folder / "more", 1, suffix=".flac")
    return folder


@pytest.fixture(scope="module")
def style(model, tmp_path_factory):
    return write_style(model, tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def pack(model, tmp_path_factory):
    return write_pack_files(model, tmp_path_factory.mktemp("pack"))


@pytest.fixture
def learn(nodes, model, data):
    def run(**settings):
        settings = {"data_dir": str(data), **TOKENS, **settings}
        return nodes["SelvaTextualInversionTrainer"].execute(model, **settings).args

    return run


@pytest.fixture
def tune(nodes, model, sounds):
    def run(**settings):
        settings = {"data_dir": str(sounds), **VOCODER, **settings}
        return nodes["SelvaBigvganTrainer"].execute(model, **settings).args

    return run


@pytest.fixture
def search(nodes, model, features, sounds):
    def run(into=model, **settings):
        settings = {"reference_dir": str(sounds), **SEARCH, **settings}
        return nodes["SelvaDittoOptimizer"].execute(into, features, **settings).args

    return run


@pytest.fixture
def sound(nodes, features, model):
    def run(into=model, **settings):
        return nodes["SelvaSampler"].execute(into, features, **{**SAMPLING, **settings}).args[0]["waveform"]

    return run


def summary(path):
    return json.loads((Path(path).with_suffix("") / "summary.json").read_text())


def state(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# Textual inversion


def test_tokens_are_put_where_they_were_asked_for_with_all_that_belongs_to_them(learn, comfy, model):
    before = state(model.generator), state(model.clip)
    comfy.previews.clear()
    path, curve, report = learn(steps=3, val_fraction=0.4)
    assert Path(path) == comfy.base / "output" / "words" / "ball.pt"
    folder = comfy.base / "output" / "words" / "ball"
    assert (folder / "embeddings_final.pt").read_bytes() == Path(path).read_bytes()
    assert {"summary.json", "loss_smoothed.png"} <= {file.name for file in folder.iterdir()}
    assert curve.shape[0] == 1 and 0 <= curve.min() < curve.max() <= 1
    assert report == comfy.texts[-1]
    assert report.startswith("3 steps, loss ") and "validation " in report and ": ball.pt" in report
    assert comfy.previews
    assert same(before[0], state(model.generator)) and same(before[1], state(model.clip))


def test_a_file_that_is_there_stays_and_the_new_one_gets_a_number(learn, tune, nodes, model, data, comfy):
    output = comfy.base / "output"
    (output / "words").mkdir()
    for name in ("words/ball.pt", "bells.pt", "steering_vectors.pt"):
        (output / name).write_bytes(b"mine")
    extract = nodes["SelvaActivationSteeringExtractor"].execute
    made = [learn()[0], tune()[0], extract(model, str(data), "steering_vectors.pt", n_samples=1).args[0]]
    names = [path.name for path in map(Path, made)]
    assert names == ["ball_001.pt", "bells_001.pt", "steering_vectors_001.pt"]
    for name in ("words/ball.pt", "bells.pt", "steering_vectors.pt"):
        assert (output / name).read_bytes() == b"mine"


@pytest.mark.slow
def test_the_ending_says_the_form_of_the_file(learn, tune, nodes):
    for path in (learn(output_path="a.safetensors")[0], tune(output_path="b.safetensors")[0]):
        assert Path(path).suffix == ".safetensors"
    assert Path(learn(output_path="plain")[0]).name == "plain.pt"
    text = nodes["SelvaTextualInversionLoader"].execute("a.safetensors").args[1]
    assert text.startswith("a.safetensors: 2 tokens of width 64 in the feature space, suffix")


def test_widgets_left_out_of_a_prompt_have_the_nodes_own_defaults(nodes, model, data, sounds, learn, tune):
    """As the public pack's nodes had them; the library's own are others."""
    usual = {key: value for key, value in TOKENS.items() if key not in ("warmup_steps", "seed")}
    config = summary(nodes["SelvaTextualInversionTrainer"].execute(model, str(data), **usual).args[0])[
        "config"
    ]
    named = ("space", "inject_mode", "timestep_mode", "lr_schedule", "seed", "warmup_steps")
    assert [config[name] for name in named] == ["feature", "suffix", "uniform", "constant", 42, 100]
    left = ("use_gafilter", "lambda_phase", "seed", "segment_seconds", "warmup_steps")
    usual = {key: value for key, value in VOCODER.items() if key not in left}
    config = summary(nodes["SelvaBigvganTrainer"].execute(model, str(sounds), **usual).args[0])["config"]
    assert [config[name] for name in left] == [True, 1.0, 42, 2.0, 20]


def test_cancel_raises_comfyuis_own_exception_keeps_the_tokens_and_resumes_to_the_bit(
    learn, comfy, press_cancel
):
    """COMPAT 5.20: the public pack kept nothing."""
    whole = Path(learn(steps=4, output_path="whole")[0]).read_bytes()
    comfy.texts.clear()
    press_cancel("training: step 2")
    with pytest.raises(Interrupted):
        learn(steps=4)
    output = comfy.base / "output"
    assert not (output / "words" / "ball.pt").exists()
    (kept,) = (output / "words" / "ball").glob("embeddings_cancelled_step*.pt")
    resumed = learn(steps=4, resume_path=str(kept.relative_to(output)))[0]
    one, other = (torch.load(path, weights_only=True) for path in (resumed, output / "whole.pt"))
    assert whole and torch.equal(one["embeddings"], other["embeddings"])


@pytest.mark.slow
def test_what_has_no_effect_is_told(learn, tune):
    assert (
        "Without effect, because space is token: inject_mode."
        in learn(space="token", inject_mode="prefix")[2]
    )
    assert "Without effect, because space is feature: template." in learn(template="<prompt> {}")[2]
    assert (
        "Without effect, because use_gafilter is off: gafilter_kernel_size."
        in tune(gafilter_kernel_size=5)[2]
    )


@pytest.mark.slow
def test_a_relative_data_set_is_looked_for_in_the_models_folder_first(
    learn, tune, search, data, sounds, comfy
):
    for place, folder in (("words", data), ("bells", sounds)):
        (comfy.base / "models" / place).symlink_to(folder, target_is_directory=True)
    assert learn(data_dir="words") and tune(data_dir="bells") and search(reference_dir="bells")
    for run, name in ((learn, "data_dir"), (tune, "data_dir"), (search, "reference_dir")):
        with pytest.raises(MissingFileError, match=rf"{name} = nowhere is not there.*models.*output"):
            run(**{name: "nowhere"})


# Steering


def test_vectors_are_written_and_told_block_by_block(nodes, model, data, comfy):
    before = state(model.generator)
    comfy.progress.clear()
    extract = nodes["SelvaActivationSteeringExtractor"].execute
    path, report = extract(model, str(data), "style/metal.pt", n_samples=3, seed=1).args
    assert Path(path) == comfy.base / "output" / "style" / "metal.pt"
    content = torch.load(path, weights_only=True)
    assert content["contrast"] == "empty" and content["n"] == 3 and content["seed"] == 1
    assert "3 clips against empty: metal.pt" in report and "joint_blocks.0: norm " in report
    assert "consistency" in report
    assert comfy.progress
    assert same(before, state(model.generator))
    assert not any(module._forward_hooks for module in model.generator.modules())


def test_cancelled_extraction_writes_nothing(nodes, model, data, comfy, press_cancel):
    press_cancel("steering")
    with pytest.raises(Interrupted):
        nodes["SelvaActivationSteeringExtractor"].execute(model, str(data), "a.pt", n_samples=9, seed=1)
    assert not (comfy.base / "output" / "a.pt").exists()


# Loaders and the sampler


def test_loaders_tell_what_a_file_is_and_look_in_the_output_folder_first(nodes, style, comfy):
    for name, path in style.items():
        (comfy.base / "output" / f"{name}.pt").write_bytes(path.read_bytes())
    assert nodes["SelvaTextualInversionLoader"].execute("tokens.pt").args[1].startswith("tokens.pt: 4 tokens")
    text = nodes["SelvaActivationSteeringLoader"].execute("steering.pt").args[1]
    assert text.startswith("steering.pt: 4 blocks of width 96, one vector for all times")
    with pytest.raises(MissingFileError, match=r"output.*models"):
        nodes["SelvaTextualInversionLoader"].execute("nowhere.pt")


def wires(nodes, style):
    tokens = nodes["SelvaTextualInversionLoader"].execute(str(style["tokens"])).args[0]
    return {"textual_inversion": tokens, "steering_vectors": steered(nodes, style)}


def steered(nodes, style, **settings):
    return nodes["SelvaActivationSteeringLoader"].execute(str(style["steering"]), **settings).args[0]


def test_strengths_on_the_sampler_count_and_0_is_the_plain_sound_bit_for_bit(nodes, style, sound):
    plain, found = sound(), wires(nodes, style)
    for socket, strength in (("textual_inversion", "ti_strength"), ("steering_vectors", "steering_strength")):
        made = [sound(**{socket: found[socket], strength: value}) for value in (0.0, 0.5, 1.0)]
        assert torch.equal(made[0], plain)
        assert not torch.equal(made[1], plain) and not torch.equal(made[2], made[1])
    assert not torch.equal(sound(**found), plain)
    assert torch.equal(sound(**found, ti_strength=0.0, steering_strength=0.0), plain)


def test_how_vectors_act_is_said_on_their_loader(nodes, style, sound):
    usual = sound(steering_vectors=steered(nodes, style), steering_strength=0.3)
    for settings in ({"steering_mode": "raw"}, {"steering_branch": "cond"}, {"steering_blocks": "1-2"}):
        vectors = steered(nodes, style, **settings)
        assert not torch.equal(sound(steering_vectors=vectors, steering_strength=0.3), usual), settings
    with pytest.raises(InputError, match="steering_blocks"):
        steered(nodes, style, steering_blocks="../x")
    with pytest.raises(InputError, match="blocks 0 to 3"):
        sound(steering_vectors=steered(nodes, style, steering_blocks="7"))


@pytest.mark.parametrize("socket", ["steering_vectors", "textual_inversion"])
def test_something_else_on_a_wire_is_refused(nodes, style, sound, socket):
    other = wires(nodes, style)
    other = other["steering_vectors" if socket == "textual_inversion" else "textual_inversion"]
    for value in ({"path": "/etc/passwd"}, other, "tokens.pt"):
        with pytest.raises(InputError, match=rf"{socket} is .* Connect SelVA .* Loader"):
            sound(**{socket: value})


def test_files_of_the_public_pack_act_as_they_did_there(nodes, pack, model, sound, comfy):
    """COMPAT 2.3 to 2.5: rows in place of the first, vectors by position, filters after the activations."""
    plain = sound()
    tokens, told = nodes["SelvaTextualInversionLoader"].execute(str(pack["tokens"])).args
    assert "prefix" in told and "training again is worth while" in told
    assert not torch.equal(sound(textual_inversion=tokens), plain)
    vectors, told = nodes["SelvaActivationSteeringLoader"].execute(str(pack["steering"])).args
    assert "31 positions" in told and "of the public pack" in told
    made = sound(steering_vectors=vectors)
    raw = nodes["SelvaActivationSteeringLoader"].execute(
        str(pack["steering"]), steering_mode="raw", steering_branch="cond"
    )
    assert torch.equal(sound(steering_vectors=raw.args[0]), made) and not torch.equal(made, plain)
    tuned, told = nodes["SelvaBigvganLoader"].execute(model, str(pack["vocoder"])).args
    assert "filters of 5 taps" in told and "with the pack" in told
    assert not torch.equal(sound(tuned), plain)


@pytest.mark.parametrize("node", ["TextualInversionLoader", "ActivationSteeringLoader", "BigvganLoader"])
def test_a_file_of_another_kind_or_with_code_in_it_is_a_sentence(nodes, model, style, node, tmp_path):
    """COMPAT 5.24."""

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "run"),))

    kinds = {
        "embeddings": Evil(),
        "steering_vectors": Evil(),
        "generator": Evil(),
    }
    torch.save(kinds, tmp_path / "evil.pt")
    whole = style["adapter"].read_bytes()
    (tmp_path / "torn.pt").write_bytes(whole[: len(whole) // 2])
    into = [model] if node == "BigvganLoader" else []
    for path in (style["adapter"], tmp_path / "evil.pt", tmp_path / "torn.pt"):
        with pytest.raises(CheckpointError) as caught:
            nodes[f"Selva{node}"].execute(*into, str(path))
        assert len(str(caught.value)) < 600
    assert not (tmp_path / "run").exists()


def test_a_file_for_another_variant_is_refused_by_the_sampler(nodes, style, sound, tmp_path):
    from selva_audio.adapters.textual_inversion import read_inversion, write_inversion
    from selva_audio.flow.steering_file import read_steering, write_steering

    for name, read, write, socket in (
        ("tokens", read_inversion, write_inversion, "textual_inversion"),
        ("steering", read_steering, write_steering, "steering_vectors"),
    ):
        found = read(style[name])
        object.__setattr__(found, "variant", "small_44k")
        path = write(tmp_path / f"{name}.pt", found)
        with pytest.raises(CheckpointError, match=r"small_44k.*demo_16k"):
            sound(**{socket: wires(nodes, {**style, name: path})[socket]})


@pytest.mark.parametrize("node", ["TextualInversionLoader", "ActivationSteeringLoader", "BigvganLoader"])
def test_a_replaced_file_is_read_again(nodes, style, node):
    path, mark = style["tokens"], nodes[f"Selva{node}"].fingerprint_inputs
    before = mark(path=str(path))
    assert mark(path=str(path)) == before
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert mark(path=str(path)) != before


def test_what_is_linked_is_decided_by_the_node_before(nodes):
    """ComfyUI gives None for it; what raises would run every time."""
    for name in ("TextualInversionLoader", "ActivationSteeringLoader", "BigvganLoader"):
        assert nodes[f"Selva{name}"].fingerprint_inputs(path=None) == "[]"
    for name in ("TextualInversionTrainer", "ActivationSteeringExtractor", "BigvganTrainer", "LoraTrainer"):
        assert nodes[f"Selva{name}"].fingerprint_inputs(data_dir=None) == "[]"
    assert nodes["SelvaDittoOptimizer"].fingerprint_inputs(reference_dir=None) == "[]"
    assert nodes["SelvaLoraLoader"].fingerprint_inputs(adapter_path=None) == "[]"
    assert nodes["SelvaLoraEvaluator"].fingerprint_inputs(eval_file=None) == "[]"
    assert nodes["SelvaDatasetLoader"].fingerprint_inputs(folder=None) == "[]"
    assert nodes["SelvaDatasetBrowser"].fingerprint_inputs(dataset_json=None) == "[]"


def test_new_sounds_make_trainers_and_ditto_run_again(nodes, tmp_path):
    folder = write_tones(tmp_path / "sounds" / "deep", 1).parent
    marks = [
        lambda: nodes["SelvaBigvganTrainer"].fingerprint_inputs(data_dir=str(folder)),
        lambda: nodes["SelvaDittoOptimizer"].fingerprint_inputs(reference_dir=str(folder)),
        lambda: nodes["SelvaTextualInversionTrainer"].fingerprint_inputs(data_dir=str(folder / "deep")),
        lambda: nodes["SelvaActivationSteeringExtractor"].fingerprint_inputs(data_dir=str(folder / "deep")),
    ]
    before = [mark() for mark in marks]
    assert [mark() for mark in marks] == before
    write_tones(folder / "deep", 2)
    assert all(mark() != old for mark, old in zip(marks, before, strict=True))


# Vocoder


def test_a_tuned_vocoder_is_put_where_it_was_asked_for_and_the_model_stays(tune, comfy, model, nodes, sound):
    before, plain = state(model.vocoder), sound()
    path, curve, report = tune(steps=3)
    assert Path(path) == comfy.base / "output" / "bells.pt"
    assert (comfy.base / "output" / "bells" / "sample_step00003.wav").is_file()
    assert curve.shape[-1] == 3
    assert report.startswith("3 steps, loss ") and "snake_alpha_only: " in report
    assert same(before, state(model.vocoder))
    tuned, told = nodes["SelvaBigvganLoader"].execute(model, "bells.pt").args
    assert "snake_alpha_only" in told and "tuned for demo_16k, 3 steps" in told
    assert not torch.equal(sound(tuned), plain)
    assert torch.equal(sound(), plain)


def test_filters_are_told_in_the_count(tune):
    counts = [
        int(re.search(r"([\d,]+) parameters", tune(use_gafilter=use)[2])[1].replace(",", ""))
        for use in (False, True)
    ]
    taps = counts[1] - counts[0]  # nine for each channel, but for those of the last activation
    assert taps % 9 == 0 and 8 * counts[0] < taps < 9 * counts[0]


def test_branches_with_different_vocoders_on_one_model_do_not_disturb_each_other(
    nodes, model, style, pack, sound
):
    """COMPAT 5.12: the public pack changed the loaded vocoder for every branch."""
    load, plain = nodes["SelvaBigvganLoader"].execute, sound()
    one, two = load(model, str(style["vocoder"])).args[0], load(model, str(pack["vocoder"])).args[0]
    first, second = sound(one), sound(two)
    assert not torch.equal(first, second)
    assert torch.equal(sound(one), first) and torch.equal(sound(two), second) and torch.equal(sound(), plain)


# DITTO


def test_ditto_comes_nearer_to_the_style_and_tells_by_how_much(search, comfy, model, sound):
    before = state(model.generator)
    comfy.previews.clear()
    audio, curve, report = search(n_opt_steps=4, check_every=1)
    assert audio["waveform"].shape == sound().shape and not torch.equal(audio["waveform"], sound())
    assert curve.shape[0] == 1
    first, last = (float(each) for each in report.split("style loss ")[1].split(",")[0].split(" -> "))
    assert last < first
    assert "3 references" in report and "Without effect" not in report
    assert comfy.previews and any("optimising: step" in text for text in comfy.texts)
    assert same(before, state(model.generator))


def test_ditto_without_a_step_that_helps_is_the_plain_sound(search, sound):
    weights = dict.fromkeys(("style_weight", "timing_weight", "shell_weight"), 0.0)
    audio = search(**weights, renormalize=False)[0]
    assert torch.equal(audio["waveform"], sound())


def test_cancelling_ditto_raises_comfyuis_own_exception(search, press_cancel):
    press_cancel("optimising: step 2")
    with pytest.raises(Interrupted):
        search(n_opt_steps=9)


def test_ditto_samples_with_what_the_model_and_the_wires_bring(search, nodes, style, model):
    plain = search()[0]["waveform"]
    tuned = nodes["SelvaBigvganLoader"].execute(model, str(style["vocoder"])).args[0]
    assert not torch.equal(search(tuned)[0]["waveform"], plain)
    for socket, wire in wires(nodes, style).items():
        assert not torch.equal(search(**{socket: wire})[0]["waveform"], plain)
    assert (
        "Without effect, because nothing is connected to textual_inversion: ti_strength."
        in search(ti_strength=0.5)[2]
    )


@pytest.mark.parametrize(
    "name",
    ["TextualInversionTrainer", pytest.param("BigvganTrainer", marks=pytest.mark.slow), "DittoOptimizer"],
)
def test_the_nodes_run_under_inference_mode(nodes, name, learn, tune, search):
    """COMPAT 6.4: ComfyUI runs nodes under it, and the flag sits on tensors."""
    run = {"TextualInversionTrainer": learn, "BigvganTrainer": tune, "DittoOptimizer": search}[name]
    with torch.inference_mode():
        assert run()
