"""Stage: one scene in a viser server's 3D view, changed in place as another scene is shown."""

import math

import numpy as np
import roma
import torch
import viser
from jaxtyping import Float, UInt8
from torch import Tensor

from inverse.recoveryfile import rigid
from scenes.gltf import asset_glb
from scenes.scene import Camera, Light, Scene
from scenes.world import World

WHITE = [1.0, 1.0, 1.0]
FRUSTUM = 0.35  # the camera's pyramid is that share of its distance to the objects long
SUNLIGHT = (255, 190, 40)


class Stage:
    """The objects of a scene as textured meshes, its scenery, light, and camera with the picture in it.

    The world's frame is the view's frame. Shading follows the scene's light; highlights are the browser's.

    Args:
        server: Where it is shown.
        world: Of the scenes to come.
        picture: What the camera saw, [H, W, 3], or None.
    """

    def __init__(
        self,
        server: viser.ViserServer,
        world: World,
        picture: UInt8[np.ndarray, "row column 3"] | None,
    ) -> None:
        self.server, self.world, self.picture = server, world, picture
        self.objects: dict[int, viser.GlbHandle] = {}
        self.labels: dict[int, viser.LabelHandle] = {}
        self.hidden: set[int] = set()
        self.labelled = True
        self._looks: dict[int, tuple[int, tuple[float, ...]]] = {}
        view = server.scene
        view.set_up_direction("+y")
        view.configure_default_lights(False)
        view.configure_environment_map(None)
        for asset in world.scenery:
            view.add_glb(f"/scenery/{asset.name}", asset_glb(asset, WHITE), cast_shadow=False)
        self.sun = view.add_light_directional("/light/directional", cast_shadow=True)
        self.ambient = view.add_light_ambient("/light/ambient")
        self.ray: viser.ArrowsHandle | None = None
        self.camera: viser.CameraFrustumHandle | None = None

    def show(self, scene: Scene) -> None:
        """Show this scene (B = 1) in place of the last one."""
        scene = scene.detach().to("cpu").unit()
        with self.server.atomic():
            for slot in range(scene.slots):
                self._show_object(scene, slot)
            self._show_light(scene.light, middle(scene), reach(scene))
            self._show_camera(scene.camera, reach(scene))

    def set_visible(self, slot: int, visible: bool) -> None:
        """Show or hide the object of a slot, in this scene and those to come."""
        (self.hidden.discard if visible else self.hidden.add)(slot)
        self._refresh(slot)

    def set_labelled(self, labelled: bool) -> None:
        """Show or hide the objects' names."""
        self.labelled = labelled
        for slot in self.labels:
            self._refresh(slot)

    def set_camera_visible(self, visible: bool) -> None:
        """Show or hide the camera and the picture in it."""
        if self.camera is not None:
            self.camera.visible = visible

    def _show_object(self, scene: Scene, slot: int) -> None:
        index = int(scene.asset[0, slot])
        look = (index, tuple(scene.colour[0, slot].clamp(0.0, 1.0).tolist()))
        if slot in self.objects and look != self._looks[slot]:
            self.objects.pop(slot).remove()
            self.labels.pop(slot).remove()
        if index < 0:
            return
        asset = self.world.assets[index]
        if slot not in self.objects:
            self._looks[slot] = look
            data = asset_glb(asset, list(look[1]))
            self.objects[slot] = self.server.scene.add_glb(f"/objects/{slot}", data)
            self.labels[slot] = self.server.scene.add_label(
                f"/labels/{slot}", asset.name, anchor="bottom-center", font_screen_scale=0.8
            )
            self._refresh(slot)
        mesh, scale = self.objects[slot], float(scene.scale[0, slot])
        mesh.position, mesh.wxyz = scene.translation[0, slot].numpy(), _wxyz(scene.rotation[0, slot])
        mesh.scale = scale
        pose = rigid(scene.rotation[0, slot], scene.translation[0, slot]).numpy()
        heights = asset.vertices @ pose[1, :3] * scale
        centre = pose[:3, :3] @ asset.centre * scale + pose[:3, 3]
        self.labels[slot].position = (centre[0], pose[1, 3] + heights.max() + 0.15 * asset.radius, centre[2])

    def _refresh(self, slot: int) -> None:
        if slot in self.objects:
            shown = slot not in self.hidden
            self.objects[slot].visible = shown
            self.labels[slot].visible = shown and self.labelled

    def _show_light(self, light: Light, around: Float[np.ndarray, "3"], size: float) -> None:
        direction = light.direction[0].numpy()
        # The browser's Lambert surface divides by pi what falls on it.
        self.sun.position, self.sun.intensity = 10.0 * direction, math.pi * float(light.intensity[0])
        self.ambient.intensity = math.pi * float(light.ambient[0])
        ends = around + size * np.stack([0.5 * direction, 0.34 * direction])
        if self.ray is None:
            self.ray = self.server.scene.add_arrows(
                "/light/direction",
                ends[None],
                SUNLIGHT,
                shaft_radius=0.006 * size,
                head_radius=0.016 * size,
                head_length=0.04 * size,
            )
        self.ray.points = ends[None].astype(np.float32)

    def _show_camera(self, camera: Camera, size: float) -> None:
        if self.camera is None:
            self.camera = self.server.scene.add_camera_frustum(
                "/camera",
                field_of_view(camera),
                camera.width / camera.height * float(camera.focal[0, 1] / camera.focal[0, 0]),
                scale=1.0,
                thickness=0.0025 * size,
                color=(60, 60, 70),
                image=self.picture,
                cast_shadow=False,
                receive_shadow=False,
            )
        self.camera.fov = field_of_view(camera)
        # viser makes pyramids of equal volume: 1/3 of width times height times length is scale cubed.
        half_height = math.tan(self.camera.fov / 2.0)
        self.camera.scale = FRUSTUM * size * (half_height**2 * self.camera.aspect / 3.0) ** (1.0 / 3.0)
        self.camera.position = camera.translation[0].numpy()
        self.camera.wxyz = sight(camera)


def field_of_view(camera: Camera) -> float:
    """The vertical angle of view [rad] of a camera whose principal point is the picture's middle."""
    return 2.0 * math.atan(camera.height / 2.0 / float(camera.focal[0, 1]))


def sight(camera: Camera) -> Float[np.ndarray, "4"]:
    """world_from_camera as wxyz, for a camera that looks along +z with y down, as viser's do."""
    half_turn = torch.tensor([1.0, 0.0, 0.0, 0.0])  # about x
    return _wxyz(roma.quat_product(camera.rotation[0].detach().cpu(), half_turn))


def middle(scene: Scene) -> Float[np.ndarray, "3"]:
    """The mean position [m] of the objects; a point before the camera where there is none."""
    filled = scene.asset[0] >= 0
    if bool(filled.any()):
        return scene.translation[0, filled].mean(0).detach().cpu().numpy()
    camera = scene.camera
    ahead = roma.quat_action(camera.rotation[0], torch.tensor([0.0, 0.0, -1.0]))
    return (camera.translation[0] + ahead).detach().cpu().numpy()


def reach(scene: Scene) -> float:
    """The distance [m] from the camera to the middle of the scene."""
    return float(np.linalg.norm(middle(scene) - scene.camera.translation[0].detach().cpu().numpy()))


def _wxyz(xyzw: Float[Tensor, "4"]) -> Float[np.ndarray, "4"]:
    quaternion: np.ndarray = xyzw.detach().cpu().roll(1).numpy()
    return quaternion
