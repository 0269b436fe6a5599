"""The Kubernetes manifest, against Kubernetes' own schemas and against what the server does."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from orbital_relay.config import load
from orbital_relay.server.http import ENDPOINTS
from tests.support.fronts import DEPLOY
from tests.support.programs import missing

VERSIONS = ("1.30", "1.37")
"""The oldest and the newest version that is checked."""


def documents() -> dict[str, Any]:
    """Return the objects of the manifest by kind."""
    read = yaml.safe_load_all((DEPLOY / "kubernetes" / "orbital.yaml").read_text())
    return {each["kind"]: each for each in read}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_accept_the_manifest(version: str):
    """[KUBE1] Each object is valid by Kubernetes' schemas, strictly; a misspelt field would not be."""
    try:
        import kubernetes_validate
    except ImportError:
        missing("kubernetes-validate", remedy="make dev")
    found = documents()
    for each in found.values():
        kubernetes_validate.validate(each, version, strict=True)

    found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found["Deployment"], version, strict=True)


def test_the_manifest_fits_the_server_and_the_image():
    """[KUBE2] Settings load, probes are routes, user and folder are the image's, and the drain has time."""
    found = documents()
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    image = (DEPLOY / "Dockerfile").read_text()
    environment = {each["name"]: each["value"] for each in container["env"]}
    secret = environment.pop("JWT_SECRET_FILE")
    settings = load({}, environment)
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}

    assert settings.drain_s < pod["terminationGracePeriodSeconds"]
    assert str(settings.signups) == "invited"
    routes = {endpoint.path for endpoint in ENDPOINTS if not endpoint.auth}
    assert {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")} <= routes
    assert f"USER {pod['securityContext']['runAsUser']}\n" in image
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"]
    assert mounts[re.findall(r"ORBITAL_DATA_DIR=(\S+)", image)[0]] == "data"
    assert mounts[secret.rpartition("/")[0]] == "secret"
    assert f"EXPOSE {container['ports'][0]['containerPort']}\n" in image
    assert f"CMD {container['args']}".replace("'", '"') in image
    # The variables of a service with this name would begin with ORBITAL_.
    assert pod["enableServiceLinks"] is False
    assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}


def test_the_objects_refer_to_each_other():
    """[KUBE3] Service, ingress, pod and volume name each other; one pod at a time uses the SQLite file."""
    found = documents()
    deployment, service, ingress = (found[kind]["spec"] for kind in ("Deployment", "Service", "Ingress"))
    labels = deployment["template"]["metadata"]["labels"]
    claims = [each["persistentVolumeClaim"]["claimName"] for each in deployment["template"]["spec"]["volumes"][:1]]
    paths = {each["path"]: each["backend"]["service"]["name"] for each in ingress["rules"][0]["http"]["paths"]}

    assert service["selector"] == deployment["selector"]["matchLabels"] == labels
    assert claims == [found["PersistentVolumeClaim"]["metadata"]["name"]]
    assert paths["/"] == found["Service"]["metadata"]["name"] != paths["/metrics"]
    assert [rule["host"] for rule in ingress["rules"]] == ingress["tls"][0]["hosts"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
