"""What a comparison found, and its table as Markdown and CSV."""

import csv
import io
from dataclasses import dataclass, field
from statistics import median

from inverse.compare.agreement import Agreement
from inverse.compare.cost import Cost
from inverse.compare.problems import KINDS
from inverse.compare.race import PATIENCE, Budget, Race
from inverse.compare.truth import RIGHT_DEGREES, RIGHT_SHARE


@dataclass
class Result:
    """Of one strategy.

    Attributes:
        name: Of the strategy, its operator included.
        cost: Of one gradient of one scene; None where there are no gradients.
        agreements: One row per scene and kind.
        races: By what their budget was of, "renders" or "seconds".
        note: Why something is missing, else "".
    """

    name: str
    cost: Cost | None = None
    agreements: list[Agreement] = field(default_factory=list)
    races: dict[str, Race] = field(default_factory=dict)
    note: str = ""

    def of(self, kind: str) -> tuple[float, float] | None:
        """Median cosine and relative length of a kind of parameter, None where nothing of it was compared."""
        rows = [a for a in self.agreements if a.kind == kind]
        return (median(a.cosine for a in rows), median(a.length for a in rows)) if rows else None


def markdown(results: list[Result], budgets: list[Budget]) -> str:
    """The table for people; what its columns mean stands under it."""
    kinds = [k for k in KINDS if any(r.of(k) for r in results)]
    head = ["strategy", *kinds, "pictures", "ms", "MB"]
    head += [f"right after {_amount(b)}" for b in budgets]
    head += ["turn off", "place off", "dB"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for result in results:
        lines.append("| " + " | ".join(_cells(result, kinds, budgets)) + " |")
    last = budgets[-1].of
    lines += [
        "",
        "Position to camera: median cosine with central differences of the engine's supersampled loss, in "
        "brackets the length over theirs. Pictures, ms, MB: what one gradient of one scene costs. "
        f"Right: share of the problems in which every object seen ends within {RIGHT_DEGREES:g}° and "
        f"{RIGHT_SHARE:.0%} of the distance; gradients are followed for {PATIENCE:g} s a problem at most. "
        f"The last three: medians at the end of the race on {last}.",
        *(f"{r.name}: {r.note}" for r in results if r.note),
    ]
    return "\n".join(lines) + "\n"


def table(results: list[Result], budgets: list[Budget]) -> str:
    """The same for programs: CSV, one line per strategy."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["strategy"] + [f"{kind}_{what}" for kind in KINDS for what in ("cosine", "length")]
    head += ["renders", "seconds", "megabytes"]
    for b in budgets:
        head += [f"{name}_{b.of}" for name in ("right", "degrees", "share", "psnr")]
    writer.writerow([*head, "note"])
    for r in results:
        row: list[object] = [r.name]
        for kind in KINDS:
            row += r.of(kind) or ("", "")
        row += ["", "", ""] if r.cost is None else [r.cost.renders, r.cost.seconds, r.cost.megabytes]
        for b in budgets:
            race = r.races.get(b.of)
            row += [""] * 4 if race is None else [race.laps[-1][1], *_ends(race)]
        writer.writerow([*row, r.note])
    return text.getvalue()


def _cells(result: Result, kinds: list[str], budgets: list[Budget]) -> list[str]:
    cells = [result.name]
    for kind in kinds:
        found = result.of(kind)
        cells.append("" if found is None else f"{found[0]:.3f} ({found[1]:.2f})")
    cost = result.cost
    if cost is None:
        cells += ["", "", ""]
    else:
        memory = "" if cost.megabytes is None else f"{cost.megabytes:.1f}"
        cells += [str(cost.renders), f"{1e3 * cost.seconds:.1f}", memory]
    races = [result.races.get(b.of) for b in budgets]
    cells += ["" if r is None else f"{r.laps[-1][1]:.0%}" for r in races]
    if races[-1] is None:
        return [*cells, "", "", ""]
    degrees, share, decibels = _ends(races[-1])
    return [*cells, f"{degrees:.2g}°", f"{100 * share:.2g} %", f"{decibels:.0f}"]


def _ends(race: Race) -> tuple[float, float, float]:
    return median(race.degrees), median(race.share), median(race.psnr)


def _amount(budget: Budget) -> str:
    return f"{budget.amount:g} {'pictures' if budget.of == 'renders' else 's'}"
