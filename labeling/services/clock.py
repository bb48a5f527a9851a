"""The one clock that leases go by: the database's, which all web processes and workers share."""

from datetime import datetime

from django.db import connection
from django.utils import timezone


def now() -> datetime:
    """The time now. SQLite runs in this process, so its clock is ours; PostgreSQL is asked for its own.

    The time passes within a transaction too.
    """
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (moment,) = cursor.fetchone()
    assert isinstance(moment, datetime)
    return moment
