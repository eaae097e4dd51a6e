// Package egress is the way out of agents: it answers their DNS queries and makes their
// connections to the outside, as far as the policy of each agent allows, and counts them.
//
// An agent's network has no device. The kernel of the agent's network namespace ends the
// connections to the addresses that are local there, and redirects them to one listener,
// which is Network.Out. The server reads where the connection was going, dials that
// itself, and copies. All else fails in connect.
//
// Every name that an agent resolves gets an address of its own, of 198.18.0.0/15, so that
// the name of each connection is known. The server resolves the name again when it dials,
// and netguard checks the address that it dials. Where the agent speaks TLS or HTTP, the
// host that the first bytes name must be that name; other protocols rest on the address.
package egress
