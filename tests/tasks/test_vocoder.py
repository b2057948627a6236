import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_generator import moved as moved_adapter
from small_style import equal_tensors, mel_of, snapshot, write_discriminators, write_tones

from selva_audio.adapters import Adapter, write_adapter
from selva_audio.adapters.textual_inversion import TextualInversion, write_inversion
from selva_audio.adapters.vocoder import TunedVocoder, prepare, read_vocoder, vocoder_digest, write_vocoder
from selva_audio.bundle import Part, SelVAModel, load_model
from selva_audio.errors import CheckpointError, InputError, MissingFileError
from selva_audio.features import save_features
from selva_audio.media.audio import read_audio
from selva_audio.options import FeatureOptions, GenerateOptions, InversionOptions, VocoderOptions
from selva_audio.runtime import RuntimePolicy
from selva_audio.tasks.adapter import with_adapters
from selva_audio.tasks.generate import extract_features, generate
from selva_audio.tasks.replay import replay
from selva_audio.tasks.run import run_video
from selva_audio.tasks.style import with_textual_inversion, with_vocoder
from selva_audio.tasks.vocoder import load_corpus, train_vocoder
from selva_audio.weights.io import write_object

ONE_STEP = GenerateOptions(steps=1)
QUICK = VocoderOptions(
    steps=2,
    save_every=2,
    batch_size=2,
    segment_seconds=0.25,
    lr=1e-2,
    grad_checkpoint=False,
    val_fraction=0.25,
)


def moved(model, kernel: int = 0, seed: int = 1, **changes) -> TunedVocoder:
    base = model.vocoder.float()
    _, parameters = prepare(base, "snake_alpha_only", kernel)
    random = torch.Generator().manual_seed(seed)
    state = {
        name: value.detach() + 0.3 * torch.randn(value.shape, generator=random)
        for name, value in parameters.items()
    }
    meta = {"variant": "demo_16k"}
    tuned = TunedVocoder(state, "snake_alpha_only", kernel, 16000, vocoder_digest(base), meta)
    return replace(tuned, **changes)


