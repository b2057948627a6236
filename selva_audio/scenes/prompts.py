"""Words for scenes: prompts that name one object, and a caption of the whole."""

from .materials import MATERIALS, Material
from .scene import Scene

TEMPLATES = (
    "{name}",
    "{name} {noun}",
    "{name} {sound}",
    "{sound} of {name}",
    "a {name} {noun}",
    "sound of {name}",
    "the {name} {noun} moving",
    "the sound of a {name} {noun}",
)


def prompt(material: str, template: int = 1) -> str:
    """A prompt that names a material; ``template`` is taken modulo their number."""
    each = MATERIALS[material]
    return TEMPLATES[template % len(TEMPLATES)].format(name=each.name, noun=each.noun, sound=each.sound)


def prompts(material: str) -> tuple[str, ...]:
    """Every prompt for a material."""
    return tuple(prompt(material, index) for index in range(len(TEMPLATES)))


def caption(scene: Scene) -> str:
    """All objects from left to right, and what they do."""
    return ", ".join(_phrase(each.material) for each in scene.objects)


def _phrase(material: Material) -> str:
    verb = "turning" if material.continuous else "hitting"
    return f"a {material.name} {material.noun} {verb} ({material.sound})"
