"""`python -m benchmarks [NAME [OPTIONS …]]`: one benchmark with its options, or all of them."""

import sys

from benchmarks import audit, consented_read, search, vault

BENCHMARKS = {
    "audit": audit.main,
    "consented_read": consented_read.main,
    "search": search.main,
    "vault": vault.main,
}


def main(arguments: list[str]) -> int:
    if not arguments:
        return max(run([]) for run in BENCHMARKS.values())
    name, *options = arguments
    if name not in BENCHMARKS:
        print(f"no benchmark {name}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    return BENCHMARKS[name](options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
