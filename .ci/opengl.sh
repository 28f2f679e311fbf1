#!/usr/bin/env bash
# Makes sure that OpenGL works without a screen: installs it where that is missing and allowed, else says what to install.
# Exit status 0 only where it works. PYTHON names the interpreter that has moderngl.
set -u
packages="libegl1 libgl1-mesa-dri"

works() {
    "${PYTHON:-python3}" - 2>/dev/null <<'PY'
import sys
import moderngl

backend = {"backend": "egl"} if sys.platform.startswith("linux") else {}
moderngl.create_context(standalone=True, require=330, **backend).release()
PY
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

works && exit 0
if command -v apt-get >/dev/null && as_root true 2>/dev/null; then
    echo "OpenGL without a screen is missing: installing $packages."
    # The index of packages may be absent (a fresh container) or old: refreshed only where installing fails without.
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    as_root apt-get install -y -q --no-install-recommends $packages >/dev/null 2>&1 ||
        { as_root apt-get update -q >/dev/null && as_root apt-get install -y -q --no-install-recommends $packages >/dev/null; }
    works && exit 0
fi
case "$(uname -s)" in
    Linux) echo "No OpenGL without a screen here. On Debian or Ubuntu: sudo apt-get install $packages (elsewhere: Mesa with EGL)." ;;
    *) echo "No OpenGL 3.3 here: Unrender's tests need a graphics driver that has it." ;;
esac
exit 1
