"""A recovery in three dimensions, in the browser: what `unrender view` opens."""

try:
    import viser  # noqa: F401  (only whether it is there)
except ImportError as error:
    raise ImportError('the viewer needs viser; install it with: pip install "unrender[view]"') from error

from inverse.view.exhibit import Exhibit, read_exhibit, recovery_beside
from inverse.view.viewer import Viewer

__all__ = ["Exhibit", "Viewer", "read_exhibit", "recovery_beside"]
