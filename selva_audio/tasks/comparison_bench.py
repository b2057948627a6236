"""How an adapter is put through the clips of a comparison: sounds, files, numbers.

Which adapters there are, and what becomes of their rows, is left to ``evaluate_adapters``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..adapters import read_adapter
from ..adapters.formats import file_meta
from ..bundle import SelVAModel
from ..dataset import Entry, read_dataset, select
from ..errors import MissingFileError, SelVAError
from ..evaluation.copies import COPY, coarse_mel, memorisation
from ..evaluation.intervals import mean_interval
from ..evaluation.sets import kernel_distance, set_metrics, spread
from ..evaluation.sounds import Metrics, Scale, Sound, against, analyse
from ..evaluation.table import as_json, columns, means, rounded
from ..features import VideoFeatures, load_features
from ..files import safe_name
from ..media.audio import read_audio, resample, write_audio
from ..options import Candidate, ComparisonOptions, GenerateOptions
from ..progress import Progress, ProgressFn, subtask
from ..records import Audio
from ..training.clips import Clips
from ..training.validation import ValidationLosses, fixed_noise_loss, paired_difference
from .adapter import adapter_digest, with_adapters
from .clips import load_clips
from .generate import generate

REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip that sounds are made for.

    Attributes:
        name: of its files.
        entry: in the data set.
        features: what the sound is made from.
        seed: of its noise.
    """

    name: str
    entry: Entry
    features: VideoFeatures
    seed: int


@dataclass(slots=True)
class Result:
    """An adapter's row of the summary, and what comparisons with others need.

    Attributes:
        row: of the summary.
        metrics: clip -> its numbers.
    """

    row: dict[str, Any]
    metrics: dict[str, Metrics]


