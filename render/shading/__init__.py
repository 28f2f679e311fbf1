"""The shading model both engines share: Lambert, Blinn-Phong, ambient, textures, in linear light."""

from render.shading.colour import decode_srgb, encode_srgb
from render.shading.operator import Shadow, draw, shade
from render.shading.reference import shade_reference
from render.shading.textures import Textures, textures

__all__ = ["Shadow", "Textures", "decode_srgb", "draw", "encode_srgb", "shade", "shade_reference", "textures"]
