"""The ``vip`` command: a table of commands, none of which is imported before it is called."""

import importlib
import os
from typing import Any

import click

from flows.cli import interruption
from flows.cli.common import fail, os_error
from schemas.errors import VipError

# name -> (module in flows.cli, one line of help). The help stands here so that `vip --help` imports nothing.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "The whole run on small models: what a newcomer tries first."),
    "serve": ("serve", "Serve a captioning model with vLLM and print its endpoint."),
    "shard": ("shard", "Turn a folder, tars or Parquet into a dataset of WebDataset shards."),
    "caption": ("caption", "Describe the centre and the surrounding of every image."),
    "train": ("train", "Fine-tune an inpainting model with Center-Total-Surrounding control."),
    "evaluate": ("evaluate", "Measure a checkpoint on held-out images and a pinned prompt set."),
    "compare": ("compare", "Compare checkpoints in the same exam, image by image."),
    "retrain": (
        "retrain",
        "The whole run: shard, caption, gate, train, evaluate, promote, report; reuses what is done.",
    ),
    "outpaint": ("outpaint", "Extend one image with a trained checkpoint."),
    "audit": ("audit", "Ask where a caption, image, checkpoint or number came from; verify everything."),
    "export": ("export", "Write captions, a dataset or the lineage in the formats of other tools."),
    "ref": ("ref", "Set, list or roll back the names that move."),
    "forget": ("forget", "Take images down: erase their bytes and keep them out of later builds."),
    "gc": ("gc", "Remove what no name reaches (a dry run unless told otherwise)."),
    "deploy": ("deploy", "Create the scheduled deployments and automations on a Prefect server."),
    "report": ("report", "Write the report page of a finished run to a folder."),
    "claim": ("claim", "Put the paper's claim to the test on small models."),
    "nano": ("nano", "Train or score the small models of the drawn world."),
    "ui": ("ui", "Open Prefect's page on the runs of this root."),
}


# What libraries say at import (a missing torchvision, a slow processor) is nothing that a user could act on.
_QUIET = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}


class LazyGroup(click.Group):
    """A click group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table, which is the order of a run."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command.

        Its function is named ``command`` in every module.
        """
        if name not in COMMANDS:
            return None
        module, _ = COMMANDS[name]
        return importlib.import_module(f"flows.cli.{module}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table itself, without an import."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="vip-outpaint", prog_name="vip")
def group() -> None:
    """A pile of images in, a text-controlled outpainting model out, with the lineage of all of it.

    Try `vip demo`. Every command takes --root (default ./.vip) and --json, and can be interrupted and run again.
    """


def hush_libraries() -> None:
    """Before they are imported."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def main(arguments: list[str] | None = None) -> Any:
    """Run ``vip`` and turn every expected failure into one line and an exit code.

    Exit codes: 0 done, 1 failed for a stated reason, 2 wrong usage, 130 interrupted, 143 terminated.
    """
    hush_libraries()
    try:
        return group.main(args=arguments, prog_name="vip", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        raise SystemExit(leaving.exit_code) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except VipError as error:
        fail(error)
    except BrokenPipeError:
        raise SystemExit(141) from None
    except OSError as error:
        fail(os_error(error))
    except (KeyboardInterrupt, click.Abort):
        interruption.leave()
