"""Data sets, scoring and reports."""

if __name__ != "namepin.evals":
    raise ImportError("this folder is the package namepin.evals: import it under that name")
