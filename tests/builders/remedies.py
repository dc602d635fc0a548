"""What a person does who follows the remedy of an error line: the line's words are looked up, the folder is mended."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from builders.bad_files import TWO, Spoil, kaggle, legend, lists


class Reader:
    """Somebody with a copy of the sound folder who does what a line says."""

    def __init__(self, root: Path, sound: Path, base: Spoil | None) -> None:
        """Follow remedies in ``root``; ``base`` makes the sound copy."""
        self.root, self.sound = root, sound
        (base or kaggle)(sound)

    def follow(self, line: str, command: str) -> str:
        """Do what the line says; return the command to give then."""
        for pattern, do in REMEDIES.items():
            found = re.search(pattern, line)
            if found:
                return do(self, line, command, found)
        raise AssertionError(f"nobody knows how to follow this: {line}")

    def named(self, line: str) -> Path:
        """The file that a line begins with, below the folder."""
        name = re.match(r"\w+Error: ('.*?'|\S+): ", line)
        assert name, line
        text = name[1].strip("'").encode("ascii", "surrogateescape").decode("unicode_escape")
        found = [path for path in self.root.rglob("*") if str(path).endswith(text.removeprefix("./"))]
        return found[0] if found else self.root / text


def command_with(new: str, pattern: str = "$") -> "Action":
    """Give the command with other words in place of some."""
    return lambda _reader, _line, command, _found: re.sub(pattern, new, command, count=1)


def restore(reader: Reader, line: str, command: str, _found: re.Match[str]) -> str:
    """Put the sound scene, or the sound file, in the place of the one that is named."""
    path = reader.named(line)
    scene = re.sub("_(sat|mask|label)$", "", path.stem)
    for folder in (reader.root / "data", reader.sound / "data"):
        for file in [one for one in folder.rglob("*") if re.sub("_(sat|mask|label)$", "", one.stem) == scene]:
            if folder.parent == reader.sound:
                target = reader.root / file.relative_to(reader.sound)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, target)
            elif file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            else:
                file.unlink()
    return command


def copy_again(reader: Reader, line: str, command: str, _found: re.Match[str]) -> str:
    """Copy one file again; one that was never sound is removed."""
    path = reader.named(line)
    source = reader.sound / path.relative_to(reader.root)
    path.unlink()
    if source.exists():
        shutil.copyfile(source, path)
    return command


def remove_named(reader: Reader, line: str, command: str, _found: re.Match[str]) -> str:
    """Remove what is named."""
    reader.named(line).unlink()
    return command


def resize(reader: Reader, line: str, command: str, found: re.Match[str]) -> str:
    """Bring a mask to its image's size by nearest neighbour."""
    path = reader.named(line)
    with Image.open(path) as mask:
        resized = mask.resize((int(found[1]), int(found[2])), Image.Resampling.NEAREST)
    resized.save(path)
    return command


def rename(reader: Reader, line: str, command: str, _found: re.Match[str]) -> str:
    """Give the files of a scene a name that can be written."""
    scene = reader.named(line).name.rpartition("_")[0]
    for file in list((reader.root / "data").glob("*")):
        if file.name.startswith(f"{scene}_"):
            file.rename(file.with_name(file.name.replace(scene, "renamed")))
    return command


def move_away(reader: Reader, _line: str, command: str, found: re.Match[str]) -> str:
    """Move what is in the way."""
    path = reader.root / found[1]
    path.rename(path.with_name(f"{path.name}-away"))
    return command


def permit(reader: Reader, line: str, command: str, _found: re.Match[str]) -> str:
    """Give the permission to list a folder."""
    reader.named(line).chmod(0o755)
    return command


def copy_target(reader: Reader, line: str, command: str, _found: re.Match[str]) -> str:
    """Copy what a link points to into its place."""
    path = reader.named(line)
    target = path.resolve()
    path.unlink()
    (shutil.copytree if target.is_dir() else shutil.copyfile)(target, path)
    return command


