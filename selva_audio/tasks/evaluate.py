"""How selective a model is: drawn scenes as real videos, through the ordinary job, scored from its files.

Every sound that is scored was read back from a written mp4, the controls' too.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..bundle import SelVAModel
from ..evaluation.benchmark import HEARD_IMPACTS, Case, draw_cases, draw_continuous, draw_held_out, find
from ..evaluation.figure import selectivity_figure
from ..evaluation.onsets import detect_onsets, total
from ..evaluation.selectivity import (
    ClipScore,
    own_share,
    score_clip,
    speed_correlation,
    summarize,
)
from ..media.audio import resample
from ..media.encode import write_video
from ..media.loudness import normalize
from ..media.mux import mux
from ..options import FeatureOptions, GenerateOptions, SelectivityOptions
from ..plots import save_figure
from ..progress import ProgressFn, ignore_progress, subtask
from ..records import Audio
from ..runtime import num_threads, set_num_threads
from ..scenes import FPS, SAMPLE_RATE, Scene, draw_frames, mixture, prompt, stem
from .evaluate_folder import Wave, check_targets, read_mono, write_report
from .generate import extract_features, generate
from .run import run_video

_SIZE = 128
_SIDE_SHARE = 0.5


def evaluate_selectivity(
    model: SelVAModel,
    options: SelectivityOptions | None = None,
    *,
    output: Path | None = None,
    figure: Path | None = None,
    on_progress: ProgressFn = ignore_progress,
) -> dict[str, Any]:
    """Score the sounds that ``model`` makes for prompts that name one object of a drawn scene.

    Args:
        model: bundle of ``load_model``, with whatever parts are to be scored in it.
        options: scenes, materials, seeds, steps, guidance.
        output: JSON file for the result.
        figure: PNG file for its picture.
        on_progress: one bar over all clips; cancels by raising, then nothing is written.

    Returns:
        What docs/evaluation.md explains: means over the generation seeds, ``worst``, ``controls``, and more.

    Raises:
        InputError: a material that is unknown or makes no impacts, or a figure that is no .png.
        OutputError: a file cannot be written.
    """
    options = options or SelectivityOptions()
    check_targets(output, figure)
    cases = draw_cases(options.scenes, options.seed, options.material_names)
    threads = num_threads()
    if model.config.name == "demo_16k":
        # Its networks are so small that a second thread waits for the first one more than it works.
        set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = _run(_Bench(model, options, Path(folder)), cases, on_progress)
    finally:
        set_num_threads(threads)
    write_report(result, output)
    if figure is not None:
        save_figure(selectivity_figure(result), figure)
    return result


@dataclass(slots=True)
class _Bench:
    """A model with the folder its clips go through.

    Attributes:
        model: what is scored.
        options: steps and guidance of every sound.
        folder: temporary; holds clips, results and the feature cache.
        clips: seed of a scene -> its video without sound.
    """

    model: SelVAModel
    options: SelectivityOptions
    folder: Path
    clips: dict[int, Path] = field(default_factory=dict)

    def generate_options(self, seed: int) -> GenerateOptions:
        """Defaults of the ordinary job, but for what the benchmark varies."""
        return GenerateOptions(steps=self.options.steps, cfg_strength=self.options.cfg_strength, seed=seed)

    def feature_options(self, word: str) -> FeatureOptions:
        """The prompt for a material; one encoding per clip and prompt, whatever the seeds."""
        return FeatureOptions(prompt=prompt(word), cache_dir=self.folder / "features")

    def clip(self, scene: Scene) -> Path:
        """The scene's video, written once."""
        if scene.seed not in self.clips:
            path = self.folder / f"{scene.seed}.mp4"
            self.clips[scene.seed] = write_video(draw_frames(scene, _SIZE), FPS, path)
        return self.clips[scene.seed]

    def made(self, scene: Scene, word: str, seed: int, on_progress: ProgressFn) -> tuple[Wave, int]:
        """Sound of the ordinary job for a prompt, read back from its mp4."""
        result = self.folder / "result.mp4"
        run_video(
            self.model,
            self.clip(scene),
            result,
            self.feature_options(word),
            self.generate_options(seed),
            on_progress=on_progress,
        )
        return read_mono(result)

    def made_without_sync(
        self, scene: Scene, word: str, seed: int, on_progress: ProgressFn
    ) -> tuple[Wave, int]:
        """The same, with the encoder's sync features left out."""
        features = extract_features(self.model, self.clip(scene), self.feature_options(word))
        features = replace(features, sync=features.sync[:, :0])
        audio = generate(self.model, features, self.generate_options(seed), on_progress=on_progress)
        return self._through_file(scene, audio)

    def given(self, scene: Scene, wave: Wave) -> tuple[Wave, int]:
        """A known sound, levelled and written as results are."""
        return self._through_file(scene, self._levelled(torch.from_numpy(wave)[None], SAMPLE_RATE))

    @torch.no_grad()
    def coded(self, scene: Scene, wave: Wave) -> tuple[Wave, int]:
        """A known sound through the model's VAE and vocoder: as good as its generator could be."""
        model, rate = self.model, self.model.config.sample_rate
        vae, vocoder = model.vae, model.vocoder
        with model.policy.on_device(vae, vocoder):
            samples = resample(torch.from_numpy(wave)[None], SAMPLE_RATE, rate).to(model.policy.device)
            made = vocoder(vae.decode(vae.encode(model.mel(samples)).mean)).float().cpu()
        return self._through_file(scene, self._levelled(made[0], rate))

    def _levelled(self, wave: torch.Tensor, rate: int) -> Audio:
        defaults = GenerateOptions()
        levelled, _ = normalize(
            wave, rate, defaults.loudness, defaults.target_lufs, defaults.true_peak_ceiling
        )
        return Audio(levelled[None], rate)

    def _through_file(self, scene: Scene, audio: Audio) -> tuple[Wave, int]:
        result = self.folder / "result.mp4"
        mux(self.clip(scene), audio, result)
        return read_mono(result)


