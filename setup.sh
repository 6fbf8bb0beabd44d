#!/bin/sh
# Make a virtual environment from the pinned constraints. Usage: setup.sh DIRECTORY; PYTHON=… chooses one.
set -eu

fail() { echo "error: $1" >&2; exit 2; }

python=
for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    # Run it: a version manager may have a name on the path that starts nothing.
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "Python 3.11, 3.12 or 3.13 is needed, and none of '${PYTHON:-python3.11 python3.12 python3.13 python3}' is one; install it, or name it: make PYTHON=/path/to/python"

# LightFM has no wheel for Python 3.11 and is compiled there.
if "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then
    command -v "${CC:-cc}" >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 ||
        fail "a C compiler is needed to build LightFM on Python 3.11; install gcc (Debian: apt-get install gcc libc6-dev), or use Python 3.12"
    "$python" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' ||
        fail "the C headers of $python are needed to build LightFM; install them (Debian: apt-get install python3-dev), or use Python 3.12"
fi

"$python" -m venv --clear "$1" || fail "$python cannot make a virtual environment (Debian: apt-get install python3-venv)"
echo "Installing into $1 with $("$python" --version); the first time takes some minutes."
"$1/bin/python" -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
