"""What is done with each client, and what came of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scripts.clients.conversation import HELP, WANTED
from scripts.clients.fake_llm import Turn
from scripts.clients.later import collect
from scripts.clients.protocol import Record, calls, cancellation
from scripts.clients.stand import PROMPT, Stand
from scripts.clients.steps import Say
from scripts.clients.terminal import Terminal

START_SECONDS, ANSWER_SECONDS = 60, 90
SETTLE_SECONDS = 6  #: in which a client that has given up says so, and an image that is finished is saved
QUIET_SECONDS = 2  #: without output, after which a program waits for its input
MOST_TRIES, ECHO_SECONDS, SEND_SECONDS = 3, 6, 12
LAST_WORD = PROMPT.split()[-1]
HELD = "step:2"  #: where ComfyUI stops while a client waits


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The traces of one run."""

    log: tuple[Record, ...]  #: of the tap
    turns: tuple[Turn, ...]  #: of the model
    screen: str
    images: tuple[str, ...]  #: names of the saved files
    ended: bool  #: the program ended by itself
    facts: Mapping[str, object] = field(default_factory=dict)


def answer(stand: Stand, _: float) -> Outcome:
    """Ask once, not interactively, and let ComfyUI generate."""
    with stand.start(stand.client.once) as terminal:
        stand.wait(lambda: terminal.ended or _has_looped(stand), ANSWER_SECONDS)
        return _outcome(stand, terminal)


def limit(stand: Stand, patience: float) -> Outcome:
    """Ask once while ComfyUI does not get on, until the client gives up; then let it finish."""
    stand.comfyui.hold(HELD)
    with stand.start(stand.client.once) as terminal:
        if not stand.wait(lambda: bool(stand.comfyui.prompts) or terminal.ended, START_SECONDS):
            return _outcome(stand, terminal, stage="ComfyUI got no prompt")
        stand.wait(lambda: terminal.ended or _has_given_up(stand), patience)
        waited = _seconds_of_call(stand)
        gave_up = _has_given_up(stand)
        stand.wait(lambda: bool(stand.comfyui.interrupted), 2)
        stand.comfyui.release(HELD)
        stand.wait(lambda: bool(stand.images), SETTLE_SECONDS)
        in_time = bool(stand.images)
        stand.wait(lambda: terminal.ended, SETTLE_SECONDS)
        outcome = _outcome(stand, terminal)
    told = cancellation(list(outcome.log), WANTED)
    job = _job(stand, in_time=in_time)
    return _with(outcome, gave_up=gave_up, seconds=waited, job=job, told=told and told[1], is_told=bool(told))


def person(stand: Stand, _: float) -> Outcome:
    """Ask in the interactive program, look at its screen, ask again and stop the call with a key."""
    with stand.start(stand.client.person) as terminal:
        _pass_questions(stand, terminal)
        _ask(stand, terminal)
        stand.wait(lambda: terminal.ended or _says(stand) > 0, ANSWER_SECONDS)
        stand.wait(lambda: terminal.ended, 2)  # time to write it on the screen
        shown = _outcome(stand, terminal)
        return _with(shown, **_stop(stand, terminal, lambda: _ask(stand, terminal)))


def stop(stand: Stand, _: float) -> Outcome:
    """Ask once and stop the program with Ctrl-C during the call."""
    with stand.start(stand.client.once) as terminal:
        facts = _stop(stand, terminal, lambda: None)
        return _outcome(stand, terminal, **facts)


def _stop(stand: Stand, terminal: Terminal, ask: Callable[[], None]) -> dict[str, object]:
    before, images = len(stand.comfyui.prompts), len(stand.images)
    stand.comfyui.hold(HELD)
    ask()
    if not stand.wait(lambda: len(stand.comfyui.prompts) > before, START_SECONDS):
        return {"stopped": None}
    time.sleep(2)  # the person looks at it for a while
    terminal.press(stand.client.stop)
    stand.wait(lambda: bool(stand.comfyui.interrupted), SETTLE_SECONDS)
    stand.comfyui.release(HELD)
    stand.wait(lambda: len(stand.images) > images, 3)
    told = cancellation(stand.log(), WANTED)
    signals = [r["text"] for r in stand.log() if r["by"] == "tap" and r["text"].startswith("signal")]
    job = "cancelled" if stand.comfyui.interrupted else "goes on"
    return {
        "stopped": stand.client.stop,
        "told": told and told[1],
        "is_told": bool(told),
        "signals": signals,
        "job": job,
    }


def _pass_questions(stand: Stand, terminal: Terminal) -> None:
    """Wait for the input line, and answer what the client asks before it."""
    answered: set[str] = set()
    began = time.monotonic()

    def ready() -> bool:
        for question, keys in stand.client.answers.items():
            if question not in answered and question in terminal.text:
                answered.add(question)
                time.sleep(0.5)
                terminal.press(keys)
        return time.monotonic() - began > stand.client.ready_seconds and terminal.quiet_seconds > QUIET_SECONDS

    stand.wait(ready, 4 * stand.client.ready_seconds)


def _ask(stand: Stand, terminal: Terminal) -> None:
    """Type the prompt and send it; a program that is not ready yet loses keys, so that both are done again."""
    before = len(stand.model.turns)
    for _ in range(MOST_TRIES):
        shown = len(terminal.text)
        terminal.type(PROMPT)
        if stand.wait(lambda seen=shown: LAST_WORD in _squeezed(terminal.text[seen:]), ECHO_SECONDS):
            break
        terminal.press("clear")
    for _ in range(MOST_TRIES):
        terminal.press("enter")
        if terminal.ended or stand.wait(lambda: len(stand.model.turns) > before, SEND_SECONDS):
            break


def _squeezed(text: str) -> str:
    """Return a text without spaces: a cursor movement within a word counts as one."""
    return "".join(text.split())


def _has_looped(stand: Stand) -> bool:
    return len(calls(stand.log(), WANTED)) >= 4


def _says(stand: Stand) -> int:
    return sum(isinstance(turn.step, Say) and _has_results(turn) for turn in stand.model.turns)


def _has_given_up(stand: Stand) -> bool:
    return bool(cancellation(stand.log(), WANTED)) or any(map(_has_results, stand.model.turns))


def _has_results(turn: Turn) -> bool:
    """Return whether the client brings the answer of the wanted tool."""
    return any(HELP not in each for each in turn.api.result_ids(turn.api.latest(turn.body)))


def _seconds_of_call(stand: Stand) -> float | None:
    called, told = calls(stand.log(), WANTED), cancellation(stand.log(), WANTED)
    if not called:
        return None
    answered = (turn.at for turn in stand.model.turns if _has_results(turn))
    end = told[0] if told else next(answered, time.time())
    return round(end - called[0][0], 1)


def _job(stand: Stand, *, in_time: bool) -> str:
    if stand.comfyui.interrupted or stand.comfyui.deleted:
        return "cancelled"
    if in_time or stand.images:
        return "image saved"
    return "image saved by the next server" if collect(stand) else "image lost"


def _outcome(stand: Stand, terminal: Terminal, **facts: object) -> Outcome:
    return Outcome(
        log=tuple(stand.log()),
        turns=tuple(stand.model.turns),
        screen=terminal.text,
        images=tuple(path.name for path in stand.images),
        ended=terminal.ended,
        facts=facts,
    )


def _with(outcome: Outcome, **facts: object) -> Outcome:
    return Outcome(**{**vars(outcome), "facts": {**outcome.facts, **facts}})
