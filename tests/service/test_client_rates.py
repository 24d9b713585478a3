"""How much clients may do by commands, with a clock that a test moves."""

from channelstream.apps.app import AppLimits
from channelstream.core.token_buckets import WANTED
from channelstream.errors import TooManyRequests
from channelstream.service.client_rates import ClientRates


class Scene:
    """The rates of one application."""

    def __init__(self, **limits: float) -> None:
        self.now_s = 1000.0
        self.rates = ClientRates(
            AppLimits(**{f"{name}_per_s": each for name, each in limits.items()}), self.time
        )  # type: ignore[arg-type]

    def time(self) -> float:
        return self.now_s

    def command(self, conn_id: str, user: str = "ann") -> int:
        """Return after how many seconds a command may be sent again; 0 if it is counted."""
        try:
            self.rates.check_command(conn_id, user)
        except TooManyRequests as error:
            return error.retry_after_s
        return 0

    def message(self, conn_id: str, size: int, user: str = "ann") -> int:
        try:
            self.rates.check_message(conn_id, user, size)
        except TooManyRequests as error:
            return error.retry_after_s
        return 0


def test_nothing_is_limited_unless_it_is_set() -> None:
    scene = Scene()
    assert {scene.command("1") for _ in range(10_000)} == {0}
    assert {scene.message("1", 1 << 20) for _ in range(10_000)} == {0}
    assert set(scene.rates.refused.values()) == {0}


def test_connections_and_users_are_counted_apart() -> None:
    """Of one name they are two; each comes again with time."""
    scene = Scene(connection_commands=2, user_commands=3)
    assert [scene.command("ann", "ann") for _ in range(3)] == [0, 0, 1]
    assert [scene.command("2", "ann"), scene.command("3", "ann"), scene.command("3", "bob")] == [0, 1, 0]
    assert scene.rates.refused["connection_commands"] == scene.rates.refused["user_commands"] == 1
    scene.now_s += 1
    assert [scene.command("ann", "ann") for _ in range(3)] == [0, 0, 1]


def test_a_command_counts_for_the_limits_before_the_one_that_refuses_it() -> None:
    """And for none after it."""
    scene = Scene(connection_commands=2, user_commands=1)
    assert [scene.command("1"), scene.command("1"), scene.command("1")] == [0, 1, 1]
    assert (scene.rates.refused["user_commands"], scene.rates.refused["connection_commands"]) == (1, 1)


def test_a_large_message_is_owed() -> None:
    """After a pause any size is accepted, and the average holds."""
    scene = Scene(connection_bytes=100)
    assert [scene.message("1", 1000), scene.message("1", 1)] == [0, 10]
    scene.now_s += 10
    assert scene.message("1", 100) == 0


def test_messages_of_a_user_are_counted_on_all_its_connections() -> None:
    scene = Scene(user_messages=2)
    assert [scene.message(conn_id, 1) for conn_id in "123"] == [0, 0, 1]
    assert scene.message("4", 1, "bob") == 0


def test_a_client_at_its_limit_stays_there_among_very_many_others() -> None:
    """Those that send most are remembered."""
    scene = Scene(connection_commands=2)
    assert [scene.command("1"), scene.command("1")] == [0, 0]
    for number in range(3 * WANTED):
        scene.command(f"other {number}", f"user {number}")
    assert scene.command("1") == 1
