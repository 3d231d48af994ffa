"""What a single value means, whatever dress it comes in. Pure."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from mcp_image_gen_local.domain.text import MAX_NAME, clean
from mcp_image_gen_local.server.tolerance_table import short, spellings, table

QUOTES = "\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb<> \t\r\n"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
#: "1,024" and "1 024" are whole numbers; "0,75" is none
GROUPED = re.compile(r"[+-]?\d{1,3}([ ,_'\u00a0\u202f]\d{3})+")
WHOLE = re.compile(r"[+-]?\d{1,40}")
NUMBER = re.compile(r"([+-]?\d*[.,]?\d+(?:e[+-]?\d+)?)\s*(%?)\s*(?:px|pixels?|steps?|images?|x)?\.?", re.IGNORECASE)
PAIR = re.compile(r"(\d+(?:\.\d+)?)\s*(?:px|pixels)?\s*(?:x|\u00d7|\*|:|/|,|by|_|\s)\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
MAX_DEPTH = 4  #: of lists and objects around a value
LEAST_PIXELS = 32  #: two numbers of which one is below are a ratio, not a size
#: keys of an object that holds one value, such as a text block, a resource link or a ComfyUI input
CARRIERS = ("value", "text", "content", "path", "uri", "url", "file", "name", "id", "prompt_id", "prompt", "image")


class Unreadable(Exception):
    """The value cannot be read; the text says what it is not, to be put behind the value."""


def is_empty(value: Any) -> bool:
    """Return True for a value that means "not given", whatever the argument."""
    if isinstance(value, str):
        return len(value) < MAX_NAME and value.strip(QUOTES).lower() in table()["not_given"]["words"]
    return value is None or value is False or value in ([], {}) or (isinstance(value, float) and math.isnan(value))


def is_given(name: str, value: Any) -> bool:
    """Return False for a value that means "not given" for this argument."""
    words = table()["not_given"]
    if name == "prompt":  # may be any word
        return bool(value.strip()) if isinstance(value, str) else not is_empty(value)
    if is_empty(value) or (isinstance(value, str) and value.strip(QUOTES).lower() in words.get(name, ())):
        return False
    number = _number(value)
    if number is None:
        return True
    if number < 0 and name == "seed":
        return False
    return not (number == 0 and name in words["zero"]) and not (number == -1 and name in words["minus_one"])


def _number(value: Any) -> float | None:
    is_text = isinstance(value, str) and len(value) < MAX_NAME
    if isinstance(value, bool) or not (is_text or isinstance(value, int | float)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def read(name: str, kind: str, value: Any) -> tuple[Any, str]:
    """Return the value as an argument of this kind, and what changed with it; mostly nothing.

    Raises:
        Unreadable: it is none.
    """
    value, change = _single(name, value)
    if kind == "integer":
        return _integer(value, change)
    if kind == "number":
        return _decimal(value), change
    text = _text(value)
    if name == "prompt":
        return text, change
    text = text.strip(QUOTES)
    if name == "prompt_id":
        return _id_in(text), change
    if name == "aspect_ratio":
        return ratio(text), change
    return text, change


def _single(name: str, value: Any) -> tuple[Any, str]:
    """Return the one value of a list or an object."""
    change = ""
    for _ in range(MAX_DEPTH):
        if isinstance(value, Mapping):
            value = next((value[key] for key in (name, *CARRIERS) if value.get(key) is not None), None)
        elif isinstance(value, list) and value:
            if name == "prompt" and all(isinstance(each, str) for each in value):
                return ", ".join(value), "the texts of the list were joined" if len(value) > 1 else ""
            change = f"the first of {len(value)} values was taken" if len(value) > 1 else change
            value = value[0]
    if isinstance(value, Mapping | list) or value is None:
        raise Unreadable("is not a single value")
    return value, change


def _integer(value: Any, change: str) -> tuple[int, str]:
    if isinstance(value, int) and not isinstance(value, bool):
        return value, change
    if isinstance(value, str) and GROUPED.fullmatch(value.strip()):
        value = re.sub(r"[^\d+-]", "", value)
    if isinstance(value, str) and WHOLE.fullmatch(value.strip()):
        return int(value), change  # exact: a seed has more digits than a float
    number = _decimal(value)
    if not math.isfinite(number):
        raise Unreadable("is not a finite number")
    whole = math.floor(number + 0.5)
    return whole, change if whole == number else f"{number:g} was rounded to {whole}"


def _decimal(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise Unreadable("is too large a number") from error
    found = NUMBER.fullmatch(value.strip(QUOTES)) if isinstance(value, str) and len(value) < MAX_NAME else None
    if found is None:
        raise Unreadable("is not a number")
    number = float(found[1].replace(",", "."))
    return number / 100 if found[2] else number


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else shown(value)
    raise Unreadable("is not a text")


def shown(value: Any) -> str:
    """Return a value as messages show it, cut."""
    try:
        return clean(str(value) if isinstance(value, int) else repr(value), MAX_NAME)
    except (ValueError, RecursionError):  # Python writes no whole numbers of more than 4,300 digits
        return f"a {type(value).__name__} that is too long to show"


def _id_in(text: str) -> str:
    """Return the id in an address or a sentence that holds one."""
    ids = {found.lower() for found in UUID.findall(text[:2_000])}
    if len(ids) == 1:
        return str(ids.pop())
    if address := re.match(r"(?:job|image)://([^/]*)", text):
        text = address[1]
    return clean(re.sub(r"^prompt_id\s*[:=]", "", text).strip(QUOTES), MAX_NAME)


def is_size(value: Any) -> bool:
    """Return True for a text that holds width and height, such as "1024x768"."""
    found = PAIR.fullmatch(value.strip(QUOTES)) if isinstance(value, str) and len(value) < MAX_NAME else None
    return bool(found and not GROUPED.fullmatch(value.strip()) and min(map(float, found.groups())) >= LEAST_PIXELS)


def size(value: Any) -> dict[str, Any]:
    """Return width and height, or the aspect ratio, that a size such as "1024x768" or "landscape" means.

    Raises:
        Unreadable: it means neither.
    """
    if isinstance(value, Mapping):
        value = [value.get("width", value.get("w")), value.get("height", value.get("h"))]
    if isinstance(value, list) and len(value) == 2:
        value = f"{value[0]}x{value[1]}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value}x{value}"
    text = value.strip(QUOTES) if isinstance(value, str) else ""
    text = str(table()["sizes"].get(short(text), text))
    if text.isdecimal():
        text = f"{text}x{text}"
    found = PAIR.search(text[:MAX_NAME])
    if found and min(map(float, found.groups())) >= LEAST_PIXELS:
        return {name: _integer(number, "")[0] for name, number in zip(("width", "height"), found.groups(), strict=True)}
    return {"aspect_ratio": ratio(text)}


def ratio(text: str) -> str:
    """Return an aspect ratio as "width:height".

    Raises:
        Unreadable: it is none.
    """
    text = text[:MAX_NAME].lower()
    words: dict[str, str] = table()["sizes"]
    word = next((each for each in (short(text), *re.findall(r"[a-z]+", text)) if each in words), "")
    if (found := PAIR.search(text)) and all(map(float, found.groups())):
        return _turned(found[1], found[2], words.get(word, ""))
    text = words.get(word, text)
    if found := PAIR.fullmatch(text):
        return f"{found[1]}:{found[2]}"
    number = _number(text)
    if number is None or not 0 < number < math.inf:
        raise Unreadable('is neither a size such as "1024x768" nor an aspect ratio such as "16:9"')
    return f"{number:g}:1"


def _turned(width: str, height: str, like: str) -> str:
    """Return the ratio, on its side where a word beside it says so: "portrait_4_3" is 3:4."""
    sides = PAIR.fullmatch(like)
    is_turned = sides and (float(sides[1]) - float(sides[2])) * (float(width) - float(height)) < 0
    return f"{height}:{width}" if is_turned else f"{width}:{height}"


def sampler(sampler: str | None, scheduler: str | None) -> dict[str, str]:
    """Return sampler and scheduler by ComfyUI's names, as far as they are given and known.

    AUTOMATIC1111 writes both into one ("DPM++ 2M Karras"), and diffusers calls a sampler a scheduler.
    """
    samplers, schedulers = spellings("samplers"), spellings("schedulers")
    if scheduler and short(scheduler) not in schedulers and short(scheduler) in samplers:
        sampler, scheduler = sampler or scheduler, None
    if sampler and short(sampler) not in samplers:
        if short(sampler) in schedulers and not scheduler:
            sampler, scheduler = None, sampler
        else:
            sampler, ending = _split(sampler)
            scheduler = scheduler or ending
    read = {
        "sampler": samplers.get(short(sampler), _plain(sampler)) if sampler else "",
        "scheduler": schedulers.get(short(scheduler), _plain(scheduler)) if scheduler else "",
    }
    return {name: value for name, value in read.items() if value}


def _split(name: str) -> tuple[str, str | None]:
    """Return sampler and scheduler of "DPM++ 2M SGM Uniform"."""
    words = name.split()
    for at in range(1, len(words)):
        first, rest = " ".join(words[:at]), " ".join(words[at:])
        if short(rest) in spellings("schedulers") and short(first) in spellings("samplers"):
            return first, rest
    return name, None


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def mapping(value: Any) -> Mapping[str, Any] | None:
    """Return an object, or the object of a JSON text; None for all else."""
    if isinstance(value, str) and value.lstrip().startswith("{") and len(value) < 100_000:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping) else None
