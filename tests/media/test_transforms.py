"""Sizes and value ranges."""

import numpy as np
import pytest
import torch

from selva_audio.media.transforms import short_side_crop, squash, to_clip, to_sync

RGB = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)


def test_squash_gives_a_square_and_leaves_that_size_alone() -> None:
    square = squash(RGB, 64)
    assert square.shape == (64, 64, 3)
    assert square.dtype == np.uint8
    assert squash(square, 64) is square


def test_resize_runs_on_uint8_in_two_rounded_steps() -> None:
    pixels = torch.from_numpy(RGB).permute(2, 0, 1)[None]
    kwargs = {"mode": "bicubic", "antialias": True, "align_corners": False}
    floats = torch.nn.functional.interpolate(pixels.float(), size=(64, 64), **kwargs).clamp(0, 255).round()
    difference = np.abs(floats[0].permute(1, 2, 0).numpy() - squash(RGB, 64))
    assert 0 < difference.max() < 16


def test_crop_takes_the_centre_of_the_long_side() -> None:
    ramp = np.broadcast_to(np.arange(160, dtype=np.uint8)[None, :, None], (80, 160, 3))
    wide = short_side_crop(ramp, 80)
    assert wide.shape == (80, 80, 3)
    np.testing.assert_array_equal(wide[0, :, 0], np.arange(40, 120))
    tall = short_side_crop(np.ascontiguousarray(ramp.swapaxes(0, 1)), 80)
    np.testing.assert_array_equal(tall[:, 0, 0], np.arange(40, 120))


def test_crop_truncates_the_long_side_and_rounds_the_offset_to_even() -> None:
    assert short_side_crop(RGB, 64).shape == (64, 64, 3)
    flat = np.full((97, 131, 3), 77, dtype=np.uint8)
    assert (short_side_crop(flat, 64) == 77).all()


def test_value_ranges() -> None:
    frames = np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)])
    assert to_clip(frames).shape == (2, 3, 4, 4)
    assert (to_clip(frames).min(), to_clip(frames).max()) == (0, 1)
    assert (to_sync(frames).min(), to_sync(frames).max()) == (-1, 1)


@pytest.mark.parametrize("shrink", [squash, short_side_crop])
@pytest.mark.parametrize("size", [64, 90])
def test_frames_become_numbers_as_in_the_plain_form_to_the_bit(shrink, size: int) -> None:
    pictures = [np.roll(RGB, shift, axis=1) for shift in range(3)]
    frames = np.stack([shrink(picture, size) for picture in pictures])
    plain = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(to_clip(frames), plain)
    assert torch.equal(to_sync(frames), (plain - 0.5) / 0.5)
    assert to_sync(frames).is_contiguous()
    assert torch.equal(to_sync(np.ascontiguousarray(frames)), to_sync(frames))


def test_every_level_becomes_the_number_of_the_plain_form() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    plain = torch.arange(256).float().reshape(16, 16) / 255
    assert torch.equal(to_clip(levels)[0, 1], plain)
    assert torch.equal(to_sync(levels)[0, 2], (plain - 0.5) / 0.5)
    assert to_clip(levels[:0]).shape == (0, 3, 16, 16)


def test_a_cropped_frame_keeps_none_of_its_sides_in_memory() -> None:
    cropped = short_side_crop(RGB, 64)
    assert cropped.base is None or cropped.base.nbytes == cropped.nbytes
