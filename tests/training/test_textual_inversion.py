from functools import partial
from pathlib import Path

import pytest
import torch
from small_style import equal_tensors, inversion_options, snapshot, toy_clips, toy_model, update

from selva_audio.adapters.textual_inversion import read_inversion, write_inversion
from selva_audio.errors import CheckpointError, InputError
from selva_audio.progress import Cancelled, ignore_progress
from selva_audio.training.keyed import keyed
from selva_audio.training.loop import fit
from selva_audio.training.textual_inversion import TextualInversionTrainable
from selva_audio.weights.io import write_object

SPACES = ("token", "feature")


def make(**settings: object) -> TextualInversionTrainable:
    model = toy_model()
    return TextualInversionTrainable(model, toy_clips(model), inversion_options(**settings))


def run(folder: Path, training: TextualInversionTrainable | None = None, **settings: object):
    call = {name: settings.pop(name) for name in ("resume", "on_progress", "should_stop") if name in settings}
    training = training or make(**settings)
    return training, fit(training, training.options, folder, **call)


def step_loss(training: TextualInversionTrainable, step: int = 0) -> torch.Tensor:
    return sum(training.loss(step, partial(keyed, training.options.seed, step)))


@pytest.mark.parametrize("space", SPACES)
def test_only_the_tokens_are_trained_and_the_model_stays_bit_for_bit(tmp_path, space):
    model = toy_model()
    before = [snapshot(part) for part in (model.generator, model.clip)]
    training, result = run(tmp_path, space=space)
    assert all(
        equal_tensors(old, snapshot(part))
        for old, part in zip(before, (model.generator, model.clip), strict=True)
    )
    assert [group["params"] for group in training.parameters(1.0)] == [[training.embeddings]]
    start = make(space=space).embeddings
    assert not torch.equal(training.embeddings, start)
    assert torch.equal(read_inversion(result.path).embeddings, training.embeddings.detach())
    assert torch.equal(
        read_inversion(result.path.with_suffix(".safetensors")).embeddings, training.embeddings.detach()
    )


@pytest.mark.parametrize("space", SPACES)
def test_the_loss_falls_where_it_can(space):
    training = make(space=space, n_tokens=8)
    first = training.losses(training.training, ignore_progress).mean
    update(training, 15, lr=0.1)
    assert training.losses(training.training, ignore_progress).mean < first


@pytest.mark.parametrize("space", SPACES)
def test_resumed_is_what_one_run_would_have_been(tmp_path, space):
    whole, _ = run(tmp_path / "whole", space=space)
    run(tmp_path / "half", space=space, steps=2)
    resumed, result = run(
        tmp_path / "rest", space=space, resume=tmp_path / "half" / "embeddings_step00002.pt"
    )
    assert torch.equal(resumed.embeddings, whole.embeddings)
    assert result.steps == 4


def test_cancelling_keeps_the_tokens(tmp_path):
    def stop(progress) -> None:
        if progress.stage == "training" and progress.step == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(tmp_path, on_progress=stop)
    resumed, _ = run(tmp_path / "rest", resume=tmp_path / "embeddings_cancelled_step00003.pt")
    whole, _ = run(tmp_path / "whole")
    assert torch.equal(resumed.embeddings, whole.embeddings)


def test_norms_stay_within_those_of_text():
    token = update(make(), 3, lr=1.0)
    table = toy_model().clip.text_model.embeddings.token_embedding.weight
    mean = float(table.norm(dim=1).mean())
    norms = token.embeddings.detach().norm(dim=1) / mean
    assert bool(((norms > 0.5 - 1e-4) & (norms < 1.5 + 1e-4)).all()) and bool((norms > 1.4).any())
    feature = update(make(space="feature"), 3, lr=1.0)
    assert torch.allclose(feature.embeddings.detach().norm(dim=1), torch.ones(4), atol=1e-5)
    before = feature.embeddings.detach().clone()
    feature.constrain()
    assert torch.equal(feature.embeddings, before)  # so that a checkpoint does not change what comes after


@pytest.mark.parametrize("space", SPACES)
def test_split_batches_have_the_gradient_of_the_whole(space):
    gradients = []
    for size, parts in ((4, 1), (2, 2), (1, 4)):
        training = make(space=space, batch_size=size, grad_accum=parts)
        step_loss(training).backward()
        gradients.append(training.embeddings.grad)
    assert all(torch.allclose(each, gradients[0], rtol=1e-4, atol=1e-7) for each in gradients[1:])


def test_recomputing_activations_changes_no_gradient():
    gradients = []
    for recompute in (False, True):
        training = make(grad_checkpoint=recompute)
        step_loss(training).backward()
        gradients.append(training.embeddings.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_tokens": 2},
        {"space": "feature"},
        {"space": "feature", "inject_mode": "prefix"},
        {"template": "<prompt> {}"},
        {"init_text": "rain"},
        {"space": "feature", "init_text": "rain"},
        {"seed": 1},
        {"timestep_mode": "uniform"},
        {"clip_conditioning": "on"},
        {"batch_size": 1},
    ],
    ids=str,
)
def test_each_setting_changes_the_result(settings):
    base = {"space": "feature"} if settings.keys() & {"inject_mode"} else {}
    one, two = update(make(**base)), update(make(**settings))
    same = one.embeddings.shape == two.embeddings.shape and torch.equal(one.embeddings, two.embeddings)
    assert not same


def test_words_to_start_from_are_the_start():
    with torch.no_grad():
        text = toy_model().clip.encode_text(["rain"])[0]
    assert torch.allclose(make(space="feature", init_text="rain").embeddings, text[1:5], atol=1e-6)
    assert len({tuple(row) for row in make().embeddings.tolist()}) == 4  # no two are the same
    with pytest.raises(InputError, match="holds no word"):
        make(init_text=" ")


def test_a_file_of_the_pack_can_be_trained_further(tmp_path):
    rows = torch.nn.functional.normalize(torch.randn(4, 16), dim=1)
    write_object(tmp_path / "t.pt", {"embeddings": rows, "n_tokens": 4, "step": 2})
    training, result = run(tmp_path, space="feature", resume=tmp_path / "t.pt")
    assert result.steps == 4 and not torch.equal(training.embeddings, rows)
    assert any("another program" in note for note in result.notes)


def test_a_checkpoint_of_other_tokens_is_refused(tmp_path):
    run(tmp_path, steps=2)
    with pytest.raises(CheckpointError, match="n_tokens was 4 and is 3"):
        run(tmp_path / "b", n_tokens=3, resume=tmp_path / "embeddings_step00002.pt")
    inversion = read_inversion(tmp_path / "embeddings_final.pt")
    write_inversion(tmp_path / "t.pt", inversion)
    with pytest.raises(CheckpointError, match="space"):
        make(space="feature").load_state_dict(torch.load(tmp_path / "t.pt", weights_only=True))


def test_the_cached_clips_are_not_written_to():
    model = toy_model()
    clips = toy_clips(model)
    before = {name: getattr(clips, name).clone() for name in ("mean", "std", "clip", "sync", "text")}
    update(TextualInversionTrainable(model, clips, inversion_options(space="feature")), 3)
    assert all(torch.equal(getattr(clips, name), value) for name, value in before.items())


def test_without_clips_for_validation_there_is_none(tmp_path):
    model = toy_model()
    training = TextualInversionTrainable(model, toy_clips(model, held=0), inversion_options())
    assert fit(training, training.options, tmp_path).history == ()
