#!/usr/bin/env bash
# Makes sure that there is a browser for the tests that drive one: installs Chromium where that is missing and allowed, else
# says what to install. Exit status 0 only where there is one.
set -u
# shellcheck source=.ci/debian.sh
. "$(dirname "$0")/debian.sh"

found() {
    for program in chromium chromium-browser google-chrome; do
        command -v "$program" >/dev/null && "$program" --version >/dev/null 2>&1 && return 0
    done
    return 1
}

found && exit 0
if may_install; then
    echo "A browser is missing: installing chromium (about 110 MB)."
    install chromium
    found && exit 0
fi
echo "No Chromium here, so the tests that drive a browser are left out. On Debian: sudo apt-get install chromium"
exit 1
