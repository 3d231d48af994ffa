"""The arguments of generate_image, derived from the fields of the request."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args

from fastmcp import Context
from pydantic import Field

from mcp_image_gen_local.domain.image import ImageRef
from mcp_image_gen_local.domain.request import GenerationRequest, options_of


def with_request_arguments(tool: Callable[..., Any], kind: type[GenerationRequest]) -> Callable[..., Any]:
    """Return `tool(ctx, **arguments)` with a signature that lists an argument for each field of the request."""
    parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Context)]
    parameters += [
        inspect.Parameter(
            each.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=Annotated[_plain(each.type), Field(description=about.about)],
            default=inspect.Parameter.empty if each.default is MISSING else each.default,
        )
        for each, about in zip(fields(kind), options_of(kind).values(), strict=True)
    ]
    returns = tool.__annotations__["return"]
    tool.__signature__ = inspect.Signature(parameters, return_annotation=returns)  # type: ignore[attr-defined]
    tool.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": returns}
    return tool


def _plain(kind: Any) -> Any:
    """Return the type of the argument: the path of a file where the field holds an image."""
    return str | None if ImageRef in get_args(kind) else kind
