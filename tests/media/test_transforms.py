"""Sizes and value ranges."""

import numpy as np
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
