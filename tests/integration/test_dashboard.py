"""The dashboard over HTTP, on studies inserted by hand."""

import base64
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from select import POLLERR, POLLHUP, poll
from typing import Any
from urllib.parse import urlsplit

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from PIL import Image

from hpo.dashboard import http_server, security
from hpo.dashboard.http_server import CONNECTIONS
from hpo.dashboard.server import (
    PASSWORD,
    PASSWORD_FILE,
    DashboardRequest,
    DashboardServer,
    PortTakenError,
)
from hpo.study.catalog import find_study
from hpo.study.notes import read_notes, save_note
from hpo.study.results.trials import trial_rows
from storage import agents
from storage.attempts import NEXT
from storage.engine import Database
from tests.integration.rows import StudyRows, finished_study

# One worker of the suite imports the dashboard.
pytestmark = pytest.mark.xdist_group("dashboard")


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"hpo:{password}".encode()).decode()


class Client:
    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = urlsplit(url)
        self.headers = {"Authorization": basic(token)} if token is not None else {}

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
        """Return the complete answer: `status`, `headers` and `content`."""
        assert self.url.hostname
        connection = HTTPConnection(self.url.hostname, self.url.port, timeout=30)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(
                method, path, content, {"Content-Type": "application/json", **self.headers, **headers}
            )
            answer = connection.getresponse()
            answer.content = answer.read()  # type: ignore[attr-defined]
            return answer
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        answer = self.ask(path)
        assert answer.status == 200, answer.content
        return json.loads(answer.content)


@contextmanager
def served(database: Database, **request: Any) -> Iterator[Client]:
    server = DashboardServer(database, DashboardRequest(port=0, **request))

    def answer() -> None:
        # The test closes the sockets while the server waits on them; a command is interrupted instead.
        with suppress(OSError, ValueError):
            server.run()

    # It ends within a second of being closed; tests do not wait.
    threading.Thread(target=answer, daemon=True).start()
    try:
        yield Client(server.url, server.token)
    finally:
        server.close()


@pytest.fixture(autouse=True)
def without_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.delenv(PASSWORD_FILE, raising=False)


@pytest.fixture
def rows(database: Database) -> StudyRows:
    return finished_study(database)


def trial_id(rows: StudyRows, number: int) -> int:
    found: int = rows.study.get_trials()[number]._trial_id
    return found


def test_trial_has_pictures_and_study_links_its_report(rows: StudyRows) -> None:
    with served(rows.database) as client:
        study = client.json(f"/api/studies/{rows.study_id}")
        names = [[artifact["filename"] for artifact in trial["artifacts"]] for trial in study["trials"]]
        assert names == [["curves.png", "confusion.png"], ["curves.png"]]
        for trial in study["trials"]:
            for artifact in trial["artifacts"]:
                path = f"{rows.study_id}/{trial['trial_id']}/{artifact['artifact_id']}"
                answer = client.ask(f"/artifacts/{path}")
                assert answer.getheader("Content-Type") == "image/png"
                assert Image.open(io.BytesIO(answer.content)).width > 500
        link = study["note"]["body"].partition("(")[2].rstrip(")")
        report = client.ask(link)
        assert report.getheader("Content-Type") == "text/html; charset=utf-8"
        assert "default-src 'none'" in report.getheader("Content-Security-Policy")
        assert b"Study demo" in report.content
        assert client.ask("/reports/demo/pictures/confusion.png").content.startswith(b"\x89PNG")
        head = client.ask(link, "HEAD")
        assert (head.status, head.content) == (200, b"")


def test_study_shows_metric_state_and_test_result_and_a_failed_trial_its_reason(rows: StudyRows) -> None:
    agent = rows.agent(versions={"python": "3.13"})
    note = "digits: 1,293 images, digest ab12"
    rows.database.transaction(lambda connection: agents.note_version(connection, agent, "data", note))
    failed = rows.study.ask()
    rows.study.tell(failed, state=TrialState.FAIL)
    rows.trial("bug", None, error="ValueError: \x1b[2Jno images", trial_id=failed._trial_id)
    with served(rows.database) as client:
        study = client.json(f"/api/studies/{rows.study_id}")
        assert study["objective_names"] == ["val_accuracy"]
        attributes = {one["key"]: one["value"] for one in study["user_attrs"]}
        assert attributes["objective"] == "digits-cnn"
        assert attributes["test result"].startswith("test_accuracy 0.905")
        assert client.ask(attributes["report"]).status == 200
        assert list(attributes) == ["objective", "data", "budget", "state", "test result", "report", "metric"]
        assert attributes["data"] == "digits: 1,293 images, digest ab12"
        shown = {one["key"]: one["value"] for one in study["trials"][-1]["user_attrs"]}
        assert shown == {"outcome": "bug", "error": "ValueError: ?[2Jno images"}
    assert rows.database.optuna.get_study_user_attrs(rows.study_id) == {}


