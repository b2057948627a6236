from functools import partial
from pathlib import Path

import pytest
import torch
from small_style import (
    discriminator_content,
    equal_tensors,
    mel_of,
    snapshot,
    toy_corpus,
    toy_model,
    update,
    vocoder_options,
    write_discriminators,
)

from selva_audio.adapters.vocoder import read_vocoder, tune
from selva_audio.configs import MEL_16K
from selva_audio.errors import CheckpointError, MissingFileError
from selva_audio.progress import Cancelled, ignore_progress
from selva_audio.training.corpus import with_mels
from selva_audio.training.discriminators import read_discriminators
from selva_audio.training.keyed import keyed
from selva_audio.training.loop import fit
from selva_audio.training.vocoder import VocoderTrainable
from selva_audio.training.vocoder_losses import (
    mel_distance,
    multi_mel_distance,
    phase_distance,
    stft_distance,
)
from selva_audio.weights.io import write_object

WAVE = torch.sin(torch.arange(4096) * 0.2)[None] * 0.5


def make(model=None, corpus=None, discriminators=None, **settings: object) -> VocoderTrainable:
    return VocoderTrainable(
        model or toy_model(), corpus or toy_corpus(), vocoder_options(**settings), discriminators
    )


def run(folder: Path, training: VocoderTrainable | None = None, **settings: object):
    call = {name: settings.pop(name) for name in ("resume", "on_progress", "should_stop") if name in settings}
    training = training or make(**settings)
    return training, fit(training, training.options, folder, **call)


def sound(vocoder: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return vocoder(mel_of())


def values(training: VocoderTrainable) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in training.tuned.items()}


@pytest.mark.parametrize("kernel", [False, True])
def test_before_the_first_step_it_is_the_base(kernel):
    assert torch.equal(sound(make(use_gafilter=kernel).vocoder), sound(toy_model().vocoder))


def test_only_alphas_move_and_the_model_stays_bit_for_bit(tmp_path):
    before = snapshot(toy_model().vocoder)
    training, result = run(tmp_path)
    assert equal_tensors(before, snapshot(toy_model().vocoder))
    new = tune(toy_model().vocoder, read_vocoder(result.path)).state_dict()
    moved = {key for key, value in new.items() if not torch.equal(value, before[key])}
    assert moved and all(key.endswith(".act.alpha") for key in moved)
    assert moved <= training.tuned.keys()
    assert torch.equal(sound(tune(toy_model().vocoder, read_vocoder(result.path))), sound(training.vocoder))


@pytest.mark.parametrize("settings", [{}, {"train_mode": "all_params"}], ids=str)
def test_the_distance_to_the_sounds_falls(settings):
    training = make(val_fraction=0.0, **settings)
    before = training.judge(training.training, ignore_progress)
    update(training, 10, lr=3e-2 if not settings else 1e-3)
    assert training.judge(training.training, ignore_progress)[0] < before[0]


@pytest.mark.parametrize("mode", ["snake_alpha_only", "all_params"])
def test_an_endless_pull_to_the_start_changes_nothing(mode):
    training = make(train_mode=mode, lambda_l2sp=1e30)
    before = values(training)
    after = values(update(training, 3))
    assert all(torch.allclose(after[name], before[name], rtol=0, atol=1e-12) for name in before)
    assert torch.equal(sound(training.vocoder), sound(toy_model().vocoder))


def test_a_stronger_pull_keeps_nearer_to_the_start():
    drifts = []
    for weight in (0.0, 1.0, 1e3):
        training = update(make(lambda_l2sp=weight), 6)
        drifts.append(training.anchor_account()["sum"])
        assert training.validate(ignore_progress)["drift"] == pytest.approx(drifts[-1] ** 0.5)
    assert drifts[0] > drifts[1] > drifts[2]


def test_nothing_pulls_at_filters():
    training = make(use_gafilter=True)
    with torch.no_grad():
        for name, value in training.tuned.items():
            if ".gafilter." in name:
                value.add_(1.0)
    assert float(training.anchor().detach()) == 0


