"""What a node does when its cluster calls: positions advance, connections move, other nodes send commands."""

from collections.abc import Collection

from channelstream.close_codes import CloseCode
from channelstream.core.connection import Connection
from channelstream.core.hub import Hub
from channelstream.core.node_status import NodeStatus
from channelstream.core.position import Offsets, ReadRange, max_offsets, shard_of, with_offset
from channelstream.engines.members import Membership, member_of
from channelstream.service.commands import encode, read_command
from channelstream.service.handover import Handover
from channelstream.service.remote_calls import RemoteCall, RemoteCalls, encode_result
from channelstream.service.signals import Signals


class ClusterCalls:
    """The receiver of a cluster (`engines.cluster.ClusterReceiver`)."""

    def __init__(self, hub: Hub, handover: Handover, remote_calls: RemoteCalls, signals: Signals) -> None:
        self._hub = hub
        self._handover = handover
        self._remote_calls = remote_calls
        self._signals = signals

    def advance(self, offsets: Offsets) -> None:
        self._hub.offsets = max_offsets(self._hub.offsets, offsets)

    def lost(self, channels: Collection[str], users: Collection[str]) -> None:
        """Close the streams whose connections missed events; a client that resumes is sent which channels are lost."""
        missed: dict[Connection, None] = {}
        for name in channels:
            missed |= self._hub.channels.get(name, {})
        for name in users:
            missed |= {connection.receiver: None for connection in self._hub.users.get(name, ())}
        for connection in missed:
            if connection.stream is not None:
                connection.stream.close(CloseCode.TOO_SLOW, "the log no longer reaches back")

    def log_replaced(self, shard: int, offsets: Offsets) -> None:
        """Close the streams that read this shard, and let their connections read its new log from the beginning.

        A client that resumes with a position of the former log is sent that the channels of this shard are lost.
        """
        self._hub.offsets = offsets
        self._signals.log_replaced.emit()
        lost = {name for name in self._hub.channels if self._shard(name) == shard}
        for connection in self._hub.all_registered():
            affected, stream = connection.channels.keys() & lost, connection.receiver.stream
            if stream is not None and (affected or self._shard(connection.user) == shard):
                stream.close(CloseCode.RESTARTING, "the log was lost")
            connection.delivered = with_offset(connection.delivered, shard, offsets[shard])
            connection.channels.update(dict.fromkeys(affected, ReadRange.of(offsets[shard])))
            if self._shard(connection.user) == shard:
                connection.private = ReadRange.of(offsets[shard])

    def taken_over(self, conn_id: str) -> None:
        self._handover.taken_over(conn_id)

    def node_died(self, node: NodeStatus, ended: int | None) -> None:
        self._signals.node_died.emit(node, ended)

    def local_connections(self) -> Collection[str]:
        if not self._hub.seats:
            return self._hub.connections.keys()
        return [connection.id for connection in self._hub.all_registered()]

    def has_channel(self, name: str) -> bool:
        return name in self._hub.channels

    def has_user(self, name: str) -> bool:
        return name in self._hub.users

    def membership(self, conn_id: str) -> Membership | None:
        connection = self._hub.registered(conn_id)
        if connection is None:
            return None
        channels = {
            name: None if name in connection.joining else read_range
            for name, read_range in connection.channels.items()
            if name not in connection.leaving
        }
        return Membership(member_of(connection), channels, connection.private)

    async def execute(self, command: bytes) -> bytes:
        match read_command(command):
            case RemoteCall() as call:
                return encode_result(await self._remote_calls.execute(call))
            case about_connection:
                return encode(await self._handover.execute(about_connection))

    def _shard(self, name: str) -> int:
        return shard_of(name, len(self._hub.offsets))
