#!/usr/bin/env python3
"""What is released, checked as users get it: one sdist, one pure wheel, on every Python there is.

Run by `tox run -e package`, which installs what it needs; takes no arguments.  Ends with the first thing that
is wrong.

  1. `python -m build` makes exactly one sdist and one wheel; `twine check --strict` takes both.
  2. The wheel is for every Python and platform, with `py.typed` and the package, and nothing else.
  3. The version is that of lsmdbm/__init__.py and the newest of the changelog, which names the format.
  4. On each Python, the wheel installs without building anything, imports, and runs the typed user's program.
  5. The tests run from the unpacked sdist, against the installed wheel.
  6. mypy --strict takes the typed user's program, with nothing but the installed wheel to go by.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = [f"python3.{minor}" for minor in range(10, 15)]
SMOKE = ["tests/architecture", "tests/behaviour/test_mapping.py", "-k", "not of_page_run"]
HOLDS = "import lsmdbm, sys; sys.exit(None if 'site-packages' in lsmdbm.__file__ else lsmdbm.__file__)"


def run(*command, cwd):
    """Run a command elsewhere than in the checkout, which would hide what is installed."""
    print("+", *command, flush=True)
    subprocess.run([str(word) for word in command], cwd=cwd, check=True)


def check(condition, what):
    if not condition:
        sys.exit(f"package: {what}")


def build(work):
    """Return the sdist and the wheel: rule 1."""
    run(sys.executable, "-m", "build", "--outdir", work / "dist", ROOT, cwd=work)
    made = sorted((work / "dist").iterdir(), key=lambda path: path.suffix)
    check([path.suffix for path in made] == [".gz", ".whl"], f"made {[path.name for path in made]}")
    run(sys.executable, "-m", "twine", "check", "--strict", *made, cwd=work)
    return made


def look_into(wheel):
    """Check what the wheel holds: rules 2 and 3."""
    check(wheel.name.endswith("-py3-none-any.whl"), f"{wheel.name} is not for every Python and platform")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
        source = archive.read("lsmdbm/__init__.py").decode()
    check("lsmdbm/py.typed" in names, "py.typed is missing")
    others = [name for name in names if not re.match(r"lsmdbm(-[^/]*\.dist-info)?/", name)]
    check(not others, f"the wheel holds {others}")
    version = re.search(r"^Version: (.*)$", metadata, re.MULTILINE)[1]
    check(f'__version__ = "{version}"\n' in source, f"lsmdbm.__version__ is not {version}")
    changes = (ROOT / "CHANGELOG.md").read_text("ascii")
    newest = re.search(r"^## (\S+)[^\n]*\n\n(.*)$", changes, re.MULTILINE)
    check(newest[1] == version, f"the newest changes are those of {newest[1]}, not of {version}")
    check(re.match(r"On-disk format: \d+ \(reads ", newest[2]), "no format on disk at the top of the changes")


def install(python, requirement, place):
    """Return the Python of a new environment that holds the wheel: rule 4."""
    run(python, "-m", "venv", "--without-pip", place, cwd=place.parent)
    inside = place / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", inside, "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--only-binary", ":all:", requirement, cwd=place.parent)
    return inside


def try_out(inside, user, work):
    run(inside, "-I", "-W", "error", "-c", HOLDS, cwd=work)
    home = Path(tempfile.mkdtemp(dir=work))
    run(inside, "-I", "-W", "error", user, home, cwd=home)


def main():
    here = f"python3.{sys.version_info[1]}"
    others = [python for python in PYTHONS if python != here and is_there(python)]
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        sdist, wheel = build(work)
        look_into(wheel)
        with tarfile.open(sdist) as archive:
            archive.extractall(work, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        unpacked = work / sdist.name.removesuffix(".tar.gz")
        user = unpacked / "tests/typing/user.py"
        for python in others:
            try_out(install(python, wheel, work / python), user, work)
        inside = install(sys.executable, f"lsmdbm[test] @ {wheel.as_uri()}", work / here)
        try_out(inside, user, work)
        run(inside, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SMOKE, cwd=unpacked)
        mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", work / "mypy"]
        run(*mypy, "--python-executable", inside, user, cwd=work)
    print("package: good on", here, *others)


def is_there(python):
    """Tell whether a Python runs; a shim of pyenv is on the path for each one that may be chosen."""
    if shutil.which(python) is None:
        return False
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"package: {error}")
