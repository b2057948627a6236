"""Textual inversion: learned tokens that stand beside the words of a prompt, in files and in text features.

| space | what a token is | where it stands |
| --- | --- | --- |
| token | a row of CLIP's table of token embeddings | before the prompt, or where a template puts it |
| feature | a row of CLIP's output | in place of the last rows (suffix), or after the start (prefix) |

In the token space every later position changes too, by causal attention. In the feature space K of 77 rows
do, and the mean that reaches most of the generator moves by K / 77 of their distance at most: timbre in
detail cannot get through.

Letters: B prompts, N positions, K learned tokens, W width.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import CheckpointError, InputError, MissingFileError, shown
from ..models.clip import CLIP
from ..options.style import InversionOptions
from ..weights.io import read_metadata, read_object, read_state_dict, write_object, write_safetensors
from .inject import share

Space = Literal["token", "feature"]
InjectMode = Literal["suffix", "prefix"]
FORMAT = "selva_textual_inversion/1"
HEADER_KEY = "selva_textual_inversion"
TEMPLATE = "{} <prompt>"
PACK_NOTE = (
    "This file is of the public pack, which trained on mis-scaled sound. It does what it did there; training "
    "again is worth while."
)

_PROMPT = "<prompt>"
_MOST_TOKENS = 64
_SPARE_POSITIONS = 2  # start and end of the text


@dataclass(frozen=True, slots=True, eq=False)
class TextualInversion:
    """What a file of learned tokens holds.

    Attributes:
        embeddings: (K, W) float32 on the CPU.
        space: "token" or "feature".
        inject_mode: place in the feature space.
        template: place in the token space: ``{}`` for the tokens, ``<prompt>`` for the words.
        variant: what it was trained on; "" where the file does not tell.
        clip_id: identity of the CLIP weights; likewise.
        init_text: words that it was started from.
        steps: updates done.
        meta: other plain values.
        is_of_pack: whether the public pack wrote it.
    """

    embeddings: Tensor
    space: Space = "feature"
    inject_mode: InjectMode = "suffix"
    template: str = TEMPLATE
    variant: str = ""
    clip_id: str = ""
    init_text: str = ""
    steps: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)
    is_of_pack: bool = False

    @property
    def num_tokens(self) -> int:
        """K."""
        return int(self.embeddings.shape[0])

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before trusting it."""
        return (PACK_NOTE,) if self.is_of_pack else ()


@dataclass(frozen=True, slots=True, eq=False)
class AppliedInversion:
    """Learned tokens as a model samples with them; see ``bundle.TextEdit``.

    Attributes:
        inversion: as read.
        options: strength.
        path: of the file; "" for tokens in memory.
        sha256: of the file.
    """

    inversion: TextualInversion
    options: InversionOptions = field(default_factory=InversionOptions)
    path: str = ""
    sha256: str = ""

    @property
    def account(self) -> dict[str, Any]:
        """What a recipe keeps."""
        return {"path": self.path, "sha256": self.sha256, "options": self.options.model_dump(mode="json")}

    def edit(self, clip: CLIP, prompts: Sequence[str], plain: Tensor) -> Tensor:
        """(B, N, W) of a prompt, and of a negative prompt if there is one.

        In the feature space both get the rows, as in the public pack. In the token space the negative prompt
        stays: guidance leads away from it, and would lead away from the tokens too.
        """
        if self.inversion.space == "feature":
            return invert_text(clip, prompts, plain, self.inversion, self.options.ti_strength)
        first = invert_text(clip, prompts[:1], plain[:1], self.inversion, self.options.ti_strength)
        return first if len(prompts) == 1 else torch.cat([first, plain[1:]])


def invert_text(
    clip: CLIP, prompts: Sequence[str], plain: Tensor, inversion: TextualInversion, strength: float = 1.0
) -> Tensor:
    """Text features with learned tokens in them.

    Args:
        clip: the text tower, where it is to run; used in the token space alone.
        prompts: what ``plain`` was made of.
        plain: (B, N, W), of ``clip.encode_text``.
        inversion: as read.
        strength: 0 gives ``plain`` itself, 1 what was trained, others a mixture of both.

    Returns:
        (B, N, W) float32. The empty branch of guidance is never to go through here; a negative prompt goes
        through in the feature space, as in the public pack.

    Raises:
        InputError: the width is another one, or the tokens fill all positions.
    """
    if strength == 0:
        return plain
    check_width(inversion, plain.shape[1], plain.shape[2])
    embeddings = inversion.embeddings.to(plain.device)
    if inversion.space == "token":
        made = encode_with_tokens(clip, prompts, embeddings, inversion.template)
    else:
        made = replace_rows(plain, embeddings, inversion.inject_mode)
    return torch.lerp(plain, made, strength)


