"""OpenLineage: one run of one job for each artifact, as START and COMPLETE events, by the official client's models."""

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from openlineage.client import event_v2 as ol
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    documentation_dataset,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
    schema_dataset,
    source_code_location_job,
)

from schemas import tables
from vip.lineage import graph
from vip.lineage.index import LineageIndex
from vip.lineage.rows import read_rows

Progress = Callable[[str, int, int], None]

PRODUCER = "urn:vip-outpaint"
_SPACE = uuid.UUID("6f1d8f0e-5a0b-5c55-9d0b-3a5f6a9b7c11")  # names the runs; any constant would do
_SCHEMAS = {
    "shard": ("samples.parquet", tables.SAMPLES),
    "dataset": ("names.parquet", tables.NAMES),
    "captions": ("captions.parquet", tables.CAPTIONS),
    "gate": ("checks.parquet", tables.GATE_CHECKS),
    "latents": ("latents.parquet", tables.LATENTS),
    "embeddings": ("embeddings.parquet", tables.EMBEDDINGS),
    "samples": ("samples.parquet", tables.GENERATED),
    "evaluation": ("metrics.parquet", tables.METRICS),
}


def events(index: LineageIndex, progress: Progress | None = None) -> Iterator[ol.RunEvent]:
    """Every artifact that stands, oldest first.

    A dataset of OpenLineage is an artifact, named by its ref where one points at it (``dataset/scenes``), else by kind
    and key, with its digest as the version. Captions come from the columns of their shard and from their prompt, which
    is a dataset of its own. The checks of a gate are assertions about the caption set. The Prefect run is the parent.

    Args:
        index: the index of the root.
        progress: called as (what, done, total).
    """
    writer = _Writer(index)
    rows = index.db.execute("SELECT id FROM artifact WHERE state = 'live' ORDER BY started, kind, key").fetchall()
    for done, row in enumerate(rows, 1):
        yield from writer.run(graph.artifact(index, row["id"]))
        if progress:
            progress("artifacts exported", done, len(rows))


class _Writer:
    def __init__(self, index: LineageIndex) -> None:
        self.index = index
        self.namespace = index.backend.url if "://" in index.backend.url else f"file://{index.backend.root}"
        self.names = _names(index)

    def run(self, row: sqlite3.Row) -> Iterator[ol.RunEvent]:
        job = ol.Job(namespace=self.namespace, name=row["stage"], facets=self._job_facets(row))
        run = ol.Run(runId=str(uuid.uuid5(_SPACE, f"{row['kind']}/{row['key']}")), facets=self._run_facets(row))
        inputs = self._inputs(row)
        shared: dict[str, Any] = {"job": job, "run": run, "inputs": inputs, "producer": PRODUCER}
        yield ol.RunEvent(eventType=ol.RunState.START, eventTime=row["started"], outputs=[], **shared)
        yield ol.RunEvent(
            eventType=ol.RunState.COMPLETE, eventTime=row["finished"], outputs=[self._output(row, inputs)], **shared
        )

    def _job_facets(self, row: sqlite3.Row) -> dict[str, Any]:
        facets: dict[str, Any] = {
            "jobType": job_type_job.JobTypeJobFacet(
                processingType="BATCH", integration="VIP", jobType="STAGE", producer=PRODUCER
            )
        }
        if row["code"]:
            changed = "-dirty" if row["dirty"] else ""
            facets["sourceCodeLocation"] = source_code_location_job.SourceCodeLocationJobFacet(
                type="git", url=f"urn:git:{row['code']}", version=row["code"] + changed, producer=PRODUCER
            )
        return facets

    def _run_facets(self, row: sqlite3.Row) -> dict[str, Any]:
        packages = graph.loads(row["packages"])
        facets: dict[str, Any] = {}
        if row["run"]:
            facets["parent"] = parent_run.ParentRunFacet(
                run=parent_run.Run(runId=_uuid(row["run"])),
                job=parent_run.Job(namespace=self.namespace, name="prefect-flow-run"),
                producer=PRODUCER,
            )
        if "prefect" in packages:
            facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(
                version=packages["prefect"], name="Prefect", producer=PRODUCER
            )
        return facets

    def _inputs(self, row: sqlite3.Row) -> list[ol.InputDataset]:
        inputs = []
        for one in graph.inputs(self.index, row["id"]):
            facets: dict[str, Any] = {}
            if row["kind"] == "gate" and one["kind"] == "caption_set":
                facets["dataQualityAssertions"] = self._assertions(row)
            inputs.append(
                ol.InputDataset(
                    namespace=self.namespace,
                    name=self.name(one),
                    facets=_version(one["named"]),
                    inputFacets=facets,
                )
            )
        if row["kind"] == "captions":
            inputs.append(self._prompt(row))
        return inputs

    def _prompt(self, row: sqlite3.Row) -> ol.InputDataset:
        spec = graph.loads(row["params"]).get("spec", {})
        words = documentation_dataset.DocumentationDatasetFacet(
            description=json.dumps(spec, ensure_ascii=False), contentType="application/json", producer=PRODUCER
        )
        return ol.InputDataset(
            namespace=self.namespace,
            name=f"prompt/{graph.loads(row['stats']).get('spec') or row['spec_id']}",
            facets=_version(row["spec_id"]) | {"documentation": words},
        )

    def _assertions(self, row: sqlite3.Row) -> data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet:
        return data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            assertions=[
                data_quality_assertions_dataset.Assertion(
                    assertion=check["check"],
                    success=check["passed"],
                    severity="error",
                    expected=str(check["limit"]),
                    actual=str(check["value"]),
                )
                for check in read_rows(self.index, row, "checks.parquet")
            ],
            producer=PRODUCER,
        )

    def _output(self, row: sqlite3.Row, inputs: list[ol.InputDataset]) -> ol.OutputDataset:
        outputs = graph.loads(row["outputs"])
        facets: dict[str, Any] = _version(row["digest"])
        table, schema = _SCHEMAS.get(row["kind"], ("", None))
        if schema is not None and table in outputs:
            facets["schema"] = schema_dataset.SchemaDatasetFacet(
                fields=[
                    schema_dataset.SchemaDatasetFacetFields(name=one.name, type=str(one.type), ordinal_position=place)
                    for place, one in enumerate(schema, 1)
                ],
                producer=PRODUCER,
            )
        if row["kind"] == "captions":
            facets["columnLineage"] = _column_lineage(inputs)
        statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=row["rows"], size=row["bytes"], fileCount=len(outputs), producer=PRODUCER
        )
        return ol.OutputDataset(
            namespace=self.namespace,
            name=self.name(row),
            facets=facets,
            outputFacets={"outputStatistics": statistics},
        )

    def name(self, row: sqlite3.Row) -> str:
        return self.names.get((row["kind"], row["key"])) or f"{row['kind']}/{row['key'][:16]}"


