# shellcheck shell=bash
# Sourced by the scripts beside it. The one place that decides which Python runs, which virtual environment it
# runs in, and how that environment comes to be on a machine that has bash and Python with venv and nothing else.
set -euo pipefail

UV_VERSION=0.13.9
AIRFLOW_VERSIONS=(2.11 3.0 3.1 3.2 3.3)
DEFAULT_AIRFLOW=3.3
PLAYWRIGHT_VERSION=1.65.2
PILLOW_VERSION=13.0.0

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$ROOT"

unset PYTHONHOME PYTHONPATH VIRTUAL_ENV # of the caller: must not leak into ours
unset PYTHONDONTWRITEBYTECODE           # without .pyc every Airflow process starts five seconds slower
export UV_PYTHON_DOWNLOADS=never        # run what the machine has, or say what is missing
export PIP_DISABLE_PIP_VERSION_CHECK=1

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

# The Pythons that an Airflow version supports.
pythons_for() {
    case $1 in
        2.11 | 3.0) echo "3.10 3.11 3.12" ;;
        3.1 | 3.2 | 3.3) echo "3.10 3.11 3.12 3.13" ;;
        3.3-celery) echo "3.11 3.12 3.13" ;; # with the CeleryExecutor, for scripts/scale
        *) fail "Airflow '$1' is not supported here; choose one of: ${AIRFLOW_VERSIONS[*]}" ;;
    esac
}

# choose_python AIRFLOW [X.Y]: sets PYTHON_EXE and PYTHON_VERSION, the interpreter beneath an activated environment. Candidates are run, not only looked up: a pyenv
# shim may exist and fail, and Debian's python3 lacks ensurepip until python3-venv is installed.
choose_python() {
    local airflow=$1 wanted=${2:-} supported candidates candidate found version tried=""
    supported=$(pythons_for "$airflow")
    if [[ -n $wanted && " $supported " != *" $wanted "* ]]; then
        fail "Airflow $airflow does not support Python $wanted; it runs on: $supported"
    fi
    if [[ -n ${PYTHON:-} ]]; then
        candidates=("$PYTHON")
    elif [[ -n $wanted ]]; then
        candidates=("python$wanted" python3)
    else
        candidates=(python3 python3.12 python3.11 python3.13 python3.10)
    fi
    while read -r candidate; do
        if ! found=$("$candidate" -c '
import ensurepip, os, sys, venv
print("%d.%d" % sys.version_info[:2], os.path.realpath(sys._base_executable))' 2>/dev/null </dev/null); then
            tried+=$'\n'"  $candidate: does not run, or lacks venv"
            continue
        fi
        version=${found%% *}
        if [[ " ${wanted:-$supported} " == *" $version "* ]]; then
            PYTHON_VERSION=$version
            PYTHON_EXE=${found#* }
            return
        fi
        tried+=$'\n'"  $candidate: is Python $version"
    done < <(type -aP "${candidates[@]}") # all of each name: a shim that fails may hide an interpreter that works
    fail "no Python found for Airflow $airflow (wanted: ${wanted:-one of $supported}). Tried:${tried:- nothing, none of these is there: ${candidates[*]}}
Install one with its venv module (Debian and Ubuntu: apt-get install python3 python3-venv),
or name one: PYTHON=/path/to/python $0"
}

# The extras that the tests on an Airflow version want.
extras_for() {
    case $1 in
        2.*) echo "emulator,jsonpath" ;;
        *) echo "emulator,jsonpath,common-messaging" ;;
    esac
}

# Everything that an environment is made of. One that was made of something else is made anew.
fingerprint() {
    echo "$ROOT $PYTHON_EXE $1"
    cat pyproject.toml airflow_provider_cfqueues/__init__.py "constraints/airflow-$1.txt" scripts/lib.sh | cksum
}

is_current() {
    [[ -x $VENV/bin/python && -f $VENV/.fingerprint && $(<"$VENV/.fingerprint") == "$1" ]]
}

# lock: holds .venv/lock until unlock or the end of this script. Python takes the lock on a descriptor that this shell
# keeps open, so no flock command is needed and a killed script leaves no lock behind.
lock() {
    mkdir -p .venv
    exec 9>.venv/lock
    "$PYTHON_EXE" -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    print("Waiting for another script that sets up .venv ...", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)'
}

