"""compare: every strategy on one engine, the same scenes, the same budgets."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from inverse.compare.agreement import agreements, loss_gradient, pixel_steps
from inverse.compare.cost import Cost, Counted, cost
from inverse.compare.ledger import Ledger
from inverse.compare.methods import Method
from inverse.compare.pictures import Start, View, write_curves, write_page
from inverse.compare.problems import Off, Problems, around, draw, opened
from inverse.compare.race import Budget, Race, race
from inverse.compare.result import Result, markdown, table
from inverse.differences import central_differences
from render.engine import open_engine
from scenes import Scene, World
from scenes.files import atomic

_CHUNK = 4  # scenes whose gradients are measured between two saves
_PARTS = 100  # of the progress bar, for each measurement


@dataclass(frozen=True)
class Settings:
    """How much is compared."""

    scenes: int = 12  # whose gradients are held to differences
    problems: int = 8  # raced
    renders: float = 200.0  # pictures that each problem may cost in the first race
    seconds: float = 1.5  # that each may cost in the second
    height: int = 64  # [px] of the pictures
    sigma: float = 2.0  # [px] blur of the loss whose gradients are compared
    samples: int = 4  # per axis, of the pictures whose differences are the measure
    turn_degrees: float = 15.0  # starts are off by this turn,
    shift: float = 0.02  # this share of the distance,
    others: float = 0.05  # and this share of the range of every other free number
    engine: str = "auto"
    seed: int = 0

    @property
    def budgets(self) -> list[Budget]:
        """Of the two races."""
        return [Budget("renders", self.renders), Budget("seconds", self.seconds)]

    @property
    def off(self) -> Off:
        """How far starts are off."""
        return Off(self.turn_degrees, self.shift, self.others)


def compare(
    world: World,
    methods: Sequence[Method],
    out: Path,
    *,
    settings: Settings = Settings(),
    recovered: tuple[Scene, Float[Tensor, "row column 3"]] | None = None,
    progress: bool = False,
) -> list[Result]:
    """Compare strategies and write the table, the curves and the page of pictures.

    For gradients, every kind of parameter is free, see `opened`; races are about what the world itself leaves
    free. All that is measured is kept in `out`: after an interruption the same call goes on.

    Args:
        world: What is free, and which assets there are.
        methods: What is compared, see `inverse.compare.methods`.
        out: Folder for comparison.md, comparison.csv, curves.png, strategies.png and measurements.json.
        settings: See `Settings`.
        recovered: One scene and the picture that it explains, in place of random ones: starts are around it.
        progress: Show a progress bar on stderr.

    Returns:
        One result for each method, in their order.

    Raises:
        OutputError: If `out` cannot be written, or holds a comparison of other settings.
        EngineError: If the engine cannot be opened.
    """
    picture = None if recovered is None else zlib.crc32(recovered[1].numpy().tobytes())
    about = {"world": world.name, "picture": picture, "methods": [method.name for method in methods]}
    ledger = Ledger(out, {**asdict(settings), **about})
    total = _PARTS * (3 * len(methods) + 1)
    form = "{l_bar}{bar}| {elapsed}, {remaining} to go"
    with tqdm(total=total, disable=not progress, bar_format=form, leave=False) as bar:
        return _Comparison(world, methods, ledger, settings, recovered, bar).write(out)


class _Comparison:
    def __init__(
        self,
        world: World,
        methods: Sequence[Method],
        ledger: Ledger,
        settings: Settings,
        recovered: tuple[Scene, Tensor] | None,
        bar: "tqdm[None]",
    ) -> None:
        self.world, self.methods, self.ledger, self.settings = world, methods, ledger, settings
        self.recovered, self.bar = recovered, bar
        camera = world.camera
        self.size = (settings.height, max(1, round(settings.height * camera.width / camera.height)))

    def write(self, out: Path) -> list[Result]:
        """Measure what is not kept yet, and write everything."""
        results = [Result(method.name, note=method.note) for method in self.methods]
        budgets = self.settings.budgets
        start, views = self._gradients(results)
        ends = self._races(results)
        write_curves(results, budgets, out / "curves.png")
        write_page(
            start, [replace(v, end=e) for v, e in zip(views, ends, strict=True)], out / "strategies.png"
        )
        _write(out / "comparison.md", markdown(results, budgets))
        _write(out / "comparison.csv", table(results, budgets))
        return results

    def _problems(self, world: World, engine: Counted, count: int) -> Problems:
        s = self.settings
        if self.recovered is None:
            return draw(world, engine, count, off=s.off, seed=s.seed, size=self.size)
        scene, image = self.recovered
        return around(world, scene, image, count, off=s.off, seed=s.seed, size=self.size)

    def _keep(self, name: str, measure: Callable[[], Any]) -> Any:
        """A measurement, kept or made; the bar has a part for each."""
        self.bar.set_description(name)
        begun = self.bar.n
        kept = self.ledger.get(name, measure)
        self.bar.update(begun + _PARTS - self.bar.n)
        return kept

    def _gradients(self, results: list[Result]) -> tuple[Start, list[View]]:
        """Fill in agreement and cost; what the page shows of the first problem."""
        world, s = opened(self.world), self.settings
        with Counted(open_engine(s.engine, world, size=self.size)) as engine:
            problems = self._problems(world, engine, s.scenes)
            reference = torch.tensor(self._keep("differences", partial(self._differences, engine, problems)))
            steps, views = pixel_steps(engine, problems), []
            for method, result in zip(self.methods, results, strict=True):
                if method.make is None or method.seen is None:
                    self.bar.update(_PARTS)
                    views.append(View(method.name))
                    continue
                module = method.make(engine)
                measured = partial(self._measured, engine, module, problems)
                kept = self._keep(f"{method.name}: gradients", measured)
                gradient = torch.tensor(kept["gradient"])
                result.cost = Cost(**kept["cost"])
                rows = agreements(problems, gradient, reference, steps)
                result.agreements = [agreement for row in rows for agreement in row]
                seen = method.seen(module, problems[:1], s.sigma)
                views.append(View(method.name, seen, gradient[0] * steps[0]))
            drawn = engine.render(problems.start[0], size=self.size).rgb[0]
            return Start(problems[:1], drawn, reference[0] * steps[0], steps[0]), views

    def _differences(self, engine: Counted, problems: Problems) -> list[list[float]]:
        from render.blur import blurred_squared_error

        rows: list[list[float]] = []
        steps = pixel_steps(engine, problems)
        for b in range(0, len(problems), _CHUNK):
            part = problems[b : b + _CHUNK]
            loss = partial(blurred_squared_error, target=part.picture.double(), sigma=self.settings.sigma)
            rows += central_differences(
                engine,
                part.start,
                loss,
                0.5 * steps[b : b + _CHUNK],
                samples=self.settings.samples,
                size=self.size,
            ).tolist()
            self.bar.update(round(_PARTS * len(rows) / len(problems)) - self.bar.n % _PARTS)
        return rows

    def _measured(self, engine: Counted, module: torch.nn.Module, problems: Problems) -> dict[str, Any]:
        one = problems[:1]
        spent = cost(engine, lambda: loss_gradient(module, one, self.settings.sigma))
        rows = [
            loss_gradient(module, problems[b : b + _CHUNK], self.settings.sigma)
            for b in range(0, len(problems), _CHUNK)
        ]
        return {"cost": asdict(spent), "gradient": torch.cat(rows).tolist()}

    def _races(self, results: list[Result]) -> list[tuple[Tensor, Tensor]]:
        """Fill in the races; the first problem's picture, and the engine's where each method ends."""
        with Counted(open_engine(self.settings.engine, self.world, size=self.size)) as engine:
            problems, ends = self._problems(self.world, engine, self.settings.problems), []
            for method, result in zip(self.methods, results, strict=True):
                for budget in self.settings.budgets:
                    raced = partial(self._race, engine, problems, method, budget)
                    kept = self._keep(f"{method.name}: race on {budget.of}", raced)
                    result.races[budget.of] = Race(**kept)
                theta = torch.tensor(result.races["renders"].theta[:1])
                end = engine.render(self.world.unpack(theta, like=problems.start[0]), size=self.size)
                ends.append((problems.picture[0], end.rgb[0]))
            return ends

    def _race(self, engine: Counted, problems: Problems, method: Method, budget: Budget) -> dict[str, Any]:
        begun = self.bar.n

        def shown(spent: float) -> None:
            self.bar.update(begun + round(_PARTS * spent) - self.bar.n)

        return asdict(race(engine, problems, budget, method.run, shown))


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
