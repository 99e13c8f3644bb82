"""What every command would do once at its beginning: done in the process of which commands are forks."""

# Optuna's models, without which no command opens a study.
import optuna.storages._rdb.models  # noqa: F401 - configured below
from sqlalchemy.orm import configure_mappers

configure_mappers()
