"""Schemathesis against the server's own OpenAPI: no undocumented response and no 500 for any request."""

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from namepin.agent.config.settings import load_settings
from namepin.agent.server.app import create_app

HOSTS = {"serve": {"hosts": ["testserver"]}}
"""What schemathesis calls the server."""

OPERATIONS = {
    ("GET", "/api/health"),
    ("POST", "/api/extract"),
    ("POST", "/api/batch"),
    ("GET", "/api/jobs"),
    ("GET", "/api/jobs/{job_id}"),
    ("GET", "/api/jobs/{job_id}/results"),
    ("DELETE", "/api/jobs/{job_id}"),
    ("POST", "/api/reviews"),
    ("GET", "/api/reviews"),
    ("GET", "/api/reviews/{review_id}"),
    ("POST", "/api/reviews/{review_id}/answers"),
    ("POST", "/api/reviews/{review_id}/row"),
    ("DELETE", "/api/reviews/{review_id}"),
    ("GET", "/api/rows"),
    ("DELETE", "/api/rows"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rest_answers_to_generated_requests_match_openapi_schema(tmp_path: Path) -> None:
    app = create_app(load_settings("starter", overrides=HOSTS, environment={}), tokens={}, folder=tmp_path)
    app.state.namepin.pins.get("starter").calls  # noqa: B018  # the first post would take longer than may be waited
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert {(operation.method.upper(), operation.path) for operation in operations} == OPERATIONS
    for operation in operations:

        @settings(
            max_examples=20,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy())
        def answers(case: schemathesis.Case) -> None:
            # A schema cannot say what a picture in base64 is, nor that a text must hold a word: refused with 400.
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        answers()
