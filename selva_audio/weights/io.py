"""Reading and writing tensors: the only file that calls torch.load or torch.save.

Nothing here runs code from a file: pickles are read with ``weights_only=True``, and one that asks for
more is refused unread.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, OutputError
from ..files import atomic_path
from .manifest import download_command, expected_size

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_ZIP = b"PK\x03\x04"
_OUTER_KEYS = ("generator", "state_dict", "model")
_TEXT_STARTS = {
    b"<": "a web page",
    b"version https://git-lfs": "a Git LFS pointer",
    b"{": "a JSON text",
}
_SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_state_dict(path: Path) -> "dict[str, Tensor]":
    """Tensors of a weight file by key, on the CPU, in the file's own number format.

    A conversion made by ``convert_to_safetensors`` is read instead while it fits its source. One outer
    ``generator``, ``state_dict`` or ``model`` key is taken off.

    Raises:
        CheckpointError: not a plain weight file, or damaged.
    """
    path = conversion_of(path) or Path(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _tensors_of(path, _read_pickle(path, device="cpu"))


def read_shapes(path: Path) -> "dict[str, tuple[tuple[int, ...], torch.dtype]]":
    """Key -> (shape, dtype) of a weight file, from its header where the format has one.

    Raises:
        CheckpointError: not a plain weight file, or damaged.
    """
    path = conversion_of(path) or Path(path)
    if path.suffix == ".safetensors":
        return _safetensors_shapes(path)
    tensors = _tensors_of(path, _read_pickle(path, device="meta"))
    return {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}


def read_object(path: Path) -> Any:
    """Content of a ``.pt`` file that holds tensors in plain containers (adapters, steering vectors, ...).

    Raises:
        CheckpointError: it holds anything else, or is damaged.
    """
    return _read_pickle(Path(path), device="cpu")


def read_metadata(path: Path) -> dict[str, str]:
    """Text metadata of a safetensors file.

    Raises:
        CheckpointError: damaged, or not a safetensors file.
    """
    with _open_safetensors(Path(path)) as handle:
        return dict(handle.metadata() or {})


def write_object(path: Path, content: Any) -> None:
    """Write tensors in plain containers as a ``.pt`` file, whole or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    import torch

    with atomic_path(Path(path)) as temporary, open(temporary, "wb") as handle:
        torch.save(content, handle)


