"""docker-compose.yml: no Docker engine is needed to see that it says what it has to say."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from infra.local import processes
from infra.local.home import SECRETS

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"

DURATION = {"type": "string", "pattern": r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", "minLength": 2}
TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
NAMED = {"type": "object", "patternProperties": {"^[a-z_]+$": {"type": ["object", "null"]}}}

HEALTHCHECK = {
    "oneOf": [
        {
            "type": "object",
            "properties": {
                "test": {**TEXTS, "items": [{"enum": ["CMD", "CMD-SHELL"]}]},
                "interval": DURATION,
                "timeout": DURATION,
                "start_period": DURATION,
                "retries": {"type": "integer", "minimum": 1},
            },
            "required": ["test", "interval", "timeout", "retries", "start_period"],
            "additionalProperties": False,
        },
        {"const": {"disable": True}},
    ]
}

SERVICE = {
    "type": "object",
    "properties": {
        # A tag that names a version: `latest` or none would change under us.
        "image": {"type": "string", "pattern": r"^[a-z/]+:[0-9]+\.[0-9]+"},
        "build": {
            "type": "object",
            "properties": {"context": {"const": "."}, "dockerfile": {"type": "string"}},
            "additionalProperties": False,
        },
        "command": TEXTS,
        "init": {"type": "boolean"},
        "restart": {"enum": ["unless-stopped", "no"]},
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "secrets": TEXTS,
        "volumes": TEXTS,
        "ports": {**TEXTS, "maxItems": 1},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "condition": {"enum": ["service_healthy", "service_completed_successfully"]}
                },
                "required": ["condition"],
                "additionalProperties": False,
            },
        },
        "healthcheck": HEALTHCHECK,
        "stop_grace_period": DURATION,
        "stop_signal": {"enum": ["SIGINT", "SIGTERM"]},
        "shm_size": {"type": "string", "pattern": "^[0-9]+mb$"},
        "cap_drop": {"const": ["ALL"]},
        "security_opt": {"const": ["no-new-privileges:true"]},
    },
    "required": ["image", "restart", "healthcheck", "stop_grace_period", "secrets"],
    "additionalProperties": False,
}

# The part of the Compose Specification this file uses, and no key beside it: a misspelt key would
# otherwise be noticed on the server.
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"const": "perpetune"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": NAMED,
        "secrets": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"file": {"type": "string"}},
                "required": ["file"],
                "additionalProperties": False,
            },
        },
    },
    "patternProperties": {"^x-": {}},
    "required": ["name", "services", "volumes", "secrets"],
    "additionalProperties": False,
}


def answers(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load(FILE.read_text())


@pytest.fixture(scope="module")
def services(compose) -> dict:
    return compose["services"]


def test_file_follows_the_schema(compose):
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(compose, SCHEMA, cls=jsonschema.Draft7Validator)


def test_schema_notices_a_misspelt_key(compose):
    broken = {**compose, "services": {"gateway": {**compose["services"]["gateway"], "imgae": "x"}}}
    with pytest.raises(jsonschema.ValidationError, match="imgae"):
        jsonschema.validate(broken, SCHEMA, cls=jsonschema.Draft7Validator)


def test_exactly_one_port_is_published(services):
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]


def test_every_process_of_the_local_stack_has_a_container(services):
    started = {spec.name: ["python", *spec.command[1:]] for spec in processes.services()}
    assert {name: services[name]["command"] for name in started} == started


def test_references_lead_somewhere(compose, services):
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        assert set(service["secrets"]) <= set(compose["secrets"]), name
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            known = (
                (ROOT / source).exists()
                if source.startswith(".")
                else (source in compose["volumes"])
            )
            assert known, f"{name}: {source}"


def test_modules_started_exist(services):
    for name, service in services.items():
        match service.get("command"):
            case ["python", "-m", module]:
                found = importlib.util.find_spec(module)
                assert found, f"{name}: {module}"
                assert not found.submodule_search_locations or importlib.util.find_spec(
                    f"{module}.__main__"
                ), f"{name}: {module} is a package without __main__"


def test_health_is_awaited_only_of_what_has_health(services):
    for name, service in services.items():
        for other, wanted in service.get("depends_on", {}).items():
            has_health = "test" in services[other]["healthcheck"]
            assert has_health == (wanted["condition"] == "service_healthy"), f"{name}: {other}"


def test_processes_wait_for_migration_and_brokers(services):
    for spec in processes.services():
        assert set(services[spec.name]["depends_on"]) == {"migrate", "bus", "cache"}, spec.name


def test_secrets_are_those_of_the_local_stack_and_of_the_make_target(compose):
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    made = re.search(r"^SECRETS := (.*)$", makefile, re.MULTILINE)
    assert made
    assert tuple(compose["secrets"]) == SECRETS == tuple(made[1].split())


def test_no_password_is_written_in_the_file(services):
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            secret = re.search("PASSWORD|SECRET|KEY|PEPPER", variable)
            assert not secret or value.startswith("/run/secrets"), f"{name}: {variable}"


def test_worker_may_finish_its_soft_shutdown(services):
    soft = int(services["worker"]["environment"]["PERPETUNE_WORKER_SOFT_SHUTDOWN_SECONDS"])
    grace = int(services["worker"]["stop_grace_period"].removesuffix("s"))
    # Celery needs up to 15 s more to give back what it did not finish.
    assert grace > soft + 15


def test_compose_itself_accepts_the_file():
    docker = shutil.which("docker")
    if not docker or not answers([docker, "compose", "version"]):
        pytest.skip("no docker compose plugin here; the schema above is checked instead")
    result = subprocess.run(
        [docker, "compose", "--file", FILE, "config", "--quiet"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