@dataclass(slots=True)
class _Exchanged:
    """Sounds made for a rival's prompt, scored on the object whose prompt it replaced, and on the rival."""

    own: list[ClipScore] = field(default_factory=list)
    other: list[ClipScore] = field(default_factory=list)

    def add(self, wave: Wave, rate: int, scene: Scene, word: str, rival: str) -> None:
        self.own.append(score_clip(wave, rate, scene, find(scene, word)[1]))
        self.other.append(score_clip(wave, rate, scene, find(scene, rival)[1]))

    def numbers(self) -> dict[str, float | None]:
        """``other_hits`` and ``own_hits``: share of the rival's and the object's impacts that are heard."""
        named = total([score.near for score in self.other])
        numbers = summarize(self.own)
        del numbers["cross_hits"]  # a third object would count among the others
        return numbers | {"other_hits": round(named.recall, 4), "own_hits": own_share(self.own)}


def _run(bench: _Bench, cases: Sequence[Case], on_progress: ProgressFn) -> dict[str, Any]:
    options = bench.options
    seeds = options.noise_seeds
    num_side = max(round(_SIDE_SHARE * len(cases)), 1) if options.controls else 0
    num_sounds = len(seeds) * sum(len(case.words) for case in cases)
    if options.controls:
        num_lone = sum(rival not in case.words for case in cases for rival in case.rivals)
        num_sounds += num_lone + 2 * len(cases) + 2 * num_side
    shares = iter(
        subtask(on_progress, index / num_sounds, (index + 1) / num_sounds) for index in range(num_sounds)
    )
    per_seed: list[list[ClipScore]] = []
    clips: list[dict[str, Any]] = []
    exchanged = _Exchanged()
    for seed in seeds:
        scores = []
        for case in cases:
            made = {word: bench.made(case.scene, word, seed, next(shares)) for word in case.words}
            for word, (wave, rate) in made.items():
                score = score_clip(wave, rate, case.scene, find(case.scene, word)[1])
                scores.append(score)
                clips.append({"scene": case.scene.seed, "prompt": word, "seed": seed} | summarize([score]))
            if options.controls and seed == seeds[0]:
                for word, rival in zip(case.words, case.rivals, strict=True):
                    swapped = made.get(rival) or bench.made(case.scene, rival, seed, next(shares))
                    exchanged.add(*swapped, case.scene, word, rival)
        per_seed.append(scores)
    summaries = [summarize(scores) for scores in per_seed]
    result: dict[str, Any] = _means(summaries)
    result["worst"] = _worst(summaries)
    if options.controls:
        result |= _controls(bench, cases, exchanged, seeds[0], lambda: next(shares))
        result |= _side_questions(bench, num_side, seeds[0], lambda: next(shares))
    return result | {
        "per_seed": [{"seed": seed} | summary for seed, summary in zip(seeds, summaries, strict=True)],
        "scenes": options.scenes,
        "seed": options.seed,
        "generation_seeds": list(seeds),
        "materials": list(options.material_names or HEARD_IMPACTS),
        "variant": bench.model.config.name,
        "adapters": [dict(each) for each in bench.model.adapters],
        "precision": bench.model.policy.precision,
        "steps": options.steps,
        "cfg_strength": options.cfg_strength,
        "impacts": sum(score.near.true for score in per_seed[0]),
        "clips": clips,
    }


