"""Why there is no model."""


class TrainingError(Exception):
    """Why there is no model; the message is for a person.

    TrainingError
    ├── TrainingRefused   the data or the arguments must change first
    ├── Diverged          the loss stopped being a number
    └── Cancelled         `should_stop` said so; calling again goes on from there
        └── Pruned        `Rungs.goes_on` said no
    """


class TrainingRefused(TrainingError):
    """The message says what to change."""


class Diverged(TrainingError):
    """The message names the step."""


class Cancelled(TrainingError):
    """Stopped when asked; a checkpoint stands in the output folder."""


class Pruned(Cancelled):
    """Stopped on a rung, where other trainings were better; calling again goes on from there."""


class StoppedElsewhere(TrainingError):
    """Another of the processes that train together has stopped, and says why."""
