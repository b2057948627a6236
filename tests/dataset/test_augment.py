from dataclasses import replace

import numpy as np
import pytest
import torch
from dataset.made import sound

from selva_audio.dataset.augment import augment_sounds
from selva_audio.dataset.sounds import SoundSet
from selva_audio.media.loudness import rms_dbfs, true_peak_dbtp
from selva_audio.options import AugmentOptions
from selva_audio.records import Audio

SETS = SoundSet((sound("a", samples=4000), sound("bb", samples=4000)))


def names(options: AugmentOptions) -> list[str]:
    return [each.name for each in augment_sounds(SETS, options).sounds]


def waves(options: AugmentOptions, sounds: SoundSet = SETS) -> dict[str, torch.Tensor]:
    return {each.name: each.audio.waveform for each in augment_sounds(sounds, options).sounds}


def test_each_sound_is_followed_by_its_variants() -> None:
    assert names(AugmentOptions()) == ["a", "a_aug00", "a_aug01", "bb", "bb_aug00", "bb_aug01"]
    assert names(AugmentOptions(variants_per_clip=1, keep_originals=False)) == ["a_aug00", "bb_aug00"]


def test_a_variant_knows_what_it_was_made_from_even_twice() -> None:
    once = augment_sounds(SETS, AugmentOptions(variants_per_clip=1, keep_originals=False))
    twice = augment_sounds(once, AugmentOptions(variants_per_clip=1, keep_originals=False))
    assert [each.origin for each in once.sounds] == ["a", "bb"]
    assert [(each.name, each.origin) for each in twice.sounds] == [
        ("a_aug00_aug00", "a"),
        ("bb_aug00_aug00", "bb"),
    ]


def test_a_name_that_is_taken_is_not_given_again() -> None:
    sounds = SoundSet((sound("a"), sound("a_aug00")))
    made = augment_sounds(sounds, AugmentOptions(variants_per_clip=1))
    assert len({each.name for each in made.sounds}) == 4


def test_one_seed_gives_one_result_whatever_the_company() -> None:
    """COMPAT 5.19: the generator had no seed."""
    options = AugmentOptions(pitch_range_semitones=1, time_stretch_range=0.1, gain_range_db=6)
    first, again = waves(options), waves(options)
    assert all(torch.equal(first[name], again[name]) for name in first)
    alone = waves(options, SoundSet(SETS.sounds[1:]))
    assert all(torch.equal(first[name], alone[name]) for name in alone)
    other = waves(options.model_copy(update={"seed": 7}))
    assert not any(torch.equal(first[name], other[name]) for name in first if "aug" in name)
    assert not torch.equal(first["a_aug00"], first["a_aug01"])


def test_levels_stay_in_their_range_and_fill_it() -> None:
    options = AugmentOptions(variants_per_clip=20, gain_range_db=6, keep_originals=False)
    one = SoundSet(SETS.sounds[:1])
    level = rms_dbfs(one.sounds[0].audio.waveform)
    changes = [rms_dbfs(wave) - level for wave in waves(options, one).values()]
    assert all(-6 <= change <= 6 for change in changes)
    assert min(changes) < -3 and max(changes) > 3


def test_a_loud_sound_is_raised_to_the_ceiling_at_most() -> None:
    tone = Audio(0.8 * torch.sin(torch.arange(4000) / 3)[None, None], 16000)
    loud = SoundSet((replace(SETS.sounds[0], audio=tone),))
    for wave in waves(AugmentOptions(variants_per_clip=8, gain_range_db=12), loud).values():
        assert true_peak_dbtp(wave[0]) < -0.9


def test_pitch_leaves_length_and_features_alone_and_stretch_marks_the_variant() -> None:
    """COMPAT 5.19: stretched variants reused features that tell of other times."""
    pitched = augment_sounds(SETS, AugmentOptions(pitch_range_semitones=2)).sounds
    assert {each.audio.waveform.shape[-1] for each in pitched} == {4000}
    assert {each.stretch for each in pitched} == {1.0}
    made = augment_sounds(SETS, AugmentOptions(time_stretch_range=0.2))
    stretched = [each for each in made.sounds if "aug" in each.name]
    for each in stretched:
        assert each.audio.waveform.shape[-1] == round(4000 * each.stretch) != 4000
        assert 0.8 <= each.stretch <= 1.2
    assert "not saved with them" in made.notes[0]


@pytest.mark.parametrize("kind", ["gain_range_db", "pitch_range_semitones", "time_stretch_range"])
def test_a_wider_range_of_one_kind_leaves_the_others_as_they_were(kind: str) -> None:
    base = AugmentOptions(gain_range_db=0, variants_per_clip=1, keep_originals=False)
    changed = waves(base.model_copy(update={kind: 0.2}))
    assert not np.array_equal(changed["a_aug00"].numpy(), SETS.sounds[0].audio.waveform.numpy())
    same = waves(base)
    assert torch.equal(same["a_aug00"], SETS.sounds[0].audio.waveform)


def test_without_a_range_it_is_said_that_variants_are_copies() -> None:
    (note,) = augment_sounds(SETS, AugmentOptions(gain_range_db=0)).notes
    assert "copy" in note
