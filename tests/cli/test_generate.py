"""mcp-image-gen generate: the path on stdout, talk on stderr, an exit code that means something."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Command
from tests.comfyui_server import ComfyUIServer


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_stdout_holds_the_path_and_nothing_else(generate: Command, tmp_path: Path):
    run = generate("--seed", 7)
    [path] = run.paths
    assert run.code == 0
    assert path.parent == tmp_path / "images"
    assert path.name.endswith("_7.png")
    with Image.open(path) as image:
        assert image.size == (64, 64)
    assert run.err.startswith("flux1-schnell.safetensors, seed 7, ")


def test_the_same_seed_generates_the_same_pixels(generate: Command):
    first, second, other = (generate("--seed", seed).paths[0] for seed in (7, 7, 8))
    assert pixels(first) == pixels(second) != pixels(other)
    assert first != second


def test_every_option_reaches_comfyui(command: Command, comfyui: ComfyUIServer):
    run = command(
        *("generate", "a cat", "--negative-prompt", "a dog", "--width", 128, "--height", 96, "--steps", 3),
        *("--seed", 2**64 - 2, "--cfg", 5.5, "--model", "sd15", "--batch-size", 2),
        *("--sampler", "ddim", "--scheduler", "normal"),
    )
    assert run.code == 0
    assert len(run.paths) == 2
    inputs = [node["inputs"] for node in comfyui.prompts[0]["prompt"].values()]
    told = {name: value for node in inputs for name, value in node.items() if not isinstance(value, list)}
    wanted = {"width": 128, "height": 96, "steps": 3, "cfg": 5.5, "batch_size": 1}
    assert told | wanted | {"sampler_name": "ddim", "scheduler": "normal"} == told
    assert [node["seed"] for node in inputs if "seed" in node] == [2**64 - 2, 2**64 - 1]
    assert {node["text"] for node in inputs if "text" in node} == {"a cat", "a dog"}


def test_notes_go_to_stderr(command: Command):
    run = command("generate", "x", "--negative-prompt", "blurry", "--width", 70, "--height", 64)
    assert run.code == 0
    assert len(run.paths) == 1
    assert "Note: 70x64 was rounded to 64x64" in run.err
    assert "Note: negative_prompt had no effect" in run.err


def test_a_black_image_is_saved_and_told(generate: Command, comfyui: ComfyUIServer):
    comfyui.fail("black")
    run = generate()
    assert run.code == 0
    assert f"{run.paths[0].name} has one colour only" in run.err


def test_brackets_are_shown_as_they_are(generate: Command, tmp_path: Path):
    """[bold] in a message is no markup."""
    run = generate("--model", "[bold]x[/bold] [/nope]")
    assert (run.code, run.out) == (1, "")
    assert "[bold]x[/bold] [/nope]" in run.err
    assert generate(IMAGE_OUTPUT_DIR=tmp_path / "[red]" / "[/red]").paths[0].is_file()


# -- --output -----------------------------------------------------------------------------------------


def test_output_names_the_file(generate: Command, tmp_path: Path):
    """Output names the file and nothing stays behind."""
    run = generate("-o", tmp_path / "apple.png")
    assert run.paths == [tmp_path / "apple.png"]
    assert run.paths[0].is_file()
    assert list((tmp_path / "images").iterdir()) == []


def test_a_relative_output_is_printed_as_a_whole_path(generate: Command, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert generate("--output", "apple.PNG").paths == [tmp_path / "apple.PNG"]


def test_a_batch_is_numbered_after_the_output(generate: Command, tmp_path: Path):
    run = generate("-o", tmp_path / "a.b.png", "--batch-size", 3)
    assert run.paths == [tmp_path / "a.b.png", tmp_path / "a.b-2.png", tmp_path / "a.b-3.png"]
    assert len({path.read_bytes() for path in run.paths}) == 3


@pytest.mark.parametrize("existing", ["apple.png", "apple-2.png"])
def test_an_existing_file_is_refused_first(generate: Command, comfyui: ComfyUIServer, tmp_path: Path, existing: str):
    """A file that exists is refused before anything is generated. Also the second one of a batch."""
    (tmp_path / existing).write_text("the user's own")
    run = generate("-o", tmp_path / "apple.png", "--batch-size", 2)
    assert (run.code, run.out) == (2, "")
    assert f"{tmp_path / existing} exists. Choose another name, or add --overwrite." in run.err
    assert (tmp_path / existing).read_text() == "the user's own"
    assert comfyui.prompts == []


def test_overwrite_replaces_it(generate: Command, tmp_path: Path):
    for name in ("apple.png", "apple-2.png"):
        (tmp_path / name).write_text("old")
    run = generate("-o", tmp_path / "apple.png", "--batch-size", 2, "--overwrite")
    assert run.paths == [tmp_path / "apple.png", tmp_path / "apple-2.png"]
    assert all(pixels(path) for path in run.paths)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("apple.jpg", "does not end in .png. Images are written as PNG."),
        ("apple", "does not end in .png."),
        ("", "does not end in .png."),
        ("nowhere/apple.png", "does not exist. Make it first."),
        ("folder.png", "is a folder. Choose another name."),
    ],
)
def test_an_impossible_output_is_refused_first(
    generate: Command, comfyui: ComfyUIServer, tmp_path: Path, output: str, words: str
):
    """An output that cannot be is refused before anything is generated."""
    (tmp_path / "folder.png").mkdir()
    run = generate("-o", tmp_path / output, "--overwrite")
    assert (run.code, run.out) == (2, "")
    assert words in run.err
    assert comfyui.prompts == []


# -- --json -------------------------------------------------------------------------------------------


def test_json_tells_everything_of_an_image(generate: Command, comfyui: ComfyUIServer):
    told = generate("--json", "--seed", 3, "--batch-size", 2).json
    assert (told["status"], told["seed"], told["width"], told["height"]) == ("done", 3, 64, 64)
    assert told["prompt_id"] == comfyui.prompts[0]["prompt_id"]
    assert (told["model"], told["engine"]) == ("flux1-schnell.safetensors", "comfyui")
    assert [Path(image["path"]).is_file() for image in told["images"]] == [True, True]
    assert told["path"] == told["images"][0]["path"]


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--cfg", 101], 2, "invalid_request"),
        (["--seed", -1], 2, "invalid_request"),
        (["--steps", 10**6], 2, "invalid_request"),
        (["--engine", "nope"], 2, "settings_invalid"),
        (["--url", "ftp://x"], 2, "settings_invalid"),
        (["--model", "nope"], 1, "model_not_found"),
        (["--url", "http://127.0.0.1:9"], 3, "engine_unreachable"),
        (["-o", "x.gif"], 2, "invalid_request"),
    ],
)
def test_json_tells_errors_too(generate: Command, arguments: list[object], code: int, error: str):
    run = generate("--json", *arguments)
    assert run.code == code
    assert run.json["status"] == "failed"
    assert run.json["error"]["code"] == error
    assert run.json["error"]["message"]
    assert run.err == ""


def test_an_empty_prompt_is_bad_usage(command: Command):
    run = command("generate", " ")
    assert (run.code, run.out) == (2, "")
    assert run.err == "Error: The prompt is empty. Say what to generate, e.g. 'a lighthouse at dusk'.\n"


def test_an_engine_that_is_off_gives_its_own_exit_code(generate: Command, comfyui: ComfyUIServer):
    comfyui.stop()
    run = generate()
    assert (run.code, run.out) == (3, "")
    assert run.err == f"Error: ComfyUI not reachable at {comfyui.url}. Start with: python main.py --listen 127.0.0.1\n"


def test_a_failure_at_comfyui_is_told(generate: Command, comfyui: ComfyUIServer):
    comfyui.fail("out_of_memory")
    run = generate()
    assert (run.code, run.out) == (1, "")
    assert "ran out of memory in node KSampler" in run.err


def test_an_option_wins_over_its_variable(generate: Command, comfyui: ComfyUIServer, tmp_path: Path):
    run = generate(
        *("--url", comfyui.url, "--output-dir", tmp_path / "mine", "--engine", "comfyui"),
        COMFYUI_URL="http://127.0.0.1:9",
        IMAGE_OUTPUT_DIR=tmp_path / "other",
        IMAGE_GEN_ENGINE="nope",
    )
    assert run.paths[0].parent == tmp_path / "mine"


def test_the_image_tells_how_it_was_generated(generate: Command):
    with Image.open(generate("--seed", 5).paths[0]) as image:
        assert json.loads(image.text["mcp-image-gen"])["prompt"] == "a red apple"
