"""What is done with each client, and what came of it."""

import time
from collections.abc import Callable

from scripts.clients.conversation import WANTED
from scripts.clients.keyboard import ask, pass_questions
from scripts.clients.later import call_again
from scripts.clients.outcome import Outcome
from scripts.clients.protocol import calls, cancellation
from scripts.clients.stand import Stand
from scripts.clients.steps import Say
from scripts.clients.terminal import Terminal

START_SECONDS, ANSWER_SECONDS = 60, 90
SETTLE_SECONDS = 6  #: in which a client that has given up says so, and an image that is finished is saved
HELD = "step:2"  #: where ComfyUI stops while a client waits


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
        gave_up = terminal.ended or _has_given_up(stand)  # a library raises, and the script ends
        stand.wait(lambda: bool(stand.comfyui.interrupted), 2)
        stand.comfyui.release(HELD)
        stand.wait(lambda: bool(stand.images), SETTLE_SECONDS)
        in_time = bool(stand.images)
        stand.wait(lambda: terminal.ended, SETTLE_SECONDS)
        outcome = _outcome(stand, terminal)
    told = cancellation(list(outcome.log), WANTED)
    job = _job(stand, in_time=in_time)
    return outcome.with_facts(gave_up=gave_up, seconds=waited, job=job, told=told and told[1], is_told=bool(told))


def person(stand: Stand, _: float) -> Outcome:
    """Ask in the interactive program, look at its screen, ask again and stop the call with a key."""
    with stand.start(stand.client.person) as terminal:
        pass_questions(stand, terminal)
        ask(stand, terminal)
        if not stand.model.turns:
            return _outcome(stand, terminal)
        stand.wait(lambda: terminal.ended or _says(stand) > 0, ANSWER_SECONDS)
        stand.wait(lambda: terminal.ended, 2)  # time to write it on the screen
        shown = _outcome(stand, terminal)
        return shown.with_facts(**_stop(stand, terminal, lambda: ask(stand, terminal)))


def stop(stand: Stand, _: float) -> Outcome:
    """Ask once and stop the program with Ctrl-C during the call."""
    with stand.start(stand.client.once) as terminal:
        facts = _stop(stand, terminal, lambda: None)
        return _outcome(stand, terminal, **facts)


def _stop(stand: Stand, terminal: Terminal, begin: Callable[[], None]) -> dict[str, object]:
    before, images = len(stand.comfyui.prompts), len(stand.images)
    stand.comfyui.hold(HELD)
    begin()
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


def _has_looped(stand: Stand) -> bool:
    return len(calls(stand.log(), WANTED)) >= 4


def _says(stand: Stand) -> int:
    return sum(isinstance(turn.step, Say) and turn.has_result for turn in stand.model.turns)


def _has_given_up(stand: Stand) -> bool:
    return bool(cancellation(stand.log(), WANTED)) or any(turn.has_result for turn in stand.model.turns)


def _seconds_of_call(stand: Stand) -> float | None:
    called, told = calls(stand.log(), WANTED), cancellation(stand.log(), WANTED)
    if not called:
        return None
    answered = (turn.at for turn in stand.model.turns if turn.has_result)
    end = told[0] if told else next(answered, time.time())
    return round(end - called[0][0], 1)


def _job(stand: Stand, *, in_time: bool) -> str:
    if stand.comfyui.interrupted or stand.comfyui.deleted:
        return "cancelled"
    if in_time or stand.images:
        return "image saved"
    return call_again(stand)


def _outcome(stand: Stand, terminal: Terminal, **facts: object) -> Outcome:
    return Outcome(
        log=tuple(stand.log()),
        turns=tuple(stand.model.turns),
        screen=terminal.text,
        images=tuple(path.name for path in stand.images),
        facts=facts,
    )
