import numpy as np
import pytest

from selva_audio.scenes import MATERIALS, draw_frames, draw_masks, draw_scene


@pytest.mark.parametrize("size", [32, 64, 100])
def test_frames_have_the_size_that_is_asked_for(size):
    frames = draw_frames(draw_scene(0, split="val", duration=1.0), size)
    assert frames.shape == (25, size, size, 3) and frames.dtype == np.uint8


def test_a_stretch_equals_that_part_of_the_whole():
    scene = draw_scene(4, split="val", duration=2.0)
    assert np.array_equal(draw_frames(scene, first=13, count=16), draw_frames(scene)[13:29])


@pytest.mark.parametrize("name", MATERIALS)
def test_masks_are_where_the_object_is(name):
    scene = draw_scene(9, split="val", materials=(name,), num_objects=1, duration=1.0)
    masks, size = draw_masks(scene, 128)[0], 128
    centres = scene.objects[0].positions(np.arange(25) / 25) * size
    for mask, (x, y) in zip(masks, centres, strict=True):
        rows, columns = np.nonzero(mask)
        assert abs(columns.mean() + 0.5 - x) < 2 and abs(rows.mean() + 0.5 - y) < 0.25 * size * 0.12 + 2


def test_masks_of_objects_do_not_overlap():
    for seed in range(10):
        masks = draw_masks(draw_scene(seed, split="val", num_objects=3, duration=1.0))
        assert masks.sum(axis=0).max() == 1


def test_materials_look_different():
    colours = []
    for name in MATERIALS:
        scene = draw_scene(1, split="val", materials=(name,), num_objects=1, duration=1.0, variety=0)
        frames, masks = draw_frames(scene), draw_masks(scene)[0]
        colours.append(frames[masks].mean(axis=0))
    distance = np.linalg.norm(np.array(colours)[:, None] - np.array(colours)[None], axis=-1)
    assert distance[~np.eye(len(colours), dtype=bool)].min() > 25


def test_no_variety_means_one_backdrop():
    corners = [draw_frames(draw_scene(seed, split="val", variety=0))[0, 0, 0] for seed in range(3)]
    varied = [draw_frames(draw_scene(seed, split="val"))[0, 0, 0] for seed in range(3)]
    assert np.array_equal(corners[0], corners[1]) and np.array_equal(corners[1], corners[2])
    assert not np.array_equal(varied[0], varied[1])


def test_a_small_shift_shows_below_one_pixel():
    scene = draw_scene(0, split="val", materials=("wood",), num_objects=1, variety=0)
    frames = draw_frames(scene).astype(float)
    heights = scene.objects[0].positions(np.arange(scene.num_frames) / 25)[:, 1] * 64
    moved = np.abs(np.diff(heights))
    small = np.flatnonzero((moved > 0.1) & (moved < 0.5))
    assert len(small) and all(np.abs(frames[n + 1] - frames[n]).max() > 3 for n in small)
