"""The tensors of a scene by name, and a scene with other ones: for figures in files, and for gradients."""

from dataclasses import replace

PARTS = {
    "": ("rotation", "translation", "scale", "colour", "background"),
    "camera": ("rotation", "translation", "focal", "centre"),
    "light": ("direction", "intensity", "ambient"),
}


def tensors(scene):
    """All that may carry gradients: rotation, ..., camera/focal, ..., light/ambient."""
    found = {}
    for part, names in PARTS.items():
        owner = getattr(scene, part) if part else scene
        found |= {f"{part}/{name}".lstrip("/"): getattr(owner, name) for name in names}
    return found


def with_tensors(scene, new):
    """The scene with some of its tensors exchanged."""
    for key, tensor in new.items():
        *part, name = key.split("/")
        if part:
            scene = replace(scene, **{part[0]: replace(getattr(scene, part[0]), **{name: tensor})})
        else:
            scene = replace(scene, **{name: tensor})
    return scene


def with_leaves(scene):
    """The scene with leaves of autograd for all of its tensors, and these by name."""
    leaves = {key: tensor.detach().clone().requires_grad_() for key, tensor in tensors(scene).items()}
    return with_tensors(scene, leaves), leaves


def gradients(module, scene, cotangent):
    """The module's picture, and the gradient of each of the scene's tensors under a cotangent, detached."""
    scene, leaves = with_leaves(scene)
    image = module(scene)
    image.backward(cotangent.to(image))
    return image.detach(), {key: leaf.grad for key, leaf in leaves.items()}