def test_prefetched_released_and_paused_trials_wait(rows: StudyRows) -> None:
    agent = rows.agent()
    for device, ended, paused_epoch in (
        ("cpu:0", None, None),
        (NEXT, None, None),
        ("cpu:1", 1.0, None),
        ("cpu:2", 1.0, 3),
    ):
        trial = rows.study.ask()
        reservation_id = rows.trial(trial_id=trial._trial_id, paused_epoch=paused_epoch)
        rows.attempt(reservation_id, agent, ended=ended, device=device, slot=rows.count)
    with served(rows.database) as client:
        shown = client.json(f"/api/studies/{rows.study_id}")["trials"]
    assert [trial["state"] for trial in shown[2:]] == ["Running", "Waiting", "Waiting", "Waiting"]
    assert [trial["user_attrs"] for trial in shown[2:]] == [[], [], [], []]
    assert {trial.state for trial in rows.study.get_trials()[2:]} == {TrialState.RUNNING}
    assert [row.state for row in trial_rows(rows.database, rows.name)[2:]] == [
        "running",
        "waiting",
        "waiting",
        "paused",
    ]


def test_csv_file_holds_no_formulas(rows: StudyRows) -> None:
    failed = rows.study.ask()
    rows.study.tell(failed, state=TrialState.FAIL)
    rows.trial("bug", None, error="=HYPERLINK(1)", trial_id=failed._trial_id)
    with served(rows.database) as client:
        answer = client.ask(f"/csv/{rows.study_id}")
    assert answer.getheader("Content-Type") == "text/csv; charset=utf-8"
    assert b",'=HYPERLINK(1)," in answer.content


