"""Print the script that lets a shell complete commands, flags and their values."""

from typing import Annotated, Literal, get_args, get_origin

import tyro
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from levelground.arguments import COMMANDS, Argument, bare_type, command_arguments


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CompletionConfig:
    """Options of ``completion``."""

    shell: Annotated[tyro.conf.Positional[Literal["bash", "zsh", "fish"]], tyro.conf.arg(metavar="SHELL")]
    """The shell; for bash add the line 'source <(levelground completion bash)' to ~/.bashrc."""


def completion(config: CompletionConfig) -> str:
    """Print a shell's script.

    Args:
        config: Which shell.
    Returns:
        The script.
    Raises:
        ConfigError: There is no such shell.
    """
    import sys

    script = {"bash": _bash, "zsh": _zsh, "fish": _fish}[config.shell]()
    sys.stdout.write(script)
    return script


def _choices(argument: Argument) -> list[str]:
    """Return the values that a flag may have, where they are few."""
    hint = bare_type(argument.hint)
    parts = [hint, *(bare_type(part) for part in get_args(hint))]
    return [str(value) for part in parts if get_origin(part) is Literal for value in get_args(part)]


def _bash() -> str:
    names, cases = " ".join(COMMANDS), []
    for name in COMMANDS:
        arguments = command_arguments(name)
        # A value without a flag follows the command's own name.
        valued = [
            (one.flag if one.flag.startswith("--") else name, " ".join(_choices(one)))
            for one in arguments
            if _choices(one)
        ]
        cases += [f'    {name}:{flag}) words="{values}" ;;' for flag, values in valued]
        flags = " ".join(one.flag for one in arguments if one.flag.startswith("--"))
        cases.append(f'    {name}:*) words="{f"{flags} --help --help-all".strip()}" ;;')
    return "\n".join(
        [
            "_levelground() {",
            '  local here="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""',
            '  if [ "$COMP_CWORD" -eq 1 ]; then',
            f'    COMPREPLY=($(compgen -W "{names}" -- "$here")); return',
            "  fi",
            '  case "${COMP_WORDS[1]}:$before" in',
            *cases,
            "  esac",
            '  if [[ "$here" == -* || "$words" != *--* ]]; then',
            '    COMPREPLY=($(compgen -W "$words" -- "$here"))',
            "  fi",
            "}",
            "complete -o default -F _levelground levelground",
            "",
        ]
    )


def _zsh() -> str:
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash()


def _fish() -> str:
    lines = ["complete -c levelground -n __fish_use_subcommand -f"]
    for name, command in COMMANDS.items():
        lines.append(f"complete -c levelground -n __fish_use_subcommand -a {name} -d {_quoted(command.summary)}")
        for one in command_arguments(name):
            if not one.flag.startswith("--"):
                continue
            values = f" -x -a {_quoted(' '.join(_choices(one)))}" if _choices(one) else ""
            text = _quoted(one.text.split(". ")[0].split(";")[0])
            lines.append(
                f"complete -c levelground -n '__fish_seen_subcommand_from {name}' -l {one.flag[2:]} -d {text}{values}"
            )
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    r"""Quote a text for fish.

    Example:
        >>> _quoted("a run's model")
        "'a run\\'s model'"
    """
    inner = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{inner}'"
