"""The command, telling on stderr line by line what it does, so that a test can interrupt it there.

Given to ``python -c`` with the module whose import is told as the first argument.
"""

import sys

from selva_audio.cli import console, main

told = sys.argv.pop(1)


def tell(event: str, arguments: tuple[object, ...]) -> None:
    if event == "import" and arguments[0] == told:
        sys.stderr.write(f"importing {told}\n")
        sys.stderr.flush()


sys.addaudithook(tell)
console._PLAIN_INTERVAL = -1.0
main()
