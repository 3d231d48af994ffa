"""Many writers, one folder: no image is lost, none is written over another."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from mcp_image_gen_local.storage import images
from mcp_image_gen_local.storage.images import ImageStore
from tests.storage.images import from_engine, gradient

WRITER = """
import sys
from pathlib import Path
from mcp_image_gen_local.storage.images import ImageStore
from tests.storage.images import from_engine, gradient
store, image = ImageStore(Path(sys.argv[1])), from_engine(gradient(8, 8))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    print(store.save(image, provenance={"writer": sys.argv[3], "number": number}).path)
"""


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is always the same."""
    moment = datetime(2026, 12, 31, 23, 59, 59, 998_700, UTC)
    monkeypatch.setattr(images.time, "time_ns", lambda: int(moment.timestamp() * 1e9))


def whole(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        return "mcp-image-gen" in image.text


@pytest.mark.usefixtures("stopped")
def test_images_of_one_millisecond_get_the_next_ones(tmp_path: Path):
    store = ImageStore(tmp_path)
    saved = [store.save(from_engine(gradient(8, 8)), provenance={"n": n}).path for n in range(4)]
    assert saved == sorted(saved)
    times = [path.name.removesuffix("_1.png").rsplit("-", 1) for path in saved]
    assert [milliseconds for _, milliseconds in times] == ["998", "999", "000", "001"]


@pytest.mark.usefixtures("stopped")
def test_threads_never_share_a_name(tmp_path: Path):
    """Threads in the same millisecond never share a name."""
    store, image = ImageStore(tmp_path), from_engine(gradient(8, 8))
    with ThreadPoolExecutor(16) as pool:
        saved = list(pool.map(lambda n: store.save(image, provenance={"number": n}).path, range(120)))
    assert len(set(saved)) == 120
    assert sorted(tmp_path.iterdir()) == sorted(saved)
    assert all(map(whole, saved))


@pytest.mark.usefixtures("stopped")
def test_an_older_image_of_that_name_stays_as_it_is(tmp_path: Path):
    store = ImageStore(tmp_path)
    first = store.save(from_engine(gradient(8, 8)), provenance={}).path
    first.write_bytes(b"the user's own")
    second = store.save(from_engine(gradient(8, 8)), provenance={}).path
    assert second != first
    assert first.read_bytes() == b"the user's own"


@pytest.mark.usefixtures("stopped")
def test_a_part_that_a_killed_process_left(tmp_path: Path):
    """A part that a killed process left does not stop the next."""
    store = ImageStore(tmp_path)
    first = store.save(from_engine(gradient(8, 8)), provenance={}).path
    left = first.with_name(f".{first.name}.part")
    first.rename(left)
    assert store.save(from_engine(gradient(8, 8)), provenance={}).path.is_file()
    assert left.exists()


def test_two_processes_never_share_a_name(tmp_path: Path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), "60", str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for n in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:  # both are loaded: they start as near together as can be
        writer.stdin.write("go\n")
        writer.stdin.flush()
    paths = [Path(line) for writer in writers for line in writer.communicate(timeout=20)[0].splitlines()]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(set(paths)) == 120
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert all(map(whole, paths))
