"""deploy/: container files, manifests and the work pool, read by linters, schemas and Prefect's own worker."""

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
IMAGES = sorted(DEPLOY.glob("*.Dockerfile"))
POOL = json.loads((DEPLOY / "work-pool.json").read_text())
MANIFESTS = [
    document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
PODS = [one["spec"]["template"] for one in MANIFESTS if one["kind"] in ("Deployment", "StatefulSet")]
VERSIONS = ("1.30", "1.37")
SECRET = re.compile("password|key|secret|token|auth|database_connection", re.IGNORECASE)


def instructions(image):
    """(word, rest) of every instruction of a container file, continued lines joined."""
    text = re.sub(r"\\\n", " ", "\n".join(line for line in image.read_text().splitlines() if not line.startswith("#")))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def id_of(value):
    return value["metadata"]["name"] if isinstance(value, dict) and "metadata" in value else None


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.stem)
def test_a_container_file_passes_the_linter(image):
    tool = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([tool, "--failure-threshold", "info", image], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_linter_finds_what_is_wrong(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN cd /tmp && pip install torch\n")
    done = subprocess.run([Path(sys.executable).with_name("hadolint"), bad], capture_output=True, text=True)
    assert done.returncode and {"DL3007", "DL3013", "DL3003"} <= set(re.findall(r"DL\d+", done.stdout))


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.stem)
def test_an_image_is_pinned_has_no_root_no_secret_and_says_whether_it_is_well(image):
    lines = instructions(image)
    words = [word for word, _ in lines]
    assert re.fullmatch(r"PYTHON=python:\d+\.\d+\.\d+-slim-\w+", lines[0][1])
    assert [rest for word, rest in lines if word == "USER"][-1] == "10001:10001"
    assert "HEALTHCHECK" in words and "ADD" not in words
    assert not any(SECRET.search(rest) for word, rest in lines if word in ("ENV", "ARG"))
    installs = [rest for word, rest in lines if word == "RUN" and "pip install" in rest]
    assert all("--require-hashes" in rest or "--editable ." in rest for rest in installs)
    lists = {match for rest in installs for match in re.findall(r"-r requirements/hashes/([\w-]+)\.txt", rest)}
    assert lists and all((ROOT / "requirements" / "hashes" / f"{name}.txt").is_file() for name in lists)


def test_the_build_context_is_the_source_and_nothing_else():
    """Everything is left out but what is named; what is named is there, and is what git knows."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    named = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / name).exists() for name in named)
    copied = {
        source.rstrip("/").split("/")[0]
        for image in IMAGES
        for word, rest in instructions(image)
        if word == "COPY"
        for source in rest.split()[:-1]
    }
    assert copied - {"."} <= {name.rstrip("/") for name in named}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_a_manifest_is_what_kubernetes_takes(manifest, version):
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_find_what_is_wrong():
    broken = json.loads(json.dumps(next(one for one in MANIFESTS if one["kind"] == "Deployment")))
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


def confined(pod):
    """Assert that nothing in a pod runs as root, writes to its image or holds a secret as text."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not container["image"].endswith(":latest") and ":" in container["image"]
        for variable in container.get("env", []):
            if SECRET.search(variable["name"]) and not variable["name"].endswith(
                ("_FILE", "_SECRET_NAME", "_SECRET_KEY")
            ):
                assert "secretKeyRef" in variable["valueFrom"], variable["name"]


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["metadata"]["labels"]["app"])
def test_a_pod_is_confined_and_watched(pod):
    confined(pod["spec"])
    assert all(
        "livenessProbe" in container and "memory" in container["resources"]["limits"]
        for container in pod["spec"]["containers"]
    )


def test_services_policies_and_claims_meet():
    """Every selector finds a pod, every claim is there, and each pod that listens is closed but for those it serves."""
    apps = {pod["metadata"]["labels"]["app"] for pod in PODS} | {"vip-run"}
    for one in MANIFESTS:
        if one["kind"] == "Service":
            assert one["spec"]["selector"]["app"] in apps
        if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] != "nobody":
            assert one["spec"]["podSelector"]["matchLabels"]["app"] in apps
            peers = [peer for rule in one["spec"]["ingress"] for peer in rule["from"]]
            assert all(peer["podSelector"]["matchLabels"]["app"] in apps for peer in peers)
    guarded = {
        one["spec"]["podSelector"].get("matchLabels", {}).get("app")
        for one in MANIFESTS
        if one["kind"] == "NetworkPolicy"
    }
    assert guarded >= {one["spec"]["selector"]["app"] for one in MANIFESTS if one["kind"] == "Service"} | {None}
    claims = {one["metadata"]["name"] for one in MANIFESTS if one["kind"] == "PersistentVolumeClaim"}
    used = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in PODS
        for volume in pod["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert used | {POOL["variables"]["properties"]["scratch_claim"]["default"]} == claims


def test_the_page_makes_every_secret_that_the_manifests_want():
    text = "".join(path.read_text() for path in (DEPLOY / "kubernetes").glob("*.yaml"))
    wanted = set(re.findall(r"(?:secretName: |secretKeyRef: \{name: )([\w-]+)", text))
    wanted.add(POOL["variables"]["properties"]["secret"]["default"])
    made = set(re.findall(r"create secret generic ([\w-]+)", (ROOT / "docs" / "scale.md").read_text()))
    assert made == wanted


async def job(**variables):
    """The Kubernetes job of one flow run, made by the worker of prefect-kubernetes from our template."""
    from prefect.client.schemas.objects import FlowRun
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    # The server is asked for blocks and variables that a template refers to; ours refers to none.
    configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(POOL, variables, client=object())
    configuration.prepare_for_flow_run(FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="a run of retrain"))
    return configuration.job_manifest


@pytest.mark.parametrize(
    "variables", [{}, {"gpus": 2, "image": "mine:1", "env": {"VIP_ROOT": "s3://bucket/vip"}}], ids=["defaults", "ours"]
)
async def test_the_worker_makes_a_job_that_kubernetes_takes(variables):
    made = await job(**variables)
    for version in VERSIONS:
        kubernetes_validate.validate(made, version, strict=True)
    pod = made["spec"]["template"]
    confined(pod["spec"])
    (container,) = pod["spec"]["containers"]
    assert container["image"] == variables.get("image", "vip-pipeline:0.1.0")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == variables.get("gpus", 0)
    assert "flow-run" in str(container["args"])
    assert variables.get("env", {}).items() <= {one["name"]: one.get("value") for one in container["env"]}.items()
    # The policies know runs by this label.
    assert pod["metadata"]["labels"]["app"] == "vip-run"
    assert "{{ " not in json.dumps(made)


def test_the_server_takes_the_template():
    from prefect.server.schemas.actions import WorkPoolCreate

    assert WorkPoolCreate(name="vip", type="kubernetes", base_job_template=POOL).base_job_template == POOL


def test_deployments_set_only_what_the_template_knows():
    known = set(POOL["variables"]["properties"])
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    asked = {name for one in deployments for name in one["work_pool"]["job_variables"]}
    assert asked and asked <= known
