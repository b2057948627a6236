"""Files of a style for the demo model, small and quick to make: ours, and in the public pack's layouts."""

from pathlib import Path

import torch
from small_generator import moved

from selva_audio.adapters import Adapter, write_adapter
from selva_audio.adapters.textual_inversion import TextualInversion, write_inversion
from selva_audio.flow.steering import SteeringVectors, block_paths
from selva_audio.flow.steering_file import write_steering

WIDTH = 64  # of the demo model's text


def unit_rows(seed: int = 0) -> torch.Tensor:
    """(4, WIDTH) rows of length 1."""
    rows = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


def write_style(model, folder: Path) -> dict[str, Path]:
    """An adapter, a vocoder, tokens and vectors that are all heard."""
    folder.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(0)
    adapter = moved(model.generator, amount=0.2)
    told = {**adapter.meta, "variant": "demo_16k", "clip_conditioning": "on"}
    vectors = {path: torch.randn(1, 1, 96, generator=random) for path in block_paths(model.generator)}
    torch.save({"generator": changed_vocoder(model)}, folder / "vocoder.pt")
    return {
        "adapter": write_adapter(folder / "adapter.pt", Adapter(adapter.deltas, told)),
        "vocoder": folder / "vocoder.pt",
        "tokens": write_inversion(folder / "tokens.pt", TextualInversion(unit_rows())),
        "steering": write_steering(folder / "steering.pt", SteeringVectors(vectors)),
    }


def changed_vocoder(model) -> dict[str, torch.Tensor]:
    """State of a whole vocoder with other activations."""
    return {
        key: tensor + 0.3 if key.endswith("alpha") else tensor.clone()
        for key, tensor in model.vocoder.state_dict().items()
    }


def write_pack_files(model, folder: Path) -> dict[str, Path]:
    """COMPAT 2.3 to 2.5 as the public pack writes them, the vocoder with a filter after each activation."""
    folder.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(1)
    rows, blocks = unit_rows(1), block_paths(model.generator)
    joint = sum(path.startswith("joint") for path in blocks)
    contents = {
        "tokens": {"embeddings": rows, "n_tokens": 4, "inject_mode": "prefix", "step": 9, "init_text": "",
                   "lr": 2e-4, "steps": 9, "loss_history": [0.5]},
        "steering": {"steering_vectors": [3 * torch.randn(31, 96, generator=random) for _ in blocks],
                     "n_blocks": len(blocks), "n_joint": joint, "n_fused": len(blocks) - joint,
                     "latent_seq_len": 31, "n_samples": 2, "seed": 0, "mode": "16k", "variant": "demo_16k"},
        "vocoder": {"generator": filtered_state(model), "has_gafilter": True, "gafilter_kernel_size": 5},
    }  # fmt: skip
    for name, content in contents.items():
        torch.save(content, folder / f"pack_{name}.pt")
    return {name: folder / f"pack_{name}.pt" for name in contents}


def filtered_state(model, taps: int = 5) -> dict[str, torch.Tensor]:
    """The vocoder's state with its activations moved to ``.activation`` and halving filters beside them."""
    state = {}
    for key, tensor in model.vocoder.state_dict().items():
        parts = key.split(".")
        if parts[0] == "resblocks" and parts[2] == "activations":
            state[".".join([*parts[:4], "activation", *parts[4:]])] = tensor
            if key.endswith(".act.alpha"):
                taps_of = torch.zeros(tensor.shape[0], 1, taps)
                taps_of[:, :, taps // 2] = 0.5
                state[".".join([*parts[:4], "gafilter", "conv", "weight"])] = taps_of
        else:
            state[key] = tensor
    return state
