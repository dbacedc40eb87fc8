"""Descriptions of operations, of a server that need not have any."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from lro_grpc._cli.connected_server import ConnectedServer
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._errors import Code, LroError

if TYPE_CHECKING:
    from lro.v1.operation_description_pb2 import DescribeOperationResponse


class Descriptions:
    """Asks for descriptions; see the module.

    Args:
        server: The server.
        timeout: The deadline of each call.
        with_request: Whether they are to have the request.
    """

    def __init__(
        self, server: ConnectedServer, timeout: timedelta | None, *, with_request: bool = False
    ) -> None:
        self.why_not = ""
        """The reason why there is none of the latest operation; empty if an earlier one had none
        either, as of a server that has no descriptions."""
        self._server = server
        self._timeout = timeout or RPC_TIMEOUT
        self._with_request = with_request
        self._is_implemented = True

    def of(self, name: str) -> DescribeOperationResponse | None:
        """Returns the description of an operation; None if the server gives none."""
        if not self._is_implemented:
            self.why_not = ""
            return None
        try:
            return self._server.client.describe(
                name, with_request=self._with_request, timeout=self._timeout
            )
        except LroError as error:
            self._is_implemented = error.code is not Code.UNIMPLEMENTED
            self.why_not = (
                f"{error.code.name}: {error.message}"
                if self._is_implemented
                else "this server has no DescribeOperation"
            )
        return None
