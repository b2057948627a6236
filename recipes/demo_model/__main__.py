"""``python -m recipes.demo_model --out DIR``: train every part of the demo model from nothing."""

import argparse
from pathlib import Path

import torch

from selva_audio.files import write_text
from selva_audio.runtime import RuntimePolicy

from .card import model_card
from .curves import save_curves
from .stages import STAGES, run


def main() -> None:
    """Run the stages that are not finished, then score the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, logs and weights")
    parser.add_argument("--stage", choices=(*STAGES, "evaluate"), action="append", help="only these")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=16, help="scenes of the evaluation")
    parser.add_argument("--card", type=Path, help="write the model card to this file when all is done")
    arguments = parser.parse_args()
    device = RuntimePolicy.resolve(arguments.device, "fp32").device
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.stage or (*STAGES, "evaluate"):
        if name == "evaluate":
            from .evaluate import report

            report(arguments.out, num_scenes=arguments.scenes)
        else:
            run(name, arguments.out, seed=arguments.seed, device=device)
    save_curves(arguments.out)
    if arguments.card:
        write_text(arguments.card, model_card(arguments.out))


if __name__ == "__main__":
    main()