def test_slow_plots_of_many_trials_are_refused(rows: StudyRows, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(rows.database) as client:
        plot = f"/api/studies/{rows.study_id}/plot/contour"
        assert client.ask(plot).status == 200
        monkeypatch.setattr(security, "PLOTTED_TRIALS", 1)
        refused = client.ask(plot)
        assert refused.status == 403
        assert "more than 1 trials" in json.loads(refused.content)["reason"]


def test_pictures_and_notes_are_not_stored(rows: StudyRows) -> None:
    with served(rows.database) as client:
        client.json(f"/api/studies/{rows.study_id}")
    trials = rows.database.optuna.get_all_trials(rows.study_id, deepcopy=False)
    assert all(trial._system_attrs == {} for trial in trials)
    assert rows.database.optuna.get_study_system_attrs(rows.study_id) == {}


def test_missing_resources_are_not_found(rows: StudyRows) -> None:
    other = trial_id(rows, 1)
    paths = [
        f"/artifacts/{rows.study_id}/{other}/{other:x}-2",
        f"/artifacts/{rows.study_id}/{other}/ffffff-1",
        "/reports/nobody/report.html",
        "/reports/demo/../../../etc/passwd",
        "/reports/%2e%2e/%2e%2e/etc/passwd",
        "/reports/demo/nothing.png",
        "/artifacts/999/999/1-2",
        "/api/studies/999",
    ]
    with served(rows.database) as client:
        assert [client.ask(path).status for path in paths] == [404] * len(paths)
    note = {"version": 1, "body": "x"}
    with served(rows.database, allow_changes=True) as client:
        assert client.ask("/api/studies/999", "DELETE").status == 404
        assert client.ask("/api/studies/999/note", "PUT", note).status == 404
        assert client.ask(f"/api/studies/{rows.study_id}/999/note", "PUT", note).status == 404


def test_study_of_plain_optuna_is_shown_unchanged(database: Database) -> None:
    study = optuna.create_study(study_name="a/b «c» 'd'", storage=database.optuna)
    study.add_trial(create_trial(value=1.0, intermediate_values={1: 1.0}))
    with served(database, allow_changes=True) as client:
        shown = client.json(f"/api/studies/{study._study_id}")
        assert (shown["name"], shown["note"]["body"]) == (study.study_name, "")
        assert shown["trials"][0]["artifacts"] == []
        assert client.ask(f"/csv/{study._study_id}").status == 200
        assert client.ask(f"/api/studies/{study._study_id}", "DELETE").status == 200
        assert client.json("/api/studies")["study_summaries"] == []


def test_writes_are_refused(rows: StudyRows) -> None:
    with served(rows.database) as client:
        note = {"version": 1, "body": "x"}
        assert client.ask(f"/api/studies/{rows.study_id}/note", "PUT", note).status == 403
        assert client.ask(f"/api/studies/{rows.study_id}", "DELETE").status == 403
        assert client.json(f"/api/studies/{rows.study_id}")["note"]["version"] == 0
    assert len(rows.study.get_trials()) == 2


def test_note_is_stored_with_allow_changes(rows: StudyRows) -> None:
    with served(rows.database, allow_changes=True) as client:
        path = f"/api/studies/{rows.study_id}"
        assert client.ask(f"{path}/note", "PUT", {"version": 1, "body": "mine"}).content == b"{}"
        assert client.json(path)["note"] == {"version": 1, "body": "mine"}
        assert client.ask(f"{path}/rename", "POST", {"study_name": "other"}).status == 403
        half = {"version": 1, "body": "half \ud800"}
        assert client.ask(f"{path}/{trial_id(rows, 1)}/note", "PUT", half).content == b"{}"
    assert rows.database.transaction(lambda c: read_notes(c, rows.study_id)) == {1: "half \\ud800"}


@pytest.mark.parametrize("number", [None, 1])
def test_note_of_a_command_replaces_one_of_the_dashboard(rows: StudyRows, number: int | None) -> None:
    def shown() -> Any:
        study = client.json(f"/api/studies/{rows.study_id}")
        return (study if number is None else study["trials"][number])["note"]

    path = f"/api/studies/{rows.study_id}" + ("" if number is None else f"/{trial_id(rows, number)}")
    with served(rows.database, allow_changes=True) as client:
        # Kept in three pieces.
        assert client.ask(f"{path}/note", "PUT", {"version": 1, "body": "x" * 5000}).status == 200
        save_note(rows.database, rows.name, number, "mine")
        assert shown() == {"version": 2, "body": "mine"}
        # The page still shows the first version.
        assert client.ask(f"{path}/note", "PUT", {"version": 2, "body": "old"}).status == 409
        save_note(rows.database, rows.name, number, "")
        assert shown() == {"version": 3, "body": ""}
        key = "dashboard:note_ver" if number is None else f"dashboard:{trial_id(rows, number)}:note_ver"
        rows.database.optuna.set_study_system_attr(rows.study_id, key, {"odd": 1})
        save_note(rows.database, rows.name, number, "again")
        assert shown() == {"version": 1, "body": "again"}


def test_study_is_deleted_with_its_folders(rows: StudyRows, tmp_path: Path) -> None:
    (tmp_path / find_study(rows.database, rows.name).folder).mkdir()
    with served(rows.database, allow_changes=True, study_folders=[tmp_path]) as client:
        assert client.ask(f"/api/studies/{rows.study_id}", "DELETE", {}).status == 200
        assert client.json("/api/studies")["study_summaries"] == []
    assert list(tmp_path.iterdir()) == []
    assert StudyRows(rows.database).study_id != rows.study_id, "its name is free again"


def test_study_with_running_trials_is_not_deleted(rows: StudyRows) -> None:
    rows.study.add_trial(create_trial(state=TrialState.RUNNING))
    reservation_id = rows.trial(trial_id=trial_id(rows, 2))
    rows.attempt(reservation_id, rows.agent(), lease=60.0)
    with served(rows.database, allow_changes=True) as client:
        answer = client.ask(f"/api/studies/{rows.study_id}", "DELETE", {})
        assert answer.status == 409
        assert "1 trial running" in json.loads(answer.content)["reason"]
        assert len(client.json(f"/api/studies/{rows.study_id}")["trials"]) == 3


def test_password_protects_everything_except_the_health_check(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    path.write_text("grüße\n", encoding="utf-8")
    monkeypatch.setenv(PASSWORD_FILE, str(path))
    right, wrong = (base64.b64encode(f"hpo:{word}".encode()).decode() for word in ("grüße", "wrong"))
    with served(database) as client:
        assert client.ask("/api/studies").status == 401
        assert client.ask("/api/studies", Authorization=f"Basic {wrong}").status == 401
        assert client.ask("/api/studies", Authorization=f"Basic {right}").status == 200
        assert client.ask("/healthz").status == 200


def test_other_host_names_are_refused_without_a_password(database: Database) -> None:
    with served(database) as client:
        assert client.ask("/api/studies", Host="example.com").status == 403


def test_port_in_use_or_unknown_host_is_reported(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    in_use = r"\(Address already in use\): choose another --port"
    with served(database) as client, pytest.raises(PortTakenError, match=in_use):
        DashboardServer(database, DashboardRequest(port=client.url.port or 0))
    monkeypatch.setenv(PASSWORD, "a long password")
    with pytest.raises(PortTakenError, match=r"nowhere\.invalid"):
        DashboardServer(database, DashboardRequest("nowhere.invalid", 0))


def test_name_with_several_addresses_has_one_port(database: Database) -> None:
    with served(database, host="localhost") as client:
        assert client.url.hostname == "localhost"
        assert client.ask("/api/studies").status == 200


def test_changes_need_the_password_of_the_start(rows: StudyRows) -> None:
    with served(rows.database, allow_changes=True) as client:
        assert len(client.headers["Authorization"]) > 16
        stranger = Client(client.url.geturl())
        assert stranger.ask(f"/api/studies/{rows.study_id}", "DELETE").status == 401
        assert stranger.ask("/api/studies").status == 401
        assert client.ask(f"/api/studies/{rows.study_id}", "DELETE").status == 200


def connect(client: Client) -> socket.socket:
    return socket.create_connection((client.url.hostname or "", client.url.port or 0), timeout=20)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Content-Length: 1000000000", b"413"),
        ("Content-Length: 1000", b"401"),
        ("Transfer-Encoding: chunked", b"401"),
        ("Expect: 100-continue\r\nContent-Length: 1000", b"401"),
    ],
)
def test_body_is_refused_before_it_is_received(
    database: Database, monkeypatch: pytest.MonkeyPatch, headers: str, status: bytes
) -> None:
    monkeypatch.setenv(PASSWORD, "a long password")
    with served(database, allow_changes=True) as client, connect(client) as stranger:
        stranger.sendall(f"PUT /api/studies/1/note HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
        with stranger.makefile("rb") as answer:
            assert answer.readline().split()[1] == status
            # The server does not wait for the body.
            assert answer.read() is not None


def test_request_with_two_lengths_is_refused(database: Database) -> None:
    with served(database, allow_changes=True) as client, connect(client) as stranger:
        lengths = "Content-Length: 6\r\nTransfer-Encoding: chunked"
        credentials = f"Authorization: {client.headers['Authorization']}"
        change = f"PUT /api/studies/1/note HTTP/1.1\r\nHost: 127.0.0.1\r\n{credentials}\r\n{lengths}\r\n\r\n"
        stranger.sendall(f"{change}0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = b"".join(iter(lambda: stranger.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_health_is_reported_while_many_requests_are_half_open(database: Database) -> None:
    with served(database) as client, ExitStack() as opened:
        for _ in range(CONNECTIONS + 50):
            half = opened.enter_context(connect(client))
            half.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert client.ask("/healthz").content == b"ok\n"


def test_slow_request_is_closed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0)
    with served(database) as client, connect(client) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        assert slow.recv(1) == b""


def test_connection_whose_answers_are_not_read_is_closed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0)
    monkeypatch.setattr(security, "_POLICY", ("Content-Security-Policy", "x" * 100_000))
    with served(database) as client, connect(client) as unread:
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        # Much more than the buffers of both sockets hold.
        unread.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100)
        peer = poll()
        peer.register(unread, POLLHUP | POLLERR)
        assert peer.poll(30_000)
