"""Errors as values, and back from what is stored of them."""

import pytest

from mcp_image_gen_local.domain import errors
from mcp_image_gen_local.domain.errors import ImageGenError, OutOfMemory, error_from_dict, unexpected

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ImageGenError)]


def test_codes_are_unique_and_follow_the_name():
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    for kind in KINDS[1:]:
        assert kind.code.replace("_", "") == kind.__name__.lower()


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_read_again(kind: type[ImageGenError]):
    found = error_from_dict(kind("What.", hint="Do.").to_dict())
    assert (type(found), found.code, found.message, found.hint) == (kind, kind.code, "What.", "Do.")
    assert str(found) == "What. Do."


def test_an_unknown_code_keeps_its_texts():
    found = error_from_dict({"code": "of_later", "message": "What.", "hint": "Do."})
    assert (type(found), found.code, str(found)) == (ImageGenError, "of_later", "What. Do.")
    assert found.anew().code == "of_later"
    bare = error_from_dict({})
    assert (bare.code, str(bare)) == ("error", "")


def test_a_hint_may_be_missing():
    assert str(ImageGenError("What.")) == "What."
    assert ImageGenError("What.").hint == ""


def test_a_fresh_error_has_no_past():
    try:
        raise OutOfMemory("What.", hint="Do.")
    except OutOfMemory as error:
        fresh = error.anew()
    assert (type(fresh), fresh.to_dict(), fresh.__traceback__) == (
        OutOfMemory,
        OutOfMemory("What.", hint="Do.").to_dict(),
        None,
    )


def test_a_fault_of_the_program_is_named():
    found = unexpected(ValueError("x" * 400))
    assert (found.code, found.hint) == ("unexpected_error", "Report it with the log.")
    assert found.message == f"An unexpected error: {repr(ValueError('x' * 400))[:300]}."
