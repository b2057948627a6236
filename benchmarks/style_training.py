"""``python -m benchmarks.style_training``: what textual inversion and vocoder tuning do to the embedded
model.

Textual inversion: a material that the generator has never heard, 12 clips to learn from and 24 that no
training sees; beside it random rows, the plain prompt, and a LoRA adapter on the same clips. Vocoder: 10
sounds of a coloured corpus, judged on 12 other sounds; beside it an endless pull to the start and the same
sounds uncoloured. About 25 minutes on one core.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selva_audio.adapters import adapt, read_adapter
from selva_audio.adapters.textual_inversion import read_inversion
from selva_audio.bundle import SelVAModel, load_model
from selva_audio.features import encode_video, save_features
from selva_audio.media.audio import write_audio
from selva_audio.options import (
    FeatureOptions,
    LoraOptions,
    TextualInversionOptions,
    VocoderOptions,
)
from selva_audio.progress import ignore_progress
from selva_audio.records import Audio, Frames
from selva_audio.scenes import FPS, HEARD, HELD_OUT, SAMPLE_RATE, draw_frames, draw_scene, prompt, stem
from selva_audio.tasks.clips import load_clips
from selva_audio.tasks.style import with_vocoder
from selva_audio.tasks.textual_inversion import train_textual_inversion
from selva_audio.tasks.train import train_lora
from selva_audio.tasks.vocoder import load_corpus, train_vocoder
from selva_audio.training.clips import Clips
from selva_audio.training.textual_inversion import TextualInversionTrainable
from selva_audio.training.validation import ValidationLosses, fixed_noise_loss, paired_difference
from selva_audio.training.vocoder import VocoderTrainable

from .results import write_result

_TRAIN, _TEST = 12, 24
_TUNED, _OTHERS = 10, 12
_SECONDS = 8.0
_COLOUR = np.array([1.0, -0.55])  # a first-order filter that takes the low end away


def main() -> None:
    """Measure what was asked for; all of it by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2", help="training seeds")
    parser.add_argument("--material", default=HELD_OUT[0], choices=HELD_OUT, help="that inversion learns")
    parser.add_argument("--ti-steps", type=int, default=300)
    parser.add_argument("--lora-steps", type=int, default=300)
    parser.add_argument("--vocoder-steps", type=int, default=200)
    parser.add_argument("--only", choices=("inversion", "vocoder"), help="one of the two")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(each) for each in arguments.seeds.split(",")]
    model = load_model("demo_16k", device="cpu", precision="fp32")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.only != "vocoder":
            steps = arguments.ti_steps, arguments.lora_steps
            result = inversion(model, folder, seeds, *steps, arguments.material)
            write_result("style_inversion", result)
        if arguments.only != "inversion":
            write_result("style_vocoder", vocoder(model, folder, seeds, arguments.vocoder_steps))


def inversion(
    model: SelVAModel, folder: Path, seeds: list[int], steps: int, lora_steps: int, material: str
) -> dict[str, Any]:
    """Loss on unseen clips with learned tokens, with random ones, and with an adapter, per seed."""
    train = clips_of(model, folder / "train", "train", _TRAIN, material)
    test = clips_of(model, folder / "test", "test", _TEST, material)
    use_clip = model.config.clip_conditioning
    base = fixed_noise_loss(model.generator, test, clip_conditioning=use_clip)
    before = {key: value.clone() for key, value in model.generator.state_dict().items()}
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        row: dict[str, Any] = {"seed": seed}
        for space in ("token", "feature"):
            options = TextualInversionOptions(
                space=space, steps=steps, save_every=steps, sample_steps=0, seed=seed
            )
            out = folder / f"{space}{seed}"
            done = train_textual_inversion(model, folder / "train", out, options, clips=train)
            row[space] = against(base, inverted(model, test, options, done.path))
            row[f"{space}_random"] = against(base, inverted(model, test, options, None))
        lora = LoraOptions(steps=lora_steps, save_every=lora_steps, sample_steps=0, seed=seed)
        adapter = train_lora(model, folder / "train", folder / f"lora{seed}", lora, clips=train)
        adapted = adapt(model.generator, read_adapter(adapter.adapter_path))
        row["lora"] = against(base, fixed_noise_loss(adapted, test, clip_conditioning=use_clip))
        rows.append(row)
        print(row, flush=True)
    after = model.generator.state_dict()
    same = all(torch.equal(after[key], value) for key, value in before.items())
    return {
        "material": material,
        "train_clips": _TRAIN,
        "test_clips": _TEST,
        "tokens": TextualInversionOptions().n_tokens,
        "steps": steps,
        "lora_steps": lora_steps,
        "base_loss": base.mean,
        "rows": rows,
        "weights_unchanged": same,
    }


