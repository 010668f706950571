"""The parts of the local stack against the real programs."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import make_url

from infra.local import embedded, postgres
from infra.local.home import SECRETS, Home
from infra.local.processes import ProcessSpec
from infra.local.settings import LocalSettings, free_port, refuse_taken_ports
from infra.local.supervisor import Supervisor
from shared.errors import Conflict, Unavailable


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.at(tmp_path / "home")
    home.create()
    return home


@pytest.fixture
def supervisor(home: Home) -> Iterator[Supervisor]:
    supervisor = Supervisor(home)
    yield supervisor
    supervisor.stop(timeout_seconds=20)


def until(condition, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def sleeper(name: str = "sleeper", **fields) -> ProcessSpec:
    code = "import time; time.sleep(600)"
    return ProcessSpec(name=name, command=(sys.executable, "-c", code), **fields)


def libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def test_secrets_are_private_and_stay_the_same(home):
    before = {name: home.secret(name) for name in SECRETS}
    home.create()
    assert {name: home.secret(name) for name in SECRETS} == before
    assert len(set(before.values())) == len(SECRETS)
    assert {path.stat().st_mode & 0o777 for path in home.secrets.iterdir()} == {0o600}


def test_wiping_spares_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(Conflict, match="PERPETUNE_HOME"):
        Home.at(tmp_path).wipe()
    assert (tmp_path / "thesis.txt").exists()


def test_taken_port_names_the_setting():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = LocalSettings(
            port=free_port(),
            postgres_port=free_port(),
            bus_port=taken.getsockname()[1],
            cache_port=free_port(),
            serving_port=free_port(),
        )
        with pytest.raises(Conflict, match="PERPETUNE_BUS_PORT"):
            refuse_taken_ports(settings)


def test_one_port_for_two_names_both_settings():
    port = free_port()
    with pytest.raises(Conflict, match=r"PERPETUNE_CACHE_PORT and PERPETUNE_BUS_PORT"):
        refuse_taken_ports(
            LocalSettings(
                port=free_port(),
                postgres_port=free_port(),
                bus_port=port,
                cache_port=port,
                serving_port=free_port(),
            )
        )


def test_data_of_another_postgres_major_is_refused(tmp_path):
    (tmp_path / "PG_VERSION").write_text("9\n")
    with pytest.raises(Conflict, match="Postgres 9"):
        postgres.prepare_cluster(tmp_path, "secret")


def test_interrupted_initdb_is_made_anew():
    with embedded._folder() as folder:
        folder.chmod(0o711)
        data = folder / "data"
        data.mkdir()
        (data / "half-written").touch()
        postgres.prepare_cluster(data, "secret")
        assert (data / "PG_VERSION").read_text().strip() == postgres.major_version()
        assert not (data / "half-written").exists()


def test_killed_process_comes_back(supervisor):
    supervisor.start([sleeper(), sleeper("server", group="servers")], {})
    supervisor.start_group("services")
    until(lambda: {state.state for state in supervisor.states()} == {"RUNNING"})
    (before,) = [state.pid for state in supervisor.states() if state.name == "sleeper"]
    os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        (now,) = [state for state in supervisor.states() if state.name == "sleeper"]
        return now.state == "RUNNING" and now.pid != before

    until(is_back)


def test_stop_ends_all_it_started_and_nothing_else(supervisor):
    supervisor.start([sleeper(), sleeper("server", group="servers")], {})
    supervisor.start_group("services")
    until(lambda: {state.state for state in supervisor.states()} == {"RUNNING"})
    pids = [state.pid for state in supervisor.states()]
    supervisor.stop(timeout_seconds=20)
    assert supervisor.states() == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_second_supervisor_of_one_home_leaves_the_first_running(home, supervisor):
    supervisor.start([sleeper(), sleeper("server", group="servers")], {})
    assert Supervisor(home).answers()
    assert not Supervisor(home).is_ours


def test_wrong_configuration_says_where_the_log_is(supervisor, home):
    with pytest.raises(Unavailable, match=r"supervisor\.out"):
        supervisor.start([ProcessSpec(name="bad name]", command=())], {})


def test_killed_bus_keeps_what_it_logged():
    with embedded.private_valkey("bus") as server:
        with redis.Redis.from_url(server.url) as client:
            client.rpush("perpetune:queue", "message")
            until(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0)
        server.kill()
        server.restart()
        with redis.Redis.from_url(server.url) as client:
            assert client.lrange("perpetune:queue", 0, -1) == [b"message"]
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def test_bus_refuses_a_wrong_password(valkey):
    port = make_url(valkey).port
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(host="127.0.0.1", port=port, password="wrong").ping()


def test_roles_have_the_rights_row_level_security_needs(database):
    with psycopg.connect(libpq(database.owner)) as connection:
        rows = connection.execute(
            "SELECT rolname, rolsuper, rolbypassrls FROM pg_roles"
            " WHERE rolname IN ('app', 'spine') ORDER BY rolname"
        ).fetchall()
    assert rows == [("app", False, False), ("spine", False, True)]
    for url in (database.app, database.spine):
        with psycopg.connect(libpq(url)) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_each_test_has_an_empty_database_of_its_own(database, module_database):
    with psycopg.connect(libpq(database.owner)) as connection:
        connection.execute("CREATE TABLE left_behind ()")
    with psycopg.connect(libpq(module_database.owner)) as connection:
        assert connection.execute("SELECT to_regclass('left_behind')").fetchone() == (None,)
