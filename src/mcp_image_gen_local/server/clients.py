"""What the client of a call can take: facts per client as data, and what follows from them and the settings. Pure."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from mcp_image_gen_local.domain.text import clean
from mcp_image_gen_local.settings import Settings

UNKNOWN = "unknown"
LINKS_SINCE = "2025-06-18"  #: protocol revision that has resource links in answers
MOST_SECONDS = 280.0  #: that a call waits where nothing limits it: an agent that waits can do nothing else
MARGIN, MOST_MARGIN_SECONDS = 0.25, 20.0  #: part of the client's limit that is left for the answer, at most so long


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client as it presents itself."""

    name: str = ""  #: clientInfo.name; may be empty
    version: str = ""  #: clientInfo.version
    protocol: str = ""  #: revision, e.g. "2025-06-18"
    user_agent: str = ""  #: of an HTTP client


@dataclass(frozen=True, kw_only=True)
class ClientProfile:
    """Facts about a client; `clients.toml` says what each one means."""

    id: str  #: e.g. "claude-code"
    title: str
    names: tuple[str, ...]
    user_agents: tuple[str, ...] = ()
    image: str
    formats: tuple[str, ...]
    max_side: int  #: pixels
    max_bytes: int
    link: bool
    call_limit_seconds: float  #: 0: none was found
    progress_extends: bool
    timeout_reason: str
    source: str

    @property
    def known_limit(self) -> float | None:
        """The limit of a call in seconds; None where none is known, or progress messages extend it."""
        is_known = self.id != UNKNOWN and self.call_limit_seconds and not self.progress_extends
        return self.call_limit_seconds if is_known else None

    @property
    def wait_seconds(self) -> float:
        """How long a call may wait for its image, in seconds, and still be answered in time."""
        limit = self.call_limit_seconds
        if not limit or self.progress_extends:
            return MOST_SECONDS
        return min(MOST_SECONDS, limit - min(MOST_MARGIN_SECONDS, MARGIN * limit))


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How an answer reaches its client."""

    profile: ClientProfile
    formats: tuple[str, ...]  #: of the inline image, as in the profile; empty: text only
    max_side: int  #: pixels
    max_bytes: int  #: of the whole answer
    link: bool
    wait_seconds: float
    reasons: tuple[str, ...]  #: what was chosen and why, a clause each

    @property
    def no_image_reason(self) -> str:
        """Return why the answer holds no image, a clause; empty where the user has asked for none."""
        return "" if self.profile.image == "image" else f"{self.profile.title} passes images to the model as text"


def profile_of(client: Client) -> ClientProfile:
    """Return the profile of a client, that of an unknown one if it has none."""
    found = profiles()
    by_name = (p for p in found.values() if p.id != UNKNOWN and _matches(client.name, p.names))
    by_agent = (p for p in found.values() if client.user_agent and _matches(client.user_agent, p.user_agents))
    return next(by_name, None) or next(by_agent, None) or found[UNKNOWN]


def find_profile(name: str) -> ClientProfile | None:
    """Return the profile of this id, title or clientInfo.name; None if there is none."""
    known = (p for p in profiles().values() if name.lower() in (p.id, p.title.lower()))
    profile = next(known, None) or profile_of(Client(name=name))
    return None if profile.id == UNKNOWN and name.lower() not in (UNKNOWN, *profile.names) else profile


def delivery_of(client: Client, settings: Settings) -> Delivery:
    """Return how an answer reaches this client; explicit settings win over its profile."""
    profile, given = profile_of(client), settings.model_fields_set
    reasons = [f"{_introduced(client)}: profile {profile.id} ({profile.source})"]
    formats, why = _formats(profile, settings)
    reasons.append(why)
    max_bytes = settings.inline_max_bytes if "inline_max_bytes" in given else profile.max_bytes
    if formats:
        source = "IMAGE_GEN_INLINE_MAX_BYTES" if "inline_max_bytes" in given else profile.id
        reasons.append(f"answers up to {max_bytes:,} bytes ({source}), longer side up to {profile.max_side} pixels")
    link, why = _link(client, profile, settings)
    reasons.append(why)
    wait = profile.wait_seconds if settings.wait_seconds is None else settings.wait_seconds
    reasons.append(_wait_reason(profile, settings, wait))
    return Delivery(
        profile=profile,
        formats=formats,
        max_side=profile.max_side,
        max_bytes=max_bytes,
        link=link,
        wait_seconds=wait,
        reasons=tuple(reasons),
    )


def _introduced(client: Client) -> str:
    who = " ".join(part for part in (clean(client.name, 60), clean(client.version, 30)) if part)
    return f"client {who or 'without a name'}" + (f", protocol {clean(client.protocol, 20)}" if client.protocol else "")


def _formats(profile: ClientProfile, settings: Settings) -> tuple[tuple[str, ...], str]:
    chosen = settings.inline_format
    if chosen == "none":
        return (), "no inline image (IMAGE_GEN_INLINE_FORMAT=none)"
    if chosen != "auto":
        return (chosen,), f"inline image as {chosen.upper()} (IMAGE_GEN_INLINE_FORMAT)"
    if profile.image == "text":
        return (), f"no inline image, as {profile.title} passes images to the model as text"
    return profile.formats, f"inline image as {', else '.join(map(str.upper, profile.formats))}"


def _link(client: Client, profile: ClientProfile, settings: Settings) -> tuple[bool, str]:
    if client.protocol and client.protocol < LINKS_SINCE:
        return False, f"no resource link, as protocol {clean(client.protocol, 20)} has none"
    if settings.link is not None:
        return settings.link, f"{'a' if settings.link else 'no'} resource link (IMAGE_GEN_LINK)"
    return profile.link, "a resource link, which it shows" if profile.link else "no resource link"


def _wait_reason(profile: ClientProfile, settings: Settings, wait: float) -> str:
    if settings.wait_seconds is not None:
        return f"calls wait {wait:g} s (IMAGE_GEN_WAIT_SECONDS)"
    if profile.progress_extends:
        return f"calls wait {wait:g} s, as progress messages keep them alive"
    if not profile.call_limit_seconds:
        return f"calls wait {wait:g} s, as no limit of the client was found"
    return f"calls wait {wait:g} s, below the client's limit of {profile.call_limit_seconds:g} s"


@cache
def profiles() -> dict[str, ClientProfile]:
    """Return all profiles by id; what an entry does not say is as for an unknown client."""
    return {each.id: each for each in _read()}


def _read() -> Iterator[ClientProfile]:
    entries: dict[str, dict[str, Any]] = tomllib.loads(files(__package__).joinpath("clients.toml").read_text("utf-8"))
    for id_, entry in entries.items():
        facts: Any = {**entries[UNKNOWN], **entry, "id": id_}
        for name in ("names", "user_agents", "formats"):
            facts[name] = tuple(facts.get(name, ()))
        yield ClientProfile(**facts)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in patterns)
