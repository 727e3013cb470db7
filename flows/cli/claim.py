"""``vip claim``: the paper's claim on nano models."""

import click

from flows.cli.common import print_json, shared_options, validated


@click.command()
@click.option("--scenes", type=click.IntRange(20), default=2000, show_default=True, help="Drawn and captioned.")
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True, help="Of every training.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings of every trained arm.")
@click.option("--images", type=click.IntRange(2), default=256, show_default=True, help="In the exam.")
@click.option("--arms", default="", help="Separated by commas. [default: base,plain,masked and the kinds of C-T-S]")
@click.option("--against", default="plain", show_default=True, help="The arm that the others are compared with.")
@click.option("--spec", default="nano-joint", show_default=True, help="Captions that the arms see.")
@click.option("--preset", default="nano-centre", show_default=True, help="Of the exam; training keeps the centre.")
@click.option("--out", type=click.Path(file_okay=False), default="docs", show_default=True, help="For the page.")
@shared_options
def command(
    scenes: int,
    steps: int,
    seeds: int,
    images: int,
    arms: str,
    against: str,
    spec: str,
    preset: str,
    out: str,
    root: str,
    as_json: bool,
) -> None:
    """Compare ways of control from the same base, data, captions and steps; write claim.md and its pictures.

    Hours with the defaults. It can be interrupted and run again: what is made is found again, by other arms too.
    """
    from schemas.claim_config import ClaimConfig

    default = ClaimConfig()
    config = validated(
        ClaimConfig,
        "claim",
        arms=tuple(arms.split(",")) if arms else default.arms,
        against=against,
        spec=spec,
        seeds=seeds,
        train={**default.train.model_dump(), "steps": steps},
        evaluate={**default.evaluate.model_dump(), "images": images, "preset": preset},
    )
    from flows.console import console
    from flows.run import drawn_folder, local_run

    console.quiet = as_json
    with local_run(root):
        from flows.claim import claim
        from vip.nano.dataset import write_scenes

        source = drawn_folder(root, "scenes")
        write_scenes(source, scenes)
        page = claim(root, str(source), config, out)
    if as_json:
        print_json({"page": page})
    else:
        click.echo(f"The page is {page}")