@pytest.fixture(scope="module")
def files(demo_model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("vocoders")
    return {
        "plain": write_vocoder(folder / "plain.pt", moved(demo_model)),
        "filtered": write_vocoder(folder / "filtered.pt", moved(demo_model, 5, 2)),
    }


@pytest.fixture(scope="module")
def clip(make_clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", np.arange(25) / 25)


def sound(model, clip: Path) -> torch.Tensor:
    features = extract_features(model, clip, options=FeatureOptions(prompt="ball"))
    return generate(model, features, ONE_STEP).waveform


def test_branches_with_different_vocoders_do_not_disturb_each_other(demo_model, files, clip):
    before, weights = sound(demo_model, clip), snapshot(demo_model.vocoder)
    one, two = (with_vocoder(demo_model, files[name]) for name in ("plain", "filtered"))
    first, second = sound(one, clip), sound(two, clip)
    assert not torch.equal(first, before) and not torch.equal(second, first)
    assert torch.equal(sound(one, clip), first) and torch.equal(sound(demo_model, clip), before)
    assert equal_tensors(snapshot(demo_model.vocoder), weights)
    assert with_vocoder(demo_model, None) is demo_model


def test_a_second_tuning_takes_the_place_of_the_first(demo_model, files, clip):
    after = with_vocoder(with_vocoder(demo_model, files["filtered"]), files["plain"])
    assert torch.equal(sound(after, clip), sound(with_vocoder(demo_model, files["plain"]), clip))
    assert torch.equal(sound(after.base_vocoder(), clip), sound(demo_model, clip))
    assert after.tuned_vocoder["path"].endswith("plain.pt")
    assert after.base_vocoder().tuned_vocoder is None


def test_untuned_tensors_are_shared(demo_model, files):
    own, new = (
        dict(model.vocoder.named_parameters())
        for model in (demo_model, with_vocoder(demo_model, files["plain"]))
    )
    assert all((new[name] is own[name]) == (not name.endswith(".act.alpha")) for name in own)


def test_adapter_and_vocoder_can_be_put_in_either_order(demo_model, files, clip, tmp_path):
    adapter = moved_adapter(demo_model.generator, amount=0.2)
    meta = {**adapter.meta, "variant": "demo_16k", "clip_conditioning": "on"}
    path = write_adapter(tmp_path / "a.pt", Adapter(adapter.deltas, meta))
    one = with_adapters(with_vocoder(demo_model, files["plain"]), [path])
    two = with_vocoder(with_adapters(demo_model, [path]), files["plain"])
    assert torch.equal(sound(one, clip), sound(two, clip))
    assert one.identities() == two.identities()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_base_is_known_again_in_every_precision(files, precision):
    model = load_model("demo_16k", device="cpu", precision=precision)
    with torch.no_grad():
        assert with_vocoder(model, files["plain"]).vocoder(mel_of()).shape == (1, 1, 12 * 256)


def test_vocoders_of_other_models_are_refused_in_one_sentence(demo_model, tmp_path):
    for changes, sentence in (
        ({"sample_rate": 44100, "meta": {"variant": "small_44k"}}, "44100 Hz, of small_44k"),
        ({"base_sha256": "0" * 64}, "tuned from another vocoder"),
    ):
        path = write_vocoder(tmp_path / "v.pt", moved(demo_model, **changes))
        with pytest.raises(CheckpointError, match=sentence):
            with_vocoder(demo_model, path)
    with pytest.raises(MissingFileError):
        with_vocoder(demo_model, tmp_path / "no.pt")


def test_a_file_of_the_pack_comes_with_a_warning(demo_model, tmp_path, caplog):
    state = {key: value.clone() for key, value in demo_model.vocoder.state_dict().items()}
    write_object(tmp_path / "v.pt", {"generator": state, "has_gafilter": False, "gafilter_kernel_size": 9})
    with caplog.at_level(logging.WARNING), torch.no_grad():
        tuned = with_vocoder(demo_model, tmp_path / "v.pt")
        assert torch.equal(tuned.vocoder(mel_of()), demo_model.vocoder(mel_of()))
    assert "scaled otherwise" in caplog.text


def test_replay_makes_the_sound_of_a_tuned_vocoder_again(demo_model, files, clip, tmp_path):
    model = with_vocoder(demo_model, files["filtered"])
    result = run_video(model, clip, tmp_path / "a.wav", FeatureOptions(prompt="ball"), ONE_STEP)
    recipe = json.loads((tmp_path / "a.wav.json").read_text())
    assert recipe["vocoder"]["path"] == str(files["filtered"].resolve())
    again = replay(tmp_path / "a.wav")
    assert result.outputs[0].read_bytes()[:100] and again.outputs[0].name == "a_replay.wav"
    first, second = (read_audio(each.outputs[0]).waveform for each in (result, again))
    assert torch.equal(first, second)
    plain = run_video(demo_model, clip, tmp_path / "b.wav", FeatureOptions(prompt="ball"), ONE_STEP)
    assert not torch.equal(read_audio(plain.outputs[0]).waveform, first)


def test_training_leaves_all_files_and_the_model_as_it_was(demo_model, tmp_path):
    weights = snapshot(demo_model.vocoder)
    data, out = write_tones(tmp_path / "in"), tmp_path / "out"
    result = train_vocoder(demo_model, data, out, QUICK)
    assert equal_tensors(snapshot(demo_model.vocoder), weights)
    names = {path.name for path in out.iterdir()}
    assert {
        "vocoder_final.pt", "vocoder_final.safetensors", "vocoder_step00002.pt", "vocoder_last.pt",
        "sample_recording.wav", "sample_recording.png", "sample_step00000.wav", "sample_step00000.png",
        "sample_step00002.wav", "sample_step00002.png", "summary.json", "metrics.jsonl", "loss_raw.png",
        "loss_smoothed.png",
    } <= names  # fmt: skip
    assert result.path == result.checkpoint_path == out / "vocoder_final.pt"
    assert result.status == "done" and len(result.losses) == 2
    summary = json.loads(result.summary_path.read_text())
    assert summary["parameters"] == 1283 and summary["clips"] == {"train": 4, "val": 1}
    assert summary["validation"]["before"] == result.history[0]["val_loss"]
    assert result.report == ("snake_alpha_only: 1,283 parameters in 9 tensors",)
    with torch.no_grad():
        tuned = with_vocoder(demo_model, result.path).vocoder
        assert not torch.equal(tuned(mel_of()), demo_model.vocoder(mel_of()))


def test_a_tuned_model_is_tuned_from_the_variants_own_vocoder(demo_model, files, tmp_path):
    data = write_tones(tmp_path / "in", 2)
    options = QUICK.model_copy(update={"steps": 1, "val_fraction": 0.0})
    tuned, plain = (
        read_vocoder(train_vocoder(model, data, tmp_path / name, options).path)
        for name, model in (("a", with_vocoder(demo_model, files["filtered"])), ("b", demo_model))
    )
    assert equal_tensors(dict(tuned.state), dict(plain.state)) and tuned.base_sha256 == plain.base_sha256


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_training_is_float32_in_every_precision(precision, tmp_path, demo_model):
    model = load_model("demo_16k", device="cpu", precision=precision)
    options = QUICK.model_copy(update={"steps": 1, "val_fraction": 0.0})
    data = write_tones(tmp_path / "in", 2)
    states = [
        dict(read_vocoder(train_vocoder(each, data, tmp_path / name, options).path).state)
        for name, each in (("a", model), ("b", demo_model))
    ]
    assert equal_tensors(*states)  # the same numbers, not rounded ones
    assert {value.dtype for value in states[0].values()} == {torch.float32}


def test_sounds_that_are_read_already_are_not_read_again(demo_model, tmp_path):
    corpus = load_corpus(demo_model, write_tones(tmp_path / "in", 2))
    options = QUICK.model_copy(update={"steps": 1, "val_fraction": 0.0})
    result = train_vocoder(demo_model, tmp_path / "nowhere", tmp_path / "out", options, clips=corpus)
    assert result.steps == 1


def test_a_word_of_should_stop_ends_the_training(demo_model, tmp_path):
    data = write_tones(tmp_path / "in", 2)
    result = train_vocoder(
        demo_model,
        data,
        tmp_path / "out",
        QUICK.model_copy(update={"steps": 50}),
        should_stop=lambda: "skipped",
    )
    assert (result.status, result.steps, result.path.name) == ("skipped", 1, "vocoder_last.pt")
    assert result.safetensors_path is None


def test_at_16_khz_only_periods_listen_and_the_result_tells(demo_model, tmp_path):
    data = write_tones(tmp_path / "in", 2)
    options = QUICK.model_copy(
        update={"steps": 1, "discriminator_path": str(write_discriminators(tmp_path / "d.pt"))}
    )
    result = train_vocoder(demo_model, data, tmp_path / "out", options)
    assert any("not trained at 16000 Hz" in note for note in result.notes)


def test_generated_mels_come_from_the_adapted_model_and_are_kept(demo_model, clip, tmp_path, monkeypatch):
    import selva_audio.tasks.vocoder as task

    monkeypatch.setattr(task, "_MEL_STEPS", 1)
    data = write_tones(tmp_path / "in", 2, seconds=1.0)
    features = extract_features(demo_model, clip, FeatureOptions(prompt="ball"))
    save_features(data / "sounda.npz", features)
    adapter = moved_adapter(demo_model.generator, amount=0.2)
    meta = {**adapter.meta, "variant": "demo_16k", "clip_conditioning": "on"}
    path = write_adapter(tmp_path / "a.pt", Adapter(adapter.deltas, meta))
    options = QUICK.model_copy(update={"steps": 1, "lora_adapter": str(path), "val_fraction": 0.0})
    result = train_vocoder(demo_model, data, tmp_path / "out", options)
    assert any("soundb.wav is left out" in note for note in result.notes)
    kept = list((tmp_path / "out").glob("generated_mels_*.safetensors"))
    assert len(kept) == 1
    before = kept[0].stat().st_mtime_ns
    again = train_vocoder(demo_model, data, tmp_path / "out", options)
    assert kept[0].stat().st_mtime_ns == before
    assert equal_tensors(dict(read_vocoder(result.path).state), dict(read_vocoder(again.path).state))
    plain = train_vocoder(
        demo_model, data, tmp_path / "plain", options.model_copy(update={"lora_adapter": ""})
    )
    assert not equal_tensors(dict(read_vocoder(result.path).state), dict(read_vocoder(plain.path).state))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss": "feature_matching"}, "needs a discriminator_path"),
        ({"loss": "mel", "discriminator_path": "d.pt"}, "leave one of them out"),
        ({"gafilter_kernel_size": 8}, "must be odd"),
        ({"train_mode": "beta"}, "snake_alpha_only"),
        ({"segment": 1}, "segment_seconds"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        VocoderOptions.parse(**settings)
    assert InversionOptions().ti_strength == 1


def test_parts_that_are_not_needed_wait_on_the_cpu_and_come_back(demo_model):
    class Recorded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places: list[str] = []

        def to(self, place: str) -> "Recorded":
            self.places.append(place)
            return self

    generator, vae = Recorded(), Recorded()
    parts = {
        name: Part(lambda module=module: module, str)
        for name, module in {"generator": generator, "vae": vae}.items()
    }
    parts["vocoder"] = Part(Recorded, str)
    model = SelVAModel(demo_model.config, RuntimePolicy("cuda", "fp32"), parts)
    assert model.generator is generator and model.vae is vae
    with pytest.raises(RuntimeError), model.aside("generator"):
        assert (generator.places, vae.places) == ([], ["cpu"])
        raise RuntimeError
    assert vae.places == ["cpu", "cuda"] and generator.places == []
    assert not model._part("vocoder").is_built  # what is not in memory is not loaded for this


def test_adapter_vocoder_and_tokens_go_together_in_any_order_and_are_replayed(
    demo_model, files, clip, tmp_path
):
    adapter = moved_adapter(demo_model.generator, amount=0.2)
    meta = {**adapter.meta, "variant": "demo_16k", "clip_conditioning": "on"}
    lora = write_adapter(tmp_path / "a.pt", Adapter(adapter.deltas, meta))
    rows = 2 * torch.randn(3, 64, generator=torch.Generator().manual_seed(5))
    inversion = TextualInversion(rows, "token", variant="demo_16k", clip_id=demo_model.identity("clip"))
    tokens = write_inversion(tmp_path / "t.pt", inversion)
    steps = [
        lambda model: with_adapters(model, [lora]),
        lambda model: with_vocoder(model, files["plain"]),
        lambda model: with_textual_inversion(model, tokens, InversionOptions(ti_strength=0.7)),
    ]
    sounds = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        model = demo_model
        for number in order:
            model = steps[number](model)
        sounds.append(sound(model, clip))
    assert all(torch.equal(each, sounds[0]) for each in sounds[1:])
    for left_out in range(3):
        model = demo_model
        for number in {0, 1, 2} - {left_out}:
            model = steps[number](model)
        assert not torch.equal(sound(model, clip), sounds[0])
    model = steps[2](steps[1](steps[0](demo_model)))
    result = run_video(model, clip, tmp_path / "x.wav", FeatureOptions(prompt="ball"), ONE_STEP)
    again = replay(tmp_path / "x.wav")
    assert torch.equal(*(read_audio(each.outputs[0]).waveform for each in (result, again)))
