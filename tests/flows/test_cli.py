"""The command line: quick to answer, one line on failure."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from flows.cli.caption import _of_presets
from flows.cli.common import load_config
from flows.cli.deploy import command as deploy
from flows.cli.main import COMMANDS, group
from schemas.errors import VipError
from schemas.evaluate_config import PRESETS
from schemas.region import View
from vip.processes import free_port

HEAVY = ("torch", "prefect", "diffusers", "transformers", "pyarrow", "numpy", "pydantic")


def run(*arguments, env=None):
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom flows.cli.main import group\n"
        "group.main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert all(name in done.stdout for name in COMMANDS)
    # pydantic comes with the typed errors of the commands' shared code; everything slower stays out.
    assert done.stderr.strip() in ("[]", "['pydantic']")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_explains_itself(name):
    result = CliRunner().invoke(group, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output and "--help" in result.output


def test_an_unknown_command_is_wrong_usage():
    done = run("shrad")
    assert done.returncode == 2 and "No such command" in done.stderr


def test_a_failure_is_one_line_and_exit_1(tmp_path):
    done = run("ui", "--root", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("vip: ") and "vip demo" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width: 64\nheight: 64\nwidht: 3", "widht is no known setting"),
        ("width: 4\nheight: 64", "width: Input should be greater than or equal to 8"),
        ("width: [", "is no YAML"),
        ("[1, 2]", "the file: Input should be a valid dictionary"),
    ],
)
def test_a_bad_config_is_one_line_that_names_the_setting(tmp_path, text, message):
    path = tmp_path / "view.yaml"
    path.write_text(text)
    with pytest.raises(VipError) as caught:
        load_config(path, View)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(VipError, match=r"no\.yaml cannot be read: No such file"):
        load_config(tmp_path / "no.yaml", View)


def test_captions_are_made_for_what_the_exams_show():
    bank = _of_presets(("192-128", "192-brush"), None, ())
    assert [(bank.view, region) for region in bank.regions] == [PRESETS["192-128"], PRESETS["192-brush"]]
    for names, keeps, says in (
        (("192-129",), (), "192-129 is unknown; choose of nano-centre"),
        (("192-128", "256-128"), (), "one size at a time"),
        (("192-128",), (0.5,), "a preset names view and region"),
    ):
        with pytest.raises(VipError, match=says):
            _of_presets(names, None, keeps)


@pytest.mark.parametrize("text", ["deployments: 3", "deployments: []", "a: 1", "- 1", "a: [1", ""])
def test_a_deployment_file_without_deployments_is_one_line(tmp_path, monkeypatch, text):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(VipError, match=r"prefect\.yaml (holds no list of deployments|is no YAML)"):
        deploy.callback("vip", tmp_path / "prefect.yaml", str(tmp_path), False)


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        ("{name: a, work_pool: 3}", "deployment a: work_pool is no mapping"),
        ("{name: a, work_pool: {job_variables: {env: {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: often}}}}", "is no number"),
        ("{name: a, work_pool: {job_variables: {env: {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: '29'}}}}", "no less than 30"),
        ("{name: a, parameters: {config: nightly}}", "deployment a: config is no mapping"),
        ("{name: a, entrypoint: 'flows/verify.py:verify', parameters: {root: r, runner: {kind: daks}}}", "a: kind: "),
        (
            "{name: a, entrypoint: 'flows/verify.py:verify', parameters: {root: r, runners: {}}}",
            "flow verify takes no parameter runners; give one of root, runner",
        ),
        (
            "{name: a, entrypoint: 'flows/recaption.py:recaption', parameters: {root: r}, schedules: [{interval: 60}]}",
            "a: parameter config is missing",
        ),
        ("{name: a, entrypoint: 'flows/verify.py:check'}", "flows/verify.py has no flow check"),
        ("{name: a, entrypoint: 'flows/alarm.py:alarm'}", "has no deployment retrain"),
        ("{name: a, work_pool: , parameters: }", "has no deployment retrain, which the automations start"),
    ],
)
def test_a_deployment_file_that_is_not_meant_so_is_one_line(tmp_path, monkeypatch, deployment, message):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (tmp_path / "prefect.yaml").write_text(f"deployments:\n- {deployment}\n")
    with pytest.raises(VipError, match=message):
        deploy.callback("vip", tmp_path / "prefect.yaml", str(tmp_path), False)


def test_deploying_to_a_server_that_is_down_is_one_line(tmp_path):
    environment = {
        **os.environ,
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_HOME": str(tmp_path),
    }
    done = run("deploy", "--root", str(tmp_path), env=environment)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "does not answer as it should" in done.stderr
