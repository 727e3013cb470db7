"""An independent reader of OpenLineage events: the official client's own models."""

from typing import Any

from openlineage.client import event_v2, facet_v2


def rebuilt(event: dict[str, Any]) -> event_v2.RunEvent:
    """An event from its JSON, by the constructors of the official client, which check what they are given."""
    facets = {
        name.lower(): getattr(getattr(facet_v2, module), name)
        for module in dir(facet_v2)
        for name in dir(getattr(facet_v2, module))
        if name.endswith("Facet")
    }

    def facet(value: dict[str, Any]) -> Any:
        kind = facets[value["_schemaURL"].rsplit("/", 1)[1].lower()]
        own = {name: one for name, one in value.items() if not name.startswith("_")}
        return kind(producer=value["_producer"], **own)

    def held(value: dict[str, Any], *groups: str) -> dict[str, Any]:
        return value | {group: {name: facet(one) for name, one in value.get(group, {}).items()} for group in groups}

    return event_v2.RunEvent(
        eventTime=event["eventTime"],
        producer=event["producer"],
        eventType=event_v2.RunState(event["eventType"]),
        run=event_v2.Run(**held(event["run"], "facets")),
        job=event_v2.Job(**held(event["job"], "facets")),
        inputs=[event_v2.InputDataset(**held(one, "facets", "inputFacets")) for one in event["inputs"]],
        outputs=[event_v2.OutputDataset(**held(one, "facets", "outputFacets")) for one in event["outputs"]],
    )
