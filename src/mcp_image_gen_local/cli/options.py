"""The options of `generate`, derived from the fields of the request."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, get_args

from cyclopts import Parameter

from mcp_image_gen_local.domain.image import ImageRef
from mcp_image_gen_local.domain.request import GenerationRequest, options_of


def with_request_options(command: Callable[..., int], kind: type[GenerationRequest]) -> Callable[..., int]:
    """Return `command(**arguments)` with a signature that has an option for each field of the request.

    Fields without a default are positional; the command's own options follow.
    """
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    options = []
    for each, about in zip(fields(kind), options_of(kind).values(), strict=True):
        is_required = each.default is MISSING
        options.append(
            inspect.Parameter(
                each.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD if is_required else inspect.Parameter.KEYWORD_ONLY,
                annotation=Annotated[_plain(each.type), Parameter(help=f"{about.about}.")],
                default=inspect.Parameter.empty if is_required else each.default,
            )
        )
    parameters = [*options, *own]
    signature = inspect.Signature(parameters, return_annotation=int)

    @functools.wraps(command)
    def derived(*args: Any, **given: Any) -> int:
        return command(**signature.bind(*args, **given).arguments)

    derived.__signature__ = signature  # type: ignore[attr-defined]
    derived.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": int}
    return derived


def _plain(kind: Any) -> Any:
    """Return the type of the option: the path of a file where the field holds an image."""
    return Path | None if ImageRef in get_args(kind) else kind
