#!/usr/bin/env bash
# Makes sure that there is a browser for the tests that drive one: installs Chromium where that is missing and allowed, else
# says what to install. Exit status 0 only where there is one.
set -u

found() {
    for program in chromium chromium-browser google-chrome; do
        command -v "$program" >/dev/null && "$program" --version >/dev/null 2>&1 && return 0
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

found && exit 0
if command -v apt-get >/dev/null && as_root true 2>/dev/null; then
    echo "A browser is missing: installing chromium (about 110 MB)."
    # The index of packages may be absent (a fresh container) or old: refreshed only where installing fails without.
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get install -y -q --no-install-recommends chromium >/dev/null 2>&1 ||
        { as_root apt-get update -q >/dev/null && as_root apt-get install -y -q --no-install-recommends chromium >/dev/null; }
    found && exit 0
fi
echo "No Chromium here, so the tests that drive a browser are left out. On Debian: sudo apt-get install chromium"
exit 1