unlock() {
    exec 9>&-
}

# ensure_uv: sets UV. Call it with the lock held.
ensure_uv() {
    local home=$ROOT/.venv/uv-$UV_VERSION
    UV=$home/bin/uv
    if "$UV" --version >/dev/null 2>&1 && [[ -f $home/.complete ]]; then
        return
    fi
    rm -rf "$home"
    "$PYTHON_EXE" -m venv "$home"
    "$home/bin/python" -m pip install --quiet "uv==$UV_VERSION"
    touch "$home/.complete"
}

# build_venv AIRFLOW [WHEEL]: makes VENV, with the checkout or a wheel.
build_venv() {
    local airflow=$1 group=test package=(--editable ".[$(extras_for "$1")]")
    [[ ${2:-} ]] && package=("$2[$(extras_for "$1")]")
    case $airflow in
        "$DEFAULT_AIRFLOW") group=dev ;; # scripts/check shares the environment of scripts/test
        *-celery) group=celery ;;
    esac
    echo "Setting up ${VENV#"$ROOT"/} (needed once, and after a change of pyproject.toml or constraints) ..." >&2
    ensure_uv
    rm -rf "$VENV"
    "$UV" venv --quiet --python "$PYTHON_EXE" "$VENV"
    "$UV" pip install --quiet --python "$VENV/bin/python" \
        --constraints "constraints/airflow-$airflow.txt" --build-constraints "constraints/airflow-$airflow.txt" \
        "${package[@]}" --group "$group"
}

# ensure_venv AIRFLOW [X.Y]: sets VENV to a virtual environment with this checkout, Airflow and the test tools, and puts
# its commands first on PATH. The fingerprint is written last: an environment that was left half-made has none.
ensure_venv() {
    local airflow=$1 current
    choose_python "$airflow" "${2:-}"
    VENV=$ROOT/.venv/airflow-$airflow-py$PYTHON_VERSION
    current=$(fingerprint "$airflow")
    if ! is_current "$current"; then
        lock
        if ! is_current "$current"; then # another script may have made it while we waited
            build_venv "$airflow"
            echo "$current" >"$VENV/.fingerprint"
        fi
        unlock
    fi
    export PATH=$VENV/bin:$PATH VIRTUAL_ENV=$VENV
}

# ensure_wheel_venv AIRFLOW WHEEL: after ensure_venv; sets VENV to an environment with the wheel in it, made anew.
ensure_wheel_venv() {
    VENV=$ROOT/.venv/wheel-airflow-$1-py$PYTHON_VERSION
    lock
    build_venv "$1" "$2"
    unlock
    export PATH=$VENV/bin:$PATH VIRTUAL_ENV=$VENV
    export PYTHONSAFEPATH=1 # the checkout is the current folder: nobody may import the package from there
    [[ $PYTHON_VERSION != 3.10 ]] || fail "a wheel is tested on Python 3.11 or later"
}

# run_module NAME [arguments ...]: after ensure_venv; becomes a Python program of tests/.
run_module() {
    PYTHONPATH=$ROOT/tests exec "$VENV/bin/python" -m "$@"
}

# ensure_browser: after ensure_venv; exports CHROMIUM, and sets BROWSER_PYTHON to an environment that drives it. It is
# not Airflow's: what drives a browser has requirements of its own.
ensure_browser() {
    CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)} ||
        fail "no Chromium found (Debian: apt-get install chromium); or name one: CHROMIUM=/path/to/chromium $0"
    export CHROMIUM
    local home=$ROOT/.venv/browser-py$PYTHON_VERSION
    BROWSER_PYTHON=$home/bin/python
    if [[ ! -f $home/.complete ]]; then
        lock
        ensure_uv
        "$UV" venv --quiet --clear --python "$PYTHON_EXE" "$home"
        "$UV" pip install --quiet --python "$BROWSER_PYTHON" "playwright==$PLAYWRIGHT_VERSION" "pillow==$PILLOW_VERSION"
        touch "$home/.complete"
        unlock
    fi
}
