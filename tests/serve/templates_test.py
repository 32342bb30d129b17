#!/usr/bin/env python3
"""Published lists of templates: the one named tool_use counts when a request brings tools, as in transformers.

    templates_test.py TANDEM"""
import json
import pathlib
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from served import Server  # noqa: E402

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


def main():
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "model"
        shutil.copytree(HERE.parents[1] / "models" / "nano", model)
        path = model / "tokenizer_config.json"
        config = json.loads(path.read_text())
        config["chat_template"] = [{"name": "default", "template": "D{{ messages[0]['content'] }}"}, {"name": "tool_use", "template": "T{{ messages[0]['content'] }}{{ tools[0]['function']['name'] }}"}]
        path.write_text(json.dumps(config))
        with Server([sys.argv[1], "serve", str(model)], "--quiet") as s:
            for more, wanted in (({}, "Dhi"), ({"tools": TOOLS}, "Thif"), ({"tools": []}, "Dhi")):
                status, said = s.post("/apply-template", {"messages": [{"role": "user", "content": "hi"}], **more})
                assert status == 200 and said["prompt"] == wanted, (more, status, said)
    print("ok")


if __name__ == "__main__":
    main()
