import pytest
from tensorflow.python.eager import context

from tfasr.export.saved_model import operations_of


@pytest.fixture(scope="session")
def optimised_operations():
    """Calls a signature, and names the operations that TensorFlow made of its graph."""

    def call(signature, **inputs):
        with context.collect_graphs(optimized=True) as graphs:
            signature(**inputs)
        return set().union(*(operations_of(graph) for graph in graphs))

    return call
