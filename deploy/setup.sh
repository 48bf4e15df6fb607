#!/usr/bin/env bash
# Makes .venv with all that Weft and its tests need. Safe to run again; needs root only for what apt must add.
set -euo pipefail
cd "$(dirname "$0")/.."

# bcc is the distribution's, for the distribution's python; curl, ping and tcpdump serve the tests and the demo.
packages=(python3-bpfcc python3-venv linux-libc-dev libc6-dev gcc iproute2 iputils-ping curl openssl procps)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
    echo "installing: ${missing[*]}"
    sudo=""; ((EUID == 0)) || sudo=sudo
    $sudo apt-get update -q
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

[ -x .venv/bin/python ] || /usr/bin/python3 -m venv --system-site-packages .venv
.venv/bin/python -m pip install -q --disable-pip-version-check -U 'pip>=23' 'setuptools>=77' wheel
.venv/bin/python -m pip install -q --disable-pip-version-check -e '.[dev]'
