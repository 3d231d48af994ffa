"""Settings: read from the environment, checked, and never shown with their secrets."""

import os
from pathlib import Path

import platformdirs
import pytest

from mcp_image_gen_local.app import App
from mcp_image_gen_local.domain.errors import SettingsInvalid
from mcp_image_gen_local.engine_kit.registry import all_variables, find_engine
from mcp_image_gen_local.engines.comfyui.settings import ComfyUISettings
from mcp_image_gen_local.settings import load_settings, variable_names

VARIABLES = all_variables()


def comfyui_settings(**values: object) -> ComfyUISettings:
    """Return the settings of the engine, as the app reads them."""
    return App(load_settings(**values)).engine_settings


def test_the_defaults():
    settings = load_settings()
    assert comfyui_settings().url == "http://127.0.0.1:8188"
    assert settings.output_dir == platformdirs.user_pictures_path() / "mcp-generated"
    assert (settings.engine, settings.model) == ("comfyui", None)
    assert (settings.wait_seconds, settings.link, settings.job_timeout_seconds) == (None, None, 3600)
    assert (settings.inline_format, settings.inline_max_bytes) == ("auto", 900_000)
    assert (settings.http_token, comfyui_settings().token, comfyui_settings().headers) == (None, None, {})
    assert settings.log_level == "warning"


def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IMAGE_GEN_WAIT_SECONDS", "240")
    assert load_settings().wait_seconds == 240


