"""Slides: an object nearer or farther along its ray, as large as it looks."""

from dataclasses import replace

from inverse.least_differences import Fit, Judge
from inverse.light import of_slot
from scenes import Scene, World

_SHARES = (0.92, 0.96, 1.04, 1.08)  # of the distance
_LEVEL = 0.3  # fall of a ray over its length above which a plane tells how far away its objects are


def slid(judge: Judge, fit: Fit, slot: int) -> Fit:
    """The fit with a slot's object nearer or farther and refined, where that is better; else the fit.

    Of what stands on a plane that is seen nearly edge-on a picture tells size over distance well, and the
    distance itself only by a pixel or two of height: least differences stay where they began.
    """
    if not _in_doubt(judge.world, fit.scene, slot):
        return fit
    own = of_slot(judge.world, slot)
    scenes = [_slid(judge.world, fit.scene, slot, share) for share in _SHARES]
    begun = [judge.polish(judge.fit(scene), free=own, iterations=1) for scene in scenes]
    best = judge.polish(min(begun, key=lambda f: f.total), free=own, iterations=4)
    return best if best.total < fit.total else fit


def _in_doubt(world: World, scene: Scene, slot: int) -> bool:
    away = scene.translation[0, slot] - scene.camera.translation[0]
    return world.placement == "upright" and world.scale.free and -float(away[1]) < _LEVEL * float(away.norm())


def _slid(world: World, scene: Scene, slot: int, share: float) -> Scene:
    """The scene with an object at a share of its distance, its height kept, within the world's ranges."""
    translation, scale, eye = scene.translation.clone(), scene.scale.clone(), scene.camera.translation[0]
    for k in (0, 2):
        there = float(eye[k] + share * (translation[0, slot, k] - eye[k]))
        translation[0, slot, k] = min(max(there, world.position[k].low), world.position[k].high)
    size = share * float(scale[0, slot])
    scale[0, slot] = min(max(size, world.scale.low), world.scale.high)
    return replace(scene, translation=translation, scale=scale)
