"""Fetch openly licensed icon sets, rasterise them and pack them with their descriptions into one zip file.

The sets come from npm by name (`npm pack`), MIT or Apache-2.0. The zip holds one lossless 128x128 WebP per icon and
`icons.json`, a list of records in the same order: label, tags, emoji, group, subgroup, style, colours.
"""

import io
import json
import re
import subprocess
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 128  # px, of the packed icons
ICON_SETS = {  # npm package -> (version, style word)
    "@iconify-json/fluent-emoji-flat": ("1.2.6", "flat"),
    "@iconify-json/fluent-emoji": ("1.2.7", "3d"),
    "@iconify-json/noto": ("1.2.9", "noto"),
    "@iconify-json/fxemoji": ("1.2.2", "outline"),
    "@iconify-json/flat-color-icons": ("1.2.3", "simple"),
}
LABELS = ("emojibase-data", "17.0.0")

# The same image many times over, or too alike to tell apart at 32x32.
VARIANTS = re.compile(
    r"skin-tone|-tone\d|-light$|-dark$|medium|-hair$|facing-right$|ideograph|regionalindicator|"
    r"-(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)-thirty$"
)
TIMES = re.compile(r"^(one|two|four|five|six|seven|eight|nine|ten|eleven|twelve)-(thirty|o-?clock)$")
NAMES = {
    "phoenix-bird": "phoenix",
    "piata": "pi-ata",
    "rescue-workers-helmet": "rescue-worker-s-helmet",
    "three-oclock": "three-o-clock",
}
COLOURS = {  # word -> hue range in degrees, for saturated pixels
    "red": (345, 372), "orange": (12, 35), "yellow": (35, 66), "green": (66, 165), "blue": (165, 250),
    "purple": (250, 300), "pink": (300, 345),
}  # fmt: skip


