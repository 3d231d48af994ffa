"""Every setting, with unit, default and example; read from the environment when the server starts."""

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mcp_image_gen_local.domain.errors import SettingsInvalid

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  #: RFC 9110, section 5.6.2
LogLevel = Literal["debug", "info", "warning", "error"]


def _default_output_dir() -> Path:
    return platformdirs.user_pictures_path() / "mcp-generated"


def _default_state_dir() -> Path:
    return platformdirs.user_state_path("mcp-image-gen", appauthor=False)


class Settings(BaseSettings):
    """The server's settings. An empty variable counts as not set."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    comfyui_url: str = Field(
        "http://127.0.0.1:8188",
        validation_alias="COMFYUI_URL",
        description="Where ComfyUI answers.",
        examples=["http://192.168.1.20:8188"],
    )
    comfyui_token: SecretStr | None = Field(
        None,
        validation_alias="COMFYUI_TOKEN",
        description="Bearer token for a ComfyUI behind a proxy.",
        examples=["s3cret"],
    )
    comfyui_headers: Annotated[dict[str, SecretStr], NoDecode] = Field(
        {},
        validation_alias="COMFYUI_HEADERS",
        description="Extra headers for every request and the WebSocket to ComfyUI, as a JSON object.",
        examples=['{"X-Api-Key": "s3cret"}'],
    )
    output_dir: Path = Field(
        default_factory=_default_output_dir,
        validation_alias="IMAGE_OUTPUT_DIR",
        description="Folder for finished images; made when it is missing.",
        examples=["~/Pictures/mcp-generated"],
    )
    state_dir: Path = Field(
        default_factory=_default_state_dir,
        validation_alias="IMAGE_GEN_STATE_DIR",
        description="Folder of the job journal, which all servers of one user share; made when it is missing.",
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
    wait_seconds: float = Field(
        45,
        validation_alias="IMAGE_GEN_WAIT_SECONDS",
        ge=0,
        le=86_400,
        description="Seconds that a call waits for its image before it answers with a handle. Many clients give up "
        "after 60.",
        examples=["240"],
    )
    job_timeout_seconds: float = Field(
        3600,
        validation_alias="IMAGE_GEN_JOB_TIMEOUT_SECONDS",
        gt=0,
        description="Seconds after which a job that has not ended is withdrawn.",
        examples=["600"],
    )
    max_queue: int | None = Field(
        None,
        validation_alias="IMAGE_GEN_MAX_QUEUE",
        ge=1,
        description="Jobs that may run or wait at the engine, those of its other clients too; beyond it a call is "
        "refused. Not set: no limit.",
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
        description="Bytes that the saved images may take together; beyond it the oldest are deleted. Not set: no "
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
    inline_format: Literal["png", "jpeg", "webp", "none"] = Field(
        "png",
        validation_alias="IMAGE_GEN_INLINE_FORMAT",
        description="Format of the image inside the answer; jpeg and webp keep more pixels, none sends text only. "
        "The file on disk is never changed.",
        examples=["jpeg"],
    )
    inline_max_bytes: int = Field(
        900_000,
        validation_alias="IMAGE_GEN_INLINE_MAX_BYTES",
        ge=20_000,
        description="Bytes that a whole answer may take; Claude Desktop refuses 1 MB.",
        examples=["4000000"],
    )
    http_token: SecretStr | None = Field(
        None,
        validation_alias="IMAGE_GEN_HTTP_TOKEN",
        description="Bearer token that HTTP clients must send; required to listen beyond this machine.",
        examples=["a-long-random-text"],
    )
    log_level: LogLevel = Field(
        "warning",
        validation_alias="IMAGE_GEN_LOG_LEVEL",
        description="What goes to stderr: debug, info, warning or error.",
        examples=["info"],
    )

    @field_validator("comfyui_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname or any(map(str.isspace, parts.netloc)):
            message = "must start with http:// or https:// and name a host, e.g. http://127.0.0.1:8188"
            raise ValueError(message)
        _ = parts.port  # raises ValueError for what is no port
        if parts.query or parts.fragment:
            message = "must be a plain address without ? and #, e.g. http://127.0.0.1:8188"
            raise ValueError(message)
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"

    @field_validator("comfyui_token", "http_token", mode="before")
    @classmethod
    def _check_token(cls, value: object) -> object:
        """Return the token without the line end that files and shells leave on it; None if nothing is left."""
        if not isinstance(value, str):
            return value
        _check_header_value(value.strip())
        return value.strip() or None

    @field_validator("log_level", "inline_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("comfyui_headers", mode="before")
    @classmethod
    def _parse_headers(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        message = 'must be a JSON object of texts, e.g. {"X-Api-Key": "s3cret"}'
        try:
            headers = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(message) from error
        if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
            raise ValueError(message)
        for name, text in headers.items():
            if not HEADER_NAME.fullmatch(name):
                message = f"{name!r} is no header name"
                raise ValueError(message)
            _check_header_value(text)
        return headers

    @field_validator("input_dirs", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(cls._make_absolute(Path(part)) for part in value.split(os.pathsep) if part)

    @field_validator("output_dir", "state_dir")
    @classmethod
    def _make_absolute(cls, value: Path) -> Path:
        try:
            return value.expanduser().absolute()
        except RuntimeError as error:  # ~name, and no such user
            message = f"{value}: the home directory is not known; give the whole path"
            raise ValueError(message) from error

    @property
    def engine_headers(self) -> dict[str, str]:
        """Headers for every request to ComfyUI, secrets in the clear."""
        headers = {name: value.get_secret_value() for name, value in self.comfyui_headers.items()}
        if self.comfyui_token:
            headers.setdefault("Authorization", f"Bearer {self.comfyui_token.get_secret_value()}")
        return headers


def _check_header_value(text: str) -> None:
    if not text.isascii() or not all(map(str.isprintable, text)):
        message = "a header can hold printable ASCII characters only"
        raise ValueError(message)


def load_settings(**overrides: object) -> Settings:
    """Return the settings of this environment; `overrides` go by variable name and win.

    Raises:
        SettingsInvalid: a variable cannot be read; the message names it and its value's fault.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
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