@pytest.mark.parametrize("settings", [{}, {"use_gafilter": True}, {"train_mode": "all_params"}], ids=str)
def test_resumed_is_what_one_run_would_have_been(tmp_path, settings):
    whole, _ = run(tmp_path / "whole", **settings)
    run(tmp_path / "half", steps=2, **settings)
    resumed, _ = run(tmp_path / "rest", resume=tmp_path / "half" / "vocoder_step00002.pt", **settings)
    assert equal_tensors(values(resumed), values(whole))


def test_cancelling_keeps_the_vocoder(tmp_path):
    def stop(progress) -> None:
        if progress.stage == "training" and progress.step == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(tmp_path, on_progress=stop)
    assert read_vocoder(tmp_path / "vocoder_cancelled_step00003.pt").mode == "snake_alpha_only"


def test_recomputing_activations_changes_no_gradient():
    gradients = []
    for recompute in (False, True):
        training = make(grad_checkpoint=recompute)
        sum(training.loss(0, partial(keyed, 0, 0))).backward()
        gradients.append({name: value.grad for name, value in training.tuned.items()})
    assert equal_tensors(*gradients)
    assert all(bool((value != 0).any()) for value in gradients[0].values())


def test_split_batches_have_the_gradient_of_the_whole():
    gradients = []
    for size, parts in ((4, 1), (2, 2)):
        training = make(batch_size=size, grad_accum=parts)
        sum(training.loss(0, partial(keyed, 0, 0))).backward()
        gradients.append(torch.cat([value.grad for value in training.tuned.values()]))
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"train_mode": "snake_alpha_beta"},
        {"train_mode": "all_params"},
        {"segment_seconds": 0.3},
        {"loss": "multi_mel"},
        {"lambda_stft": 0.0},
        {"lambda_phase": 1.0},
        {"lambda_l2sp": 10.0},
        {"use_gafilter": True},
        {"use_gafilter": True, "gafilter_kernel_size": 3},
        {"val_fraction": 0.5},
        {"seed": 1},
    ],
    ids=str,
)
def test_each_setting_changes_the_result(settings):
    like = {"use_gafilter": True} if "gafilter_kernel_size" in settings else {}
    one, two = update(make(**like), 2), update(make(**settings), 2)
    assert not equal_tensors(values(one), values(two))


