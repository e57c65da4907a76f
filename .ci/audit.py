"""`make audit`: known vulnerabilities of what is installed; exits 1 for findings, and says so where nothing is known.

pip-audit calls a package that its service does not know "skipped" and exits 0, so that a registry's mirror without
vulnerability data would look like a clean bill. Arguments are handed on to pip-audit, for example `-s osv`.
"""

import json
import subprocess
import sys
from collections.abc import Sequence

UNREACHABLE = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "Max retries exceeded", "NameResolutionError",
               "Could not connect", "ServiceError", "timed out", "Name or service not known")  # fmt: skip


def audit(arguments: Sequence[str]) -> int:
    """Run pip-audit and judge what it says."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True)
    try:
        rows = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        if any(word in ran.stderr for word in UNREACHABLE):
            print("NOT AUDITED: the vulnerability service cannot be reached from here")
            return 0
        print(f"the audit itself failed:\n{ran.stderr[-2000:]}")
        return 1
    known = [row for row in rows if "skip_reason" not in row]
    found = [row for row in known if row["vulns"]]
    for row in found:
        for vuln in row["vulns"]:
            fixed = ", ".join(vuln.get("fix_versions") or ["no version yet"])
            print(f"{row['name']} {row['version']}: {vuln['id']} (fixed in {fixed})")
    if not known:
        print(f"NOT AUDITED: the service that answers here knows none of the {len(rows)} packages")
    else:
        print(
            f"{len(known)} packages audited, {len(rows) - len(known)} unknown to the service, {len(found)} vulnerable"
        )
    return bool(found)


if __name__ == "__main__":
    sys.exit(audit(sys.argv[1:] or ["--local", "--skip-editable"]))
