"""A command whose unknown options go to Beam, if Beam knows them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperOption

from beam_flowlogs.cli.logs import log_to_stderr


class BeamCommand(TyperCommand):
    """A command that finds Beam's arguments in its context's ``args``; a mistyped option ends it with exit code 2.

    They are taken out before the others are parsed: an argument that may come several times would swallow them.
    """

    runner = ""
    """The runner that the command chooses itself; empty: Beam's arguments do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command's own arguments; keep Beam's in ``ctx.args``."""
        own = {name for option in self.get_params(ctx) if isinstance(option, TyperOption) for name in option.opts}
        own.add("--help")
        beam_args: list[str] = []
        if any(arg.startswith("--") and arg.partition("=")[0] not in own for arg in args):
            log_to_stderr(verbose=False)
            from beam_flowlogs.beam_options import take_beam_args  # here: importing Beam takes a second

            try:
                args, beam_args = take_beam_args(args, own, self.runner)
            except ValueError as error:
                ctx.fail(str(error))
        super().parse_args(ctx, args)
        ctx.args = beam_args
        return beam_args
