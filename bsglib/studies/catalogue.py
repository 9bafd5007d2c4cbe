"""The package's studies, in the order of the reports."""

from bsglib.studies import chang, kaabachi, keskar, surlemont
from bsglib.studies.study import Study

STUDIES: dict[str, Study] = {
    study.name: study for study in (keskar.study, chang.study, kaabachi.study, surlemont.study)
}
