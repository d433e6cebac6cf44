#!/usr/bin/env bash
# Sets a Debian 12 host up: packages, kernel headers for BCC, the virtual environment with the
# locked versions, the project in it. Idempotent, safe to run twice at once, and done in some
# hundredths of a second when there is nothing to do. Installing wants root; from any directory.
set -euo pipefail
export LC_ALL=C.UTF-8
umask 022
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=$root/.venv
stamp=$venv/.srv6dmm-setup
kernel=$(uname -r)
proto=/etc/iproute2/rt_protos.d/srv6dmm.conf

# package, and a file (a pattern) that shows it is really there
needs=(
  "python3            /usr/bin/python3"
  "python3-venv       /usr/lib/python3.*/ensurepip/__init__.py"
  "python3-bpfcc      /usr/lib/python3/dist-packages/bcc/__init__.py"
  "iproute2           /sbin/tc"
  "iputils-ping       /bin/ping"
  "iperf3             /usr/bin/iperf3"
  "tcpdump            /usr/bin/tcpdump"
  "ethtool            /sbin/ethtool"
  "procps             /bin/ps"
  "make               /usr/bin/make"
)

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

lacking() {
  local need package evidence
  for need in "${needs[@]}"; do
    read -r package evidence <<<"$need"
    compgen -G "$evidence" >/dev/null || printf '%s\n' "$package"
  done
}

has_headers() { [ -e "/lib/modules/$kernel/build" ]; }

# What the stamp stands for. Its other lines name what was installed, and are looked at each time.
wanted="$(cat deploy/setup.sh requirements.lock pyproject.toml | sha256sum | cut -c1-64) $root"

up_to_date() {
  local line
  [ -z "$(lacking)" ] && cmp -s deploy/config/rt_protos.conf "$proto" || return 1
  [ -x "$venv/bin/python" ] && [ -x "$venv/bin/srv6dmm" ] && [ -r "$stamp" ] || return 1
  {
    read -r line && [ "$line" = "$wanted" ] || return 1
    read -r line && { has_headers || [ "$line" = "no headers $kernel" ]; } || return 1
    while read -r line; do
      [ -e "$venv/$line" ] || return 1
    done
  } <"$stamp"
}

if up_to_date; then
  exit 0
fi

command -v apt-get >/dev/null || die "this is no Debian host (no apt-get).
Install Python 3.11 or newer with venv, BCC's Python module (python3-bpfcc), kernel headers,
iproute2, ping, iperf3, tcpdump and ethtool by hand; then
  python3 -m venv --system-site-packages .venv
  .venv/bin/pip install --no-deps -r requirements.lock
  .venv/bin/pip install --no-deps --no-build-isolation -e .
and copy deploy/config/rt_protos.conf to $proto"
[ "$(id -u)" = 0 ] || die "run it as root: it installs Debian packages and writes to $root"

exec 9>/run/srv6dmm-setup.lock
flock 9
if up_to_date; then
  exit 0  # somebody else did it meanwhile
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Runs a command silently; what it said comes out when it fails. 9>&-: a daemon that a package
# starts must not keep the lock.
quietly() { "$@" >"$log" 2>&1 </dev/null 9>&-; }
apt() { DEBIAN_FRONTEND=noninteractive quietly apt-get -y -o DPkg::Lock::Timeout=300 "$@"; }

updated=no
install() {
  say "apt-get install $*"
  apt install --no-install-recommends "$@" && return 0
  [ $updated = no ] || return 1
  # No package lists, or old ones.
  say "apt-get update"
  apt update || apt update || return 1
  updated=yes
  apt install --no-install-recommends "$@"
}
failed() {
  tail -n 20 "$log" >&2
  die "$*"
}

mapfile -t packages < <(lacking)
if [ ${#packages[@]} != 0 ]; then
  install "${packages[@]}" || failed "apt-get cannot install ${packages[*]}; is a Debian mirror in
/etc/apt/sources.list.d, and can it be reached?"
  mapfile -t packages < <(lacking)
  [ ${#packages[@]} = 0 ] || die "still not there after installation: ${packages[*]}"
fi
/usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  die "$(/usr/bin/python3 --version) is too old: 3.11 or newer is needed (Debian 12)"

# BCC compiles against kernel headers. A kernel that is not Debian's has none: Debian's newest
# serve instead, because the programs include uapi headers only. What is there is never replaced,
# but for a link of ours whose headers were removed.
newest_headers() {
  local build directory
  for build in /lib/modules/*/build; do
    directory=${build%/build}
    if [ -e "$build" ] && [ -e "$directory/source" ] && [ ! -L "$directory" ]; then
      printf '%s\n' "$directory"
    fi
  done | sort -V | tail -n 1
}
modules=/lib/modules/$kernel
if [ -L "$modules" ] && [ ! -e "$modules" ]; then
  rm "$modules"
fi
if [ ! -e "$modules" ]; then
  if [ -z "$(newest_headers)" ]; then
    arch=$(dpkg --print-architecture)
    install "linux-headers-cloud-$arch" || install "linux-headers-$arch" || tail -n 3 "$log" >&2
  fi
  found=$(newest_headers)
  if [ -n "$found" ]; then
    mkdir -p /lib/modules
    ln -s "$found" "$modules"
    say "linked $modules to $found"
  fi
elif ! has_headers; then
  install "linux-headers-$kernel" || tail -n 3 "$log" >&2
fi
headers="headers"
if ! has_headers; then
  headers="no headers $kernel"
  say "no kernel headers for $kernel: BCC cannot compile here; mode netlink needs none"
fi

if ! cmp -s deploy/config/rt_protos.conf "$proto"; then
  mkdir -p "$(dirname "$proto")"
  cp deploy/config/rt_protos.conf "$proto"
  say "wrote $proto"
fi

# Debian's python3, because bcc is a Debian package and on no index. An environment that is half
# made, was made elsewhere (scripts name their interpreter by its path) or sees no Debian packages
# is made anew.
sound() {
  [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import pip' 2>/dev/null &&
    grep -qx 'include-system-site-packages = true' "$venv/pyvenv.cfg" &&
    grep -qx 'home = /usr/bin' "$venv/pyvenv.cfg" &&
    { [ ! -e "$venv/bin/pip" ] || [ "$(head -n 1 "$venv/bin/pip")" = "#!$venv/bin/python3" ] ||
      [ "$(head -n 1 "$venv/bin/pip")" = "#!$venv/bin/python" ]; }
}
if ! sound; then
  say "making $venv"
  quietly /usr/bin/python3 -m venv --clear --system-site-packages "$venv" ||
    failed "cannot make $venv"
fi
say "installing locked versions"
rm -f "$stamp"
pip() { quietly "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
pip install --no-deps -r requirements.lock ||
  failed "pip cannot install requirements.lock; can it reach its index (pip config list)?"
pip install --no-deps --no-build-isolation -e . || failed "pip cannot install the project itself"
{
  printf '%s\n%s\n' "$wanted" "$headers"
  cd "$venv"
  printf '%s\n' lib/python3.*/site-packages/*.dist-info
} >"$stamp.new"
mv "$stamp.new" "$stamp"
say "done"