def slug(text: str) -> str:
    """Return `text` as icon sets write names: lower case, hyphens for everything else."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def fetch(package: str, version: str, folder: Path, *members: str) -> list[dict | list]:
    """Return JSON `members` of an npm package, which is downloaded into `folder` once."""
    archive = folder / f"{package.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "pack", f"{package}@{version}", "--silent"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
    with tarfile.open(archive) as tar:
        return [json.load(tar.extractfile(f"package/{member}")) for member in members]


def rasterise(icons: dict, name: str) -> Image.Image:
    """Return one icon of an Iconify set on white, RGB, SIDE x SIDE px."""
    import resvg_py  # only wanted to pack the icons, not to train on them elsewhere

    spec = icons["icons"][name]
    width, height = (spec.get(key, icons.get(key, 16)) for key in ("width", "height"))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIDE}" height="{SIDE}" viewBox="{spec.get("left", 0)} {spec.get("top", 0)} {width} {height}">'
        f"{spec['body']}</svg>"
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE))
    image = Image.open(io.BytesIO(png)).convert("RGBA").resize((SIDE, SIDE))
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    return page.convert("RGB")


def colour_words(image: Image.Image) -> list[str]:
    """Return the words for colours that cover a quarter or more of what is not background, commonest first."""
    hue, saturation, value = (np.asarray(c).ravel() / 255 for c in image.resize((32, 32)).convert("HSV").split())
    ink = (saturation > 0.12) | (value < 0.9)
    counts = Counter({"black": int((ink & (value < 0.25)).sum())})
    counts["grey"] = int((ink & (saturation < 0.2) & (value >= 0.25) & (value < 0.85)).sum())
    vivid, degrees = ink & (saturation > 0.3) & (value >= 0.25), hue * 360
    for word, (low, high) in COLOURS.items():
        inside = vivid & (((degrees >= low) & (degrees < high)) | (degrees + 360 < high))
        brown = inside & (value < 0.72) if word in ("red", "orange") else np.zeros_like(inside)
        counts["brown"] += int(brown.sum())
        counts[word] += int((inside & ~brown).sum())
    return [word for word, n in counts.most_common(2) if n >= max(20, 0.25 * ink.sum())]


def spaced(name: str, words: frozenset[str]) -> str:
    """Return a name that a set writes as one word, "potoffood", as the fewest known words, or as it is."""
    best: list[list[str] | None] = [[]]
    for end in range(1, len(name) + 1):
        parts = (
            [*before, name[start:end]]
            for start, before in enumerate(best)
            if before is not None and (name[start:end] in words or name[start:end].isdigit())
        )
        best.append(min(parts, key=len, default=None))
    return " ".join(best[-1] or [name])


def describe(name: str, known: dict[str, dict], words: frozenset[str]) -> dict:
    """Return label, tags, emoji and group of an icon; an icon that is no emoji is known by its name alone.

    Args:
        name: as the icon set writes it.
        known: facts of emoji by name, with and without hyphens.
        words: that a name without hyphens may be made of.
    """
    plain = NAMES.get(name, name)
    entry = known.get(plain) or known.get(plain.removeprefix("person-")) or {}
    label = entry.get("label") or " ".join(spaced(part, words) for part in plain.split("-"))
    return {
        "label": label.replace("\u201c", "").replace("\u201d", "").lower(),
        "tags": entry.get("tags", []),
        "emoji": entry.get("emoji"),
        "group": entry.get("group"),
        "subgroup": entry.get("subgroup"),
    }


def pack(target: Path, downloads: Path) -> None:
    """Write all icon sets to the zip `target`; about a minute of one core."""
    emoji, names = fetch(*LABELS, downloads, "en/data.json", "meta/groups.json")
    hyphened = {slug(entry["label"]): entry for entry in emoji}
    known = {name.replace("-", ""): entry for name, entry in hyphened.items()} | hyphened
    words = frozenset(
        word
        for entry in emoji
        for text in [entry["label"], *entry.get("tags", [])]
        for word in slug(text).split("-")
        if len(word) > 2 or word in {"of", "on", "up", "no", "in", "tv", "ok"}
    )
    records, unfinished = [], target.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w") as archive:
        for package, (version, style) in ICON_SETS.items():
            (icons,) = fetch(package, version, downloads, "icons.json")
            for name in icons["icons"]:
                if VARIANTS.search(name) or TIMES.search(name):
                    continue
                image, webp = rasterise(icons, name), io.BytesIO()
                image.save(webp, "WEBP", lossless=True, quality=40, method=2)
                archive.writestr(f"{len(records):05d}.webp", webp.getvalue())
                records.append(
                    {**describe(name, known, words), "name": name, "style": style, "colours": colour_words(image)}
                )
        for record in records:
            record["group"] = names["groups"].get(str(record["group"]))
            record["subgroup"] = names["subgroups"].get(str(record["subgroup"]))
        archive.writestr("icons.json", json.dumps(records))
    unfinished.replace(target)


CONCRETE = {"smileys-emotion", "animals-nature", "food-drink", "travel-places", "activities", "objects"}
PEOPLE = {"person", "person-role", "person-fantasy", "person-sport", "body-parts", "hands", "hand-prop"}
HANDS = "hand-fingers-open", "hand-fingers-partial", "hand-fingers-closed", "hand-single-finger"
SIGNS = re.compile(
    r"(black|white|red|blue|green|yellow|orange|purple|brown)-(circle|(large-)?square|heart)$|^(check|cross|recycling|"
    r"peace|medical|atom|question|exclamation)-(mark|symbol)$|^red-(question|exclamation)-mark$|"
    r"^(left|right|up|down)-arrow$|^(plus|minus|multiply|divide|infinity|warning|radioactive|biohazard|no-entry|prohibited|"
    r"yin-yang|play-button|pause-button|stop-button|trident-emblem|fleur-de-lis|"
    r"star-of-david|latin-cross|no-smoking|wheelchair-symbol|keycap-\d|heavy-dollar-sign)$"
)
UNWANTED = re.compile(
    r"^(man|woman|men|women|mans|womans)-(?!dancing)|facing-right|-pushing-|^(left|right)wards-|pregnant|^white-|middle-finger"
)


def is_concrete(record: dict) -> bool:
    """Tell whether an icon is a thing that people ask for by name, rather than a sign or a variant."""
    if UNWANTED.search(record["name"]):
        return False
    if record["group"] in CONCRETE:
        return True
    if record["group"] == "people-body":
        return record["subgroup"] in PEOPLE or record["subgroup"] in HANDS
    return bool(record["group"] == "symbols" and SIGNS.search(record["name"]))


def load(source: Path, styles: list[str], side: int, *, concrete_only: bool) -> tuple[np.ndarray, list[dict]]:
    """Return images (N, side, side, 3) uint8 on white and their records."""
    with zipfile.ZipFile(source) as archive:
        records = json.loads(archive.read("icons.json"))
        kept = [i for i, r in enumerate(records) if r["style"] in styles and (is_concrete(r) or not concrete_only)]
        images = [Image.open(io.BytesIO(archive.read(f"{i:05d}.webp"))).convert("RGB") for i in kept]
    filter_ = Image.Resampling.LANCZOS
    return np.stack([np.asarray(p.resize((side, side), filter_)) for p in images]), [records[i] for i in kept]