def test_generated_mels_are_what_the_vocoder_is_given(tmp_path):
    corpus = toy_corpus(2)
    mels = {name: mel_of(20, seed=number)[0] for number, name in enumerate(corpus.names)}
    given = make(corpus=with_mels(corpus, mels, "adapter"), val_fraction=0.0)
    plain = make(corpus=corpus, val_fraction=0.0)
    made, real = given.sample()
    assert torch.equal(real, plain.sample()[1][: len(real)]) and not torch.equal(
        made, plain.sample()[0][: len(made)]
    )
    expected = sound_of(toy_model().vocoder, mels["sounda.wav"][:, : len(made) // 256])
    assert torch.allclose(made, expected, atol=1e-4)


def sound_of(vocoder: torch.nn.Module, mel: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return vocoder(mel[None])[0, 0]


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    run(tmp_path, steps=2)
    with pytest.raises(CheckpointError, match="train_mode was 'snake_alpha_only'"):
        run(tmp_path / "b", train_mode="all_params", resume=tmp_path / "vocoder_step00002.pt")
    with pytest.raises(CheckpointError, match="base_sha256"):
        run(
            tmp_path / "c",
            make(
                toy_model().replace(
                    vocoder=tune(toy_model().vocoder, read_vocoder(tmp_path / "vocoder_final.pt"))
                )
            ),
            resume=tmp_path / "vocoder_step00002.pt",
        )


def test_distances_are_zero_for_the_same_sound_and_grow_with_noise():
    quiet, loud = (WAVE + amount * torch.randn(WAVE.shape, generator=keyed(0)) for amount in (0.01, 0.1))
    for distance in (
        partial(mel_distance, config=MEL_16K),
        partial(multi_mel_distance, sample_rate=16000),
        stft_distance,
        phase_distance,
    ):
        assert float(distance(WAVE, WAVE)) == 0
        assert 0 < float(distance(quiet, WAVE)) < float(distance(loud, WAVE))


def test_only_the_phase_distance_hears_a_sign():
    assert float(stft_distance(-WAVE, WAVE)) < 1e-6 < 0.1 < float(phase_distance(-WAVE, WAVE))


@pytest.mark.parametrize(("rate", "modules", "notes"), [(44100, 2, 0), (16000, 1, 1)])
def test_discriminators_listen_from_a_file_of_the_published_layout(tmp_path, rate, modules, notes):
    found = read_discriminators(write_discriminators(tmp_path / "d.pt"), rate)
    assert (len(found.modules), len(found.notes)) == (modules, notes)
    made = (WAVE + 0.1)[None].requires_grad_()
    assert float(found.distance(WAVE[None], WAVE[None])) == 0
    found.distance(made, WAVE[None]).backward()
    assert float(made.grad.abs().max()) > 0
    assert not any(each.requires_grad for module in found.modules for each in module.parameters())
    # g / |2 v| * 2 v is the weight that the file was made of
    state = found.modules[0].state_dict()
    assert state["discriminators.0.convs.0.weight"].shape == (2, 1, 5, 1)


def test_weight_norm_is_folded_as_it_was_trained(tmp_path):
    content = discriminator_content()
    write_object(tmp_path / "d.pt", content)
    weight = (
        read_discriminators(tmp_path / "d.pt", 44100)
        .modules[0]
        .state_dict()["discriminators.1.convs.2.weight"]
    )
    v, g = (content["mpd"][f"discriminators.1.convs.2.weight_{each}"] for each in "vg")
    assert torch.allclose(weight, v / v.flatten(1).norm(dim=1)[:, None, None, None] * g, atol=1e-6)


@pytest.mark.parametrize(
    ("variant", "kind"), [("small_16k", "spectra"), ("small_44k", "spectra"), ("small_44k", "constant-q")]
)
def test_feature_matching_trains_from_such_a_file(tmp_path, variant, kind):
    model = toy_model(variant)
    rate = model.config.sample_rate
    path = write_discriminators(tmp_path / "d.pt", kind)
    found = read_discriminators(path, rate)
    heard = update(make(model, toy_corpus(rate=rate), found, discriminator_path=str(path)), 2)
    plain = update(make(model, toy_corpus(rate=rate)), 2)
    assert not equal_tensors(values(heard), values(plain))


def test_the_entry_mrd_is_told_apart_by_its_keys(tmp_path):
    for kind, expected in (("spectra", "MultiResolutionDiscriminator"), ("q", "MultiConstantQDiscriminator")):
        path = write_discriminators(tmp_path / f"{kind}.pt", kind)
        assert type(read_discriminators(path, 44100).modules[1]).__name__ == expected
        assert len(read_discriminators(path, 16000).modules) == 1
    # 48 of 105 have the names of the other kind: what fits is not enough
    names = [set(discriminator_content(kind, 32)["mrd"]) for kind in ("spectra", "q")]
    assert (len(names[0]), len(names[1]), len(names[0] & names[1])) == (54, 105, 48)


def test_a_discriminator_that_does_not_fit_entirely_is_refused(tmp_path):
    first = "discriminators.0.convs.0.weight_v"
    for entry, change, sentence in (
        ("mpd", {first: None}, "only one of"),
        ("mpd", {"discriminators.9.x": torch.ones(1)}, "1 tensors differ"),
        ("mrd", {"discriminators.1.conv_post.bias": torch.ones(5)}, "conv_post.bias"),
        ("mrd", {first: "text"}, "something other than tensors"),
    ):
        content = discriminator_content()
        state = {**content[entry], **change}
        content[entry] = {key: value for key, value in state.items() if value is not None}
        write_object(tmp_path / "d.pt", content)
        with pytest.raises(CheckpointError, match=sentence):
            read_discriminators(tmp_path / "d.pt", 44100)
    write_object(tmp_path / "d.pt", {"generator": {}})
    with pytest.raises(CheckpointError, match="is no discriminator file"):
        read_discriminators(tmp_path / "d.pt", 44100)
    with pytest.raises(MissingFileError, match="There is no discriminator"):
        read_discriminators(tmp_path / "no.pt", 44100)
