"""Tuned vocoders: their files, ours and those of the public pack, and a vocoder made with one.

| form | what is on disk |
| --- | --- |
| ours | ``{"format": "selva_bigvgan/1", "mode", "sample_rate", "base_sha256", "state_dict", "meta"}`` |
| ours, safetensors | the same tensors, the rest as JSON in the header |
| public pack | ``{"generator": whole state dict, "has_gafilter", "gafilter_kernel_size"}`` |
| upstream | ``{"generator": whole state dict}``, with weight norm or without |

Ours hold what was tuned, and no more. Nothing is unpickled: a file that asks for more than tensors and plain
values is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError, MissingFileError, shown
from ..models.bigvgan import BigVGAN
from ..models.gafilter import add_filters, has_filters
from ..weights.io import read_metadata, read_object, read_state_dict, write_object, write_safetensors
from ..weights.keys import to_module_layout
from .inject import share

TuneMode = Literal["snake_alpha_only", "snake_alpha_beta", "all_params"]
FORMAT = "selva_bigvgan/1"
HEADER_KEY = "selva_bigvgan"
PACK_NOTE = (
    "This file is of the public pack or of upstream. Vocoders that were tuned on recordings with the pack "
    "expect its mels, which it scaled otherwise than the models do; if the result is dull or harsh, tune "
    "again."
)

_FILTER = ".gafilter."
_MOST_TAPS = 255
_SHOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class TunedVocoder:
    """What a file of a tuned vocoder holds.

    Attributes:
        state: tensors by module path: those that ``mode`` trains, or all of them where ``base_sha256`` is "";
            float32 on the CPU.
        mode: what was trained.
        kernel_size: taps of the filters after activations; 0 without them.
        sample_rate: hertz; 0 where the file does not tell.
        base_sha256: ``vocoder_digest`` of what it was tuned from; "" where the file does not tell.
        meta: variant, steps and other plain values.
    """

    state: Mapping[str, Tensor]
    mode: TuneMode = "all_params"
    kernel_size: int = 0
    sample_rate: int = 0
    base_sha256: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before trusting it."""
        return () if self.base_sha256 else (PACK_NOTE,)


def read_vocoder(path: str | Path) -> TunedVocoder:
    """A tuned vocoder from any of the forms.

    Raises:
        MissingFileError: nothing is there.
        CheckpointError: not a vocoder, damaged, or not safe to read.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"There is no vocoder {path}. Give a .pt or .safetensors file of `selva train vocoder`."
        )
    if path.suffix == ".safetensors":
        header = read_metadata(path).get(HEADER_KEY)
        state = read_state_dict(path)
        return _whole(path, state, {}) if header is None else _ours(path, state, _json(path, header))
    content = read_object(path)
    if not isinstance(content, Mapping):
        raise _not_one(path, f"it holds a {type(content).__name__}")
    return vocoder_of(path, content)


def write_vocoder(path: str | Path, tuned: TunedVocoder) -> Path:
    """Write a tuned vocoder as .pt or .safetensors, whole or not at all; returns the path.

    Raises:
        InputError: another ending.
        OutputError: the place cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".pt", ".safetensors"):
        raise InputError(f"{path.name} must end in .pt or .safetensors: that is how vocoders are written.")
    content = vocoder_content(tuned)
    if path.suffix == ".pt":
        write_object(path, content)
    else:
        state = content.pop("state_dict")
        write_safetensors(path, state, {HEADER_KEY: json.dumps(content)})
    return path


def vocoder_content(tuned: TunedVocoder) -> dict[str, Any]:
    """What a .pt file holds."""
    return {
        "format": FORMAT,
        "mode": tuned.mode,
        "sample_rate": tuned.sample_rate,
        "base_sha256": tuned.base_sha256,
        "state_dict": {key: tensor.contiguous() for key, tensor in tuned.state.items()},
        "meta": {**tuned.meta, "gafilter_kernel_size": tuned.kernel_size},
    }


def vocoder_of(path: Path, content: Mapping[Any, Any]) -> TunedVocoder:
    """A tuned vocoder from the content of ``path``.

    Raises:
        CheckpointError: it holds none.
    """
    if "format" in content:
        if content["format"] != FORMAT:
            raise _not_one(path, f"its format is {shown(content['format'])} where {FORMAT} is read")
        return _ours(path, content.get("state_dict"), content)
    inner = content.get("generator")
    return _whole(path, inner if isinstance(inner, Mapping) else content, content)


def tune(vocoder: BigVGAN, tuned: TunedVocoder) -> BigVGAN:
    """A vocoder with the tensors of a file; the given one is left as it is and shares the others.

    Raises:
        CheckpointError: names or shapes that are not those of the vocoder.
    """
    new = share(vocoder)
    if tuned.kernel_size and not has_filters(new):
        add_filters(new, tuned.kernel_size)
    _check_names(new, tuned)
    for name, tensor in tuned.state.items():
        path, _, last = name.rpartition(".")
        owner = new.get_submodule(path)
        present: Tensor = getattr(owner, last)
        value = tensor.to(device=present.device, dtype=present.dtype)
        if last in owner._parameters:
            owner._parameters[last] = nn.Parameter(value, requires_grad=False)
        else:
            owner._buffers[last] = value
    return new.eval()


