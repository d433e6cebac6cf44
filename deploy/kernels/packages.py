"""Kernels out of Debian's packages, got by apt with settings of their own: the host's stay as is.

The mirror is the one that the host's own apt sources name; only the suite is another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
META = "linux-image-amd64"
# What the target needs on the host: a package, and a program that shows that it is there.
TOOLS = {
    "qemu-system-x86": "qemu-system-x86_64",
    "busybox-static": "busybox",
    "cpio": "cpio",
    "kmod": "depmod",
}


class Unavailable(Exception):
    """A kernel or a tool cannot be had; the words say which and why."""


@dataclass(frozen=True)
class Kernel:
    """One kernel, unpacked: `tree` has usr/lib/modules and usr/src in it."""

    suite: str
    release: str
    image: Path
    tree: Path


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a command and return what it printed. Raises Unavailable with its last words."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=cwd, env=environment
        )
    except FileNotFoundError:
        raise Unavailable(f"{command[0]}: not found; this wants a Debian host") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise Unavailable(f"{command[0]} {' '.join(command[1:3])} ...: {'; '.join(said)}")
    return done.stdout


def install_tools() -> None:
    """Install what is not there."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [name for name, program in TOOLS.items() if shutil.which(program, path=path) is None]
    if not lacking:
        return
    print(f"installing {' '.join(lacking)}", flush=True)
    install = ("apt-get", "-y", "-o", "DPkg::Lock::Timeout=300", "install")
    command = (*install, "--no-install-recommends", *lacking)
    try:
        run(*command)
    except Unavailable:
        run("apt-get", "update")  # no package lists, or old ones
        run(*command)


def mirror() -> str:
    """Return the address of the Debian archive that the host's apt sources name."""
    shown = run(
        "apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"
    )
    for line in shown.splitlines():
        label, _, address = line.rpartition(" ")
        if label == "Debian":
            return address
    raise Unavailable("the host's apt sources name no Debian archive, or were never updated")


def kernel(suite: str, place: Path) -> Kernel:
    """Return a suite's kernel, fetched unless it is below `place` already."""
    stamp = place / "release"  # written last: what is there with it is whole
    if not stamp.exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        release = _fetch(suite, place)
        _unpack(release, place)
        stamp.write_text(release)
    release = stamp.read_text()
    tree = place / "tree"
    return Kernel(suite, release, place / f"vmlinuz-{release}", tree)


def _fetch(suite: str, place: Path) -> str:
    """Fetch a suite's newest kernel and its headers; return its release."""
    settings = _settings(suite, place)
    apt = ("-c", str(settings))
    try:
        run("apt-get", *apt, "update")
        depends = run("apt-cache", *apt, "depends", "--important", META)
    except Unavailable as error:
        raise Unavailable(
            f"the mirror of this host has no suite {suite} (any more): {error}"
        ) from (error)
    names = [line.split()[-1] for line in depends.splitlines() if "Depends: linux-image-" in line]
    if not names:
        raise Unavailable(f"suite {suite} has no {META} (any more)")
    release = names[0].removeprefix("linux-image-")
    common = f"linux-headers-{release.removesuffix('-amd64')}-common"
    packages = place / "packages"
    packages.mkdir()
    print(f"{suite}: fetching {names[0]} and its headers", flush=True)
    wanted = (names[0], f"linux-headers-{release}", common)
    run("apt-get", *apt, "download", *wanted, cwd=packages)
    return release


def _settings(suite: str, place: Path) -> Path:
    state, cache = place / "apt" / "state", place / "apt" / "cache"
    (state / "lists" / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    (place / "apt" / "sources.list").write_text(f"deb {signed}{mirror()} {suite} main\n")
    path = place / "apt" / "apt.conf"
    path.write_text(
        f'Dir::State "{state}";\n'
        'Dir::State::status "/dev/null";\n'
        f'Dir::Cache "{cache}";\n'
        f'Dir::Etc::sourcelist "{place}/apt/sources.list";\n'
        'Dir::Etc::sourceparts "-";\n'
        'APT::Sandbox::User "root";\n'  # _apt may not write below the repository
        'APT::Update::Error-Mode "any";\n'  # or a suite that is gone is a warning only
    )
    return path


def _unpack(release: str, place: Path) -> None:
    tree, modules = place / "tree", Path("lib") / "modules" / release
    for package in sorted((place / "packages").glob("*.deb")):
        run("dpkg-deb", "-x", str(package), str(tree))
    run("depmod", "-b", str(tree), release)
    # As on a host whose /lib is usr/lib: the tree is laid over the host's root.
    (tree / "usr" / "lib" / "modules").mkdir(parents=True)
    (tree / modules).rename(tree / "usr" / modules)
    shutil.rmtree(tree / "lib")
    (tree / "boot" / f"vmlinuz-{release}").rename(place / f"vmlinuz-{release}")
    shutil.rmtree(tree / "boot")
    shutil.rmtree(place / "packages")
    shutil.rmtree(place / "apt")
