"""report.html: all that is known of a recovery on one page, which needs no other file and no network."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from inverse.recovery import FoundObject, Hypothesis, Recovery
from inverse.recoveryfile import scene_json, world_name
from inverse.report.comparison import decibels, draw_difference
from inverse.report.embedded import data_uri, figure_uri, picture_uri
from inverse.report.loss import draw_loss
from inverse.report.marks import colour_of, draw_found
from inverse.report.refinement import animation
from inverse.table import HEAD, row
from scenes.files import atomic

# How the standard deviation of an entry of theta is said: unit, and what to multiply by
_UNITS = {
    **dict.fromkeys("xyz", ("mm", 1e3)),
    **dict.fromkeys(("yaw", "rotation_x", "rotation_y", "rotation_z"), ("°", math.degrees(1.0))),
    **dict.fromkeys((*"rgb", "scale"), ("%", 1e2)),
}


def write_report(recovery: Recovery, path: Path) -> None:
    """Write the page.

    Raises:
        OutputError: If the file cannot be written.
    """
    content = page(recovery)
    with atomic(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def page(recovery: Recovery) -> str:
    """The page as HTML, every picture in it as a data URI."""
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"The scene behind {Path(recovery.source).name or 'a picture'}"),
        facts=escape(_facts(recovery)),
        messages="\n".join(f'<p class="message">{escape(m)}</p>' for m in recovery.messages),
        pictures=_pictures(recovery),
        objects=_objects(recovery),
        surroundings=_surroundings(recovery),
        hypotheses=_hypotheses(recovery.hypotheses),
        animation=data_uri(animation(recovery), "gif"),
        loss=_loss(recovery),
        made=_made(recovery),
    )


def _facts(recovery: Recovery) -> str:
    count = len(recovery.objects)
    return (
        f"{count} object{'s' * (count != 1)} found; the engine's picture of them agrees to "
        f"{decibels(recovery.psnr)}; {recovery.renders} pictures drawn in {recovery.seconds:.1f} s."
    )


def _pictures(recovery: Recovery) -> str:
    from matplotlib.figure import Figure

    height, width = recovery.picture.shape[:2]
    panels = []
    for draw in (draw_found, draw_difference):
        figure = Figure(figsize=(4.0, 4.0 * height / width), dpi=150)
        draw(figure.add_axes((0.0, 0.0, 1.0, 1.0)), recovery)
        panels.append(figure_uri(figure))
    peak = float((recovery.image - recovery.picture).abs().mean(-1).max())
    return "\n".join(
        (
            _figure(panels[0], "The picture, what was found marked, with its axes: x red, y green, z blue"),
            _figure(picture_uri(recovery.image), "Recovered: the engine's picture of the scene", "pixels"),
            _figure(
                panels[1],
                f"Difference, at most {peak:.2f}; the scale ends at {max(peak, 0.1):.2f}",
            ),
        )
    )


def _objects(recovery: Recovery) -> str:
    if not recovery.objects:
        return "<p>Nothing was found.</p>"
    names = (*HEAD, "uncertainty")
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "\n".join(
        f"<tr>{''.join(_cells(recovery, found, number, names))}</tr>"
        for number, found in enumerate(recovery.objects)
    )
    return (
        f'<table class="objects"><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>\n'
        '<p class="faint">Uncertainties are standard deviations for the noise in the picture alone; '
        "a wrong asset or another engine's shading adds errors that they do not know of.</p>"
    )


def _cells(recovery: Recovery, found: FoundObject, number: int, names: Sequence[str]) -> Iterable[str]:
    said = dict(zip(HEAD, row(recovery, found), strict=True))
    said["uncertainty"] = ", ".join(_deviation(*pair) for pair in found.uncertainty.items())
    for name in names:
        content = escape(said[name])
        if name == "object":
            content = f"<span>{_swatch(colour_of(number))}{content}</span>"
        elif name == "colour" and content.startswith("#"):
            content = f"<span>{_swatch(content)}{content}</span>"
        elif name == "verdict":
            content = f'<span class="{found.verdict}">{content}</span>'
        yield f'<td data-label="{escape(name)}">{content}</td>'


def _deviation(name: str, value: Any) -> str:
    if isinstance(value, int | float) and name in _UNITS:
        unit, factor = _UNITS[name]
        return f"{name} ± {factor * value:.2g}\N{NO-BREAK SPACE}{unit}"
    return f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}"


def _surroundings(recovery: Recovery) -> str:
    said = scene_json(recovery.scene, recovery.world)
    camera, light = said["camera"], said["lights"][0]
    eye = [line[3] for line in camera["world_from_camera"][:3]]
    sight = [-line[2] for line in camera["world_from_camera"][:3]]
    elevation = math.degrees(math.asin(max(-1.0, min(1.0, light["direction"][1]))))
    azimuth = math.degrees(math.atan2(light["direction"][0], light["direction"][2]))
    return _listed(
        {
            "camera": f"at {_vector(eye)} m, looks along {_vector(sight)}",
            "its picture": f"{camera['width']} x {camera['height']} px, "
            f"focal lengths {camera['fx']:.1f} and {camera['fy']:.1f} px, "
            f"principal point ({camera['cx']:.1f}, {camera['cy']:.1f}) px",
            "light": f"from azimuth {azimuth:.1f}°, elevation {elevation:.1f}°; "
            f"strength {light['intensity']:.3f}, ambient {light['ambient']:.3f} (linear)",
            "background": f"{_vector(said['background'])} (linear)",
        }
    )


def _hypotheses(hypotheses: Sequence[Hypothesis]) -> str:
    """Scenes that give the same picture, where there is more than one."""
    if len(hypotheses) < 2:
        return ""
    shown = []
    for hypothesis in hypotheses:
        caption = f"{hypothesis.note or 'another scene'}: loss {hypothesis.loss:.2g}"
        if hypothesis.image is None:
            shown.append(f"<p>{escape(caption)}</p>")
        else:
            shown.append(_figure(picture_uri(hypothesis.image), caption, "pixels"))
    return (
        "<h2>Hypotheses</h2>\n<p>These scenes explain the picture as well as one another.</p>\n"
        f'<div class="pictures small">\n{chr(10).join(shown)}\n</div>'
    )


def _loss(recovery: Recovery) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=130, layout="constrained")
    draw_loss(figure.subplots(), recovery)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure_uri(figure)


def _made(recovery: Recovery) -> str:
    command = f"<pre>{escape(recovery.command)}</pre>\n" if recovery.command else ""
    return command + _listed(
        {
            "picture": recovery.source or "given as numbers",
            "world": world_name(recovery.world) or recovery.world.name,
            "engine": recovery.engine,
            "strategy": f"{recovery.strategy}, {recovery.operator}"
            if recovery.strategy == "manual"
            else recovery.strategy,
            "seed": str(recovery.seed),
            "program": f"Unrender {version('unrender')}",
        }
    )


def _figure(source: str, caption: str, kind: str = "") -> str:
    return (
        f'<figure><img class="{kind}" src="{source}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _listed(entries: dict[str, str]) -> str:
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in entries.items())
    return f"<table>{rows}</table>"


def _swatch(colour: str) -> str:
    return f'<i class="swatch" style="background:{colour}"></i>'


def _vector(values: Sequence[float]) -> str:
    return f"({', '.join(f'{round(v, 3) + 0.0:.3f}' for v in values)})"
