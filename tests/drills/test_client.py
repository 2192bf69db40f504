"""The load client's Pod: never left behind, never taken for one that it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from drills import client
from drills.client import Client, Place
from drills.faults import Pod
from drills.kube import Kube
from drills.stores import Store
from local.errors import LocalError

POD = Pod("core", "drill-client-redis", "uid", "a-1")
PATH = "/api/v1/namespaces/core/pods/drill-client-redis?gracePeriodSeconds=0"


def kube(answer: Callable[[str], str]) -> Mock:
    """A cluster that answers each command in the Pod, and makes whatever is asked for."""
    fake = Mock(spec=Kube, api=Mock())
    fake.execute.side_effect = lambda _pod, _container, command, _limit: answer(" ".join(command))
    fake.pod.return_value = POD
    return fake


def start(fake: Mock) -> Client:
    store = Mock(spec=Store, client="drills.load.redis", connection="redis-client")
    return client.start(fake, Place("core", "engine", "image:1"), "a-1", store, ())


def deleted(fake: Mock) -> int:
    """How often its Pod was deleted; the first time makes room for it."""
    return [call.args[0] for call in fake.api.delete.mock_calls].count(PATH)


def test_a_client_is_started_once_a_write_is_acknowledged() -> None:
    fake = kube(lambda _: "1.0 2.0 w 0 0 ok -\n")
    assert start(fake).pod == POD
    assert deleted(fake) == 1


@pytest.mark.parametrize("ending", [LocalError("no such container"), KeyboardInterrupt()])
def test_a_client_that_does_not_get_going_is_removed(
    monkeypatch: pytest.MonkeyPatch, ending: BaseException
) -> None:
    def fails(_: str) -> str:
        raise ending

    monkeypatch.setattr(client, "_START_SECONDS", 0)
    monkeypatch.setattr(client, "_POLL_SECONDS", 0)
    fake = kube(fails)
    with pytest.raises((LocalError, KeyboardInterrupt)):
        start(fake)
    assert deleted(fake) == 2


def test_a_load_that_ended_by_itself_is_not_taken_for_one_that_was_stopped() -> None:
    asked: list[str] = []

    def answer(command: str) -> str:
        asked.append(command)
        return "0\n"

    load = Client(kube(answer), POD, "drills.load.redis")
    with pytest.raises(LocalError, match="ended before it was told to"):
        load.stop()
    assert not any("touch" in command for command in asked)


def test_a_load_is_stopped_once_its_last_attempt_is_written_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "_POLL_SECONDS", 0)
    answers: dict[str, Any] = {
        "exit": iter(["", "", "0\n"]),
        "stop": iter([""]),
        "stuck": iter([""]),
    }
    Client(kube(_in_turn(answers)), POD, "drills.load.redis").stop()
    assert [next(each, None) for each in answers.values()] == [None, None, None]


def _in_turn(answers: dict[str, Any]) -> Callable[[str], str]:
    """Answers by the file that a command names."""
    return lambda command: str(next(answers[next(file for file in answers if file in command)]))


def test_a_load_with_an_attempt_that_never_ended_tells_where_it_stands() -> None:
    answers = {"exit": iter(["", "0\n"]), "stop": iter([""]), "stuck": iter(["in write\n"])}
    with pytest.raises(LocalError, match="drill-client-redis never ended; they stand at\nin write"):
        Client(kube(_in_turn(answers)), POD, "drills.load.redis").stop()


def test_what_the_driver_says_is_read_from_where_the_load_writes_it() -> None:
    store = Mock(spec=Store, client="drills.load.redis", connection="redis-client")
    pod = client.manifest(Place("core", "engine", "image:1"), "a-1", store, ())
    (_, _, script) = pod["spec"]["containers"][0]["command"]
    assert " 2>/out/driver.log; " in script
    read = {"sh -c cat /out/driver.log 2>/dev/null || true": "timed out\n"}
    assert Client(kube(read.__getitem__), POD, "drills.load.redis").said() == "timed out\n"


def test_a_driver_whose_words_are_lost_spoils_no_account() -> None:
    def fails(_: str) -> str:
        raise LocalError("the node is gone")

    said = Client(kube(fails), POD, "drills.load.redis").said()
    assert said == "not known: the node is gone\n"
