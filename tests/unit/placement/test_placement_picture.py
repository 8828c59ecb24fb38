"""The text picture: exact for small cases, bounded for all."""

from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.placement import CellText, NodeView, draw

SMOL = {
    ("n0", 0): CellText("smol#0", "stage 0", "rank 0"),
    ("n1", 1): CellText("smol#0", "stage 1", "rank 1"),
}


def test_two_nodes_side_by_side() -> None:
    nodes = [NodeView("node-0", "n0", 2), NodeView("node-1", "n1", 2)]
    assert draw(nodes, SMOL) == "\n".join(
        [
            "node-0: 1 of 2 GPUs used  node-1: 1 of 2 GPUs used",
            "┌─────────┬─────────┐     ┌─────────┬─────────┐",
            "│ GPU 0   │ GPU 1   │     │ GPU 0   │ GPU 1   │",
            "│ smol#0  │ free    │     │ free    │ smol#0  │",
            "│ stage 0 │         │     │         │ stage 1 │",
            "│ rank 0  │         │     │         │ rank 1  │",
            "└─────────┴─────────┘     └─────────┴─────────┘",
        ]
    )


def test_nodes_below_each_other_where_the_width_ends() -> None:
    nodes = [NodeView("node-0", "n0", 2), NodeView("node-1", "n1", 2)]
    lines = draw(nodes, SMOL, width=40).splitlines()
    assert len(lines) == 14
    assert lines[7] == "node-1: 1 of 2 GPUs used"


def test_long_names_are_cut_and_empty_lines_left_out() -> None:
    cells = {("n0", gpu): CellText("deepseek-v3.1#12", "", f"rank {gpu}") for gpu in range(8)}
    lines = draw([NodeView("node-0", "n0", 8)], cells).splitlines()
    assert len(lines) == 6
    assert lines[3].startswith("│ deepseek… │")
    assert max(map(len, lines)) <= 100


def test_sixteen_gpus_take_two_rows() -> None:
    lines = draw([NodeView("node-0", "n0", 16)], {}).splitlines()
    assert [line.count("GPU") for line in lines if line.startswith("│ GPU")] == [8, 8]


def test_wholly_free_nodes_are_counted_after_the_first_few() -> None:
    nodes = [NodeView(f"node-{i}", f"n{i}", 8) for i in range(1250)]
    text = draw(nodes, {("n900", 3): CellText("x#0", "", "rank 0")})
    assert "node-900: 1 of 8 GPUs used" in text
    assert text.endswith("and 1245 more nodes wholly free (9960 GPUs)")
    assert len(text.splitlines()) < 40


def test_what_is_on_no_known_node_is_listed() -> None:
    text = draw([NodeView("node-0", "n0", 1)], {("gone", 0): CellText("x#0", "", "rank 0")})
    assert text.endswith("elsewhere: node gone GPU 0: x#0, rank 0")


def test_a_node_without_gpus_is_only_named() -> None:
    assert draw([NodeView("head", "h", 0)], {}) == "head: 0 of 0 GPUs used"


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=12),
    st.integers(40, 160),
    st.data(),
)
def test_every_gpu_is_drawn_within_the_width(
    sizes: list[int], width: int, data: st.DataObject
) -> None:
    nodes = [NodeView(f"node-{i}", f"n{i}", size) for i, size in enumerate(sizes)]
    places = [(node.node_id, gpu) for node in nodes for gpu in range(node.gpus)]
    used = data.draw(st.lists(st.sampled_from(places), unique=True)) if places else []
    cells = {place: CellText("m#0", "stage 0", f"rank {i}") for i, place in enumerate(used)}
    text = draw(nodes, cells, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("stage 0") == len(used)
    hidden = max(0, sum(1 for node in nodes if node.node_id not in {n for n, _ in used}) - 4)
    drawn = text.count("GPU ")
    if hidden == 0:
        assert drawn == len(places)
