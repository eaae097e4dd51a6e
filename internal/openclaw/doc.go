// Package openclaw is the only package that knows OpenClaw: its configuration,
// environment, file layout, endpoints, protocol, session names, and what it writes
// into model requests. It renders an agent as a runtime.Spec and is the client of
// the gateway that runs from it.
//
// A gateway has three entries, which share a process and nothing else. Main serves
// callers that name no peer: it has a memory, writes files and runs commands. Guest
// serves peers and channels, which must not learn about each other: it has the same
// personality, workflow, rules and skills in its own workspace, but no tool that
// writes, so one peer cannot leave anything behind for another. Task serves the chores of
// applications, such as titles: it has no tool, no skill and nothing of the agent but its model.
//
// Everything that depends on where a gateway runs (paths, port, addresses) is in
// its environment. The rendered configuration refers to these variables and is the
// same everywhere. docs/openclaw.md lists what was measured.
//
// The package polls in two places: Ready asks the gateway every 100 ms, and package
// install tries a file lock every 100 ms. Both are a fixed interval without
// back-off, so a retry library would not make them shorter.
package openclaw
