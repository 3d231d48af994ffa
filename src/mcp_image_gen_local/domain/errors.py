"""Every failure a user can meet, with a stable code and what to do next.

ImageGenError
├── InvalidRequest        an argument is out of range or of the wrong kind
├── RequestNotSupported   the engine or model cannot do this
├── SettingsInvalid       an environment variable cannot be read
├── EngineNotInstalled    the engine's runtime or files are missing on this machine
├── EngineUnreachable     nothing answers at the engine's address
│   └── EngineStalled     ... or it takes connections and then says nothing
├── EngineRefused         the engine or a proxy wants other credentials
├── EngineAnswerUnusable  something answers, but not as the engine does
├── ModelNotFound         no such model on the engine
├── ModelIncomplete       the model is there, a part it needs is not
├── NodeMissing           the engine lacks a node class of the workflow
├── WorkflowRejected      the engine refused the graph
├── QueueFull             more jobs wait than IMAGE_GEN_MAX_QUEUE allows
├── GenerationFailed      the engine reported an error while generating
│   └── OutOfMemory       ... because memory ran out
├── GenerationCancelled   somebody cancelled the job
├── GenerationLost        the engine no longer knows the job
├── GenerationTimeout     the job took longer than the user allows
├── JobOfAnother          the job belongs to another client of the engine
├── ImageGone             the engine named an image that it no longer has
├── OutputNotWritable     the image could not be written to disk
├── JournalUnusable       the journal of jobs cannot be read
├── PromptUnknown         no such prompt_id here or at the engine
└── UnexpectedError       a fault of this program
"""

from collections.abc import Iterator, Mapping


class ImageGenError(Exception):
    """A failure that a person or an agent can act on.

    Args:
        message: what happened, with the value that caused it.
        hint: what to do next; may be empty where the message says it.
    """

    code = "error"  #: stable, for programs

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def anew(self) -> "ImageGenError":
        """Return the same error without a past: a raised one holds all frames that it went through."""
        error = type(self)(self.message, hint=self.hint)
        error.code = self.code
        return error

    def to_dict(self) -> dict[str, str]:
        """Return code, message and hint, for JSON."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class InvalidRequest(ImageGenError):
    """An argument is out of range or of the wrong kind."""

    code = "invalid_request"


class RequestNotSupported(ImageGenError):
    """The engine or the model cannot do what was asked."""

    code = "request_not_supported"


class SettingsInvalid(ImageGenError):
    """A setting cannot be read."""

    code = "settings_invalid"


class EngineNotInstalled(ImageGenError):
    """The engine's runtime or files are missing, or damaged, on this machine."""

    code = "engine_not_installed"


class EngineUnreachable(ImageGenError):
    """Nothing answers at the engine's address."""

    code = "engine_unreachable"


class EngineStalled(EngineUnreachable):
    """The engine takes connections and does not answer: it is busy, or hangs."""

    code = "engine_stalled"


class EngineRefused(ImageGenError):
    """The engine, or a proxy before it, wants other credentials."""

    code = "engine_refused"


class EngineAnswerUnusable(ImageGenError):
    """Something answers at the engine's address, but not as the engine does."""

    code = "engine_answer_unusable"


class ModelNotFound(ImageGenError):
    """The engine has no such model."""

    code = "model_not_found"


class ModelIncomplete(ImageGenError):
    """The model is there, but a file it needs is not."""

    code = "model_incomplete"


class NodeMissing(ImageGenError):
    """The engine lacks a node class that the workflow uses."""

    code = "node_missing"


class WorkflowRejected(ImageGenError):
    """The engine refused the graph."""

    code = "workflow_rejected"


class QueueFull(ImageGenError):
    """As many jobs wait as the user allows."""

    code = "queue_full"


class GenerationFailed(ImageGenError):
    """The engine reported an error while generating."""

    code = "generation_failed"


class OutOfMemory(GenerationFailed):
    """The engine ran out of memory while generating."""

    code = "out_of_memory"


class GenerationCancelled(ImageGenError):
    """Somebody cancelled the job."""

    code = "generation_cancelled"


class GenerationLost(ImageGenError):
    """The engine no longer knows the job.

    Args:
        message, hint: as of every error.
        was_removed: somebody took it from the queue of an engine that went on running, which is a wish.
    """

    code = "generation_lost"

    def __init__(self, message: str, *, hint: str = "", was_removed: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.was_removed = was_removed


class GenerationTimeout(ImageGenError):
    """The job took longer than the user allows."""

    code = "generation_timeout"


class JobOfAnother(ImageGenError):
    """The job was queued by another client of the engine, and only that one may cancel it."""

    code = "job_of_another"


class ImageGone(ImageGenError):
    """The engine named an image that it no longer has."""

    code = "image_gone"


class OutputNotWritable(ImageGenError):
    """The image could not be written to disk; it still lies at the engine."""

    code = "output_not_writable"


class PromptUnknown(ImageGenError):
    """Neither this server nor the engine knows the prompt_id."""

    code = "prompt_unknown"


class JournalUnusable(ImageGenError):
    """The journal of jobs cannot be read; generating goes on without it."""

    code = "journal_unusable"


class UnexpectedError(ImageGenError):
    """A fault of this program; the engine may have the image all the same."""

    code = "unexpected_error"


def unexpected(error: Exception) -> UnexpectedError:
    """Return a fault of this program as an error that names it."""
    return UnexpectedError(f"An unexpected error: {repr(error)[:300]}.", hint="Report it with the log.")


def error_from_dict(fields: Mapping[str, str]) -> ImageGenError:
    """Return the error that `to_dict` wrote down; one of a code that is not known here keeps its texts and its code."""
    message, hint, code = (str(fields.get(name, "")) for name in ("message", "hint", "code"))
    kind = next((kind for kind in _kinds(ImageGenError) if kind.code == code), None)
    error = (kind or ImageGenError)(message, hint=hint)
    if kind is None and code:
        error.code = code
    return error


def _kinds(kind: type[ImageGenError]) -> Iterator[type[ImageGenError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)
