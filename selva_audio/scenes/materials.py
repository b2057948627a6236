"""What objects can be made of: look, sound and words together, so that each can be told from the others.

``HELD_OUT`` materials are shown and named to the encoders, but the demo generator never hears them: they are
what fine-tuning is tried on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Colour = tuple[int, int, int]
Shape = Literal["ball", "square", "diamond", "triangle", "hexagon", "wheel"]


@dataclass(frozen=True, slots=True)
class Material:
    """One material.

    Attributes:
        name: the word a prompt uses.
        noun: what the object is.
        sound: word for its sound.
        shape: outline.
        colour: RGB of the body, 0 to 255.
        accent: RGB of its markings.
        partials: (hertz, relative amplitude, decay in seconds) of each decaying tone of an impact, or of the
            lasting tones of a continuous source, where the decay counts for nothing.
        noise: (low hertz, high hertz, amplitude, decay in seconds) of the burst of an impact.
        glide: pitch at the impact over the pitch it settles to.
        continuous: sounds all the time, louder the faster it turns; it has no impacts.
    """

    name: str
    noun: str
    sound: str
    shape: Shape
    colour: Colour
    accent: Colour
    partials: tuple[tuple[float, float, float], ...]
    noise: tuple[float, float, float, float]
    glide: float = 1.0
    continuous: bool = False


_ALL = (
    Material(
        "wood", "block", "knock", "square", (156, 112, 52), (98, 66, 28),
        ((520.0, 1.0, 0.012), (1090.0, 0.5, 0.009), (1710.0, 0.25, 0.006)), (300.0, 2500.0, 0.3, 0.004),
    ),
    Material(
        "metal", "ball", "ping", "ball", (76, 112, 214), (236, 244, 255),
        (
            (1350.0, 1.0, 0.13), (2240.0, 0.7, 0.11), (3370.0, 0.5, 0.08),
            (4580.0, 0.35, 0.06), (5930.0, 0.2, 0.045),
        ),
        (2000.0, 7000.0, 0.25, 0.003),
    ),
    Material(
        "rubber", "ball", "thud", "ball", (226, 46, 112), (132, 14, 62),
        ((105.0, 1.0, 0.030), (212.0, 0.35, 0.018)), (60.0, 500.0, 0.35, 0.008), glide=1.7,
    ),
    Material(
        "plastic", "tile", "click", "diamond", (120, 204, 44), (60, 140, 16),
        ((2600.0, 0.6, 0.006),), (2000.0, 6500.0, 1.0, 0.005),
    ),
    Material(
        "glass", "prism", "clink", "triangle", (70, 220, 214), (210, 255, 250),
        ((3500.0, 1.0, 0.05), (5150.0, 0.7, 0.04), (6900.0, 0.4, 0.03)), (5000.0, 7800.0, 0.3, 0.002),
    ),
    Material(
        "stone", "pebble", "crack", "hexagon", (226, 224, 220), (128, 126, 124),
        ((260.0, 0.5, 0.010),), (700.0, 1700.0, 1.0, 0.022),
    ),
    Material(
        "fan", "blades", "whir", "wheel", (186, 84, 214), (78, 30, 100),
        (
            (187.5, 1.0, 0.0), (375.0, 0.7, 0.0), (562.5, 0.5, 0.0),
            (750.0, 0.35, 0.0), (937.5, 0.2, 0.0),
        ),
        (250.0, 1500.0, 0.0, 0.0), continuous=True,
    ),
)  # fmt: skip

MATERIALS: Mapping[str, Material] = {material.name: material for material in _ALL}
HELD_OUT = ("glass", "stone")
CONTINUOUS = tuple(material.name for material in _ALL if material.continuous)
HEARD = tuple(name for name in MATERIALS if name not in HELD_OUT)