def sound_folder(reader: Reader, _line: str, command: str, _found: re.Match[str]) -> str:
    """Give the folder with sound scenes."""
    return command.replace("--data data", f"--data {reader.sound / 'data'}")


def sound_legend(reader: Reader, _line: str, command: str, _found: re.Match[str]) -> str:
    """Write the legend of the sound folder."""
    legend(*TWO)(reader.root)
    return command.replace("gone.toml", "data/legend.toml")


def edit_named(pattern: str, new: str) -> "Action":
    """Change a text in the file that is named."""

    def do(reader: Reader, line: str, command: str, _found: re.Match[str]) -> str:
        path = reader.named(line)
        path.write_text(re.sub(pattern, new, path.read_text(encoding="utf-8"), count=1), encoding="utf-8")
        return command

    return do


def write_lists(reader: Reader, _line: str, command: str, _found: re.Match[str]) -> str:
    """Write lists that name every scene once."""
    lists("0 1", "2", "3")(reader.root)
    return command


def write_and_pass_lists(reader: Reader, line: str, command: str, found: re.Match[str]) -> str:
    """Write lists and name their folder."""
    return write_lists(reader, line, command, found) + " --lists lists"


def group_all(reader: Reader, line: str, command: str, _found: re.Match[str]) -> str:
    """Add the scenes that a table of groups lacks."""
    with reader.named(line).open("a", encoding="utf-8") as table:
        table.write("".join(f"{number},{number}\n" for number in range(1, 6)))
    return command


Action = Callable[[Reader, str, str, re.Match[str]], str]

REMEDIES: dict[str, Action] = {
    r"Copy the file again\.": copy_again,
    r"does not lie on its image .+, not (\d+) × (\d+) .+ resize masks by nearest neighbour only": resize,
    r"Replace the file\.|Replace or convert the file\.|Replace or remove the scene\.": restore,
    r"Fix the file|Fix the mask": restore,
    r"Give all scenes the same bands and type|CMYK|Write what is to be read|Write it anew in tiles": restore,
    r"Cut it, or |Save the mask as PNG or TIFF|Pass --layout index where it holds": restore,
    r"Add the mask or remove the image\.|Add the image or remove the mask\.|Mend or remove it\.": remove_named,
    r"Keep one of them\.": remove_named,
    r"Rename the file\.": rename,
    r"Copy what it points to": copy_target,
    r"Give the folder with the scenes as --data|holds no scene with a mask|expected at least 3": sound_folder,
    r"Give yourself permission to read it\.": permit,
    r"Move (\S+) away, or choose another": move_away,
    r"Choose another --out\.": command_with("--out other", "--out study"),
    r"given with --download kaggle\. Drop one\.": command_with("", " --download kaggle"),
    r"given for --split random\. Drop one\.": command_with("", " --lists lists"),
    r"--block 0: should be greater than or equal to 1": command_with("--block 1", "--block 0"),
    r"unknown key 'colour'": edit_named('colour = "000000"\n', ""),
    r"expected a whole number or a list of them, such as (\[11, 12\])": edit_named('"000000"', "[11, 12]"),
    r"Give each its own\.|Number the classes 0 to 1 without a gap|256 classes, expected 1 to 255": sound_legend,
    r"See docs/legends\.md for the form\.|Write \S+legend\.toml with|Give a legend file with": sound_legend,
    r"Correct the list or --data\.|Remove it from one\.|Remove one line\.|Add scenes to it\.": write_lists,
    r"Check --lists\.|Expected UTF-8, one file name a line\.": write_lists,
    r"expected one with train\.txt, val\.txt and test\.txt\. Pass it\.": write_and_pass_lists,
    r"Choose another --split\.": command_with("--split random", "--split folders"),
    r"Remove a line\.": edit_named("0,b\n", ""),
    r"Add lines id,group\.": group_all,
}
"""What the words of a line mean, the first that fits."""
