#!/usr/bin/env bash
# Sets up what the Makefile's targets need, on a machine with little more than Python.
#
#   tools/bootstrap.sh environment LOCKFILE   .venv with the packages of a lock file
#   tools/bootstrap.sh rabbitmq               Debian's rabbitmq-server, if missing
#   tools/bootstrap.sh redis                  its valkey-server or redis-server, for tests
#
# As root on Debian it installs what the system lacks; otherwise it says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv
RABBITMQ_SCRIPT=/usr/lib/rabbitmq/bin/rabbitmq-server
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { echo "[set-up] $*"; }
fail() {
    echo "[set-up] $*" >&2
    exit 1
}

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: quiet unless it fails.
apt_install() {
    local log
    log=$(mktemp)
    say "apt-get install $*"
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends "$@"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# apt_install_idle PACKAGE: a server that runs only where Stepwire starts one of its own.
apt_install_idle() {
    # The package starts the server unless this says no.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        trap "rm -f $policy" EXIT
    fi
    apt_install "$1" || return 1
    if command -v systemctl >/dev/null; then
        # Not at the next start of the machine either.
        systemctl --quiet disable "$1" 2>/dev/null || true
    fi
}

# A Python that is new enough: $PYTHON if set, else the first one found.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13 python3.14}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "No Python 3.11 or newer found${PYTHON:+ as $PYTHON}; install one, or set PYTHON."
}

make_venv() {
    local python
    if [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        local package
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        can_install || fail "$python cannot make environments. As root: apt-get install $package"
        apt_install "$package" || fail "$package could not be installed."
    fi
    say "$VENV with $("$python" --version)"
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
}

# Turns pip's output into one line that counts, or a line now and then in a log.
count_packages() {
    awk -v total="$1" -v terminal="$([ -t 1 ] && echo 1 || echo 0)" '
        function show(text) { printf "\r\033[K  %s", text; fflush() }
        /^Collecting |^Requirement already satisfied: / {
            count++
            name = ($1 == "Collecting") ? $2 : $4
            if (terminal) show(count "/" total " " name)
            else if (count % 20 == 0) print "  " count "/" total
        }
        /^Installing collected packages/ {
            if (terminal) show("installing ...")
            else print "  installing ..."
        }
        END { if (terminal) printf "\r\033[K"; fflush() }'
}

# with_pip_settings COMMAND...: runs uv with what pip's files and variables say of where
# packages come from, since uv reads none of them.
with_pip_settings() {
    local configured pair value settings=()
    configured=$("$VENV/bin/python" -m pip config list)
    for pair in index-url=UV_DEFAULT_INDEX extra-index-url=UV_INDEX find-links=UV_FIND_LINKS \
        cert=SSL_CERT_FILE; do
        value=$(sed -n "s/^[^=]*\.${pair%=*}='\(.*\)'\$/\1/p" <<<"$configured" | tail -n 1)
        [ -z "$value" ] || settings+=("${pair#*=}=$value")
    done
    env "${settings[@]}" "$@"
}

# uv_install LOCKFILE: fails where the lock file has no uv, or uv cannot install the rest.
uv_install() {
    local lock=$1
    grep -q '^uv==' "$lock" || return
    "$VENV/bin/python" -m pip install --quiet --no-deps --require-hashes \
        --requirement <(sed -n '/^uv==/,/[^\\]$/p' "$lock") &&
        with_pip_settings "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" \
            --no-deps --require-hashes --requirement "$lock"
}

pip_install() {
    "$VENV/bin/python" -m pip install --no-deps --require-hashes --requirement "$1" |
        count_packages "$2"
}

environment() {
    local lock=$1 total started=$SECONDS
    make_venv
    total=$(grep -cE '^[a-zA-Z0-9].*==' "$lock")
    say "$total packages of $lock"
    # uv takes a tenth of pip's time.
    uv_install "$lock" || pip_install "$lock" "$total"
    # Built with the hatchling that the lock file has just brought.
    "$VENV/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
    say "done in $((SECONDS - started)) s"
}

rabbitmq() {
    if [ -n "${STEPWIRE_RABBITMQ_URL:-}" ] || [ -x $RABBITMQ_SCRIPT ] ||
        command -v rabbitmq-server >/dev/null; then
        return
    fi
    if ! can_install; then
        say "rabbitmq-server is missing, and only root on Debian can install it here."
        say "The in-process broker is used instead."
        return
    fi
    if ! apt_install_idle rabbitmq-server; then
        say "rabbitmq-server could not be installed: the in-process broker is used instead."
    fi
}

redis() {
    local package=valkey-server
    if command -v valkey-server redis-server >/dev/null; then
        return
    fi
    if ! can_install; then
        say "valkey-server and redis-server are missing: the tests that need one are skipped."
        return
    fi
    # Debian has Valkey from 13 on, and before that a Redis under the same free licence.
    apt-get update >/dev/null 2>&1 || true
    apt-cache show $package >/dev/null 2>&1 || package=redis-server
    apt_install_idle $package ||
        say "$package could not be installed: the tests that need it are skipped."
}

case "${1:-}" in
environment) environment "${2:?a lock file}" ;;
rabbitmq | redis) "$1" ;;
*) fail "usage: tools/bootstrap.sh environment LOCKFILE | rabbitmq | redis" ;;
esac
