"""What a comparison has measured so far, on disk: a run that was interrupted goes on where it stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scenes.files import OutputError, atomic, output_folder

FORMAT = "unrender-comparison/1"


class Ledger:
    """Measurements by name, each written as soon as it is made.

    Args:
        folder: Made where it is missing.
        settings: Everything the measurements depend on, as JSON. A folder that holds measurements of other
            settings is refused.

    Raises:
        OutputError: If the folder cannot be used.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path = output_folder(folder) / "measurements.json"
        self.settings: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **settings}))
        self.rows: dict[str, Any] = {}
        if self.path.exists():
            self._read()

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """The measurement called `name`, kept or made now by `measure()` and kept; as JSON gives it back."""
        if name not in self.rows:
            self.rows[name] = json.loads(json.dumps(measure()))
            with atomic(self.path) as temporary:
                temporary.write_text(json.dumps({"settings": self.settings, "rows": self.rows}))
        return self.rows[name]

    def _read(self) -> None:
        try:
            kept = json.loads(self.path.read_text())
            settings, rows = kept["settings"], kept["rows"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self.path} is no comparison's file; remove it or choose another folder"
            ) from error
        differ = sorted(k for k in {*settings, *self.settings} if settings.get(k) != self.settings.get(k))
        if differ:
            raise OutputError(
                f"{self.path.parent} holds a comparison of other settings ({', '.join(differ)}): "
                "choose another folder, or remove it to begin anew"
            )
        self.rows = rows
