"""Write databases of the present format into tests/golden/v1, with what they must say.

    python tests/golden/make.py

For the release of a format, and while it may still change.  No test runs this: what is there was written by
the code of its day, and later code has to read it.
"""

import json
import os
import shutil
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
os.environ.setdefault("LSMDBM_SEED", "0")

from lsmdbm._format.coding import FORMAT_VERSION  # noqa: E402 - behind the path
from support.specimens import all_specimens  # noqa: E402

HOME = Path(__file__).parent / f"v{FORMAT_VERSION}"


def main():
    shutil.rmtree(HOME, ignore_errors=True)
    for specimen in all_specimens():
        place = HOME / specimen.name.replace(" ", "_")
        place.mkdir(parents=True)
        for name, data in specimen.files.items():
            (place / name).write_bytes(data)
        content = {key.hex(): value.hex() for key, value in sorted(specimen.content.items())}
        expected = {"is_database": specimen.name != "unborn", "content": content}
        text = json.dumps(expected, indent=0) + "\n"
        (HOME / f"{place.name}.json").write_text(text, "ascii", newline="\n")
    size = sum(path.stat().st_size for path in HOME.rglob("*.*") if path.is_file())
    print(f"{HOME}: {len(all_specimens())} databases, {size} bytes")


if __name__ == "__main__":
    main()
