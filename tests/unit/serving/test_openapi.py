"""The document that is supplied by hand for the hot routes, held against the server itself."""

import pytest


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_every_example_of_the_document_is_accepted(serve, bundles, kind):
    async def use(client, _):
        document = (await client.get("/openapi.json")).json()
        answers = {}
        for path, item in document["paths"].items():
            for method, operation in item.items():
                content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
                for name, example in content.get("examples", {}).items():
                    answers[path, name] = await client.request(method, path, json=example["value"])
        return document, answers

    document, answers = serve(bundles[kind], use)
    model = bundles[kind].schema.model
    assert {path for path, _ in answers} == {
        "/v1/predict",
        "/v1/predict/batch",
        "/v1/feedback",
        f"/v2/models/{model}/infer",
        f"/v2/models/{model}/versions/v1.0.0/infer",
    }
    refused = {(*place, answer.text) for place, answer in answers.items() if answer.status_code != 200}
    assert {path for path, *_ in refused} == {"/v1/feedback"}, "there is no store in this test, and nothing else"
    assert {answer.status_code for (path, _), answer in answers.items() if path == "/v1/feedback"} == {503}
    features = document["components"]["schemas"]["Features"]
    assert features["properties"]["distance"]["maximum"] == 6000
    assert features["properties"]["distance"]["examples"] == [1400.0]
    assert "mi" in features["properties"]["distance"]["description"]
    assert set(features["required"]) == {"distance", "hour", "carrier"}
    assert features["additionalProperties"] is False


def test_the_document_stands_before_the_model_does(serve, bundles):
    async def use(client, server):
        server.engine, engine = None, server.engine
        early = (await client.get("/openapi.json")).json()
        server.engine = engine
        return early, (await client.get("/openapi.json")).json()

    early, late = serve(bundles["binary"], use)
    assert "/v1/predict" not in early["paths"]
    assert "/v1/predict" in late["paths"]
