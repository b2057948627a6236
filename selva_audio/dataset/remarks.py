"""What is worth knowing of a data set as a whole, in sentences."""

import difflib
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from .prompts import unused
from .record import Dataset
from .sources import prompt_keys

# Prompts name what is heard; a model hears the word after a negation all the same.
_NEGATION = re.compile(r"\b(no|not|without|never|don't|doesn't)\b", re.IGNORECASE)
_ALIKE = 0.8
# More wordings than this are sentences of their own, one for each clip.
_MOST_COMPARED = 100


def unused_prompts(
    prompts: Mapping[Path, Mapping[str, str]], videos: Sequence[Path], root: Path
) -> tuple[str, ...]:
    """A sentence for every line of a ``prompts.txt`` that belongs to no video."""
    used = {place: set[str]() for place in prompts}
    for video in videos:
        for place, key in prompt_keys(video, root):
            used[place].add(key)
    return tuple(note for place, found in prompts.items() for note in unused(found, used[place], place))


def remarks(dataset: Dataset) -> tuple[str, ...]:
    """Sentences about the split and the prompts of the clips that are fit for training."""
    notes = []
    usable = [entry for entry in dataset.entries if not entry.faults]
    if usable and dataset.settings.get("val_fraction") and not any(each.split == "val" for each in usable):
        notes.append(
            "No clip is kept for validation: all that are fit for training count as one recording, or those "
            "for validation have faults. If every file is a recording of its own, use --recordings file."
        )
    labels: dict[str, set[str]] = {}
    for entry in usable:
        labels.setdefault(entry.prompt.casefold(), set()).add(entry.label)
    for prompt, shared in labels.items():
        if len(shared) > 1:
            notes.append(f"The prompt {prompt!r} stands for several labels: {', '.join(sorted(shared))}.")
    return tuple(notes) + _wording(sorted({entry.prompt.casefold() for entry in usable}))


def _wording(prompts: Sequence[str]) -> tuple[str, ...]:
    """Sentences about prompts that models take in another way than people do."""
    notes = [
        f"The prompt {prompt!r} says what is not heard. Name only what is; the rest is for negative prompts."
        for prompt in prompts
        if _NEGATION.search(prompt)
    ]
    if len(prompts) > _MOST_COMPARED:
        return tuple(notes)
    for first, second in combinations(prompts, 2):
        pair = difflib.SequenceMatcher(None, first, second, autojunk=False)
        if pair.real_quick_ratio() > _ALIKE and pair.quick_ratio() > _ALIKE and pair.ratio() > _ALIKE:
            notes.append(
                f"The prompts {first!r} and {second!r} are nearly one. Use one wording for one sound."
            )
    return tuple(notes)
