# Short names for what the README spells out. Needs `just`; nothing depends on it.

# Build and run everything on this machine with the demo application.
up:
    images/demo/up

# The same with the voting application.
voting:
    images/voting/up

# Formatting, lints and all tests (root).
test *ARGS:
    tests/run {{ARGS}}

# Measure this machine and write docs/benchmarks.md (root).
bench:
    tests/bench

# The agent for a 64-bit Raspberry Pi.
cross target="aarch64-unknown-linux-musl":
    CROSS_CONFIG="$PWD/cross.toml" cross build --release --target {{target}} -p limpet-agent

# The same, and for other boards, without cross: images/cross/build lists the targets.
agent target="aarch64-unknown-linux-musl":
    images/cross/build {{target}}

# Emulated boards (root).
boards *ARGS:
    tests/boards {{ARGS}}
