"""ComfyUI's settings."""

import json
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from mcp_image_gen_local.engine_kit.spec import EngineSettings
from mcp_image_gen_local.settings import check_header_value

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  #: RFC 9110, section 5.6.2


class ComfyUISettings(EngineSettings):
    """How to reach ComfyUI."""

    url: str = Field(
        "http://127.0.0.1:8188",
        validation_alias="COMFYUI_URL",
        description="Address of ComfyUI.",
        examples=["http://192.168.1.20:8188"],
    )
    token: SecretStr | None = Field(
        None,
        validation_alias="COMFYUI_TOKEN",
        description="Bearer token for a ComfyUI behind a proxy.",
        examples=["s3cret"],
    )
    headers: Annotated[dict[str, SecretStr], NoDecode] = Field(
        {},
        validation_alias="COMFYUI_HEADERS",
        description="Extra headers for every request and the WebSocket to ComfyUI, as a JSON object.",
        examples=['{"X-Api-Key": "s3cret"}'],
    )

    @field_validator("url")
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

    @field_validator("headers", mode="before")
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
        for number, (name, text) in enumerate(headers.items(), 1):
            if not HEADER_NAME.fullmatch(name):  # not told: it may hold the secret, in a wrong place
                message = f"name {number} holds a character that no header name has"
                raise ValueError(message)
            check_header_value(text)
        return headers

    @field_validator("token", mode="before")
    @classmethod
    def _check_token(cls, value: object) -> object:
        """Return the token without the line end that files and shells leave on it; None if nothing is left."""
        if not isinstance(value, str):
            return value
        check_header_value(value.strip())
        return value.strip() or None

    @property
    def request_headers(self) -> dict[str, str]:
        """Headers for every request to ComfyUI, secrets in the clear."""
        headers = {name: value.get_secret_value() for name, value in self.headers.items()}
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token.get_secret_value()}")
        return headers
