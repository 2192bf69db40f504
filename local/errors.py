"""The one error that the local world shows a person: a message, no traceback."""


class LocalError(Exception):
    """Something a person can mend; the text says what happened and what to do."""
