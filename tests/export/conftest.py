import pytest
from tensorflow.python.eager import context


@pytest.fixture(scope="session")
def optimised_operations():
    """Calls a signature, and names the operations that TensorFlow made of its graph."""

    def call(signature, **inputs):
        with context.collect_graphs(optimized=True) as graphs:
            signature(**inputs)
        functions = [f.node_def for graph in graphs for f in graph.library.function]
        return [node.op for nodes in (*functions, *(g.node for g in graphs)) for node in nodes]

    return call
