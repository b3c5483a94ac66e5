"""What `pip install` of the package puts on a machine."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]


def test_the_wheel_is_one_import_name_with_all_that_the_package_reads(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        (record,) = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
        installed = {line.split(",")[0] for line in archive.read(record).decode().splitlines()}
    described, own = {name for name in installed if ".dist-info/" in name}, Path(ROOT, "app-src")
    files = [path for path in Path(own, "plumbline").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert installed - described == {str(path.relative_to(own)) for path in files}
