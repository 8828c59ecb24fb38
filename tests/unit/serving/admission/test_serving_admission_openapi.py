"""The document that describes the API names what the data port answers, no more."""

from fastapi import FastAPI
from fastapi.testclient import TestClient

from rayserve_par.serving.admission.openapi import describe_public_paths


def test_hidden_paths_are_not_described() -> None:
    app = FastAPI()

    async def nothing() -> None:
        return None

    for path in (
        "/v1/chat/completions",
        "/tokenize",
        "/metrics",
        "/sleep",
        "/v1/load_lora_adapter",
    ):
        app.post(path)(nothing)
    describe_public_paths(app)
    with TestClient(app) as client:
        document = client.get("/openapi.json").json()
    assert sorted(document["paths"]) == ["/tokenize", "/v1/chat/completions"]
    assert document["info"] == app.openapi()["info"]