def _names(index: LineageIndex) -> dict[tuple[str, str], str]:
    """Artifacts that a ref pointed at -> the first ref such as ``dataset/scenes`` that ever did."""
    from storage.refs import Refs

    refs = Refs(index.backend)
    found: dict[tuple[str, str], str] = {}
    for name in refs.names():
        for entry in refs.log(name):
            if "/" in name:  # `latest` and `promoted` name whatever they point at, not one thing over time
                found.setdefault((entry.target.kind, entry.target.key), name)
    return found


def _version(digest: str | None) -> dict[str, Any]:
    if not digest:
        return {}
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=digest, producer=PRODUCER)}


def _column_lineage(inputs: list[ol.InputDataset]) -> column_lineage_dataset.ColumnLineageDatasetFacet:
    """Every word of a caption comes from the image and from the prompt; its key from the image alone."""
    transformed = [column_lineage_dataset.Transformation(type="DIRECT", subtype="TRANSFORMATION")]
    kept = [column_lineage_dataset.Transformation(type="DIRECT", subtype="IDENTITY")]

    def field(of: ol.InputDataset, name: str, how: list[Any]) -> column_lineage_dataset.InputField:
        return column_lineage_dataset.InputField(of.namespace, of.name, name, how)

    images = [one for one in inputs if not one.name.startswith("prompt/")]
    prompts = [one for one in inputs if one.name.startswith("prompt/")]
    words = [field(one, "image", transformed) for one in images] + [
        field(one, "templates", transformed) for one in prompts
    ]
    fields = {name: column_lineage_dataset.Fields(words) for name in ("centre", "surrounding", "total")}
    fields["image_sha256"] = column_lineage_dataset.Fields([field(one, "image_sha256", kept) for one in images])
    return column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields, producer=PRODUCER)


def _uuid(run: str) -> str:
    """Prefect's run ids are UUIDs; any other name of a run gets one that is always the same."""
    try:
        return str(uuid.UUID(run))
    except ValueError:
        return str(uuid.uuid5(_SPACE, run))
