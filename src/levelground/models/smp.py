"""segmentation_models_pytorch, imported without torch's compiler, which no command uses and which takes long to load.

torchvision and timm import ``torch._dynamo`` for a question that they ask later and for a decorator.
"""

import importlib
import sys
import types
from typing import Any

_COMPILER = "torch._dynamo"


class _Deferred(types.ModuleType):
    """A module of the compiler while libraries are imported: names that they need then; any other name loads it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove_deferred()
        return getattr(importlib.import_module(self.__name__), name)


def _remove_deferred() -> None:
    for name in (_COMPILER, f"{_COMPILER}.utils"):
        if isinstance(sys.modules.get(name), _Deferred):
            del sys.modules[name]


def _disable(function: Any = None, *_: object, **__: object) -> Any:
    """Decorate a function that is never compiled, or return such a decorator."""
    return _disable if function is None else function


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(f"{_COMPILER}.utils").is_compile_supported(device_type))


def _import_smp() -> types.ModuleType:
    """Import the library; where it asks for more of the compiler than is known here, with the compiler."""
    name = "segmentation_models_pytorch"
    if _COMPILER not in sys.modules:
        compiler, utils = _Deferred(_COMPILER), _Deferred(f"{_COMPILER}.utils")
        vars(compiler).update(disable=_disable)
        vars(utils).update(is_compile_supported=_is_compile_supported)
        sys.modules.update({_COMPILER: compiler, f"{_COMPILER}.utils": utils})
        try:
            return importlib.import_module(name)
        except ImportError:  # of a module of the compiler that nothing stands for
            pass
        finally:
            _remove_deferred()
    return importlib.import_module(name)


smp: types.ModuleType = _import_smp()
"""The library."""
