"""Old name of `hpo.export.device_match`, which scripts written by earlier versions of `hpo export` import."""

from hpo.export.device_match import match_device as device_like

__all__ = ["device_like"]
