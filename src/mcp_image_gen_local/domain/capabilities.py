"""What an engine, narrowed by a model, supports; and the one check of a request against it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mcp_image_gen_local.domain.errors import RequestNotSupported
from mcp_image_gen_local.domain.request import Feature, GenerationRequest


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """Facts about an engine with one of its models."""

    model: str  #: as messages name it, e.g. "flux1-schnell"
    features: frozenset[Feature]
    max_batch: int = 16  #: images in one job
    reports_steps: bool = True  #: progress carries sampling steps
    survives_restart: bool = True  #: a job continues when this server ends

    def check(
        self, request: GenerationRequest, supporters: Callable[[Feature], Iterable[str]]
    ) -> tuple[GenerationRequest, tuple[str, ...]]:
        """Return the request without unsupported tuning, and a sentence about what was left out.

        `supporters(feature)` names what else supports a feature, for the hint.

        Raises:
            RequestNotSupported: it uses content that is not supported, or too large a batch; all of it is named.
        """
        unsupported = sorted(request.used() - self.features)
        problems = [_refusal(feature, supporters(feature)) for feature in unsupported if feature.is_content]
        if request.batch_size > self.max_batch:
            problems.append((f"batch_size={request.batch_size}", f"Use at most {self.max_batch}."))
        if problems:
            names, hints = zip(*problems, strict=True)
            raise RequestNotSupported(f"{self.model} does not support: {', '.join(names)}.", hint=" ".join(hints))
        if not unsupported:
            return request, ()
        return request.without(unsupported), (f"{self.model} does not support {', '.join(unsupported)}: left out.",)


def _refusal(feature: Feature, supporters: Iterable[str]) -> tuple[str, str]:
    names = list(supporters)
    if not names:
        return feature, f"Leave {feature} out."
    return feature, f"{', '.join(names)} {'supports' if len(names) == 1 else 'support'} {feature}."
