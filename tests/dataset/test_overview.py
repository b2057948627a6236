from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from selva_audio.dataset import Dataset, Entry, read_dataset
from selva_audio.dataset.overview import overview_figure
from selva_audio.errors import InputError


def pixels(dataset: Dataset) -> np.ndarray:
    canvas = overview_figure(dataset).canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_every_clip_has_a_picture_with_its_name_and_faults(tmp_path: Path, make_pair) -> None:
    for seed, name in enumerate(("a", "b", "c")):
        make_pair(tmp_path, name, prompt="dog $1", seed=seed)
    dataset = read_dataset(tmp_path)
    bad = replace(dataset.entries[1], checks={"silence": "It is silent."})
    changed = replace(dataset, entries=(dataset.entries[0], bad, dataset.entries[2]))
    titles = [axis.get_title(loc="left") for axis in overview_figure(changed).axes]
    assert [title.split("\n")[0] for title in titles] == ["a", "b", "c"]
    assert titles[1].endswith("silence")
    assert not np.array_equal(pixels(dataset), pixels(changed))


def test_a_large_set_is_shown_in_part_and_in_even_steps(tmp_path: Path, make_pair) -> None:
    make_pair(tmp_path, "a")
    (entry,) = read_dataset(tmp_path).entries
    entries = tuple(replace(entry, id=f"{number:03d}") for number in range(48))
    titles = [axis.get_title(loc="left")[:3] for axis in overview_figure(Dataset(tmp_path, entries)).axes]
    assert titles == [f"{number:03d}" for number in range(0, 48, 2)]


def test_nothing_to_draw_is_one_sentence(tmp_path: Path) -> None:
    for entries in ((), (Entry("a"),)):
        with pytest.raises(InputError, match="No clip of"):
            overview_figure(Dataset(tmp_path, entries))
