"""A small viewer in NumPy: draws what a .glb says in glTF's own words, and knows nothing of this project.

    python tests/glb_viewer.py SCENE.glb PICTURE.png WIDTH HEIGHT

Matt triangles of one colour each under one directional light, without shadows and textures; transparent where
nothing is.
"""

import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = 4  # per pixel and axis


def parts(path):
    """The JSON document of a .glb, and its binary part."""
    data = Path(path).read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def values(document, binary, index):
    """An accessor's numbers."""
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    kind = {5125: np.uint32, 5126: np.float32}[accessor["componentType"]]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}[accessor["type"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    return np.frombuffer(binary, kind, accessor["count"] * width, start).reshape(-1, width)


def turned(node):
    """The rotation of a node, whose quaternion is xyzw."""
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def triangles(document, binary):
    """Corners in the world [F, 3, 3] and colours [F, 3] of all that is there."""
    corners, colours = [np.zeros((0, 3, 3))], [np.zeros((0, 3))]
    for node in (n for n in document["nodes"] if "mesh" in n):
        for primitive in document["meshes"][node["mesh"]]["primitives"]:
            faces = values(document, binary, primitive["indices"]).reshape(-1, 3)
            at = values(document, binary, primitive["attributes"]["POSITION"]) * node.get("scale", (1, 1, 1))
            corners.append((at @ turned(node).T + node.get("translation", (0, 0, 0)))[faces])
            material = document["materials"][primitive["material"]]["pbrMetallicRoughness"]
            colour = np.array(material.get("baseColorFactor", (1, 1, 1, 1)))[:3].reshape(1, 1, 3)
            if "COLOR_0" in primitive["attributes"]:
                colour = colour * values(document, binary, primitive["attributes"]["COLOR_0"])[faces]
            colours.append(np.broadcast_to(colour.mean(1), (len(faces), 3)))
    return np.concatenate(corners), np.concatenate(colours)


def lit(document, corners, colours):
    """The colours under the file's light: lux over pi is what a matt surface sends back."""
    light = document["extensions"]["KHR_lights_punctual"]["lights"][0]
    node = next(n for n in document["nodes"] if "KHR_lights_punctual" in n.get("extensions", {}))
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return colours * light["intensity"] / math.pi * np.maximum(normal @ turned(node)[:, 2:], 0)


def projected(document, corners, width, height):
    """Corners as x, y [px] and inverse depth, by the file's camera; square pixels."""
    node = next(n for n in document["nodes"] if "camera" in n)
    focal = height / 2 / math.tan(document["cameras"][node["camera"]]["perspective"]["yfov"] / 2)
    x, y, z = np.moveaxis((corners - node["translation"]) @ turned(node), -1, 0)
    return np.stack([width / 2 - focal * x / z, height / 2 + focal * y / z, -1 / z], -1)


def drawn(corners, colours, width, height):
    """Premultiplied colours with alpha [H, W, 4] by a z-buffer."""
    picture, nearest = np.zeros((height, width, 4)), np.zeros((height, width))
    for (a, b, c), colour in zip(corners, colours, strict=True):
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0 or min(a[2], b[2], c[2]) <= 0:
            continue
        low = np.floor(np.min([a, b, c], 0)[:2]).clip(0, (width, height)).astype(int)
        high = np.ceil(np.max([a, b, c], 0)[:2]).clip(0, (width, height)).astype(int)
        y, x = np.mgrid[low[1] : high[1], low[0] : high[0]] + 0.5
        u = ((c[0] - b[0]) * (y - b[1]) - (c[1] - b[1]) * (x - b[0])) / area
        v = ((a[0] - c[0]) * (y - c[1]) - (a[1] - c[1]) * (x - c[0])) / area
        depth = u * a[2] + v * b[2] + (1 - u - v) * c[2]
        part = slice(low[1], high[1]), slice(low[0], high[0])
        seen = (u >= 0) & (v >= 0) & (u + v <= 1) & (depth > nearest[part])
        nearest[part][seen] = depth[seen]
        picture[part][seen] = [*colour, 1]
    return picture


def main(scene, picture, width, height):
    width, height = int(width), int(height)
    document, binary = parts(scene)
    corners, colours = triangles(document, binary)
    fine = width * SAMPLES, height * SAMPLES
    image = drawn(projected(document, corners, *fine), lit(document, corners, colours), *fine)
    image = image.reshape(height, SAMPLES, width, SAMPLES, 4).mean((1, 3))
    linear = np.clip(image[..., :3] / np.maximum(image[..., 3:], 1e-9), 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    levels = np.concatenate([encoded, image[..., 3:]], -1) * 255
    Image.fromarray(levels.round().astype(np.uint8)).save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
