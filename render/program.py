"""Programs: started, waited for, ended with all that they started, and quoted where they fail."""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from render.engine import EngineError

_GRACE = 2.0  # [s] that a program has to tidy up after it was asked to end
_LINES, _CHARACTERS = 8, 2000  # most of a program's own output that an error shows


class Program:
    """One run of a program."""

    def __init__(self, arguments: Sequence[str], *, log: Path, timeout: float) -> None:
        """Start it, without a shell and without input.

        Args:
            arguments: The program, then its arguments.
            log: File for what it writes to stdout and stderr, in one.
            timeout: Longest that it may take from now [s].

        Raises:
            EngineError: If it cannot be run.
        """
        self._arguments, self._log = arguments, log
        self._timeout, self._deadline = timeout, time.monotonic() + timeout
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a process group of its own, to be ended as a whole
                )
        except OSError as error:
            raise EngineError(f"{arguments[0]!r} cannot be run: {error.strerror or error}") from None

    def wait(self) -> None:
        """Return when it has ended well.

        Raises:
            EngineError: If it ends otherwise, or takes too long; then it is ended.
        """
        try:
            status = self._process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.end()
            raise self.error(f"took longer than {self._timeout:g} s and was ended") from None
        if status != 0:
            raise self.error(_ending(status))

    def end(self) -> None:
        """End it with all that it started: politely, so that it tidies up, then by force."""
        if self._process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has no other
        self._process.wait()

    def error(self, what: str) -> EngineError:
        """The error that says what the program did, with the last lines that it wrote."""
        with self._log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _CHARACTERS))
            said = log.read().decode(errors="replace").strip().splitlines()[-_LINES:]
        quoted = "".join(f"\n  {line}" for line in said)
        lines = f"its last lines:{quoted}" if said else "it wrote nothing to stdout and stderr"
        return EngineError(f"the program {what}; {lines}\nThe command was: {shlex.join(self._arguments)}")

    def _signal(self, number: int) -> None:
        """Signal the program's group, or where there are no groups (Windows) the program."""
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)


def _ending(status: int) -> str:
    """How a program ended that did not end well."""
    names = {s.value: s.name for s in signal.Signals}
    if status < 0:
        return f"was ended by {names.get(-status, f'signal {-status}')}"
    # Shells, and so xvfb-run, report a program that a signal ended by 128 plus the signal's number.
    hint = f" ({names[status - 128]})" if status - 128 in names else ""
    return f"ended with status {status}{hint}"
