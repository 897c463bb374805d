"""Builds the container images: the operator's and the model server's.

`python -m e2e.images` builds both. Where a Docker or podman engine runs, it builds on `python:3.11-slim`; elsewhere
buildah does, on a Debian base made by mmdebstrap, which needs no registry of images. Rule kept: an image is named by
the hash of all that goes into it, so a second build of the same sources finds the archive and takes no time.

Archives, the base and buildah's storage live in `~/.cache/modelrelease/images`; nothing is written elsewhere. What a
machine needs to reach its package registry (its CA file, its pip configuration) is mounted into the build and stays out
of the image.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "modelrelease" / "images"
ENGINE_VARIABLE = "MODELRELEASE_IMAGE_ENGINE"
"""docker, podman or buildah; without it the first that runs, in this order."""
KEPT_ARCHIVES = 3
STORAGE_LIMIT_GB = 6

_PUBLIC_BASE = "python:3.11-slim"
_DEBIAN = "bookworm"
_DEBIAN_PACKAGES = ("ca-certificates", "python3", "python3-venv", "usr-is-merged")
_HOOKS = (
    # usr-is-merged stands in for usrmerge, which brings 50 MB of Perl with it.
    'chroot "$1" apt-get -q -y purge --auto-remove usrmerge perl "perl-modules-*" "libperl5*" "lib*-perl"',
    'rm -f "$1"/etc/hostname "$1"/etc/resolv.conf',
)
_UNNEEDED = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")

Say = Callable[[str], None]


class ImageError(Exception):
    """An image could not be built; the message ends with the tail of the tool's output."""


@dataclass(frozen=True, slots=True)
class Source:
    """What an image is built from: `inputs` are the files and folders of `directory` that its Dockerfile copies."""

    name: str
    directory: Path
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """A built image. The archive holds it in Docker's format, as `ctr images import` and `kind load` take it."""

    reference: str
    archive: Path
    size_bytes: int
    """Unpacked, all layers."""


OPERATOR = Source(
    "operator",
    ROOT,
    ("Dockerfile", "LICENSE", "operator", "pyproject.toml", "requirements-build.lock", "requirements.lock"),
)
MODEL_SERVER = Source("model-server", ROOT / "e2e" / "model_server", ("Dockerfile", "requirements.lock", "server.py"))


def operator(say: Say | None = None) -> Image:
    """The operator's image, built if its sources changed; raises ImageError."""
    return build(OPERATOR, say or _print)


def model_server(say: Say | None = None) -> Image:
    """The model server's image, built if its sources changed; raises ImageError."""
    return build(MODEL_SERVER, say or _print)


def build(source: Source, say: Say) -> Image:
    """Build one image or find it in the cache; two processes at once build it once. Raises ImageError."""
    engine = _engine()
    base = base_reference(engine)
    reference = f"localhost/modelrelease/{source.name}:{_digest(source, base)}"
    archive = CACHE / f"{source.name}-{reference.rpartition(':')[2]}.tar"
    CACHE.mkdir(parents=True, exist_ok=True)
    with _locked():
        if not _note(archive).exists():
            started = time.monotonic()
            say(f"image {source.name}: building with {engine} (about three minutes the first time)")
            size = _build(engine, source, base, reference, archive, say)
            _prune(source.name)
            say(f"image {source.name}: {size / 1e6:.0f} MB, built in {time.monotonic() - started:.0f} s")
        os.utime(archive)  # the least recently used are the first to go
        return Image(reference, archive, json.loads(_note(archive).read_text())["size_bytes"])


def base_reference(engine: str) -> str:
    """The name of the image that the others stand on; a change of its recipe changes its name."""
    if engine != "buildah":
        return _PUBLIC_BASE
    recipe = json.dumps([_DEBIAN, _DEBIAN_PACKAGES, _HOOKS, _UNNEEDED])
    return f"localhost/modelrelease/base:{_DEBIAN}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def base_image(say: Say) -> str:
    """Make the Debian base, once, and put it into buildah's storage; returns its reference. Raises ImageError."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with _locked():
        return _base(say)


def _base(say: Say) -> str:
    reference = base_reference("buildah")
    if _buildah("images", "--quiet", reference, check=False).returncode == 0:
        return reference
    root = CACHE / f"base-{reference.rpartition(':')[2]}.tar"
    if not root.exists():
        say(f"image base: Debian {_DEBIAN} with Python (about a minute, once)")
        partial = root.with_suffix(".partial.tar")
        _run(
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_DEBIAN_PACKAGES)}"),
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in _UNNEEDED),
            *(f"--customize-hook={hook}" for hook in _HOOKS),
            *(_DEBIAN, str(partial)),
        )
        partial.rename(root)
    container = _buildah("from", "scratch").stdout.strip()
    _buildah("add", "--quiet", container, str(root), "/")
    _buildah("config", "--cmd", "python3", "--env", "LANG=C.UTF-8", container)
    _buildah("commit", "--quiet", "--rm", container, reference)
    return reference


def _build(engine: str, source: Source, base: str, reference: str, archive: Path, say: Say) -> int:
    """Write the archive and its note; returns the image's size in bytes."""
    partial = archive.with_suffix(".partial.tar")
    partial.unlink(missing_ok=True)
    arguments = ("--build-arg", f"BASE={base}", "--tag", reference)
    with tempfile.TemporaryDirectory(prefix="modelrelease-image-") as folder:
        context = Path(folder) / "context"
        _stage(source, context)
        if engine == "buildah":
            _tidy_storage()
            _base(say)
            volumes = [f"--volume={file}:{target}:ro" for target, file in _machine_files(Path(folder)).items()]
            _buildah("build", "--isolation", "chroot", "--layers", *volumes, *arguments, str(context))
            _buildah("push", reference, f"docker-archive:{partial}:{reference}")
            details = json.loads(_buildah("inspect", "--type", "image", reference).stdout)
            size = sum(int(layer["size"]) for layer in json.loads(details["Manifest"])["layers"])
        else:
            _run(engine, "build", *arguments, str(context))
            _run(engine, "save", "--output", str(partial), reference)
            size = int(_run(engine, "image", "inspect", "--format", "{{.Size}}", reference).stdout)
    partial.rename(archive)
    _note(archive).write_text(json.dumps({"reference": reference, "size_bytes": size}))
    return size


