"""A person at a client's input line."""

import time

from scripts.clients.stand import PROMPT, Stand
from scripts.clients.terminal import Terminal

QUIET_SECONDS = 2  #: without output, after which a program waits for its input
MOST_TRIES, ECHO_SECONDS, SEND_SECONDS = 3, 6, 12
LAST_WORD = PROMPT.split()[-1]


def pass_questions(stand: Stand, terminal: Terminal) -> None:
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


def ask(stand: Stand, terminal: Terminal) -> None:
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
