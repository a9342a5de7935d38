"""Checks what the built wheel in sys.argv[1] holds: the typed package, its license, no more."""

import sys
import zipfile
from email.parser import BytesParser

with zipfile.ZipFile(sys.argv[1]) as wheel:
    names = wheel.namelist()
    (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    fields = BytesParser().parsebytes(wheel.read(metadata))

info = metadata.rpartition("/")[0]
strangers = [name for name in names if not name.startswith(("keras_npbatch/", f"{info}/"))]
if strangers:
    sys.exit(f"the wheel holds more than the package: {strangers}")
for expected in ("keras_npbatch/__init__.py", "keras_npbatch/py.typed", f"{info}/licenses/LICENSE"):
    if expected not in names:
        sys.exit(f"the wheel lacks {expected}")
if fields["License-Expression"] != "Apache-2.0":
    sys.exit(f"License-Expression is {fields['License-Expression']!r}, not 'Apache-2.0'")
print(f"{fields['Name']} {fields['Version']}: {len(names)} files, {fields['License-Expression']}")
