"""The admin: for looking into everything, and for the few things that an administrator does by hand.

What the service derives and what people did is read here and changed nowhere; every change goes through the
services, so that it is checked and leaves its event. `flywheel.admin` stands on `base` too.
"""

from labeling.admin import answers, people, projects, tasks, work

__all__ = ["answers", "people", "projects", "tasks", "work"]
