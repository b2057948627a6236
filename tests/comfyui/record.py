"""Record the pack's part of a running ComfyUI's /object_info: ``python tests/comfyui/record.py URL PACK``."""

import json
import sys
import urllib.request
from pathlib import Path

url, pack = sys.argv[1:3]
with urllib.request.urlopen(f"{url}/object_info") as answer:
    info = json.load(answer)
mine = {}
for name, entry in info.items():
    if entry.pop("python_module") == f"custom_nodes.{pack}":
        for part in ("input", "input_order"):
            entry[part] = {kind: found for kind, found in entry[part].items() if kind != "hidden" and found}
        mine[name] = entry
Path(__file__).with_name("object_info.json").write_text(json.dumps(mine, indent=1, sort_keys=True) + "\n")
