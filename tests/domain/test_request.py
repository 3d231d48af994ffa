"""What a request accepts, what it uses, and how it is stored."""

import dataclasses
import math
from inspect import signature

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_image_gen_local.cli.options import with_request_options
from mcp_image_gen_local.domain.errors import InvalidRequest
from mcp_image_gen_local.domain.image import ImageRef
from mcp_image_gen_local.domain.request import (
    MAX_SEED,
    Feature,
    GenerationRequest,
    Option,
    image_fields,
    option,
    options_of,
    random_seed,
    seeds_of,
)
from mcp_image_gen_local.server.arguments import with_request_arguments

IMAGE = ImageRef(uri="/images/a.png", sha256="00")
BOUNDS = {name: about for name, about in options_of(GenerationRequest).items() if about.ge is not None}
NEEDED = {"denoise": {"init_image": IMAGE}}


def asked(**values: object) -> GenerationRequest:
    return GenerationRequest(**{"prompt": "a fox", **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_belong_to_the_range(name: str):
    about = BOUNDS[name]
    for value in (about.ge, about.le):
        assert getattr(asked(**{name: value}, **NEEDED.get(name, {})), name) == value


@pytest.mark.parametrize("name", BOUNDS)
def test_values_outside_are_refused(name: str):
    about = BOUNDS[name]
    for value in (about.ge - 1, about.le + 1, math.nan):
        with pytest.raises(InvalidRequest) as caught:
            asked(**{name: value}, **NEEDED.get(name, {}))
        assert caught.value.message == f"{name}={value} is out of range {about.ge}..{about.le}."
        assert caught.value.hint == about.hint != ""


def test_the_ranges_are_those_of_the_reference():
    found = {name: (about.ge, about.le) for name, about in BOUNDS.items()}
    assert found == {
        "width": (16, 4096),
        "height": (16, 4096),
        "steps": (1, 200),
        "seed": (0, 2**64 - 1),
        "cfg": (0, 100),
        "guidance": (0, 100),
        "batch_size": (1, 16),
        "denoise": (0, 1),
    }


@pytest.mark.parametrize("prompt", ["", "  ", "\n"])
def test_an_empty_prompt_is_refused(prompt: str):
    with pytest.raises(InvalidRequest) as caught:
        asked(prompt=prompt)
    assert str(caught.value) == "The prompt is empty. Say what to generate, e.g. 'a lighthouse at dusk'."


@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "model", "sampler", "scheduler"])
def test_every_text_is_checked(name: str):
    assert getattr(asked(**{name: "x" * 20_000}), name) == "x" * 20_000
    with pytest.raises(InvalidRequest) as caught:
        asked(**{name: "x" * 20_001})
    assert caught.value.message == f"{name} has 20001 characters; the limit is 20000."
    assert caught.value.hint == "Shorten it: models read a few hundred words at most."
    with pytest.raises(InvalidRequest) as caught:
        asked(**{name: "ab\ud83d"})
    assert str(caught.value) == f"{name} contains an unpaired surrogate at index 2. Send valid Unicode."


def test_denoise_requires_an_image():
    with pytest.raises(InvalidRequest) as caught:
        asked(denoise=0.5)
    assert str(caught.value) == "denoise requires init_image. Give both, or neither."


def test_defaults_use_no_feature():
    assert asked().used() == frozenset()
    assert asked(width=64, seed=1, model="m", batch_size=2).used() == frozenset()


VALUES = {
    "negative_prompt": "dark",
    "steps": 2,
    "cfg": 0.0,
    "guidance": 0.0,
    "sampler": "euler",
    "scheduler": "simple",
    "init_image": IMAGE,
}


@pytest.mark.parametrize("feature", Feature)
def test_each_feature_is_seen_and_taken_away(feature: Feature):
    """Also where the value is 0, which is not the default."""
    request = asked(**VALUES)
    assert request.used() == frozenset(Feature)
    left = request.without([feature])
    assert left.used() == frozenset(Feature) - {feature}
    assert left.prompt == "a fox"


def test_an_image_takes_denoise_with_it():
    assert asked(init_image=IMAGE, denoise=0.3).without([Feature.INIT_IMAGE]) == asked()


def test_only_an_image_is_content():
    assert [feature for feature in Feature if feature.is_content] == [Feature.INIT_IMAGE]


@pytest.mark.timeout(30)
@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.fixed_dictionaries(
        {"prompt": st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)},
        optional={
            "negative_prompt": st.text(st.characters(exclude_categories=["Cs"])),
            "width": st.integers(16, 4096),
            "steps": st.integers(1, 200),
            "seed": st.integers(0, MAX_SEED),
            "cfg": st.floats(0, 100),
            "guidance": st.floats(0, 100),
            "batch_size": st.integers(1, 16),
            "init_image": st.just(IMAGE),
        },
    )
)
def test_what_is_stored_is_read_again(values: dict[str, object]):
    request = GenerationRequest(**values)  # type: ignore[arg-type]
    stored = request.to_dict()
    assert GenerationRequest.from_dict(stored) == request
    assert None not in stored.values()


def test_a_request_of_a_later_version_is_refused():
    with pytest.raises(TypeError):
        GenerationRequest.from_dict({"prompt": "a fox", "later": 1})


def test_seeds_count_on_and_wrap():
    assert seeds_of(7, 3) == [7, 8, 9]
    assert seeds_of(MAX_SEED, 2) == [MAX_SEED, 0]
    assert seeds_of(1, 0) == []


def test_random_seeds_survive_json_readers():
    seeds = {random_seed() for _ in range(200)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert max(seeds) > 2**48


def test_images_are_found_by_their_type():
    assert image_fields(GenerationRequest) == {"init_image"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithClipSkip(GenerationRequest):
    """A request of tomorrow: one field more, written once."""

    clip_skip: int | None = option(None, "Layers of CLIP to skip", feature=Feature.STEPS, ge=1, le=12, hint="Use 1.")


def test_a_new_field_is_one_edit():
    """Bounds, use, storage, the tool's schema and the command line's option follow from the field."""

    async def tool(**arguments: object) -> None: ...

    def command(**arguments: object) -> int:
        return 0

    assert options_of(WithClipSkip)["clip_skip"] == Option(
        about="Layers of CLIP to skip", feature=Feature.STEPS, ge=1, le=12, hint="Use 1."
    )
    with pytest.raises(InvalidRequest, match=r"clip_skip=13 is out of range 1\.\.12\. Use 1\."):
        WithClipSkip(prompt="a fox", clip_skip=13)
    request = WithClipSkip(prompt="a fox", clip_skip=2)
    assert request.used() == {Feature.STEPS}
    assert WithClipSkip.from_dict(request.to_dict()) == request
    assert "clip_skip" in signature(with_request_arguments(tool, WithClipSkip)).parameters
    assert "clip_skip" in signature(with_request_options(command, WithClipSkip)).parameters
