"""What deploy/ holds, applied to the emulator by a real Terraform; skipped, loudly, where there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from beam_flowlogs.local.aws import AwsEmulator
from tests.conftest import NotifiedQueue

pytestmark = pytest.mark.integration

ARCHIVE = Path(__file__).parents[2] / "deploy" / "terraform" / "archive"

# Only S3 is asked for anything, and the emulator answers for it.
ROOT = """
provider "aws" {{
  region                      = "us-east-1"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  endpoints {{ s3 = "{endpoint}" }}
}}

module "archive" {{
  source = "./archive"
  {variables}
}}
"""


class Terraform:
    """Terraform in a folder of its own, with the archive's module and the provider at hand."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self._folder, self._endpoint = folder, endpoint
        shutil.copytree(ARCHIVE, folder / "archive")
        self.choose({"bucket": "any"})
        done = self.run("init", *_plugins())
        if done.returncode:
            pytest.skip(f"deploy/terraform WAS NOT TESTED: terraform finds no AWS provider here: {done.stderr[-300:]}")

    def choose(self, variables: Mapping[str, Any]) -> None:
        values = {name: f'"{value}"' if isinstance(value, str) else value for name, value in variables.items()}
        lines = "\n  ".join(f"{name} = {value}" for name, value in values.items())
        (self._folder / "main.tf").write_text(ROOT.format(endpoint=self._endpoint, variables=lines))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        name, *others = arguments
        options = ["-no-color"] if name == "show" else ["-no-color", "-input=false"]
        command = ["terraform", name, *options, *others]
        return subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False, timeout=300)


def _plugins() -> list[str]:
    """Providers that lie on this machine, so that none has to be fetched: FLOWLOGS_TEST_TERRAFORM_PLUGINS, or /opt."""
    named = os.environ.get("FLOWLOGS_TEST_TERRAFORM_PLUGINS")
    found = [Path(named)] if named else [path.parent for path in Path("/opt").glob("*/registry.terraform.io")]
    return [f"-plugin-dir={found[0]}"] if found else []


@pytest.fixture
def terraform(aws: AwsEmulator, tmp_path: Path) -> Terraform:
    if not shutil.which("terraform"):
        pytest.skip("deploy/terraform WAS NOT TESTED: terraform is not installed")
    return Terraform(tmp_path, aws.url)


def test_the_archives_rule_reaches_the_bucket_as_chosen(
    terraform: Terraform, make_queue: Callable[[], NotifiedQueue]
) -> None:
    bucket = make_queue().bucket
    terraform.choose({"bucket": bucket, "transition_after_days": 30, "expire_after_days": 400})
    # It takes more than a minute, whatever the machine: Terraform looks again and again whether the rule stays.
    applied = terraform.run("apply", "-auto-approve")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    (rule,) = boto3.client("s3").get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["Transitions"] == [{"Days": 30, "StorageClass": "GLACIER_IR"}]
    assert rule["Filter"] == {"Prefix": "AWSLogs/"}
    assert rule["Expiration"]["Days"] == 400


def test_unless_told_nothing_is_deleted_and_what_moves_can_be_read_at_once(terraform: Terraform) -> None:
    planned = terraform.run("plan", "-out=plan")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    (change,) = json.loads(terraform.run("show", "-json", "plan").stdout)["resource_changes"]
    (rule,) = change["change"]["after"]["rule"]
    assert rule["expiration"] == []
    assert [(move["days"], move["storage_class"]) for move in rule["transition"]] == [(90, "GLACIER_IR")]


def test_a_class_that_no_backfill_can_read_is_refused_with_the_cure(terraform: Terraform) -> None:
    terraform.choose({"bucket": "any", "storage_class": "DEEP_ARCHIVE"})
    refused = terraform.run("plan")
    assert refused.returncode == 1
    assert "have to be restored" in " ".join(refused.stderr.split())
