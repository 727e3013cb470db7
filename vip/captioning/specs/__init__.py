"""Caption specs: the built-in ones beside this file, and those of the user; read, checked and resolved."""

from pathlib import Path

from pydantic import ValidationError

from schemas.canonical import sha256_hex
from schemas.errors import VipError
from schemas.spec import CaptionSpec, ModelIdentity, split_tokenizer
from storage.models import find_model
from storage.yaml_file import read_yaml

_HERE = Path(__file__).parent
_KINDS = dict.fromkeys(("regex", "choice", "json", "grammar", "json_object", "structural_tag"))
"""Of structured outputs; vLLM takes one at a time."""


def builtin_specs() -> list[str]:
    """Names of the specs that come with the package."""
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


def load_spec(name_or_path: str) -> CaptionSpec:
    """Read a spec: a built-in name, or a YAML file.

    Raises:
        VipError: one line that names the file, the setting and what is wrong with it.
    """
    path = _HERE / f"{name_or_path}.yaml" if name_or_path in builtin_specs() else Path(name_or_path)
    if not path.exists():
        raise VipError(f"spec {name_or_path}: no such file", f"give a file or one of {', '.join(builtin_specs())}")
    value = read_yaml(path, "spec")
    if not isinstance(value, dict):
        raise VipError(f"spec {path} is no mapping", f"start from a built-in one: {', '.join(builtin_specs())}")
    value.setdefault("name", path.stem)
    try:
        spec = CaptionSpec.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "spec"
        raise VipError(f"spec {path}: {place}: {first['msg']}") from error
    _check_parts(path, spec)
    return spec


def _check_parts(path: Path, spec: CaptionSpec) -> None:
    """Every part that the strategy asks has a text, and nothing is told of parts or keywords that it does not ask.

    Raises:
        VipError: naming the first setting that is missing, would do nothing, or would have every request refused.
    """
    missing = [part for part in spec.parts if part not in spec.templates]
    if missing:
        raise VipError(f"spec {path}: templates.{missing[0]} is missing", f"strategy {spec.strategy} needs it")
    if spec.keywords and spec.strategy != "imagine":
        raise VipError(f"spec {path}: keywords: strategy {spec.strategy} takes none", "use strategy imagine")
    for part, told in spec.constraint.items():
        if part not in spec.parts:
            asked = ", ".join(spec.parts)
            raise VipError(f"spec {path}: constraint.{part}: strategy {spec.strategy} asks {asked}", "name these parts")
        if len(told.keys() & _KINDS) != 1:
            kinds = f"give one of {', '.join(_KINDS)}"
            raise VipError(f"spec {path}: constraint.{part} holds {', '.join(told) or 'nothing'}", kinds)


def resolve_spec(
    name_or_path: str,
    model: str | None = None,
    endpoint: str | None = None,
    keywords: tuple[str, ...] = (),
) -> CaptionSpec:
    """Read a spec and settle everything that can change a caption: the model's identity, the tokenizer, the keywords.

    Args:
        name_or_path: built-in name or YAML file.
        model: ``nano``, a folder or a hub id that answers instead of the spec's own.
        endpoint: base URL of a server that answers. Where it serves the local model under its digest the identity is
            checked, else it is recorded as declared. None: our own vLLM will serve the local model.
        keywords: what the surrounding must hold; only for strategy ``imagine``.

    Raises:
        VipError: where the spec, the model, the tokenizer or the endpoint is not to be had.
    """
    spec = load_spec(name_or_path)
    identity = resolve_model(spec.model, model, endpoint)
    changes: dict[str, object] = {"model": identity, "tokenizer": resolve_tokenizer(spec.tokenizer)}
    templates = dict(spec.templates)
    with_keywords = templates.pop("imagine_keywords", None)
    if keywords and spec.strategy != "imagine":
        raise VipError(f"spec {spec.name} takes no keywords", "use a spec with strategy imagine")
    if keywords or spec.keywords:
        changes["keywords"] = keywords or spec.keywords
        templates["imagine"] = with_keywords or templates["imagine"]
    return spec.model_copy(update={**changes, "templates": templates})


def resolve_model(declared: ModelIdentity, model: str | None, endpoint: str | None) -> ModelIdentity:
    """Who will answer: checked by digest, dtype and quantisation where the checkpoint is at hand, else as declared."""
    from vip.serving.engine import find_serve_python
    from vip.serving.identity import local_identity, served_models, server_version, vllm_version

    name = model or declared.id
    if declared.declared and model is None:
        return declared if endpoint is None else _declared(declared, endpoint)
    served = served_models(endpoint) if endpoint is not None else []
    if endpoint is not None and name in served:
        return _declared(declared.model_copy(update={"id": name}), endpoint)
    server = f"vllm {vllm_version(find_serve_python())}" if endpoint is None else server_version(endpoint)
    identity = local_identity(name, server, declared.dtype, declared.quantization)
    if endpoint is not None and identity.served_name not in served:
        raise VipError(
            f"endpoint {endpoint} serves {', '.join(served) or 'nothing'}, the spec needs {identity.served_name}",
            "serve that model, dtype and quantization with `vip serve`, or take the served one as declared by --model",
        )
    return identity


def _declared(identity: ModelIdentity, endpoint: str) -> ModelIdentity:
    from vip.serving.identity import check_served, server_version

    check_served(endpoint, identity.id)
    server = identity.server or server_version(endpoint)
    return identity.model_copy(update={"declared": True, "server": server})


def resolve_tokenizer(tokenizer: str) -> str:
    """``<given>@<digest>`` of the target's tokenizer.

    Raises:
        VipError: where it is not to be found.
    """
    folder = tokenizer_folder(tokenizer)
    files = [folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json")]
    digest = sha256_hex(b"".join(sha256_hex(file.read_bytes()).encode() for file in files if file.exists()))
    return f"{split_tokenizer(tokenizer)[0]}@{digest[:16]}"


def tokenizer_folder(tokenizer: str) -> Path:
    """Where the target's tokenizer lies: in the folder given, or in its ``tokenizer`` folder.

    Raises:
        VipError: where there is no such folder.
    """
    name, _ = split_tokenizer(tokenizer)
    place = Path(name).expanduser()
    folder = place if name != "nano" and place.is_dir() else find_model(name, "base")
    return folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