def replace_rows(features: Tensor, rows: Tensor, inject_mode: InjectMode) -> Tensor:
    """(B, N, W) with K rows in place of the last ones, or of those after the start; a new tensor.

    Args:
        features: (B, N, W).
        rows: (K, W); gradients reach them.
        inject_mode: "suffix" or "prefix".
    """
    count, total = rows.shape[0], features.shape[1]
    first = 1 if inject_mode == "prefix" else total - count
    inserted = rows.to(features.dtype).expand(features.shape[0], -1, -1)
    return torch.cat([features[:, :first], inserted, features[:, first + count :]], dim=1)


def encode_with_tokens(
    clip: CLIP, prompts: Sequence[str], embeddings: Tensor, template: str = TEMPLATE
) -> Tensor:
    """``clip.encode_text`` with K more tokens in the prompts; ``clip`` is left as it is.

    Args:
        clip: the text tower.
        prompts: B texts.
        embeddings: (K, W) rows for the table of token embeddings; gradients reach them.
        template: where they stand; see ``check_template``.

    Returns:
        (B, N, W) float32, each vector of unit length.
    """
    ids = token_ids(clip, prompts, embeddings.shape[0], template)
    tower: Any = share(clip.text_model)
    table = tower.embeddings.token_embedding
    tower.embeddings.token_embedding = _LongerTable(table, embeddings)
    states: Tensor = tower(input_ids=ids.to(table.weight.device)).last_hidden_state
    return functional.normalize(states.float(), dim=-1)


def token_ids(clip: CLIP, prompts: Sequence[str], count: int, template: str = TEMPLATE) -> Tensor:
    """(B, N) ids on the CPU, where id ``vocab_size + k`` is learned token k; too long a text is cut.

    Raises:
        InputError: a template without ``{}`` or with two.
    """
    check_template(template)
    start, end, padding = clip.tokenizer([""])[0, :3].tolist()
    learned = [clip.config.vocab_size + index for index in range(count)]
    rows = []
    for prompt in prompts:
        before, after = (part.replace(_PROMPT, prompt).strip() for part in template.split("{}"))
        words = [*_words(clip, before, end), *learned, *_words(clip, after, end)]
        words = words[: clip.config.context_length - _SPARE_POSITIONS]
        row = [start, *words, end]
        rows.append(row + [padding] * (clip.config.context_length - len(row)))
    return torch.tensor(rows)


def word_embeddings(clip: CLIP, text: str, count: int) -> Tensor:
    """(count, W) float32 rows of the table for the words of ``text``, in turn; their mean for no words.

    Raises:
        InputError: a text without a word.
    """
    table = token_table(clip)
    if not text:
        return table.float().mean(dim=0).expand(count, -1).clone()
    end = int(clip.tokenizer([""])[0, 1])
    words = _words(clip, text, end)
    if not words:
        raise InputError(f"init_text = {shown(text)} holds no word. Give words, or leave it empty.")
    picked = [words[index % len(words)] for index in range(count)]
    return table[picked].float().clone()


def token_table(clip: CLIP) -> Tensor:
    """(vocabulary, W) token embeddings of CLIP, without gradients."""
    tower: Any = clip.text_model
    table: Tensor = tower.embeddings.token_embedding.weight
    return table.detach()


def check_template(template: str) -> None:
    """Refuse a template without exactly one ``{}``, or with more than one ``<prompt>``.

    Raises:
        InputError: likewise.
    """
    if template.count("{}") != 1 or template.count(_PROMPT) > 1:
        raise InputError(
            f"The template {shown(template)} needs {{}} once, where the learned tokens stand, and <prompt> "
            f"at most once. Use {TEMPLATE!r}."
        )


def check_width(inversion: TextualInversion, positions: int, width: int) -> None:
    """Compare with the text features of a model.

    Raises:
        CheckpointError: another width, or more tokens than there is room for.
    """
    if inversion.embeddings.shape[1] != width:
        raise CheckpointError(
            f"The learned tokens are {inversion.embeddings.shape[1]} wide and this model's text is {width}. "
            "Choose the variant they were trained on."
        )
    if inversion.num_tokens > positions - _SPARE_POSITIONS:
        raise CheckpointError(
            f"{inversion.num_tokens} learned tokens do not fit into the {positions} positions of a prompt. "
            "Train fewer."
        )


