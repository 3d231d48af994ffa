"""A package that lacks something, or holds too much, is noticed before it is published."""

import zipfile
from pathlib import Path

from scripts.packages import NEEDED, PACKAGE, wheel_problems

FACTS = "mcp_image_gen_local-0.1.0.dist-info/METADATA"
WHOLE = [*(f"{PACKAGE}/{name}" for name in NEEDED), f"{PACKAGE}/__init__.py", FACTS]


def wheel(folder: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(folder / "some.whl", "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return folder / "some.whl"


def test_a_whole_wheel_passes(tmp_path: Path):
    assert wheel_problems(wheel(tmp_path, WHOLE)) == []


def test_a_wheel_without_weights_is_refused(tmp_path: Path):
    weights = f"{PACKAGE}/engines/builtin/weights/denoiser.onnx"
    problems = wheel_problems(wheel(tmp_path, [name for name in WHOLE if name != weights]))
    assert problems == [f"some.whl lacks {weights}"]


def test_a_wheel_with_tests_in_it_is_refused(tmp_path: Path):
    problems = wheel_problems(wheel(tmp_path, [*WHOLE, "tests/conftest.py"]))
    assert problems == ["some.whl should not hold tests/conftest.py"]


def test_what_a_wheel_needs_exists():
    source = Path(__file__).parents[2] / "src" / PACKAGE
    assert [name for name in NEEDED if not (source / name).exists()] == []
