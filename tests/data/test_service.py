import socket

import pytest

from tfasr.data.service import require_dispatcher


def test_a_dispatcher_that_answers_is_accepted():
    with socket.create_server(("localhost", 0)) as server:
        require_dispatcher(f"localhost:{server.getsockname()[1]}")


def test_a_port_where_nobody_answers_is_named_with_what_to_do():
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ValueError, match=rf"got localhost:{port}: .* --role dispatcher`$"):
        require_dispatcher(f"localhost:{port}")