def vocoder(model: SelVAModel, folder: Path, seeds: list[int], steps: int) -> dict[str, Any]:
    """Mel distance of unseen sounds after tuning the Snake frequencies, per seed and control."""
    sounds(folder / "coloured", "train", _TUNED, coloured=True)
    sounds(folder / "plain", "train", _TUNED, coloured=False)
    sounds(folder / "others", "test", _OTHERS, coloured=True)
    sounds(folder / "others_plain", "test", _OTHERS, coloured=False)
    rows = []
    for seed in seeds:
        row: dict[str, Any] = {"seed": seed}
        cases = {
            "tuned": ("coloured", "others", {}),
            "endless_pull": ("coloured", "others", {"lambda_l2sp": 1e30}),
            "matched": ("plain", "others_plain", {}),
        }
        for case, (source, judged, settings) in cases.items():
            options = VocoderOptions(
                steps=steps,
                save_every=steps,
                seed=seed,
                val_fraction=0,
                segment_seconds=0.5,
                grad_checkpoint=False,
                **settings,
            )
            out = folder / f"{case}{seed}"
            result = train_vocoder(model, folder / source, out, options)
            row[case] = copy_synthesis(model, folder / judged, result.path)
        rows.append(row)
        print(row, flush=True)
    training = VocoderTrainable(model, load_corpus(model, folder / "plain"), VocoderOptions())
    return {
        "sounds": _TUNED,
        "others": _OTHERS,
        "steps": steps,
        "parameters": training.num_parameters,
        "rows": rows,
    }


def clips_of(model: SelVAModel, folder: Path, split: str, count: int, material: str) -> Clips:
    """Clips of a material that the generator has not heard, as files and encoded."""
    folder.mkdir(parents=True)
    for number in range(count):
        scene = draw_scene(number, split=split, materials=(material,), num_objects=1, duration=_SECONDS)
        pixels = np.stack(list(draw_frames(scene, 128)))
        frames = Frames(pixels, np.arange(len(pixels)) / FPS)
        features = encode_video(model, frames, FeatureOptions(prompt=prompt(material, number)))
        name = f"{split}{chr(97 + number)}"
        save_features(folder / f"{name}.npz", features)
        wave = torch.from_numpy(stem(scene, 0))[None, None]
        write_audio(folder / f"{name}.wav", Audio(wave, SAMPLE_RATE))
        print(f"{split}: {number + 1} of {count}", flush=True)
    return load_clips(model, folder, val_fraction=0)


def inverted(
    model: SelVAModel, test: Clips, options: TextualInversionOptions, path: Path | None
) -> ValidationLosses:
    """Losses with the tokens of a file; without one, with random rows of the same norms."""
    with torch.no_grad():
        training = TextualInversionTrainable(model, test, options)
        if path is None:
            random = torch.Generator().manual_seed(options.seed)
            rows = torch.randn(training.embeddings.shape, generator=random)
            norm = training.embeddings.norm(dim=1, keepdim=True)
            training.embeddings.copy_(rows / rows.norm(dim=1, keepdim=True) * norm)
        else:
            training.embeddings.copy_(read_inversion(path).embeddings)
        return training.losses(test, ignore_progress)


def against(base: ValidationLosses, other: ValidationLosses) -> dict[str, float]:
    """Change of the loss in percent of the base's, with the 90 % interval by clip."""
    mean, low, high = paired_difference(other, base)
    share = 100 / base.mean
    return {"percent": round(mean * share, 2), "low": round(low * share, 2), "high": round(high * share, 2)}


def sounds(folder: Path, split: str, count: int, *, coloured: bool) -> None:
    """Stems of single objects, through a filter where they are coloured."""
    folder.mkdir(parents=True)
    for number in range(count):
        scene = draw_scene(1000 + number, split=split, materials=HEARD, num_objects=1, duration=4.0)
        wave = stem(scene, 0).astype(np.float64)
        if coloured:
            wave = np.convolve(wave, _COLOUR)[: len(wave)]
        wave = wave / max(1.0, float(np.abs(wave).max()) / 0.9)
        audio = Audio(torch.from_numpy(wave.astype(np.float32))[None, None], SAMPLE_RATE)
        write_audio(folder / f"{split}{chr(97 + number)}.wav", audio)


def copy_synthesis(model: SelVAModel, folder: Path, path: Path) -> dict[str, Any]:
    """Mel distance of sounds to what the vocoder makes of them, before and after, and what was touched."""
    corpus = load_corpus(model, folder)
    judge = VocoderTrainable(model, corpus, VocoderOptions(val_fraction=0))
    before = judge.judge(corpus, ignore_progress)[0]
    tuned = with_vocoder(model, path)
    judge.vocoder = tuned.vocoder
    after = judge.judge(corpus, ignore_progress)[0]
    own, changed = dict(model.vocoder.named_parameters()), dict(tuned.vocoder.named_parameters())
    others = [key for key in own if not key.endswith(".act.alpha")]
    return {
        "before": round(before, 5),
        "after": round(after, 5),
        "percent": round(100 * (after / before - 1), 2),
        "others_equal": all(torch.equal(own[key], changed[key]) for key in others),
    }


if __name__ == "__main__":
    main()