class Bench:
    """The clips of a comparison, and how an adapter is put through them."""

    def __init__(self, model: SelVAModel, plan: ComparisonOptions, folder: Path) -> None:
        self.model, self.plan, self.folder = model, plan, folder
        with model.policy.on_device(model.vae):
            std = np.asarray(model.vae.data_std.detach().flatten().double().cpu().numpy())
        self.scale = Scale(model.config.mel, std)
        self.started = now()
        self.clips: list[Clip] = []
        self.references: dict[str, Sound] = {}
        self.rows: list[dict[str, Any]] = []
        self.trained: list[tuple[Path, np.ndarray]] = []
        self.others: Clips | None = None
        self.before: ValidationLosses | None = None

    def read(self, on_progress: ProgressFn) -> None:
        """Features, recordings and what copies are sought in; writes the recordings."""
        plan = self.plan
        dataset = read_dataset(plan.data_dir)
        entries = list(select(dataset, split=plan.split, with_faults=True))
        entries = entries[: plan.max_clips or None]
        names = _names(entries)
        for place, (name, entry) in enumerate(zip(names, entries, strict=True)):
            on_progress(Progress("reading", place, len(entries)))
            self._read_clip(name, entry, plan.seed + place * plan.takes)
        if not self.clips:
            told = " ".join(str(row.get("error", "")) for row in self.rows[:3])
            wanted = f" marked {plan.split!r}" if plan.split else ""
            raise MissingFileError(
                f"{plan.data_dir} has no clip{wanted} that a sound can be made for. {told}".rstrip()
            )
        trained = read_dataset(plan.train_dir).entries if plan.train_dir else select(dataset, split="train")
        self.trained = [
            (entry.audio.resolve(), coarse_mel(read_audio(entry.audio)))
            for entry in trained
            if entry.audio is not None and not entry.faults
        ]
        if plan.forgetting_dir:
            self.others = load_clips(self.model, plan.forgetting_dir)
            self.before = self._losses(self.model, on_progress)

    def summary(self) -> dict[str, Any]:
        """The summary without adapters."""
        plan, model = self.plan, self.model
        sounds = list(self.references.values())
        return {
            "name": plan.name,
            "description": plan.description,
            "started_at": self.started,
            "completed_at": None,
            "data_dir": plan.data_dir,
            "output_dir": plan.output_dir,
            "n_clips": len(self.rows),
            "steps": plan.steps,
            "seed": plan.seed,
            "cfg_strength": plan.cfg_strength,
            "takes": plan.takes,
            "split": plan.split,
            "train_dir": plan.train_dir,
            "forgetting_dir": plan.forgetting_dir,
            "variant": model.config.name,
            "precision": model.policy.precision,
            "base_adapters": [dict(each) for each in model.adapters],
            "reference_avg": means([sound.metrics for sound in sounds]),
            "reference_set": {"clip_diversity": rounded(spread(sounds))},
            "reference_clips": self.rows,
            "adapters": [],
        }

    def run(self, candidate: Candidate, on_progress: ProgressFn) -> Result:
        """Sounds and numbers of one adapter."""
        told: dict[str, Any] = {}
        try:
            model = self.model
            if candidate.path:
                told["meta"] = _meta(candidate.path)
                model = with_adapters(model, [candidate.path], [candidate.strength])
                told["sha256"] = adapter_digest(candidate.path)
                told |= self._forgetting(model, on_progress)
        except SelVAError as error:
            return Result(adapter_row(candidate, told | {"status": "failed", "error": str(error)}), {})
        rows, takes = [], dict[str, list[Sound]]()
        for place, clip in enumerate(self.clips):
            share = subtask(on_progress, place / len(self.clips), (place + 1) / len(self.clips))
            row, sounds = self._make(model, candidate, clip, share)
            rows.append(row)
            if sounds:
                takes[clip.name] = sounds
        metrics = {row["clip"]: row["spectral_metrics"] for row in rows if row["clip"] in takes}
        failed = [row["clip"] for row in rows if "error" in row]
        told |= {"clips": rows, "failed_clips": failed} | self._numbers(metrics, takes, rows)
        told["status"] = "completed" if takes else "failed"
        if not takes:
            told["error"] = f"None of its {len(rows)} sounds could be made. {rows[0]['error']}"
        return Result(adapter_row(candidate, told), metrics)

    def _read_clip(self, name: str, entry: Entry, seed: int) -> None:
        """One clip: its features, and its recording where there is one."""
        row: dict[str, Any] = {"clip": name, "wav_path": None, "prompt": entry.prompt, "seed": seed}
        row["spectral_metrics"] = None
        self.rows.append(row)
        try:
            if entry.npz is None:
                raise MissingFileError(f"There is no feature file of {entry.id}.")
            features = load_features(entry.npz)
            self.clips.append(Clip(name, entry, features, seed))
            if entry.audio is None:
                raise MissingFileError(f"There is no recording of {entry.id}: its distances are not told.")
            rate = self.model.config.sample_rate
            audio = read_audio(entry.audio)
            wave = resample(audio.waveform[0].mean(dim=0), audio.sample_rate, rate)
            wave = wave[: round(features.duration * rate) or None]
            self.references[name] = analyse(Audio(wave[None, None], rate), self.scale)
            path = write_audio(self.folder / REFERENCE / f"{name}.wav", Audio(wave[None, None], rate))
        except SelVAError as error:
            row["error"] = str(error)
            return
        row |= {"wav_path": str(path), "spectral_metrics": as_json(self.references[name].metrics)}

    def _make(
        self, model: SelVAModel, candidate: Candidate, clip: Clip, on_progress: ProgressFn
    ) -> tuple[dict[str, Any], list[Sound]]:
        """Row and sounds of one clip; no sounds where it failed."""
        row: dict[str, Any] = {"clip": clip.name, "wav_path": None, "seed": clip.seed}
        row["spectral_metrics"] = None
        options = GenerateOptions(
            prompt=clip.entry.prompt,
            steps=self.plan.steps,
            cfg_strength=self.plan.cfg_strength,
            seed=clip.seed,
            takes=self.plan.takes,
        )
        try:
            audio = generate(model, clip.features, options, on_progress=on_progress)
            sounds, paths = [], []
            for number, wave in enumerate(audio.waveform):
                ending = f"_take{number + 1}" if number else ""
                take = replace(audio, waveform=wave[None])
                path = self.folder / safe_name(candidate.id) / f"{clip.name}{ending}.wav"
                paths.append(str(write_audio(path, take)))
                sounds.append(analyse(take, self.scale))
        except SelVAError as error:
            return row | {"error": str(error)}, []
        row["wav_path"] = paths[0]
        if len(paths) > 1:
            row["takes"] = paths
        numbers = [self._clip_metrics(clip, sound) for sound in sounds]
        row["spectral_metrics"] = as_json(means(numbers) | {"diversity": spread(sounds)})
        return row, sounds

    def _clip_metrics(self, clip: Clip, sound: Sound) -> Metrics:
        numbers = dict(sound.metrics)
        reference = self.references.get(clip.name)
        if reference is not None:
            numbers |= against(sound, reference)
        own = clip.entry.audio.resolve() if clip.entry.audio is not None else None
        trained = [mel for path, mel in self.trained if path != own]
        if trained:
            numbers["memorisation"] = memorisation(sound.mel, trained)
        return numbers

    def _numbers(
        self, metrics: Mapping[str, Metrics], takes: Mapping[str, list[Sound]], rows: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """Means over the clips, distances of the whole set, and copies."""
        if not takes:
            return {}
        bounds = {name: mean_interval(values) for name, values in columns(list(metrics.values())).items()}
        told: dict[str, Any] = {
            "avg_metrics": {name: rounded(each.value) for name, each in bounds.items()},
            "intervals": {name: [rounded(each.low), rounded(each.high)] for name, each in bounds.items()},
        }
        sounds = [each[0] for each in takes.values()]
        real = list(self.references.values())
        found: dict[str, Any] = {}
        if real:
            found = {name: as_json(asdict(each)) for name, each in set_metrics(sounds, real).items()}
            kernel = kernel_distance([each.windows for each in sounds], [each.windows for each in real])
            found["kad_mel"] = None if kernel is None else as_json(asdict(kernel))
        found["clip_diversity"] = rounded(spread(sounds))
        told["set_metrics"] = found
        likeness = {row["clip"]: (row["spectral_metrics"] or {}).get("memorisation") for row in rows}
        told["copies"] = [clip for clip, value in likeness.items() if value is not None and value > COPY]
        return told

    def _forgetting(self, model: SelVAModel, on_progress: ProgressFn) -> dict[str, Any]:
        """How much the loss on other sounds rose."""
        if self.others is None or self.before is None:
            return {}
        after = self._losses(model, on_progress)
        mean, low, high = paired_difference(after, self.before)
        numbers = {"before": self.before.mean, "after": after.mean, "rise": mean, "low": low, "high": high}
        share = mean / self.before.mean
        return {"forgetting": as_json(numbers | {"share": share, "clips": len(self.others)})}

    def _losses(self, model: SelVAModel, on_progress: ProgressFn) -> ValidationLosses:
        """Fixed-noise losses on the data set of other sounds."""
        assert self.others is not None
        generator, conditioning = model.generator, model.config.clip_conditioning
        beginning = subtask(on_progress, 0, 0)
        with model.policy.on_device(generator):
            return fixed_noise_loss(
                generator, self.others, clip_conditioning=conditioning, on_progress=beginning
            )


def adapter_row(candidate: Candidate, told: Mapping[str, Any]) -> dict[str, Any]:
    """The summary's row of an adapter: what every one has, then what is told."""
    row: dict[str, Any] = {
        "id": candidate.id,
        "path": candidate.path,
        "strength": candidate.strength,
        "description": candidate.description,
        "meta": None,
        "clips": [],
        "avg_metrics": {},
    }
    return row | dict(told)


def _meta(path: str) -> dict[str, Any]:
    """Rank, alpha and target, as summaries of the public pack have them, and the steps."""
    meta = file_meta(read_adapter(path))
    return {name: meta[name] for name in ("rank", "alpha", "target", "steps")}


def _names(entries: Sequence[Entry]) -> list[str]:
    """File names for clips, each once whatever their ids are."""
    names: list[str] = []
    for entry in entries:
        name = plain = safe_name(entry.id)
        number = 2
        while name.casefold() in (each.casefold() for each in names):
            name, number = f"{plain}_{number}", number + 1
        names.append(name)
    return names


def now() -> str:
    """The time, for summaries."""
    return datetime.now(UTC).isoformat(timespec="seconds")
