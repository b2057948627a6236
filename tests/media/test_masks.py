"""Masks: sampling, geometry, and what they do to pixels."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.errors import InputError
from selva_audio.media.masks import Mask, apply_mask, fit_masks, load_mask, mask_from_array


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_mask_follows_its_formula(pixel, inside, strength) -> None:
    frames = torch.full((2, 3, 4, 4), pixel, dtype=torch.float64)
    masks = torch.full((2, 4, 4), inside, dtype=torch.float64)
    keep = 1 - strength * (1 - inside)
    expected = pixel * keep + 0.5 * (1 - keep)
    torch.testing.assert_close(apply_mask(frames, masks, strength), torch.full_like(frames, expected))


def test_full_mask_and_zero_strength_change_nothing_and_empty_mask_is_grey() -> None:
    frames = torch.rand(3, 3, 8, 8)
    assert torch.equal(apply_mask(frames, torch.ones(1, 8, 8)), frames)
    assert torch.equal(apply_mask(frames, torch.zeros(3, 8, 8), 0.0), frames)
    assert (apply_mask(frames, torch.zeros(3, 8, 8)) == 0.5).all()


def test_mask_of_another_size_is_resized_nearest_exact() -> None:
    masks = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    result = apply_mask(torch.ones(1, 3, 5, 5), masks)
    assert result[0, 0].tolist()[0] == [1, 1, 0.5, 0.5, 0.5]
    assert set(result.unique().tolist()) == {0.5, 1.0}


def test_cropped_frames_get_cropped_masks() -> None:
    masks = torch.zeros(1, 80, 160)
    masks[..., 40:120] = 1
    assert (fit_masks(masks, 80, 160, crop=80) == 1).all()
    assert fit_masks(masks, 80, 80).mean() == 0.5


def test_masks_without_a_clock_go_by_frame_number_or_are_spread() -> None:
    values = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8) * 51
    mask = mask_from_array(values)
    by_number = mask.at([0.0, 0.1, 0.9], sources=[0, 3, 2], num_frames=4, duration=1.0)
    assert (by_number[:, 0, 0] * 5).round().tolist() == [0, 3, 2]
    spread = mask.at([0.0, 0.26, 0.99, 1.5], sources=[0, 9, 30, 40], num_frames=41, duration=1.0)
    assert (spread[:, 0, 0] * 5).round().tolist() == [0, 1, 3, 3]
    with pytest.raises(InputError, match="4 masks without times"):
        mask.at([0.0])


def test_one_mask_holds_for_every_frame() -> None:
    mask = mask_from_array(np.eye(3, dtype=bool))
    assert torch.equal(mask.at([0.0, 5.0]), torch.eye(3).expand(2, 3, 3))


def test_mask_video_follows_the_rule_of_frames(tmp_path: Path, clips: ModuleType) -> None:
    path = clips.write_clip(tmp_path / "mask.mp4", np.arange(10) / 10)
    mask = load_mask(path)
    found = mask.at([0.0, 0.05, 0.1, 0.8999, 4.0])
    assert [clips.number_of((m[..., None] * 255).numpy()) for m in found] == [0, 1, 1, 9, 9]


def test_masks_that_make_no_sense_are_refused() -> None:
    for shape in ((2, 2, 2, 2), (0, 2, 2), (4,)):
        with pytest.raises(InputError, match="A mask must be"):
            mask_from_array(np.zeros(shape))
    with pytest.raises(InputError, match="go from 0 to 1"):
        mask_from_array(np.full((2, 2), 255.0))
    with pytest.raises(InputError, match="go from 0 to 1"):
        mask_from_array(np.full((2, 2), np.nan))
    with pytest.raises(InputError, match="not int64"):
        mask_from_array(np.zeros((2, 2), dtype=np.int64))
    with pytest.raises(InputError, match="2 masks came with 1 times"):
        Mask(np.zeros((2, 2, 2)), np.zeros(1))
    with pytest.raises(InputError, match="do not fit"):
        apply_mask(torch.zeros(3, 3, 4, 4), torch.zeros(2, 4, 4))


def test_digest_changes_with_any_pixel_and_time() -> None:
    values = np.zeros((2, 3, 3), dtype=np.uint8)
    changed = values.copy()
    changed[1, 2, 2] = 1
    digests = {
        mask_from_array(values).digest(),
        mask_from_array(changed).digest(),
        mask_from_array(values, np.array([0.0, 1.0])).digest(),
        mask_from_array(values.reshape(1, 6, 3)).digest(),
    }
    assert len(digests) == 4
    assert mask_from_array(values).digest() == mask_from_array(values.copy()).digest()
