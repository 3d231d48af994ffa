"""One check of a request against what an engine supports."""

import pytest

from mcp_image_gen_local.domain.capabilities import Capabilities
from mcp_image_gen_local.domain.errors import RequestNotSupported
from mcp_image_gen_local.domain.image import ImageRef
from mcp_image_gen_local.domain.request import Feature, GenerationRequest

IMAGE = ImageRef(uri="/a.png", sha256="0")


def nobody(_: Feature) -> list[str]:
    return []


def capabilities(*features: Feature, **limits: int) -> Capabilities:
    return Capabilities(model="tiny", features=frozenset(features), **limits)


def test_what_is_supported_passes_unchanged():
    request = GenerationRequest(prompt="a", steps=3, cfg=2.0)
    assert capabilities(Feature.STEPS, Feature.CFG).check(request, nobody) == (request, ())


def test_tuning_is_left_out_with_a_sentence():
    request = GenerationRequest(prompt="a", steps=3, cfg=2.0, sampler="euler")
    left, notes = capabilities(Feature.STEPS).check(request, nobody)
    assert left == GenerationRequest(prompt="a", steps=3)
    assert notes == ("tiny does not support cfg, sampler: left out.",)


def test_content_is_refused_with_who_has_it():
    request = GenerationRequest(prompt="a", init_image=IMAGE, cfg=2.0)
    with pytest.raises(RequestNotSupported) as caught:
        capabilities().check(request, lambda feature: ["one", "two"])
    assert caught.value.message == "tiny does not support: init_image."
    assert caught.value.hint == "one, two support init_image."
    with pytest.raises(RequestNotSupported, match=r"one supports init_image\."):
        capabilities().check(request, lambda feature: ["one"])
    with pytest.raises(RequestNotSupported, match=r"Leave init_image out\."):
        capabilities().check(request, nobody)


def test_all_problems_are_named_at_once():
    request = GenerationRequest(prompt="a", init_image=IMAGE, batch_size=5)
    with pytest.raises(RequestNotSupported) as caught:
        capabilities(max_batch=4).check(request, nobody)
    assert caught.value.message == "tiny does not support: init_image, batch_size=5."
    assert caught.value.hint == "Leave init_image out. Use at most 4."


def test_the_largest_batch_passes():
    request = GenerationRequest(prompt="a", batch_size=16)
    assert capabilities().check(request, nobody) == (request, ())
    assert (capabilities().reports_steps, capabilities().survives_restart) == (True, True)