@pytest.mark.parametrize("name", variable_names().values())
def test_an_empty_variable_counts_as_not_set(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(name, raising=False)
    default = load_settings()
    monkeypatch.setenv(name, "")
    assert load_settings() == default


def test_an_override_wins_unless_it_is_none(monkeypatch: pytest.MonkeyPatch):
    """An override wins over its variable unless it is none."""
    monkeypatch.setenv("COMFYUI_URL", "http://a:1")
    assert comfyui_settings(COMFYUI_URL="http://b:2").url == "http://b:2"
    assert comfyui_settings(COMFYUI_URL=None).url == "http://a:1"


def test_other_variables_do_not_matter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IMAGE_GEN_NOPE", "x")
    monkeypatch.setenv("ENGINE", "nope")
    monkeypatch.setenv("MODEL", "nope")
    assert load_settings().engine == "comfyui"
    assert load_settings().model is None


def test_the_folder_is_expanded_and_absolute(monkeypatch, tmp_path: Path):
    """The home directory is expanded and the folder is absolute."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load_settings(IMAGE_OUTPUT_DIR="~/images").output_dir == tmp_path / "images"
    assert load_settings(IMAGE_OUTPUT_DIR="images").output_dir == tmp_path / "images"


@pytest.mark.parametrize(
    "written",
    ["~/a b", "$HOME/a b", "${HOME}/a b", "${env:HOME}/a b", "%USERPROFILE%/a b", ' "~/a b"\n', "'${HOME}/a b'"],
)
def test_quotes_blanks_and_variables_are_read_away(written: str, monkeypatch, tmp_path: Path):
    """Clients pass on what their users wrote: a folder of such a name is never meant."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("USERPROFILE", raising=False)
    if os.name == "nt":
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
    wanted = tmp_path / "a b"
    assert load_settings(IMAGE_OUTPUT_DIR=written).folder("output_dir") == wanted
    assert load_settings(IMAGE_GEN_STATE_DIR=written).folder("state_dir") == wanted
    assert load_settings(IMAGE_GEN_INPUT_DIRS=os.pathsep.join([written, written])).input_dirs == (wanted, wanted)


@pytest.mark.parametrize("written", ['""', " ", "''"])
def test_nothing_in_quotes_is_not_set(written: str):
    assert load_settings(IMAGE_OUTPUT_DIR=written).output_dir == load_settings().output_dir
    assert load_settings(IMAGE_GEN_STATE_DIR=written).state_dir.is_absolute()


@pytest.mark.parametrize(
    "written", ["${NO_SUCH_NAME}", "$NO_SUCH_NAME", "%NO_SUCH_NAME%", "${EMPTY}", "${workspaceFolder}"]
)
def test_an_unset_variable_is_refused_when_used(written: str, monkeypatch, tmp_path: Path):
    """The server starts all the same, so that the call can say what is wrong."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMPTY", "")
    settings = load_settings(IMAGE_OUTPUT_DIR=f"{written}/images")
    with pytest.raises(SettingsInvalid) as caught:
        settings.folder("output_dir")
    assert caught.value.message == f"IMAGE_OUTPUT_DIR names a variable that is not set: {written}."


def test_a_folder_that_exists_may_have_any_name(monkeypatch, tmp_path: Path):
    folder = tmp_path / "$NO_SUCH_NAME %x%"
    folder.mkdir()
    assert load_settings(IMAGE_OUTPUT_DIR=folder).folder("output_dir") == folder
    assert load_settings(IMAGE_OUTPUT_DIR=folder / "new").folder("output_dir") == folder / "new"
    monkeypatch.chdir(folder)
    assert load_settings(IMAGE_OUTPUT_DIR="new").folder("output_dir") == folder / "new"


def test_names_of_hosts_are_read_as_people_write_them():
    given = " host.docker.internal:8765, HTTP://gpu.lan/ ,[::1],*.local"
    assert load_settings(IMAGE_GEN_HTTP_ALLOWED_HOSTS=given).http_allowed_hosts == (
        *("host.docker.internal:8765", "gpu.lan", "[::1]", "*.local"),
    )
    origins = load_settings(IMAGE_GEN_HTTP_ALLOWED_ORIGINS="https://app.example:444,open-webui").http_allowed_origins
    assert origins == ("https://app.example:444", "open-webui")


@pytest.mark.parametrize("name", ["IMAGE_GEN_HTTP_ALLOWED_HOSTS", "IMAGE_GEN_HTTP_ALLOWED_ORIGINS"])
@pytest.mark.parametrize("given", ["a b/c", "http://", "x:y", "http://x/path", '["x"]', "x@y"])
def test_what_is_no_name_is_refused(name: str, given: str):
    with pytest.raises(SettingsInvalid, match=f"{name}: "):
        load_settings(**{name: given})


def test_a_bad_name_of_a_header_is_not_repeated():
    """Its value may have been written in its place."""
    with pytest.raises(SettingsInvalid) as caught:
        comfyui_settings(COMFYUI_HEADERS='{"X-Api-Key": "k", "Bearer s3cret": "x"}')
    assert "name 2 holds a character that no header name has" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://127.0.0.1:8188/", "http://127.0.0.1:8188"),
        ("https://gpu.lan/comfy//", "https://gpu.lan/comfy"),
        ("HTTP://GPU:8188", "http://GPU:8188"),
        (" http://gpu:8188\n", "http://gpu:8188"),
        ("http://[::1]:8188", "http://[::1]:8188"),
    ],
)
def test_the_url_is_kept_in_one_spelling(given: str, kept: str):
    assert comfyui_settings(COMFYUI_URL=given).url == kept


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:8188", "localhost", "ftp://x", "http://", "http:///x", "http://:8188"),
        *("http://x:99999", "http://x:abc", "http://[::1", "http://two hosts", "http://x/?a=1", "http://x/#a"),
    ],
)
def test_a_bad_url_is_refused_and_named(url: str):
    with pytest.raises(SettingsInvalid, match="COMFYUI_URL: "):
        comfyui_settings(COMFYUI_URL=url)


def test_headers_are_a_json_object_of_texts():
    settings = comfyui_settings(COMFYUI_HEADERS='{"X-Api-Key": "s3cret", "Cookie": "a=b; c=d"}')
    assert settings.request_headers == {"X-Api-Key": "s3cret", "Cookie": "a=b; c=d"}


def test_the_token_is_sent_as_a_bearer():
    """The token is sent as a bearer unless the headers say otherwise."""
    assert comfyui_settings(COMFYUI_TOKEN="t").request_headers == {"Authorization": "Bearer t"}
    both = comfyui_settings(COMFYUI_TOKEN="t", COMFYUI_HEADERS='{"Authorization": "Basic x"}')
    assert both.request_headers == {"Authorization": "Basic x"}


@pytest.mark.parametrize(
    "headers",
    [
        "nope",
        "[]",
        '"x"',
        '{"a": 1}',
        '{"a": null}',
        "{a: b}",
        '{"": "x"}',
        '{"a b": "x"}',
        '{"a": "ü"}',
        '{"a": "\\n"}',
    ],
)
def test_bad_headers_are_refused_and_named(headers: str):
    with pytest.raises(SettingsInvalid, match="COMFYUI_HEADERS: "):
        comfyui_settings(COMFYUI_HEADERS=headers)


def test_a_token_loses_its_line_end():
    """Files and shells leave one on it; a token that fits no header is refused, and not shown."""
    reads = {
        "COMFYUI_TOKEN": lambda value: comfyui_settings(COMFYUI_TOKEN=value).token,
        "IMAGE_GEN_HTTP_TOKEN": lambda value: load_settings(IMAGE_GEN_HTTP_TOKEN=value).http_token,
    }
    for name, read in reads.items():
        assert read(" s3cret\n").get_secret_value() == "s3cret"
        assert read(" \n") is None
        for bad in ("sécret", "a\nb"):
            with pytest.raises(SettingsInvalid, match=f"{name}: ") as caught:
                read(bad)
            assert bad not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMAGE_GEN_WAIT_SECONDS", "-1"),
        ("IMAGE_GEN_WAIT_SECONDS", "soon"),
        ("IMAGE_GEN_WAIT_SECONDS", "nan"),
        ("IMAGE_GEN_WAIT_SECONDS", "inf"),
        ("IMAGE_GEN_JOB_TIMEOUT_SECONDS", "0"),
        ("IMAGE_GEN_INLINE_FORMAT", "bmp"),
        ("IMAGE_GEN_INLINE_MAX_BYTES", "100"),
        ("IMAGE_GEN_INLINE_MAX_BYTES", "1e9.5"),
        ("IMAGE_GEN_LOG_LEVEL", "loud"),
        ("IMAGE_OUTPUT_DIR", "~no-such-user-here/images"),
    ],
)
def test_a_bad_value_names_its_variable(name: str, value: str, monkeypatch):
    """A value that cannot be is refused and its variable named."""
    if os.name == "nt" and value.startswith("~"):
        pytest.skip("Windows guesses a home directory for every user")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid, match=f"{name}: ") as caught:
        load_settings()
    assert caught.value.code == "settings_invalid"
    assert caught.value.hint == "Correct or unset the environment variable."


def test_every_wrong_variable_is_told_at_once():
    with pytest.raises(SettingsInvalid, match=r"IMAGE_GEN_WAIT_SECONDS: .*; IMAGE_GEN_LOG_LEVEL: "):
        load_settings(IMAGE_GEN_WAIT_SECONDS="x", IMAGE_GEN_LOG_LEVEL="x")
    with pytest.raises(SettingsInvalid, match=r"COMFYUI_URL: .*; COMFYUI_HEADERS: "):
        comfyui_settings(COMFYUI_URL="x", COMFYUI_HEADERS="x")


def test_secrets_are_never_shown():
    comfyui = comfyui_settings(COMFYUI_TOKEN="s3cret", COMFYUI_HEADERS='{"X-Api-Key": "s3cret"}')
    settings = load_settings(IMAGE_GEN_HTTP_TOKEN="s3cret", COMFYUI_TOKEN="s3cret")
    for each in (comfyui, settings):
        for shown in (repr(each), str(each), each.model_dump_json()):
            assert "s3cret" not in shown


@pytest.mark.parametrize("variable", VARIABLES)
def test_each_setting_is_described_with_examples(variable: str, monkeypatch: pytest.MonkeyPatch):
    """Each example is a value that works."""
    model, name, info = VARIABLES[variable]
    assert variable.startswith(("COMFYUI_", "IMAGE_GEN_")) or variable == "IMAGE_OUTPUT_DIR"
    assert info.description.endswith(".")
    for example in info.examples:
        monkeypatch.setenv(variable, example)
        assert getattr(model(), name) is not None


@pytest.mark.parametrize("name", ["nope", "..comfyui", "comfyui.client", "_common"])
def test_an_unknown_engine_is_refused(name: str):
    """An unknown engine is refused with the known ones."""
    with pytest.raises(SettingsInvalid) as caught:
        find_engine(name)
    assert caught.value.message == f"IMAGE_GEN_ENGINE={name!r} is not an engine."
    assert caught.value.hint == "Use one of: builtin, comfyui."
