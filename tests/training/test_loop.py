import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from small_clips import make_clips, make_training, run

from selva_audio.adapters import read_adapter
from selva_audio.errors import CheckpointError, GenerationError, InputError, MissingFileError, OutputError
from selva_audio.options import FitOptions
from selva_audio.progress import Cancelled
from selva_audio.training.checkpoints import last_checkpoint, read_checkpoint
from selva_audio.training.keyed import keyed
from selva_audio.training.loop import fit, learning_rate

TESTS = Path(__file__).parents[1]


def assert_equal(a, b, where: str = "") -> None:
    """Equal to the bit, all the way down; NaN equals NaN."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all()), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for place, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{where}/{place}")
    else:
        assert a == b, where


def state(path: Path) -> dict:
    return {key: value for key, value in read_checkpoint(path).items() if key != "meta"}


def test_the_first_update_is_not_zero_and_schedules_count_updates():
    options = FitOptions(steps=100, warmup_steps=10, lr=1e-3, grad_accum=4)
    assert learning_rate(options, 0) == pytest.approx(0.1)
    assert [learning_rate(options, step) for step in (9, 10, 99)] == [1, 1, 1]
    linear = options.model_copy(update={"lr_schedule": "linear"})
    assert [learning_rate(linear, step) for step in (10, 55)] == pytest.approx([1, 0.5])
    cosine = options.model_copy(update={"lr_schedule": "cosine"})
    assert learning_rate(cosine, 55) == pytest.approx(0.5)
    assert learning_rate(cosine, 99) < 0.01  # it ends, whatever the accumulation is
    assert learning_rate(cosine, 100) == pytest.approx(1e-3)  # at 1e-6
    assert learning_rate(FitOptions(warmup_steps=0), 0) == 1


@pytest.mark.parametrize("settings", [{}, {"init_mode": "pissa"}, {"use_dora": True}], ids=str)
def test_the_first_step_changes_the_weights_and_the_zeroth_does_not(generator, settings):
    training = make_training(generator, **settings)
    before = training.state_dict(0)["state_dict"]
    x = torch.randn(2, 10, 4)
    clips = make_clips(2)
    inputs = (x, clips.clip, clips.sync, clips.text, torch.tensor([0.3, 0.6]))
    with torch.no_grad():
        training.generator.eval()
        assert torch.equal(training.generator(*inputs), generator(*inputs))  # no-op at the start, bit for bit
    options = training.options.model_copy(update={"steps": 1, "warmup_steps": 0})
    training.options = options
    for part in training.loss(0, partial(keyed, 0, 0)):
        part.backward()
    assert any(
        float(each.grad.abs().max()) > 0 for group in training.parameters(1.0) for each in group["params"]
    )
    assert_equal(before, training.state_dict(0)["state_dict"])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param(
            {"ema_decay": 0.9, "lr_schedule": "cosine", "grad_accum": 2, "lora_plus_ratio": 4.0},
            marks=pytest.mark.slow,
        ),
        {"init_mode": "pissa", "timestep_mode": "curriculum", "lora_dropout": 0.2, "latent_mixup_alpha": 0.4},
        pytest.param(
            {"uncond": "preserve", "text_dropout": 0.9, "video_dropout": 0.9, "prior_preservation": 0.5},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda settings: ",".join(settings) or "plain",
)
def test_a_resumed_run_is_bit_for_bit_the_unbroken_one(tmp_path, settings):
    whole = run(tmp_path / "whole", steps=6, save_every=2, **settings)
    run(tmp_path / "part", steps=6, save_every=2, should_stop=Stop(3), **settings)
    starts = tmp_path / "part" / "adapter_step00002.pt", tmp_path / "adapter_last.pt"
    shutil.copy(tmp_path / "part" / "adapter_last.pt", starts[1])
    for start in starts:
        again = run(tmp_path / "part", steps=6, save_every=2, resume=start, **settings)
        assert again.losses == whole.losses and again.history == whole.history
        for name in ("adapter_step00004.pt", "adapter_last.pt"):
            assert_equal(state(tmp_path / "whole" / name), state(tmp_path / "part" / name))
        lines = [json.loads(line) for line in (tmp_path / "part" / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "loss" in line] == list(range(1, 7))


class Stop:
    """A word after so many steps."""

    def __init__(self, after: int, word: str = "skipped") -> None:
        self.left, self.word = after, word

    def __call__(self) -> str | None:
        self.left -= 1
        return None if self.left else self.word


def test_bf16_weights_resume_bit_for_bit_and_train_float32(tmp_path, generator):
    from small_generator import make_generator

    def training():
        return make_training(make_generator().to(torch.bfloat16), steps=6, save_every=3)

    whole = run(tmp_path / "whole", training())
    again = run(tmp_path / "part", training(), resume=tmp_path / "whole" / "adapter_step00003.pt")
    assert again.losses == whole.losses
    assert_equal(state(tmp_path / "whole" / "adapter_last.pt"), state(tmp_path / "part" / "adapter_last.pt"))
    tensors = read_checkpoint(tmp_path / "whole" / "adapter_last.pt")["state_dict"]
    assert {each.dtype for each in tensors.values()} == {torch.float32}


@pytest.mark.parametrize(
    "moment", [0.5, *(pytest.param(each, marks=pytest.mark.slow) for each in (0.1, 0.3, 0.8))]
)
def test_a_killed_run_resumed_in_a_fresh_process_is_the_unbroken_one(tmp_path, moment):
    script = (
        "import sys, torch; from pathlib import Path; from small_clips import run;"
        "from selva_audio.training.checkpoints import last_checkpoint; torch.set_num_threads(1);"
        "folder = Path(sys.argv[1]); run(folder, steps=40, save_every=3, keep_last=3,"
        " resume=last_checkpoint(folder), init_mode='pissa', ema_decay=0.9)"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
        "OMP_NUM_THREADS": "1",
    }
    start = partial(subprocess.Popen, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "part"
    process = start([sys.executable, "-c", script, str(folder)])
    wanted = round(40 * moment)
    deadline = time.monotonic() + 240
    while (last_checkpoint(folder) is None or steps_of(folder) < wanted) and time.monotonic() < deadline:
        assert process.poll() is None, "the training ended before it was killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = steps_of(folder)
    assert wanted <= done < 40
    assert start([sys.executable, "-c", script, str(folder)]).wait() == 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run(tmp_path / "whole", steps=40, save_every=10, init_mode="pissa", ema_decay=0.9)
    finally:
        torch.set_num_threads(threads)
    whole, part = state(tmp_path / "whole" / "adapter_last.pt"), state(folder / "adapter_last.pt")
    for each in (whole, part):
        for name in ("history", "best", "counts", "options"):  # one was validated more often
            each["training"].pop(name)
    assert_equal(whole, part)


def steps_of(folder: Path) -> int:
    names = [path.stem for path in folder.glob("adapter_step*.pt")]
    return max((int(name.removeprefix("adapter_step")) for name in names), default=0)


def test_validation_in_one_half_alone_changes_nothing(tmp_path, generator):
    clips = make_clips()
    blind = make_training(generator, clips.of("train"), steps=6, save_every=3)
    seeing = make_training(generator, clips, steps=6, save_every=3)
    seeing.data = blind.data
    run(tmp_path / "blind", blind)
    run(tmp_path / "both", seeing, resume=tmp_path / "blind" / "adapter_step00003.pt")
    whole, part = (state(tmp_path / name / "adapter_last.pt") for name in ("blind", "both"))
    assert_equal(whole["state_dict"], part["state_dict"])
    assert_equal(whole["training"]["losses"], part["training"]["losses"])
    assert not whole["training"]["history"] and part["training"]["history"]


def gradients(**settings) -> tuple[torch.Tensor, float]:
    training = make_training(**settings)
    total = 0.0
    for part in training.loss(3, partial(keyed, 0, 3)):
        part.backward()
        total += float(part.detach())
    flat = [each.grad.flatten() for group in training.parameters(1.0) for each in group["params"]]
    return torch.cat(flat), total


@pytest.mark.parametrize(
    "more", [{}, {"lora_dropout": 0.3, "module_dropout": 0.2}, {"latent_mixup_alpha": 0.5}], ids=str
)
def test_accumulated_batches_have_the_gradient_of_one(more):
    clips = make_clips(10)
    mask = clips.valid.clone()
    mask[::2, 4:] = False  # ragged, so that a mean of means is not the mean
    settings = {"clips": clips.take(range(10)), **more}
    settings["clips"].valid.copy_(mask)
    reference, loss = gradients(batch_size=8, **settings)
    assert float(reference.norm()) > 0
    for batch, count in ((4, 2), (1, 8)):
        found, other = gradients(batch_size=batch, grad_accum=count, **settings)
        assert float((found - reference).norm() / reference.norm()) < 1e-5
        assert other == pytest.approx(loss, rel=1e-5)


def test_a_mean_of_means_over_ragged_batches_would_be_seen(generator):
    """The control of the test above: the wrong normalisation has another loss."""
    clips = make_clips(10)
    clips.valid[::2, 4:] = False
    training = make_training(generator, clips, batch_size=8)
    batch = training._draw(3, partial(keyed, 0, 3))
    with torch.no_grad():
        errors, counts = training._errors(batch).double(), batch.valid.sum(dim=1)

    def of_tokens(part: slice) -> float:
        return float((errors[part] * counts[part]).sum() / counts[part].sum())

    wrong = [of_tokens(slice(first, first + 2)) for first in range(0, 8, 2)]
    assert len(set(counts.tolist())) > 1
    assert abs(sum(wrong) / 4 / of_tokens(slice(0, 8)) - 1) > 1e-4


@pytest.mark.parametrize(("setting", "steps"), [({"clip_norm": 1e-3}, 3), ({"min_delta": 10.0}, 8)], ids=str)
def test_settings_of_the_loop_change_what_comes_out(tmp_path, setting, steps):
    usual, other = (run(tmp_path / str(k), steps=steps, **more) for k, more in enumerate(({}, setting)))
    if "clip_norm" in setting:
        one, two = (next(iter(read_adapter(each.path).deltas.values())).b for each in (usual, other))
        assert not torch.equal(one, two)
    else:  # nothing after the first validation is so much better
        assert other.best["step"] == 0 < usual.best["step"]


def test_recomputed_activations_give_the_same_gradient_to_the_bit():
    plain = gradients(lora_dropout=0.2)
    again = gradients(lora_dropout=0.2, grad_checkpoint=True)
    assert torch.equal(plain[0], again[0]) and plain[1] == again[1]


def test_the_same_seed_gives_the_same_adapter_and_another_another(tmp_path):
    first, same, other = (run(tmp_path / str(k), steps=3, seed=seed) for k, seed in enumerate((1, 1, 2)))
    assert first.losses == same.losses != other.losses
    tensors = [read_adapter(each.path).deltas for each in (first, same, other)]
    path = next(iter(tensors[0]))
    assert torch.equal(tensors[0][path].a, tensors[1][path].a)
    assert not torch.equal(tensors[0][path].a, tensors[2][path].a)


def test_files_are_named_as_users_know_them(tmp_path):
    first = run(tmp_path, steps=8, ema_decay=0.9)
    assert first.path.name == "adapter_final.pt"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("adapter_step00004.pt", "adapter_step00008.pt", "adapter_best.pt", "adapter_last.pt"),
        *("adapter_final.pt", "adapter_ema.pt", "metrics.jsonl", "loss_raw.png", "loss_smoothed.png"),
    }
    meta = read_checkpoint(tmp_path / "adapter_final.pt")["meta"]
    assert meta["steps"] == 8 and meta["variant"] == "small_16k" and meta["clip_conditioning"] == "on"
    assert "optimizer" not in read_checkpoint(tmp_path / "adapter_final.pt")
    ema, last = (read_adapter(tmp_path / f"adapter_{name}.pt") for name in ("ema", "final"))
    path = next(iter(ema.deltas))
    assert not torch.equal(ema.deltas[path].b, last.deltas[path].b)
    assert run(tmp_path, steps=8).path.name == "adapter_final_001.pt"


def test_only_the_last_step_files_are_kept_where_that_is_asked(tmp_path):
    run(tmp_path, steps=8, save_every=2, keep_last=2)
    assert [path.name for path in sorted(tmp_path.glob("adapter_step*"))] == [
        "adapter_step00006.pt",
        "adapter_step00008.pt",
    ]


def test_a_cancelled_run_keeps_its_state_and_goes_on_from_it(tmp_path):
    whole = run(tmp_path / "whole", steps=6)

    def cancel(progress):
        if progress.stage == "training" and progress.step == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(tmp_path / "part", steps=6, on_progress=cancel)
    kept = tmp_path / "part" / "adapter_cancelled_step00003.pt"
    assert last_checkpoint(tmp_path / "part") == kept
    again = run(tmp_path / "part", steps=6, resume=kept)
    assert again.losses == whole.losses and again.resumed_from == 3


def test_a_word_ends_the_run_with_it(tmp_path):
    result = run(tmp_path, steps=8, should_stop=Stop(2, "skipped"))
    assert (result.status, result.steps, result.path.name) == ("skipped", 2, "adapter_last.pt")
    assert not (tmp_path / "adapter_final.pt").exists()
    assert last_checkpoint(tmp_path) == result.path


def test_patience_ends_a_run_that_gets_no_better_and_the_best_is_kept(tmp_path, generator):
    few = make_clips(4, held=2)
    training = make_training(generator, few, steps=60, save_every=3, patience=3, lr=0.3, warmup_steps=0)
    result = run(tmp_path, training)
    assert result.stopped_early and result.steps < 60 and result.status == "done"
    best = min(result.history, key=lambda each: each["val_loss"])
    assert result.best == best and best["step"] < result.steps
    assert best["val_loss"] < result.history[-1]["val_loss"]
    if best["step"]:
        assert read_adapter(tmp_path / "adapter_best.pt").meta["steps"] == best["step"]


def test_a_step_without_a_finite_loss_is_left_out_and_ten_in_a_row_end_the_run(tmp_path):
    training = make_training(steps=20)
    whole = training.loss

    def broken(step, rng, bad=frozenset({2, 3})):
        for part in whole(step, rng):
            yield part * math.nan if step in bad else part

    training.loss = broken
    result = run(tmp_path / "some", training)
    assert result.left_out == 2 and math.isnan(result.losses[2]) and math.isfinite(result.losses[4])
    assert all(bool(delta.b.isfinite().all()) for delta in read_adapter(result.path).deltas.values())
    assert "null" in (tmp_path / "some" / "metrics.jsonl").read_text()
    training = make_training(steps=20)
    training.loss = partial(broken, bad=range(5, 20))
    with pytest.raises(GenerationError, match=r"10 steps in a row had no finite loss .* step 14"):
        run(tmp_path / "all", training)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["gpu", "cpu"],
)
def test_a_step_that_does_not_fit_into_memory_is_told_with_what_helps(tmp_path, error):
    training = make_training(steps=4, batch_size=2)
    whole = training.loss

    def hungry(step, rng):
        if step == 2:
            raise error
        yield from whole(step, rng)

    training.loss = hungry
    with pytest.raises(GenerationError, match=r"2 clips at once\. Try --batch-size 1 .*--grad-checkpoint"):
        run(tmp_path, training)
    training.loss = lambda step, rng: (_ for _ in ()).throw(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(tmp_path, training)


def test_a_full_disk_leaves_the_last_checkpoint_as_it_was(tmp_path, monkeypatch):
    from selva_audio.weights import io

    run(tmp_path, steps=4, save_every=2)
    before = (tmp_path / "adapter_step00004.pt").read_bytes()
    last = (tmp_path / "adapter_last.pt").read_bytes()

    def full(content, handle):
        handle.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert io.write_object is not None
    with pytest.raises(OutputError, match="no space is left"):
        run(tmp_path, steps=8, save_every=2, resume=tmp_path / "adapter_step00004.pt")
    monkeypatch.undo()
    assert (tmp_path / "adapter_step00004.pt").read_bytes() == before
    assert (tmp_path / "adapter_last.pt").read_bytes() == last
    assert not list(tmp_path.glob("*.part*")) and not list(tmp_path.glob(".*part*"))
    assert run(tmp_path, steps=8, resume=tmp_path / "adapter_step00004.pt").steps == 8


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rank": 3}, "rank was 2 and is 3"),
        ({"target": "qkv conv"}, "target was"),
        ({"init_mode": "pissa"}, "init_mode was 'standard' and is 'pissa'"),
        ({"alpha": 7.0}, "alpha was 4.0 and is 7.0"),
    ],
)
def test_a_checkpoint_of_another_adapter_is_refused_by_name(tmp_path, settings, named):
    run(tmp_path, steps=2)
    with pytest.raises(CheckpointError, match=named):
        run(tmp_path, steps=4, resume=tmp_path / "adapter_last.pt", **settings)


def test_another_base_or_variant_is_refused(tmp_path, generator):
    run(tmp_path, steps=2)
    for key, value in (("base", "weights 1"), ("variant", "small_44k")):
        training = make_training(generator, steps=4)
        training.identity = {**training.identity, key: value}
        with pytest.raises(CheckpointError, match=f"{key} was"):
            run(tmp_path, training, resume=tmp_path / "adapter_last.pt")


def test_other_settings_and_data_are_told(tmp_path, generator):
    run(tmp_path, steps=2)
    training = make_training(generator, make_clips(seed=5), steps=4, lr=1e-3)
    result = run(tmp_path, training, resume=tmp_path / "adapter_last.pt")
    assert result.notes == (
        "Resumed with lr 0.001 (was 0.01), other data: this is not what one run would have given.",
    )
    assert result.steps == 4


def test_what_cannot_be_resumed_is_told_in_a_sentence(tmp_path):
    run(tmp_path, steps=2)
    with pytest.raises(InputError, match="has 2 steps done of 2"):
        run(tmp_path, steps=2, resume=tmp_path / "adapter_last.pt")
    with pytest.raises(MissingFileError, match="There is no checkpoint"):
        run(tmp_path, steps=4, resume=tmp_path / "none.pt")
    (tmp_path / "torn.pt").write_bytes((tmp_path / "adapter_last.pt").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="incomplete or damaged"):
        run(tmp_path, steps=4, resume=tmp_path / "torn.pt")


def pack_file(path: Path, training, *, residual: bool) -> None:
    """A step file as the public pack writes it, made from an adapter of ours."""
    state = {}
    for target, delta in training.adapter(4).deltas.items():
        state[f"{target}.lora_A"], state[f"{target}.lora_B"] = delta.a + 0.01, delta.b + 0.01
        if residual:
            weight = training.base.get_submodule(target).weight
            state[f"{target}.linear.weight"] = weight - delta.scale * delta.b0 @ delta.a0
    meta = {"variant": "small_16k", "rank": 2, "alpha": 4.0, "target": ["attn.qkv"], "steps": 4}
    if residual:
        meta["init_mode"] = "pissa"
    torch.save({"state_dict": state, "meta": meta, "optimizer": {}, "scheduler": {}, "step": 4}, path)


@pytest.mark.parametrize("init_mode", ["standard", "pissa"])
def test_a_step_file_of_the_public_pack_gives_its_weights(tmp_path, generator, init_mode):
    settings = {"target": "attn.qkv", "alpha": 4.0, "init_mode": init_mode}
    pack_file(tmp_path / "pack.pt", make_training(generator, **settings), residual=init_mode == "pissa")
    taken = make_training(generator, **settings)
    taken.load_state_dict(read_checkpoint(tmp_path / "pack.pt"))
    x, clips = torch.randn(2, 10, 4), make_clips(2)
    inputs = (x, clips.clip, clips.sync, clips.text, torch.tensor([0.3, 0.6]))
    from selva_audio.adapters import adapt

    with torch.no_grad():
        wanted = adapt(generator, read_adapter(tmp_path / "pack.pt"))(*inputs)
        found = taken.generator.eval()(*inputs)
    assert torch.allclose(found, wanted, atol=1e-4) and not torch.allclose(
        found, generator(*inputs), atol=1e-2
    )
    result = run(tmp_path / "out", make_training(generator, steps=6, **settings), resume=tmp_path / "pack.pt")
    assert result.steps == 6 and len(result.notes) == 1
    assert "its weights are taken at step 4, and the optimiser starts anew" in result.notes[0]


def test_a_pack_file_of_another_rank_or_scale_is_refused(tmp_path, generator):
    pack_file(tmp_path / "pack.pt", make_training(generator, target="attn.qkv", alpha=4.0), residual=False)
    for settings, named in (({"rank": 3}, "rank 2"), ({"alpha": 8.0}, "scale 2 where this run has 4")):
        with pytest.raises(CheckpointError, match=named):
            run(
                tmp_path,
                resume=tmp_path / "pack.pt",
                steps=8,
                **{"target": "attn.qkv", "alpha": 4.0, **settings},
            )


def test_fit_trains_whatever_offers_what_it_needs(tmp_path):
    class Line:
        """A straight line through two numbers."""

        name, identity, data, scales_loss = "line", {"kind": "line"}, "points", False

        def __init__(self):
            self.weight = torch.nn.Parameter(torch.zeros(2))

        def parameters(self, lr):
            return [{"params": [self.weight], "lr": lr}]

        def loss(self, step, rng):
            x = torch.rand(8, generator=rng("x"))
            yield (self.weight[0] + self.weight[1] * x - (1 + 2 * x)).square().mean()

        def constrain(self):
            self.weight.data.clamp_(max=1.5)

        def validate(self, on_progress):
            return {}

        def state_dict(self, step):
            return {"weight": self.weight.detach().clone()}

        def load_state_dict(self, content):
            self.weight.data.copy_(content["weight"])

        def export(self, path, step):
            from selva_audio.weights.io import write_object

            write_object(path, self.state_dict(step))
            return path

    line = Line()
    result = fit(line, FitOptions(steps=300, lr=0.05, warmup_steps=5), tmp_path)
    assert result.losses[-1] < 0.2 * result.losses[0] and result.path.name == "line_final.pt"
    assert float(line.weight.detach().max()) <= 1.5 and not result.history


def test_a_longer_run_is_the_same_run_only_while_the_schedule_is_constant(tmp_path):
    run(tmp_path, steps=2)
    assert run(tmp_path, steps=4, resume=tmp_path / "adapter_last.pt").notes == ()
    run(tmp_path / "cosine", steps=2, lr_schedule="cosine")
    longer = run(
        tmp_path / "cosine", steps=4, lr_schedule="cosine", resume=tmp_path / "cosine" / "adapter_last.pt"
    )
    assert longer.notes[0].startswith("Resumed with steps 4 (was 2)")
