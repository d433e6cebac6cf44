#!/usr/bin/env bash
# Set-up of a Debian 12 host: packages, kernel headers for BCC, the virtual environment with the
# locked versions, the project in it. Idempotent; a second run with nothing to do takes well
# under a second. Run as root, from anywhere.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=$root/.venv
stamp=$venv/.srv6dmm-setup
packages=(
  python3 python3-venv python3-bpfcc iproute2 iputils-ping iperf3 tcpdump ethtool procps make git
)
kernel=$(uname -r)
proto=/etc/iproute2/rt_protos.d/srv6dmm.conf

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "run as root: it installs packages and tests make network namespaces"
command -v apt-get >/dev/null || die "apt-get not found; install by hand: ${packages[*]}, then
make a virtual environment with system site packages and pip install -r requirements.lock"

# What the stamp stands for, checked against the host each time.
wanted=$(cat deploy/setup.sh requirements.lock pyproject.toml | sha256sum | cut -c1-64)
lacking=()
for package in "${packages[@]}"; do
  [ -e "/var/lib/dpkg/info/$package.list" ] || lacking+=("$package")
done
headers_needed=no
[ -e "/lib/modules/$kernel/build" ] || headers_needed=yes
if [ ${#lacking[@]} = 0 ] && [ $headers_needed = no ] && [ -e "$proto" ] &&
   [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x "$venv/bin/srv6dmm" ]; then
  exit 0
fi

exec 9>"${TMPDIR:-/tmp}/srv6dmm-setup.lock"
flock 9

updated=no
install() {
  if [ $updated = no ]; then
    say "apt-get update"
    apt-get update -qq
    updated=yes
  fi
  say "apt-get install $*"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

[ ${#lacking[@]} = 0 ] || install "${lacking[@]}"

# BCC compiles against kernel headers. Where the running kernel has none, Debian's newest serve:
# the programs include uapi headers only. Nothing that is there is ever replaced.
if [ ! -e "/lib/modules/$kernel/build" ]; then
  newest() { find /lib/modules -mindepth 2 -maxdepth 2 -name build ! -path "*/$kernel/*" \
               -printf '%h\n' 2>/dev/null | sort -V | tail -n 1; }
  if [ -z "$(newest)" ]; then
    install "linux-headers-$kernel" 2>/dev/null || install linux-headers-cloud-amd64 ||
      install linux-headers-amd64 ||
      say "no kernel headers to be had: mode netlink works, mode ebpf does not"
  fi
  found=$(newest)
  if [ ! -e "/lib/modules/$kernel/build" ] && [ -n "$found" ] && [ ! -e "/lib/modules/$kernel" ]; then
    ln -s "$found" "/lib/modules/$kernel"
    say "linked /lib/modules/$kernel to $found"
  fi
fi

if [ ! -e "$proto" ]; then
  mkdir -p "$(dirname "$proto")"
  cp deploy/config/rt_protos.conf "$proto"
fi

# Debian's python3, because bcc is a Debian package and not on any index.
if [ ! -x "$venv/bin/python" ]; then
  say "making $venv"
  /usr/bin/python3 -m venv --system-site-packages "$venv"
fi
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || [ ! -x "$venv/bin/srv6dmm" ]; then
  say "installing locked versions"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check -r requirements.lock
  "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps \
    --no-build-isolation -e .
  printf '%s\n' "$wanted" >"$stamp"
fi
say "done"
