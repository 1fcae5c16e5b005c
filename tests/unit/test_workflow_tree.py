from __future__ import annotations

from dramatiq.workflows.tree import WorkflowNode, mermaid


def message(node_id, actor_name, state="done"):
    return WorkflowNode(node_id, "message", state, actor_name=actor_name)


def test_a_chain_is_drawn_with_edges_and_a_group_as_a_box():
    tree = WorkflowNode(
        "0",
        "chain",
        "running",
        size=3,
        children=[
            message("0.0", "first"),
            WorkflowNode("0.1", "group", "running", size=1, children=[message("0.1.0", 'a "b"')]),
            message("0.2", "last", "waiting"),
        ],
    )

    lines = mermaid(tree).splitlines()

    assert "flowchart LR" == lines[0]
    assert '        n0_0["first"]:::done' in lines
    assert '            n0_1_0["a #quot;b#quot;"]:::done' in lines
    assert ["    n0_0 --> n0_1", "    n0_1 --> n0_2"] == [line for line in lines if "-->" in line]


def test_children_that_are_left_out_are_counted():
    tree = WorkflowNode("0", "group", "done", size=500, children=[message("0.0", "first")])

    assert '"group 0, 499 more"' in mermaid(tree)


def test_an_empty_group_has_something_to_be_seen():
    assert "0 children" in mermaid(WorkflowNode("0", "group", "done"))
