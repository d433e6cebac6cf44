"""The first file system of a guest: busybox, the modules that lead to the host's root, init.sh."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

from packages import Kernel, Unavailable, run

MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")


def build(kernel: Kernel, place: Path) -> Path:
    """Build it below `place` and return it; some tenths of a second."""
    root = place / "initramfs"
    shutil.rmtree(root, ignore_errors=True)
    (root / "bin").mkdir(parents=True)
    (root / "modules").mkdir()
    busybox = shutil.which("busybox")
    if busybox is None:
        raise Unavailable("busybox is not there")
    shutil.copy2(busybox, root / "bin" / "busybox")
    shutil.copy2(Path(__file__).with_name("init.sh"), root / "init")
    (root / "init").chmod(0o755)
    order = _modules(kernel)
    for module in order:
        shutil.copy2(module, root / "modules")
    (root / "order").write_text("".join(f"{module.name}\n" for module in order))
    names = "".join(f"{path.relative_to(root)}\n" for path in sorted(root.rglob("*")))
    packed = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc"],
        input=names.encode(),
        capture_output=True,
        check=True,
        cwd=root,
    )
    image = place / "initramfs.gz"
    image.write_bytes(gzip.compress(packed.stdout, compresslevel=1))
    return image


def _modules(kernel: Kernel) -> list[Path]:
    """Return the files of modules, each after what it depends on."""
    base = kernel.tree / "usr"  # modprobe looks below lib/modules there
    found: list[Path] = []
    for name in MODULES:
        shown = run("modprobe", "-d", str(base), "-S", kernel.release, "--show-depends", name)
        for line in shown.splitlines():
            path = Path(line.split()[1]) if line.startswith("insmod ") else None
            if path is not None and path not in found:
                found.append(path)
    return found
