"""The settings of the server, read from the environment when it starts; an engine's settings stand beside it."""

import os
import re
from collections import ChainMap
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import platformdirs
from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mcp_image_gen_local.domain.errors import SettingsInvalid
from mcp_image_gen_local.domain.folders import expand, unset_variable

LogLevel = Literal["debug", "info", "warning", "error"]
Model = TypeVar("Model", bound=BaseSettings)
#: a host name, an address or a pattern of such, perhaps with scheme and port
ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*://)?([a-z0-9_.*-]+|\[[0-9a-f:.]+\]|[0-9a-f:]*:[0-9a-f:.]*:[0-9a-f:.]*)(:\d{1,5})?"
)


def _default_output_dir() -> Path:
    return platformdirs.user_pictures_path() / "mcp-generated"


def _default_state_dir() -> Path:
    return platformdirs.user_state_path("mcp-image-gen", appauthor=False)


class Settings(BaseSettings):
    """The server's settings. An empty variable counts as not set."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    _engine_values: dict[str, Any] = PrivateAttr(default_factory=dict)

    output_dir: Path = Field(
        default_factory=_default_output_dir,
        validation_alias="IMAGE_OUTPUT_DIR",
        description="Folder for finished images; made when it is missing.",
        examples=["~/Pictures/mcp-generated"],
    )
    state_dir: Path = Field(
        default_factory=_default_state_dir,
        validation_alias="IMAGE_GEN_STATE_DIR",
        description="Folder of the job store, which all servers of one user share; created when it is missing.",
        examples=["~/.local/state/mcp-image-gen"],
    )
    engine: str = Field(
        "comfyui",
        validation_alias="IMAGE_GEN_ENGINE",
        description="Engine that generates.",
        examples=["comfyui"],
    )
    model: str | None = Field(
        None,
        validation_alias="IMAGE_GEN_MODEL",
        description="Model for calls that name none: a family or a file name. Not set: flux1-schnell, or else the "
        "first model that is ready.",
        examples=["flux1-schnell"],
    )
    wait_seconds: float | None = Field(
        None,
        validation_alias="IMAGE_GEN_WAIT_SECONDS",
        ge=0,
        le=86_400,
        description="Seconds that a call waits for its image before it answers with a handle. Not set or auto: as "
        "long as the client is known to allow, 45 for an unknown one.",
        examples=["240"],
    )
    job_timeout_seconds: float = Field(
        3600,
        validation_alias="IMAGE_GEN_JOB_TIMEOUT_SECONDS",
        gt=0,
        description="Seconds after which a job that has not ended is cancelled.",
        examples=["600"],
    )
    max_queue: int | None = Field(
        None,
        validation_alias="IMAGE_GEN_MAX_QUEUE",
        ge=1,
        description="Maximum number of queued and running jobs on the engine, including those of its other clients. "
        "Further calls fail with queue_full. Not set: no limit.",
        examples=["10"],
    )
    keep_days: float | None = Field(
        None,
        validation_alias="IMAGE_GEN_KEEP_DAYS",
        gt=0,
        description="Days after which images that this server saved are deleted from the output folder. Not set: "
        "never.",
        examples=["30"],
    )
    max_bytes: int | None = Field(
        None,
        validation_alias="IMAGE_GEN_MAX_BYTES",
        ge=1,
        description="Bytes that the saved images may take together; the oldest beyond that are deleted. Not set: no "
        "limit.",
        examples=["5000000000"],
    )
    input_dirs: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        validation_alias="IMAGE_GEN_INPUT_DIRS",
        description="Folders from which an agent may name an init_image, beside the output folder; several are "
        "separated as in PATH.",
        examples=["~/Pictures"],
    )
    inline_format: Literal["auto", "png", "jpeg", "webp", "none"] = Field(
        "auto",
        validation_alias="IMAGE_GEN_INLINE_FORMAT",
        description="Format of the image inside the answer; jpeg and webp keep more pixels, none sends text only. "
        "auto: as the client is known to take it, PNG for an unknown one. The file on disk is never changed.",
        examples=["jpeg"],
    )
    inline_max_bytes: int = Field(
        900_000,
        validation_alias="IMAGE_GEN_INLINE_MAX_BYTES",
        ge=20_000,
        description="Bytes that a whole answer may take; Claude Desktop refuses 1 MB.",
        examples=["4000000"],
    )
    link: bool | None = Field(
        None,
        validation_alias="IMAGE_GEN_LINK",
        description="Whether answers hold a resource link to the file. Not set or auto: where the client is known to "
        "show it. Never before protocol 2025-06-18.",
        examples=["false"],
    )
    http_token: SecretStr | None = Field(
        None,
        validation_alias="IMAGE_GEN_HTTP_TOKEN",
        description="Bearer token that HTTP clients must send; required to listen beyond this machine.",
        examples=["a-long-random-text"],
    )
    http_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        validation_alias="IMAGE_GEN_HTTP_ALLOWED_HOSTS",
        description="Host names, separated by commas, by which HTTP clients may address the server beside 127.0.0.1 "
        "and localhost; * stands for any characters, a port does not matter. Not set: no others on this machine alone, "
        "any beyond it, where the token guards.",
        examples=["host.docker.internal"],
    )
    http_allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        validation_alias="IMAGE_GEN_HTTP_ALLOWED_ORIGINS",
        description="Origins, separated by commas, from which HTTP requests are taken beside the server's own: a name "
        "for any scheme and port, or a scheme, a name and a port.",
        examples=["http://localhost:3000"],
    )
    log_level: LogLevel = Field(
        "warning",
        validation_alias="IMAGE_GEN_LOG_LEVEL",
        description="What goes to stderr: debug, info, warning or error.",
        examples=["info"],
    )

    @property
    def engine_values(self) -> Mapping[str, Any]:
        """Values for the engine's own settings by variable name, from the command line; they win."""
        return self._engine_values

    @field_validator("http_token", mode="before")
    @classmethod
    def _check_token(cls, value: object) -> object:
        """Return the token without the line end that files and shells leave on it; None if nothing is left."""
        if not isinstance(value, str):
            return value
        check_header_value(value.strip())
        return value.strip() or None

    @field_validator("http_allowed_hosts", "http_allowed_origins", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(name.rstrip("/") for name in re.split(r"[\s,]+", value.strip().lower()) if name)
        for name in names:
            if not ORIGIN.fullmatch(name):
                message = "must hold names of hosts, separated by commas, e.g. host.docker.internal"
                raise ValueError(message)
        return names

    @field_validator("http_allowed_hosts")
    @classmethod
    def _drop_scheme(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.rpartition("://")[2] for name in value)

    @field_validator("log_level", "inline_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("wait_seconds", "link", mode="before")
    @classmethod
    def _read_auto(cls, value: object) -> object:
        """Return None for "auto"."""
        return None if isinstance(value, str) and value.strip().lower() == "auto" else value

    @field_validator("input_dirs", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = map(_expand, _expand(value).split(os.pathsep))  # ${env:NAME} holds a separator
        return tuple(_absolute(part) for part in parts if part)

    @field_validator("output_dir", mode="before")
    @classmethod
    def _read_output_dir(cls, value: object) -> object:
        return _absolute(_expand(str(value))) if _expand(str(value)) else _default_output_dir()

    @field_validator("state_dir", mode="before")
    @classmethod
    def _read_state_dir(cls, value: object) -> object:
        return _absolute(_expand(str(value))) if _expand(str(value)) else _default_state_dir()

    def folder(self, field: Literal["output_dir", "state_dir"]) -> Path:
        """Return the folder.

        Raises:
            SettingsInvalid: it holds a variable that is not set; a folder of that name is not made.
        """
        path: Path = getattr(self, field)
        if name := unset_variable(_missing_part(path)):
            raise SettingsInvalid(
                f"{variable_names()[field]} names a variable that is not set: {name}.",
                hint="Write the whole path, or set that variable where the server is started.",
            )
        return path


def _expand(text: str) -> str:
    home = os.path.expanduser("~")  # noqa: PTH111  (Path raises where there is none)
    known = {} if home == "~" else {"HOME": home, "USERPROFILE": home}
    return text if os.path.exists(text) else expand(text, ChainMap(os.environ, known))  # noqa: PTH110


def _absolute(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # ~name, and no such user
        message = f"{text}: the home directory is not known; give the whole path"
        raise ValueError(message) from error


def _missing_part(path: Path) -> str:
    """Return the end of the path that is not there: a folder that exists may have any name."""
    # os.path, as Path.exists raises where a folder may not be looked into
    nearest = next((p for p in (path, *path.parents) if os.path.lexists(p)), path)
    return str(path.relative_to(nearest))


def check_header_value(text: str) -> None:
    """Raise ValueError for a text that an HTTP header cannot hold."""
    if not text.isascii() or not all(map(str.isprintable, text)):
        message = "a header can hold printable ASCII characters only"
        raise ValueError(message)


def load_settings(**overrides: object) -> Settings:
    """Return the settings of this environment; `overrides` go by variable name and win.

    Those of an engine's variables are kept for `engine_values`.

    Raises:
        SettingsInvalid: a variable cannot be read; the message names it and its value's fault.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    settings = read_settings(Settings, given)
    settings._engine_values = {name: value for name, value in given.items() if name not in variable_names().values()}
    return settings


def read_settings(model: type[Model], overrides: Mapping[str, object]) -> Model:
    """Return settings of this class from the environment; `overrides` go by variable name and win.

    Raises:
        SettingsInvalid: a variable cannot be read.
    """
    try:
        return model(**dict(overrides))  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(f"{_variable(e['loc'])}: {e['msg']}" for e in error.errors(include_url=False))
        raise SettingsInvalid(
            f"A setting cannot be read. {problems}.", hint="Correct or unset the environment variable."
        ) from error


def _variable(location: tuple[int | str, ...]) -> str:
    return str(location[0]) if location else "environment"


@lru_cache(maxsize=1)
def variable_names() -> dict[str, str]:
    """Return field name -> environment variable."""
    return {name: str(info.validation_alias) for name, info in Settings.model_fields.items()}
