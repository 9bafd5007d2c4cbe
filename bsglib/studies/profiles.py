"""Profiles: a study's named parameter files, and those of users."""

from pathlib import Path
from typing import Any

from bsglib.names import nearest
from bsglib.project import resolve
from bsglib.runs.params import ParameterError, parse, read
from bsglib.studies.parameters import StudyParameters
from bsglib.studies.study import Study


def load(study: Study, profile: str, **given: Any) -> StudyParameters:
    """Return quick's values, overridden by the profile's, then by those given.

    Args:
        study: whose parameters they are.
        profile: the name of a file in its folder, or the path of a YAML file.
        **given: values of single parameters; None leaves them as they are.

    Raises:
        ParameterError: if there is no such file, or a value is not allowed.
    """
    folder = study.folder
    file = folder / f"{profile}.yaml"
    if profile.endswith((".yaml", ".yml")):
        file = Path.cwd() / profile
    elif not file.is_file():
        if not folder.is_dir():
            raise ParameterError(
                f"profile {profile!r}: named profiles are files of a clone; give the path of a "
                "parameter file"
            )
        known = sorted(path.stem for path in folder.glob("*.yaml"))
        raise ParameterError(f"unknown profile {profile!r}{nearest(profile, known)}")
    quick = folder / "quick.yaml"  # outside a clone there is none: the file has to be complete
    values = read(quick) if quick.is_file() else {}
    values |= {"profile": file.stem} | read(file)
    taken = sorted(path.stem for path in folder.glob("*.yaml"))
    if values["profile"] != file.stem or (file.parent != folder and file.stem in taken):
        raise ParameterError(
            f"parameter file {file}: its profile {values['profile']!r} must equal the file's name, "
            f"{file.stem!r}, and differ from {', '.join(taken)}"
        )
    try:
        parse(values, study.parameters)
    except ParameterError as error:
        raise ParameterError(f"parameter file {file}: {error}") from None
    values |= {name: value for name, value in given.items() if value is not None}
    if "store" in given and given["store"] is not None:
        values["store"] = str(resolve(Path.cwd() / given["store"]))
    return parse(values, study.parameters)