def write_safetensors(
    path: Path, state_dict: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, whole or not at all. Tensors that share memory are written apart.

    Raises:
        OutputError: the place cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, tensor in state_dict.items():
        storage = tensor.untyped_storage().data_ptr()
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        tensors[key] = tensor if whole and storage not in seen else tensor.clone().contiguous()
        seen.add(storage)
    with atomic_path(Path(path)) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(tensors, temporary, {"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            raise OutputError(
                f"Cannot write {path}: {error}. Free some space or choose another place."
            ) from error
        # safetensors makes files that only their owner can read; models folders are often shared.
        temporary.chmod(mode)


def convert_to_safetensors(path: Path) -> Path:
    """Write the tensors of a pickled weight file to a safetensors file beside it, once.

    ``read_state_dict`` and ``read_shapes`` prefer the result for as long as the source keeps its size
    and time of change.

    Returns:
        The safetensors file; ``path`` itself where it is one already.

    Raises:
        CheckpointError: the file cannot be read, or another file already has the name.
        OutputError: the folder cannot be written.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return path
    target = path.with_suffix(".safetensors")
    if conversion_of(path) is not None:
        return target
    if target.exists() and "source_name" not in read_metadata(target):
        raise CheckpointError(
            f"{target} exists and was not made from {path.name}. Move it away, then convert again."
        )
    write_safetensors(target, _tensors_of(path, _read_pickle(path, device="cpu")), _stamp(path))
    return target


def conversion_of(path: Path) -> Path | None:
    """The safetensors file made from ``path``, if there is one and ``path`` has not changed since."""
    path = Path(path)
    target = path.with_suffix(".safetensors")
    if path.suffix == ".safetensors" or not target.is_file() or not path.is_file():
        return None
    try:
        metadata = read_metadata(target)
    except CheckpointError:
        return None
    return target if _stamp(path).items() <= metadata.items() else None


def _stamp(path: Path) -> dict[str, str]:
    status = path.stat()
    return {
        "source_name": path.name,
        "source_size": str(status.st_size),
        "source_mtime_ns": str(status.st_mtime_ns),
    }


def _read_pickle(path: Path, *, device: str) -> Any:
    import pickle
    import warnings

    import torch

    head = _head(path)
    try:
        with warnings.catch_warnings():
            # On pickle protocols it does not know; what it cannot read, it refuses with an error anyway.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location=device, weights_only=True, mmap=head.startswith(_ZIP))
    except pickle.UnpicklingError as error:
        if not _is_pickle(head):
            raise _damaged(path, "it is not a weight file") from error
        raise _refused(path, str(error)) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, OSError, AttributeError) as error:
        if "weights_only" in str(error):
            raise _refused(path, str(error)) from error
        raise _damaged(path, "it is incomplete or damaged") from error


def _is_pickle(head: bytes) -> bool:
    """A pickle of protocol 2 or later, or the zip archive that torch writes."""
    return head.startswith((_ZIP, b"\x80"))


def _head(path: Path) -> bytes:
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file. Give the path of a weight file.")
    try:
        with open(path, "rb") as handle:
            head = handle.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error.strerror}. Check its permissions.") from error
    if not head:
        raise _damaged(path, "it is empty")
    found = text_content(head)
    if found:
        raise _damaged(path, f"it holds {found} instead of weights")
    return head


def text_content(head: bytes) -> str | None:
    """What a file that begins with ``head`` is, if it is one of the texts saved in place of weights.

    The eight bytes of length that begin a safetensors file always hold a zero, a text never does.
    """
    if b"\0" in head[:8]:
        return None
    stripped = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return next((what for start, what in _TEXT_STARTS.items() if stripped.startswith(start)), None)


def _read_safetensors(path: Path) -> "dict[str, Tensor]":
    with _open_safetensors(path) as handle:
        return {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 (not a mapping)


def _safetensors_shapes(path: Path) -> "dict[str, tuple[tuple[int, ...], torch.dtype]]":
    import torch

    shapes = {}
    with _open_safetensors(path) as handle:
        for key in handle.keys():  # noqa: SIM118 (not a mapping)
            part = handle.get_slice(key)
            dtype = _SAFETENSORS_DTYPES.get(part.get_dtype())
            if dtype is None:
                raise CheckpointError(
                    f"{path}: {key} has the number format {part.get_dtype()}, which no variant uses. "
                    "Use the published file, or convert it to float32."
                )
            shapes[key] = (tuple(part.get_shape()), getattr(torch, dtype))
    return shapes


def _open_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    _head(path)
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, f"it is not a whole safetensors file ({error})") from error


def _tensors_of(path: Path, content: Any) -> "dict[str, Tensor]":
    import torch

    found = type(content).__name__
    if isinstance(content, Mapping):
        outer = next((key for key in _OUTER_KEYS if isinstance(content.get(key), Mapping)), None)
        tensors = dict(content[outer] if outer else content)
        if tensors and all(isinstance(value, torch.Tensor) for value in tensors.values()):
            return tensors
        found = f"the keys {', '.join(map(str, list(content)[:5]))}" if content else "nothing"
    raise CheckpointError(
        f"{path} is not a state dict of tensors: it holds {found}. {_again(path, 'Use the published file')}"
    )


def _refused(path: Path, reason: str) -> CheckpointError:
    asked = re.search(r"GLOBAL ([\w.]+)", reason)
    what = f" (it asks for {asked[1]})" if asked else ""
    return CheckpointError(
        f"{path} is not a plain weight file{what}: reading it could run code, so it was not opened "
        f"further. {_again(path, 'Use the published file, or one in safetensors format')}"
    )


def _damaged(path: Path, reason: str) -> CheckpointError:
    size = expected_size(path)
    expected = f", about {size} expected" if size else ""
    return CheckpointError(
        f"{path} cannot be read: {reason} ({path.stat().st_size:,} bytes found{expected}). "
        f"{_again(path, 'Delete it and get it again')}"
    )


def _again(path: Path, advice: str) -> str:
    command = download_command(path)
    return f"{advice}: `{command}`." if command else f"{advice}."
