// Package openclaw alone knows OpenClaw: its configuration, environment, file
// layout, endpoints and protocol. It turns an agent into a runtime.Spec, and
// speaks with the gateway that comes of it.
//
// A gateway has two entries, which share a process and nothing else. Main serves
// callers who name no peer: it has a memory and may write files and run commands.
// Guest serves peers and channels, who must not learn of one another: the same
// personality, workflow, rules and skills in a workspace of its own, but nothing
// that writes, so that what one peer says can reach no other.
//
// Everything that depends on where a gateway runs (paths, port, addresses) is in
// its environment; the rendered configuration refers to it and is the same
// everywhere. What was measured is in docs/openclaw.md.
package openclaw
