"""What a user reads when a node of the local cluster does not start."""

import pytest

from rayserve_par.cli.local.cluster import _readable_start
from rayserve_par.errors import RefusedError


def test_a_node_that_starts_too_slowly_is_told_with_the_load() -> None:
    with (
        pytest.raises(RefusedError, match=r"within the 30 s .* \d+ cores and a load of \d"),
        _readable_start(),
    ):
        raise Exception("The current node timed out during startup. This could happen because ...")


def test_other_errors_keep_their_words() -> None:
    with pytest.raises(ValueError, match="something else"), _readable_start():
        raise ValueError("something else")
