"""What the built-in engine says to prompts, files and installations that are not as they should be."""

import shutil
import sys
from pathlib import Path

import pytest

from mcp_image_gen_local.domain.errors import EngineNotInstalled
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.engines.builtin.engine import BuiltinBackend
from mcp_image_gen_local.engines.builtin.network import weights_folder
from mcp_image_gen_local.storage.inputs import InputImages
from tests.conftest import Caller


async def generate(icons: Caller, prompt: str, **arguments):
    return await icons.call("generate_image", **{"prompt": prompt, "steps": 1, "seed": 1, **arguments})


@pytest.mark.parametrize("prompt", ["zorblax quux", "the of a", "!!!", "中文", "\x00\x07\x1b"],
                         ids=["unknown", "stop words", "signs", "chinese", "control"])  # fmt: skip
async def test_a_prompt_without_a_known_word(icons: Caller, prompt: str):
    """A prompt without a known word is refused with examples."""
    error = (await generate(icons, prompt)).error
    assert error.startswith("The built-in model knows no word of this prompt")
    assert "'a red apple'" in error


async def test_unknown_words_are_left_out_and_named(icons: Caller):
    assert "It does not know these words and left them out: zorblax." in (await generate(icons, "zorblax apple")).story


async def test_very_many_unknown_words_are_named_in_part(icons: Caller):
    words = " ".join(f"qzx{n}vkw" for n in range(900))
    answer = await generate(icons, f"apple {words}")
    assert len(answer.text) < 3000
    assert "more" in answer.story


async def test_a_slip_of_the_keyboard_is_mended_and_told(icons: Caller):
    assert "It read strawbery as strawberry." in (await generate(icons, "a strawbery")).story


async def test_a_plural_generates_the_thing(icons: Caller):
    one, many = await generate(icons, "apple"), await generate(icons, "apples")
    assert one.images[0].data == many.images[0].data


async def test_an_emoji_generates_itself(icons: Caller):
    assert (await generate(icons, "🍓")).images[0].data == (await generate(icons, "strawberry")).images[0].data


async def test_right_to_left_text_beside_a_word(icons: Caller):
    """Right to left text beside a known word generates the word."""
    answer = await generate(icons, "تفاحة apple \u202eelppa")
    assert answer.facts["status"] == "done"


async def test_control_characters_are_passed_over(icons: Caller):
    assert (await generate(icons, "a\x00 red\x07 apple\x1b[2J")).facts["status"] == "done"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"prompt": ""}, "The prompt is empty."),
        ({"prompt": "apple " * 20_000}, "the limit is 20000"),
        ({"steps": 201}, "steps=201 is out of range 1..200."),
        ({"width": 100_000}, "width=100000 is out of range 16..4096."),
        ({"model": "flux1-schnell"}, "The built-in engine has no model 'flux1-schnell'."),
    ],
)
async def test_what_it_cannot_do_is_refused(icons: Caller, arguments: dict, text: str):
    assert text in (await generate(icons, **{"prompt": "apple", **arguments})).error


async def test_unsupported_tuning_is_left_out(icons: Caller):
    answer = await generate(icons, "apple", sampler="euler", guidance=3.5, scheduler="simple")
    assert "builtin does not support guidance, sampler, scheduler: left out." in answer.story


async def test_an_init_image_outside_is_not_read(icons: Caller, tmp_path: Path):
    """An init image outside the allowed folders is not read."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    for name in (str(secret), str(tmp_path / "images" / ".." / "secret.png"), "/etc/passwd"):
        assert "is outside the folders that may be read" in (await generate(icons, "apple", init_image=name)).error


async def test_a_link_out_of_the_folders_is_refused(icons: Caller, tmp_path: Path):
    """A link does not lead out of the allowed folders."""
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    answer = await generate(icons, "apple", init_image=str(tmp_path / "images" / "link.png"))
    assert "is outside the folders" in answer.error


async def test_a_folder_that_the_user_allows_is_read(connect, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("no image")
    icons = await connect(IMAGE_GEN_ENGINE="builtin", IMAGE_GEN_INPUT_DIRS=str(tmp_path / "mine"))
    found = await generate(icons, "apple", init_image=str(tmp_path / "mine" / "note.txt"))
    assert "note.txt' is no image that can be read" in found.error
    gone = await generate(icons, "apple", init_image=str(tmp_path / "mine" / "gone.png"))
    assert "cannot be read: No such file or directory" in gone.error


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A copy of the shipped weights that a test may damage."""
    return Path(shutil.copytree(weights_folder(), tmp_path / "weights"))


@pytest.mark.parametrize("name", ["denoiser.onnx", "vocabulary.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["missing", "one bit", "empty"])
async def test_a_damaged_weight_names_the_install_command(weights: Path, name: str, damage: str):
    """A missing or damaged file names the command that installs it again."""
    file = weights / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.unlink() if damage == "missing" else file.write_bytes(bytes(data) if damage == "one bit" else b"")
    engine = BuiltinBackend(weights)
    with pytest.raises(EngineNotInstalled, match="missing or damaged") as caught:
        await engine.plan(GenerationRequest(prompt="apple"), InputImages([]))
    assert 'pip install --force-reinstall ".[builtin]"' in caught.value.hint


async def test_a_missing_runtime_names_its_install(icons: Caller, monkeypatch: pytest.MonkeyPatch):
    """Without the runtime the error is the install command."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    error = (await generate(icons, "apple")).error
    assert error.startswith("The built-in engine's runtime is not installed. Install it with: uv tool install")
    assert 'pip install ".[builtin]"' in error
