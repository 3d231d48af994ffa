"""What `actionlint` and `zizmor` do not hold of the workflows: exact pins, the least rights, the Pythons we claim."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.links import ROOT, project

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
USES = re.compile(r"^\s*(?:- )?uses: (?P<what>\S+)(?P<rest>.*)$", re.MULTILINE)
PIN = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
VERSION = re.compile(r" # v\d+\.\d+\.\d+")
#: What a job may write, besides reading. A new right is a decision, and is made here.
RIGHTS = {
    ("docs", "deploy"): {"pages", "id-token"},
    ("release", "attest"): {"id-token", "attestations"},
    ("release", "index"): {"id-token"},
    ("release", "container"): {"packages", "id-token", "attestations"},
    ("release", "github"): {"contents"},
}

each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)


def read(workflow: Path) -> dict[Any, Any]:
    return yaml.safe_load(workflow.read_text("utf-8"))


def jobs() -> list[Any]:
    found = [(path.stem, name, job) for path in WORKFLOWS for name, job in read(path)["jobs"].items()]
    return [pytest.param(*each, id="-".join(each[:2])) for each in found]


def pins() -> list[tuple[str, str, str]]:
    """Return (workflow, action with hash, what follows) for each action of another repository."""
    found = [
        (path.name, use["what"], use["rest"]) for path in WORKFLOWS for use in USES.finditer(path.read_text("utf-8"))
    ]
    return [each for each in found if not each[1].startswith("./")]


def test_there_are_three_workflows():
    assert [path.stem for path in WORKFLOWS] == ["ci", "docs", "release"]


def test_each_action_is_a_whole_hash_with_its_version():
    assert pins()
    assert [each for each in pins() if not (PIN.fullmatch(each[1]) and VERSION.fullmatch(each[2]))] == []


def test_an_action_has_one_hash_and_one_version():
    versions = {what: {rest for _, other, rest in pins() if other == what} for _, what, _ in pins()}
    hashes = {what.split("@")[0]: set() for what in versions}
    for what in versions:
        hashes[what.split("@")[0]].add(what)
    assert [each for each in (*versions.values(), *hashes.values()) if len(each) != 1] == []


@each_workflow
def test_a_workflow_starts_without_rights(workflow: Path):
    assert read(workflow)["permissions"] == {}


@each_workflow
def test_runs_of_a_workflow_do_not_race(workflow: Path):
    assert read(workflow)["concurrency"]["group"]


@pytest.mark.parametrize(("workflow", "name", "job"), jobs())
def test_a_job_has_the_rights_it_needs(workflow: str, name: str, job: dict[str, Any]):
    assert {right for right, kind in job["permissions"].items() if kind == "write"} == RIGHTS.get(
        (workflow, name), set()
    )
    assert {right for right, kind in job["permissions"].items() if kind == "read"} <= {"contents"}


@pytest.mark.parametrize(("workflow", "name", "job"), jobs())
def test_a_job_ends(workflow: str, name: str, job: dict[str, Any]):
    assert job.get("timeout-minutes", 0) in range(1, 61) or "uses" in job


@pytest.mark.parametrize(("workflow", "name", "job"), jobs())
def test_a_checkout_leaves_no_credentials(workflow: str, name: str, job: dict[str, Any]):
    checkouts = [step for step in job.get("steps", []) if "actions/checkout@" in step.get("uses", "")]
    assert [step for step in checkouts if step["with"]["persist-credentials"] is not False] == []


@pytest.mark.parametrize(("workflow", "name", "job"), jobs())
def test_a_job_that_can_publish_runs_no_code_of_ours(workflow: str, name: str, job: dict[str, Any]):
    """What is installed for a build, or a test, must not be able to sign or publish."""
    if RIGHTS.get((workflow, name)):
        assert [step for step in job["steps"] if re.search(r"pip|python|dev\.py|\.ci", step.get("run", ""))] == []


def test_the_tested_pythons_are_those_we_claim():
    claimed = {text.rpartition(" ")[2] for text in project()["classifiers"] if "Python :: 3." in text}
    ci = read(FOLDER / "ci.yml")["jobs"]
    oldest = next(step for step in ci["check"]["steps"] if "setup-python" in step.get("uses", ""))["with"][
        "python-version"
    ]
    assert set(ci["test"]["strategy"]["matrix"]["python"]) == claimed
    assert project()["requires-python"] == f">={oldest}"


def test_each_system_tries_oldest_and_newest_python():
    """The oldest on Linux is the job `check`."""
    matrix = read(FOLDER / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    left_out = {(each["os"], each["python"]) for each in matrix["exclude"]}
    pythons = [matrix["python"][0], matrix["python"][-1]]
    assert left_out & {(system, python) for system in matrix["os"] for python in pythons} == {("ubuntu-latest", "3.11")}


def test_nothing_is_published_before_the_whole_check():
    release = read(FOLDER / "release.yml")["jobs"]
    assert release["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert all("ci" in release[job]["needs"] for job in ("index", "container"))
    assert set(release["github"]["needs"]) == {"index", "container"}


def test_the_check_of_a_clone_runs_on_github():
    steps = read(FOLDER / "ci.yml")["jobs"]["check"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["bash .ci/run"]


@pytest.mark.parametrize("chore", ["lint", "docs", "test", "sdist", "lowest"])
def test_the_check_of_a_clone_runs_every_chore(chore: str):
    assert re.search(rf"^python3 scripts/dev\.py {chore}\b", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)


def test_dependabot_watches_what_we_take_from_others():
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text("utf-8"))["updates"]
    assert {each["package-ecosystem"] for each in updates} == {"github-actions", "pip", "docker"}