def read_inversion(path: str | Path) -> TextualInversion:
    """Learned tokens from a ``.pt`` file, ours or of the public pack, or from our ``.safetensors``.

    Raises:
        MissingFileError: nothing is there.
        CheckpointError: not such a file, damaged, or not safe to read.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"There is no textual inversion {path}. Give a .pt or .safetensors file of "
            "`selva train textual-inversion`."
        )
    if path.suffix == ".safetensors":
        account = _json(path, read_metadata(path).get(HEADER_KEY))
        return inversion_of(path, {**account, **read_state_dict(path)})
    content = read_object(path)
    if not isinstance(content, Mapping):
        raise _not_one(path, f"it holds a {type(content).__name__}")
    return inversion_of(path, content)


def write_inversion(path: str | Path, inversion: TextualInversion) -> Path:
    """Write learned tokens as .pt or .safetensors, whole or not at all; returns the path.

    In the feature space the public pack reads the .pt form too.

    Raises:
        InputError: another ending.
        OutputError: the place cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".pt", ".safetensors"):
        raise InputError(
            f"{path.name} must end in .pt or .safetensors: that is how learned tokens are written."
        )
    content = file_content(inversion)
    if path.suffix == ".pt":
        write_object(path, content)
    else:
        tensors = {"embeddings": content.pop("embeddings")}
        write_safetensors(path, tensors, {HEADER_KEY: json.dumps(content)})
    return path


def file_content(inversion: TextualInversion) -> dict[str, Any]:
    """What a .pt file holds."""
    return {
        "format": FORMAT,
        "embeddings": inversion.embeddings.contiguous(),
        "n_tokens": inversion.num_tokens,
        "space": inversion.space,
        "inject_mode": inversion.inject_mode,
        "template": inversion.template,
        "init_text": inversion.init_text,
        "variant": inversion.variant,
        "clip_id": inversion.clip_id,
        "steps": inversion.steps,
        "meta": dict(inversion.meta),
    }


def inversion_of(path: Path, content: Mapping[Any, Any]) -> TextualInversion:
    """Learned tokens from the content of ``path``.

    Raises:
        CheckpointError: it holds none.
    """
    embeddings = content.get("embeddings")
    if not isinstance(embeddings, Tensor):
        raise _not_one(path, "it has no tensor named embeddings")
    rows = embeddings.detach().cpu()
    if rows.ndim != 2 or not 1 <= rows.shape[0] <= _MOST_TOKENS or not rows.shape[1]:
        raise _not_one(path, f"its embeddings are {tuple(rows.shape)} where (tokens, width) is needed")
    if not rows.is_floating_point() or not bool(torch.isfinite(rows).all()):
        raise CheckpointError(
            f"{path} holds numbers that are not finite, or no fractions. The training it comes from failed; "
            "use an earlier step."
        )
    is_ours = "format" in content
    if is_ours and content["format"] != FORMAT:
        raise _not_one(path, f"its format is {shown(content['format'])} where {FORMAT} is read")
    told = content.get("n_tokens", rows.shape[0])
    if told != rows.shape[0]:
        raise _not_one(path, f"it tells {shown(told)} tokens and holds {rows.shape[0]}")
    space = _text(path, content, "space", "feature")
    mode = _text(path, content, "inject_mode", "suffix")
    if space not in get_args(Space) or mode not in get_args(InjectMode):
        raise _not_one(path, f"its space is {shown(space)} and its inject_mode {shown(mode)}")
    template = _text(path, content, "template", TEMPLATE)
    if is_ours and space == "token":
        check_template(template)
    meta = content.get("meta", {})
    steps = content.get("step", content.get("steps", 0))
    return TextualInversion(
        rows.float(),
        space,  # type: ignore[arg-type]
        mode,  # type: ignore[arg-type]
        template,
        _text(path, content, "variant", ""),
        _text(path, content, "clip_id", ""),
        _text(path, content, "init_text", ""),
        steps if isinstance(steps, int) else 0,
        dict(meta) if isinstance(meta, Mapping) else {},
        not is_ours,
    )


class _LongerTable(nn.Module):
    """A table of embeddings with K rows after its end."""

    def __init__(self, table: nn.Embedding, rows: Tensor) -> None:
        super().__init__()
        self.table = table
        self.rows = rows
        self.weight = table.weight  # transformers asks it for its number format

    def forward(self, ids: Tensor) -> Tensor:
        """(B, N) ids -> (B, N, W)."""
        size = self.table.num_embeddings
        own = self.table(ids.clamp(max=size - 1))
        learned = self.rows.to(own)[(ids - size).clamp(min=0)]
        return torch.where((ids < size)[..., None], own, learned)


def _words(clip: CLIP, text: str, end: int) -> list[int]:
    """Ids of a text without its frame and padding."""
    if not text:
        return []
    row: list[int] = clip.tokenizer([text])[0].tolist()
    return row[1 : row.index(end, 1)]


def _text(path: Path, content: Mapping[Any, Any], key: str, default: str) -> str:
    value = content.get(key, default)
    if value is None:
        return default
    if not isinstance(value, str) or len(value) > 10_000:
        raise _not_one(path, f"its {key} is {shown(value)} where a text is needed")
    return value


def _json(path: Path, text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _not_one(path, "its header tells nothing about learned tokens")
    return value


def _not_one(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a textual inversion: {reason}. Give a file of `selva train textual-inversion` or of "
        "the public pack."
    )