def prepare(
    vocoder: BigVGAN, mode: TuneMode, kernel_size: int = 0
) -> tuple[BigVGAN, dict[str, nn.Parameter]]:
    """A vocoder to be trained, and what is trained in it by name; the given one is left as it is.

    Args:
        vocoder: the base, in float32.
        mode: which of its parameters.
        kernel_size: taps of new filters after activations, which are trained too; 0 for none.

    Raises:
        InputError: the activations have no parameters of this mode.
    """
    new = share(vocoder)
    if kernel_size:
        add_filters(new, kernel_size)
    names = tuned_names(new, mode)
    parameters = {}
    for name in names:
        path, _, last = name.rpartition(".")
        owner = new.get_submodule(path)
        parameters[name] = nn.Parameter(getattr(owner, last).detach().clone())
        owner._parameters[last] = parameters[name]
    return new, parameters


def tuned_names(vocoder: BigVGAN, mode: TuneMode) -> list[str]:
    """Names of the parameters that a mode trains, in order; filters are among them in every mode.

    Raises:
        InputError: the activations have no parameters of this mode.
    """
    endings = {"snake_alpha_only": (".act.alpha",), "snake_alpha_beta": (".act.alpha", ".act.beta")}
    names = [name for name, _ in vocoder.named_parameters()]
    if mode == "all_params":
        return names
    if mode == "snake_alpha_beta" and not any(name.endswith(".act.beta") for name in names):
        raise InputError("This vocoder's activations have no beta. Train snake_alpha_only.")
    return [name for name in names if name.endswith(endings[mode]) or _FILTER in name]


def vocoder_digest(vocoder: BigVGAN) -> str:
    """SHA-256 over all parameters by name, as float32."""
    digest = hashlib.sha256()
    for name, parameter in sorted(vocoder.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _ours(path: Path, state: Any, account: Mapping[str, Any]) -> TunedVocoder:
    meta, mode = account.get("meta", {}), account.get("mode")
    if not isinstance(meta, Mapping) or not all(isinstance(key, str) for key in meta):
        raise _not_one(path, f"its meta is {shown(meta)} where a mapping is needed")
    if mode not in get_args(TuneMode):
        raise _not_one(path, f"its mode is {shown(mode)}")
    assert mode is not None
    rate, sha = account.get("sample_rate"), account.get("base_sha256")
    if not isinstance(rate, int) or not isinstance(sha, str) or not sha:
        raise _not_one(path, "it does not tell its sample rate and its base")
    kernel = _kernel(path, meta.get("gafilter_kernel_size", 0))
    told = {key: value for key, value in meta.items() if key != "gafilter_kernel_size"}
    return TunedVocoder(_tensors(path, state), mode, kernel, rate, sha, told)


def _whole(path: Path, state: Mapping[Any, Any], account: Mapping[str, Any]) -> TunedVocoder:
    """A file of the pack or of upstream: every tensor of the vocoder."""
    tensors = _tensors(path, state)
    if "conv_pre.weight" not in tensors and not any(key.startswith("conv_pre.") for key in tensors):
        raise _not_one(path, f"it has no conv_pre; its keys begin with {', '.join(list(tensors)[:_SHOWN])}")
    kernel = 0
    if any(_FILTER in key for key in tensors):
        found = next(tensor.shape[-1] for key, tensor in tensors.items() if _FILTER in key)
        kernel = _kernel(path, account.get("gafilter_kernel_size", found))
        if kernel != found:
            raise _not_one(path, f"its filters have {found} taps where it tells {kernel}")
    return TunedVocoder(to_module_layout("vocoder", tensors), kernel_size=kernel)


def _tensors(path: Path, state: Any) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not state:
        raise _not_one(path, "it holds no tensors")
    tensors = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise _not_one(path, f"it holds a {type(value).__name__} under {shown(key)}")
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{path}: {key} holds numbers that are not finite, or no fractions. The training it comes "
                "from failed; use an earlier step."
            )
        tensors[key] = value.detach().to(device="cpu", dtype=torch.float32)
    return tensors


def _kernel(path: Path, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TAPS:
        raise _not_one(path, f"its gafilter_kernel_size is {shown(value)}")
    if value and value % 2 == 0:
        raise _not_one(path, f"its filters have {value} taps where an odd number is needed")
    return value


def _check_names(vocoder: BigVGAN, tuned: TunedVocoder) -> None:
    present = vocoder.state_dict()
    needed = set(tuned_names(vocoder, tuned.mode)) if tuned.base_sha256 else set(present)
    found = set(tuned.state)
    problems = [f"{key} is missing" for key in sorted(needed - found)]
    problems += [f"{key} is not in the vocoder" for key in sorted(found - needed)]
    problems += [
        f"{key} has the shape {tuple(tuned.state[key].shape)} where {tuple(present[key].shape)} is needed"
        for key in sorted(found & needed)
        if tuned.state[key].shape != present[key].shape
    ]
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        variant = tuned.meta.get("variant")
        trained = f" It was tuned for {variant}." if variant else ""
        raise CheckpointError(
            f"The tuned vocoder does not fit: {'; '.join(problems[:_SHOWN])}{more}.{trained} "
            "Choose the variant it was tuned for."
        )


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_one(path, "its header is no JSON") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _not_one(path, f"its header is {shown(value)} where {FORMAT} is read")
    return value


def _not_one(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a tuned vocoder: {reason}. Give a file of `selva train vocoder`, of the public pack, "
        "or a BigVGAN generator."
    )
