"""The error tree. A user can cause each of these; the command line prints them as one line, without a traceback.

    GleanetError                 exit code 1: the work failed
    ├── BadInput                 exit code 2: what was asked for or given cannot be used
    │   ├── DataError            data set missing, truncated, not what its name says
    │   ├── ModelError           unknown or unusable network
    │   │   └── CheckpointError  a checkpoint that cannot be read or belongs to another network
    │   ├── BudgetError          no plan meets the budget; says how far it could go
    │   └── SettingsError        unknown key, value out of range
    ├── ExportError              the exported file does not compute what the network computes
    ├── FrameworkError           the environment of a framework cannot be made, or nothing runs in it
    ├── QuantizationError        no method gives a file that loads
    ├── StoreError               a file or run folder cannot be written or read back
    │   └── NewerFormat          written by a newer gleanet; nothing is wrong with it
    ├── PeerLost                 another process of a training has died or cannot be reached; says how to go on
    └── Interrupted              exit code 130, 143, 129: stopped by Ctrl-C, SIGTERM, SIGHUP after the state was saved; says how to resume

A message says what is wrong, with which value, and what to do, in one line. Where there is more to say, ``slug`` names the section of
docs/messages.md that says it, which ``gleanet explain SLUG`` prints: that of the kind, or of the very message. A test compares.
"""


class GleanetError(Exception):
    """Base of every error that gleanet raises on purpose."""

    exit_code = 1
    slug = ""

    def __init__(self, message: str, *, slug: str = "") -> None:
        super().__init__(message)
        if slug:
            self.slug = slug


class BadInput(GleanetError):
    exit_code = 2


class DataError(BadInput):
    slug = "data"


class ModelError(BadInput):
    slug = "model"


class CheckpointError(ModelError):
    slug = "checkpoint"


class BudgetError(BadInput):
    slug = "budget"


class SettingsError(BadInput):
    pass


class ExportError(GleanetError):
    slug = "export"


class FrameworkError(GleanetError):
    slug = "framework"


class QuantizationError(GleanetError):
    slug = "quantization"


class StoreError(GleanetError):
    slug = "files"


class NewerFormat(StoreError):
    slug = "newer-format"


class PeerLost(GleanetError):
    pass


class Interrupted(GleanetError):
    """``exit_code``: 128 and the number of the signal, see :func:`gleanet.core.interrupt.exit_code`."""

    def __init__(self, message: str, *, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code
