#!/usr/bin/env bash
# Makes sure that OpenGL works without a screen: installs it where that is missing and allowed, else says what to install.
# Exit status 0 only where it works. PYTHON names the interpreter that has moderngl.
set -u
# shellcheck source=.ci/debian.sh
. "$(dirname "$0")/debian.sh"
packages="libegl1 libgl1-mesa-dri"

works() {
    "${PYTHON:-python3}" - 2>/dev/null <<'PY'
import sys
import moderngl

backend = {"backend": "egl"} if sys.platform.startswith("linux") else {}
moderngl.create_context(standalone=True, require=330, **backend).release()
PY
}

works && exit 0
if may_install; then
    echo "OpenGL without a screen is missing: installing $packages."
    # shellcheck disable=SC2086
    install $packages
    works && exit 0
fi
case "$(uname -s)" in
    Linux) echo "No OpenGL without a screen here. On Debian or Ubuntu: sudo apt-get install $packages (elsewhere: Mesa with EGL)." ;;
    *) echo "No OpenGL 3.3 here: Unrender's tests need a graphics driver that has it." ;;
esac
exit 1
