"""Makes ``sys.modules["caffe"] = torchcaffe`` enough: `caffe.io` is then `torchcaffe.io`, not a second copy of it."""
import importlib
import importlib.abc
import importlib.machinery
import sys
from typing import Any, Optional


class _Loader(importlib.abc.Loader):
    """Gives a module that is there under another name."""

    def create_module(self, spec: Any) -> Any:
        """Return the module; the import system changes its `__spec__`."""
        module = importlib.import_module(__package__ + spec.name[len("caffe"):])
        self.spec = module.__spec__
        return module

    def exec_module(self, module: Any) -> None:
        """Put `__spec__` back; the module has run."""
        module.__spec__ = self.spec


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules below `caffe` where torchcaffe bears that name."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Optional[importlib.machinery.ModuleSpec]:
        """Return where a module comes from, or None if that is not our affair."""
        if not fullname.startswith("caffe.") or sys.modules.get("caffe") is not sys.modules[__package__]:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader())


sys.meta_path.insert(0, _Finder())
