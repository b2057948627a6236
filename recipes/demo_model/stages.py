"""The stages in order: what each builds, how long it trains, what it exports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import clip, encoder, generator, vae, vocoder
from .fit import Plan, Trainee, fit
from .parts import export, is_exported, load_part, read_weights


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        build: (folder of exported parts, seed) -> trainee.
        plan: schedule.
        needs: stages whose parts it reads.
    """

    build: Callable[[Path, int], Trainee]
    plan: Plan
    needs: tuple[str, ...] = ()


STAGES: Mapping[str, Stage] = {
    "vae": Stage(lambda folder, seed: vae.VAEStage(), vae.PLAN),
    "encoder": Stage(lambda folder, seed: encoder.EncoderStage(), encoder.PLAN),
    "refine": Stage(
        lambda folder, seed: encoder.EncoderStage(start=read_weights(folder, "encoder")),
        encoder.REFINE_PLAN,
        ("encoder",),
    ),
    "clip": Stage(lambda folder, seed: clip.CLIPStage(), clip.PLAN),
    "generator": Stage(
        lambda folder, seed: generator.build(folder, seed=seed), generator.PLAN, ("vae", "refine", "clip")
    ),
    "vocoder": Stage(
        lambda folder, seed: vocoder.VocoderStage(load_part(folder, "vae")), vocoder.PLAN, ("vae",)
    ),
    "polish": Stage(
        lambda folder, seed: vocoder.VocoderStage(
            load_part(folder, "vae"), start=read_weights(folder, "rough_vocoder")
        ),
        vocoder.POLISH_PLAN,
        ("vae", "vocoder"),
    ),
}


def run(name: str, folder: Path, *, seed: int, device: str = "cpu") -> None:
    """Train a stage from where it was left, and export its parts; a finished one is left as it is."""
    if is_exported(folder, name):
        return
    stage = STAGES[name]
    for needed in stage.needs:
        run(needed, folder, seed=seed, device=device)
    state = fit(name, lambda: stage.build(folder, seed), stage.plan, folder, seed=seed, device=device)
    export(name, state, folder)
