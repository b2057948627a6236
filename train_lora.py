"""The training script as users know it, with its flags and defaults: ``selva train lora`` does the work.

It keeps plain LoRA on ``attn.qkv`` with alpha equal to the rank; ``selva train lora`` has more settings, and
the defaults that we measured.
"""

import argparse
import sys
from collections.abc import Sequence


def arguments(given: Sequence[str] | None = None) -> list[str]:
    """Arguments of ``selva`` for those of this script."""
    parser = argparse.ArgumentParser(description="Train a LoRA adapter; see also `selva train lora --help`.")
    parser.add_argument("--data_dir", required=True, help="folder of name.npz with name.wav, or of videos")
    parser.add_argument("--output_dir", default="lora_output")
    parser.add_argument("--variant", default="large_44k")
    parser.add_argument("--selva_dir", help="folder with the weight files")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, help="default: the rank")
    parser.add_argument("--target", nargs="+", default=["attn.qkv"], help="endings of module paths")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--warmup_steps", type=int, default=100)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--grad_accum", type=int, default=1)
    parser.add_argument("--save_every", type=int, default=500)
    parser.add_argument("--resume", help="checkpoint to go on from")
    parser.add_argument("--precision", choices=("bf16", "fp16", "fp32"), default="bf16")
    parser.add_argument("--seed", type=int, default=42)
    modes = ("uniform", "logit_normal", "curriculum")
    parser.add_argument("--timestep_mode", choices=modes, default="uniform")
    parser.add_argument("--logit_normal_sigma", type=float, default=1.0)
    parser.add_argument("--curriculum_switch", type=float, default=0.6)
    parser.add_argument("--lora_dropout", type=float, default=0.0)
    parser.add_argument("--lora_plus_ratio", type=float, default=1.0)
    values = vars(parser.parse_args(given))
    values["models_dir"] = values.pop("selva_dir")
    values["alpha"] = values["rank"] if values["alpha"] is None else values["alpha"]
    values["target"] = " ".join(values["target"])
    values["lr_schedule"] = "constant"
    flags = [(f"--{name.replace('_', '-')}", value) for name, value in values.items() if value is not None]
    return ["train", "lora", *(str(each) for pair in flags for each in pair)]


if __name__ == "__main__":
    from selva_audio.cli import main

    sys.argv[1:] = arguments()
    main()
