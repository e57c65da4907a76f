"""Run `main.py` of each folder given, as `python main.py` in it does: a script for a fresh environment.

The libraries are imported once and every project gets a fork of that process, so that only Namepin's own imports and
the project's are new in each. `sys.path[0]` is the project's folder. Exits 1 after the first project that fails.
"""

import os
import runpy
import sys
import traceback
from importlib import import_module

for name in (
    *("torch", "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto"),
    *("transformers.models.bert.modeling_bert", "langgraph.graph", "pydantic", "cv2", "rapidocr.main", "onnxruntime"),
    *("numpy", "PIL.Image", "rapidfuzz.process", "pycocotools.mask"),
):
    import_module(name)

for project in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            os.chdir(project)
            sys.path[0] = project
            runpy.run_path(os.path.join(project, "main.py"), run_name="__main__")
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(f"{project} fails")
