"""The one error that a user causes and can mend.

Everything that rayserve_par refuses (an illegal layout, a model that does not fit, a key it does
not know) raises `RefusedError`; the command line prints its text and exits with code 2.
"""


class RefusedError(ValueError):
    """A request that cannot be carried out.

    The message says what was wrong, what was found (with the arithmetic) and what to do.
    """