def _controls(
    bench: _Bench,
    cases: Sequence[Case],
    exchanged: _Exchanged,
    seed: int,
    share: Callable[[], ProgressFn],
) -> dict[str, Any]:
    """What must score high or low whatever the generator does; otherwise the metric is broken."""
    rows: dict[str, list[ClipScore]] = {
        name: [] for name in ("truth", "truth_coded", "mixture", "other_scene", "null_sync")
    }
    silent = []
    for case in cases:
        scene = case.scene
        mixed = bench.given(scene, mixture(scene))
        stranger = bench.given(scene, stem(case.other, 0))
        for word in case.words:
            index, target = find(scene, word)
            real = stem(scene, index)
            rows["truth"].append(score_clip(*bench.given(scene, real), scene, target))
            rows["truth_coded"].append(score_clip(*bench.coded(scene, real), scene, target))
            rows["mixture"].append(score_clip(*mixed, scene, target))
            rows["other_scene"].append(score_clip(*stranger, scene, target))
        first = case.words[0]
        blind = bench.made_without_sync(scene, first, seed, share())
        rows["null_sync"].append(score_clip(*blind, scene, find(scene, first)[1]))
        silent.append(not len(detect_onsets(*bench.made(scene, case.absent, seed, share()))))
    controls: dict[str, Any] = {name: summarize(scores) for name, scores in rows.items()}
    controls["prompt_exchanged"] = exchanged.numbers()
    return {"controls": controls, "absent_silent": round(float(np.mean(silent)), 4)}


def _side_questions(bench: _Bench, count: int, seed: int, share: Callable[[], ProgressFn]) -> dict[str, Any]:
    """Materials whose sound was never trained, and a source that sounds all the time."""
    strange = []
    for scene, word in draw_held_out(count, bench.options.seed):
        strange.append(score_clip(*bench.made(scene, word, seed, share()), scene, find(scene, word)[1]))
    values = []
    for scene, word in draw_continuous(count, bench.options.seed):
        wave, rate = bench.made(scene, word, seed, share())
        values.append(speed_correlation(wave, rate, find(scene, word)[1]))
    return {
        "held_out": summarize(strange),
        "continuous_correlation": round(float(np.mean(values)), 4),
        "continuous_correlation_worst": round(min(values), 4),
    }


def _means(summaries: Sequence[dict[str, float | None]]) -> dict[str, Any]:
    return {key: _over(summaries, key, lambda values: float(np.mean(values))) for key in summaries[0]}


def _worst(summaries: Sequence[dict[str, float | None]]) -> dict[str, Any]:
    """Each number of the seed that is worst in it; together they are worse than any one seed."""
    return {key: _over(summaries, key, _WORST.get(key, min)) for key in summaries[0]}


_WORST: dict[str, Callable[[Sequence[float]], float]] = {
    "cross_hits": max,
    "median_offset_ms": lambda values: max(values, key=abs),
}


def _over(
    summaries: Sequence[dict[str, float | None]], key: str, reduce: Callable[[Sequence[float]], float]
) -> float | None:
    values = [value for summary in summaries if (value := summary[key]) is not None]
    return round(reduce(values), 4) if values else None