def _stage(source: Source, context: Path) -> None:
    """Copy the inputs, and nothing else, to a folder of their own."""
    for path in _files(source):
        target = context / path.relative_to(source.directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _files(source: Source) -> list[Path]:
    found: list[Path] = []
    for name in source.inputs:
        path = source.directory / name
        if not path.exists():
            raise ImageError(f"image {source.name}: {path} is missing")
        found += [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    return sorted(path for path in found if "__pycache__" not in path.parts and ".egg-info" not in str(path))


def _digest(source: Source, base: str) -> str:
    digest = hashlib.sha256(base.encode())
    for path in _files(source):
        digest.update(f"\0{path.relative_to(source.directory)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _machine_files(folder: Path) -> dict[str, Path]:
    """The machine's own CA and pip settings, by the path where a build needs them."""
    files: dict[str, Path] = {}
    authorities = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    if authorities.is_file():
        files["/etc/ssl/certs/ca-certificates.crt"] = authorities
    settings = ["[global]"]
    if authorities.is_file():
        settings.append("cert = /etc/ssl/certs/ca-certificates.crt")
    listed = _run(sys.executable, "-m", "pip", "config", "list").stdout.splitlines()
    for line in listed:  # each is scope.key='value', from files and from the environment
        key, _, value = line.partition("=")
        if key.rpartition(".")[2] in ("index-url", "extra-index-url", "proxy", "timeout", "trusted-host"):
            settings.append(f"{key.rpartition('.')[2]} = {value.strip(chr(39))}")
    files["/etc/pip.conf"] = folder / "pip.conf"
    files["/etc/pip.conf"].write_text("\n".join(dict.fromkeys(settings)) + "\n")
    return files


def _engine() -> str:
    chosen = os.environ.get(ENGINE_VARIABLE)
    if chosen:
        return chosen
    for engine in ("docker", "podman"):
        if shutil.which(engine) and _succeeds(engine, "info"):
            return engine
    missing = [tool for tool in ("buildah", "mmdebstrap") if not shutil.which(tool)]
    if missing:
        raise ImageError(
            f"no Docker or podman engine runs here, and {' and '.join(missing)} is not installed: "
            "start one, or `apt-get install buildah mmdebstrap`"
        )
    return "buildah"


def _buildah(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    policy = CACHE / "policy.json"
    if not policy.exists():
        # Nothing is pulled, so there is no signature to ask for; the system's own policy file may be absent.
        policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    storage = ("--root", str(CACHE / "storage"), "--runroot", str(CACHE / "run"), "--storage-driver", "overlay")
    signed = ("--signature-policy", str(policy)) if arguments[0] in ("build", "commit", "from", "push") else ()
    # In a mount namespace of its own: whatever becomes of it, no mount outlives it.
    own = ("unshare", "--mount", "--propagation", "private") if os.geteuid() == 0 else ()
    return _run(*own, "buildah", *storage, arguments[0], *signed, *arguments[1:], check=check)


def _tidy_storage() -> None:
    """Remove what a killed build left, and everything once the layers of former builds fill too much of the disk."""
    _buildah("rm", "--all")
    used_kib = int(_run("du", "--summarize", str(CACHE / "storage")).stdout.split()[0])
    if used_kib > STORAGE_LIMIT_GB * 1024**2:
        _buildah("rmi", "--all", "--force")


def _run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise ImageError(f"{' '.join(command[:8])} ... ended with code {done.returncode}:\n{tail}")
    return done


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextmanager
def _locked() -> Iterator[None]:
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _print("images: waiting for another process that builds them")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _note(archive: Path) -> Path:
    """Written last: it is there only when the archive beside it is whole."""
    return archive.with_suffix(".json")


def _prune(name: str) -> None:
    archives = sorted(CACHE.glob(f"{name}-*.tar"), key=lambda path: path.stat().st_mtime)
    for archive in archives[:-KEPT_ARCHIVES]:
        _note(archive).unlink(missing_ok=True)
        archive.unlink()


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Build all images and say what they are."""
    try:
        images: Mapping[str, Image] = {"operator": operator(), "model server": model_server()}
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, image in images.items():
        print(f"{name:<14}{image.size_bytes / 1e6:>6.0f} MB  {image.reference}  {image.archive}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
